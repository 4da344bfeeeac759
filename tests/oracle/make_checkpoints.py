#!/usr/bin/env python3
"""Makes small random checkpoints of every supported family, in the hub's formats, with what the oracle finds in them.

    make_checkpoints.py --fixed tests/data/model        the committed cases
    make_checkpoints.py --fixed DIR --only gpt2 opt      some of them

A case is a folder: config.json, model.safetensors, expected.safetensors (per prompt p: attentions.p, boundaries.p,
final_norm.p; per layer and matrix: W_Q.0, …) and prompts.json. Every weight is random, biases and norms too, no two
heads are alike, and settings lie away from their defaults: a wrong slice or a forgotten bias shows.
"""

import argparse
import json
import pathlib
import re
import shutil

import numpy as np
import safetensors.torch
import torch
import transformers

import oracle

VOCAB = 43
PROMPT_LENGTHS = (6, 1, 11, 3)
NULL = object()  # in changes of config.json: a field that is there and null
FLAT = object()  # an object whose fields go beside it, where there are none


def small(kind, **settings):
    """A config of `kind` with the fields that all families share."""
    common = dict(vocab_size=VOCAB, bos_token_id=1, eos_token_id=2, pad_token_id=None)
    return transformers.AutoConfig.for_model(kind, **(common | settings))


def llama_sizes(**more):
    return dict(hidden_size=20, intermediate_size=28, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                head_dim=8, max_position_embeddings=64) | more


def divided_sizes(**more):
    """For families whose head size is hidden_size / num_attention_heads."""
    sizes = llama_sizes(hidden_size=24) | more
    del sizes["head_dim"]
    return sizes


LLAMA3 = dict(rope_type="llama3", rope_theta=500.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=3.0,
              original_max_position_embeddings=16)

# name -> (config, changes of config.json, prefix taken off the tensor names, dtype on disk)
CASES = {
    "gpt2": lambda: (small("gpt2", n_embd=15, n_layer=3, n_head=3, n_inner=20, n_positions=16, layer_norm_epsilon=3e-4,
                           activation_function="gelu_new", scale_attn_by_inverse_layer_idx=True), {}, "", "float16"),
    "gpt2_bare": lambda: (small("gpt2", n_embd=16, n_layer=2, n_head=2, n_positions=16, activation_function="relu",
                                scale_attn_weights=False, tie_word_embeddings=True), {}, "transformer.", "float32"),
    "gpt_neox": lambda: (small("gpt_neox", hidden_size=24, intermediate_size=28, num_hidden_layers=2, num_attention_heads=3,
                               max_position_embeddings=64, layer_norm_eps=2e-4, use_parallel_residual=True,
                               rope_parameters=dict(rope_type="default", rope_theta=300.0, partial_rotary_factor=0.5)),
                         {"rope_parameters": None, "rotary_emb_base": 300, "rotary_pct": 0.5}, "", "float16"),
    "gpt_neox_serial": lambda: (small("gpt_neox", hidden_size=24, intermediate_size=32, num_hidden_layers=2,
                                      num_attention_heads=2, max_position_embeddings=8, use_parallel_residual=False,
                                      hidden_act="gelu_new", attention_bias=False, tie_word_embeddings=True,
                                      rope_parameters=dict(rope_type="dynamic", rope_theta=300.0, factor=3.0,
                                                           partial_rotary_factor=1.0)), {}, "", "bfloat16"),
    "opt": lambda: (small("opt", hidden_size=24, ffn_dim=28, num_hidden_layers=2, num_attention_heads=3,
                          max_position_embeddings=16, word_embed_proj_dim=24), {}, "", "float16"),
    "opt_350m": lambda: (small("opt", hidden_size=24, ffn_dim=28, num_hidden_layers=2, num_attention_heads=2,
                               max_position_embeddings=16, word_embed_proj_dim=16, do_layer_norm_before=False),
                         {}, "model.", "float16"),
    "opt_galactica": lambda: (small("opt", hidden_size=24, ffn_dim=28, num_hidden_layers=2, num_attention_heads=2,
                                    max_position_embeddings=16, word_embed_proj_dim=24, enable_bias=False,
                                    layer_norm_elementwise_affine=False, activation_function="gelu"), {}, "", "float16"),
    "llama": lambda: (small("llama", **llama_sizes(rms_norm_eps=3e-4, attention_bias=True, mlp_bias=True,
                            rope_parameters=dict(rope_type="default", rope_theta=700.0))),
                      {"rope_parameters": None, "rope_theta": 700.0, "rope_scaling": None}, "", "float16"),
    "llama3": lambda: (small("llama", **llama_sizes(head_dim=12, num_key_value_heads=1, tie_word_embeddings=True,
                                                    rope_parameters=LLAMA3)),
                       {"rope_parameters": None, "rope_theta": 500.0,
                        "rope_scaling": {k: v for k, v in LLAMA3.items() if k != "rope_theta"}}, "model.", "bfloat16"),
    "llama_linear": lambda: (small("llama", **llama_sizes(rope_parameters=dict(rope_type="linear", rope_theta=700.0,
                                                                               factor=3.0))),
                             {"rope_parameters": None, "rope_theta": 700.0,
                              "rope_scaling": {"type": "linear", "factor": 3.0}}, "", "float16"),
    "llama_yarn": lambda: (small("llama", **llama_sizes(rope_parameters=dict(
        rope_type="yarn", rope_theta=700.0, factor=4.0, original_max_position_embeddings=16, beta_fast=2.0,
        beta_slow=0.5))), {}, "", "bfloat16"),
    "llama_dynamic": lambda: (small("llama", **llama_sizes(max_position_embeddings=8, rope_parameters=dict(
        rope_type="dynamic", rope_theta=700.0, factor=3.0))), {}, "", "bfloat16"),
    "mistral": lambda: (small("mistral", **llama_sizes(sliding_window=4, rms_norm_eps=2e-4,
                              rope_parameters=dict(rope_type="default", rope_theta=900.0))),
                        {"rope_parameters": None, "rope_theta": 900.0}, "", "float16"),
    "gemma2": lambda: (small("gemma2", **llama_sizes(num_hidden_layers=3, hidden_size=16, head_dim=6, query_pre_attn_scalar=20,
                             sliding_window=4, attn_logit_softcapping=2.0, final_logit_softcapping=3.0,
                             rms_norm_eps=2e-4, rope_parameters=dict(rope_type="default", rope_theta=900.0))),
                       {"rope_parameters": None, "rope_theta": 900.0, "layer_types": None}, "", "float16"),
}

def default_rope(theta, **more):
    return dict(rope_type="default", rope_theta=theta) | more


# Issue 4's families.
CASES |= {
    "gemma": lambda: (small("gemma", **llama_sizes(head_dim=6, num_key_value_heads=1, rms_norm_eps=2e-4,
                                                   rope_parameters=default_rope(900.0))),
                      {"rope_parameters": None, "rope_theta": 900.0, "hidden_act": "gelu"}, "", "float16"),
    "gemma3_text": lambda: (small("gemma3_text", **llama_sizes(
        num_hidden_layers=3, hidden_size=16, head_dim=6, query_pre_attn_scalar=20, sliding_window=4, rms_norm_eps=2e-4,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        rope_parameters=dict(full_attention=dict(rope_type="linear", rope_theta=5000.0, factor=8.0),
                             sliding_attention=default_rope(300.0)))),
        {"rope_parameters": None, "rope_theta": 5000.0, "rope_local_base_freq": 300.0, "layer_types": None,
         "sliding_window_pattern": 2, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}, "", "float16"),
    "qwen2": lambda: (small("qwen2", **divided_sizes(use_sliding_window=True, sliding_window=4, max_window_layers=1,
                                                     rope_parameters=default_rope(900.0))),
                      {"layer_types": None}, "", "bfloat16"),
    "qwen3": lambda: (small("qwen3", **llama_sizes(attention_bias=True, tie_word_embeddings=True, rms_norm_eps=2e-4,
                                                   rope_parameters=default_rope(900.0))), {}, "", "bfloat16"),
    "phi3": lambda: (small("phi3", **divided_sizes(sliding_window=4, rope_parameters=default_rope(900.0))),
                     {}, "", "float16"),
    "phi3_longrope": lambda: (small("phi3", **divided_sizes(
        original_max_position_embeddings=8, rope_parameters=default_rope(
            900.0, rope_type="longrope", short_factor=[1.1, 1.7], long_factor=[1.9, 4.0], partial_rotary_factor=0.7))),
        {"rope_parameters": None, "rope_theta": 900.0, "partial_rotary_factor": 0.7,
         "rope_scaling": {"type": "longrope", "short_factor": [1.1, 1.7], "long_factor": [1.9, 4.0]}}, "", "float16"),
    "gpt_neo": lambda: (small("gpt_neo", hidden_size=18, num_layers=2, num_heads=3, intermediate_size=28,
                              max_position_embeddings=16, attention_types=[[["global", "local"], 1]], window_size=4,
                              layer_norm_epsilon=2e-4), {}, "", "float16"),
    "gptj": lambda: (small("gptj", n_embd=18, n_layer=2, n_head=3, n_inner=28, n_positions=16, rotary_dim=4,
                           layer_norm_epsilon=2e-4), {}, "", "float16"),
    "bloom": lambda: (small("bloom", hidden_size=18, n_layer=2, n_head=3, layer_norm_epsilon=2e-4), {}, "transformer.",
                      "float16"),
    "bloom_post": lambda: (small("bloom", hidden_size=16, n_layer=2, n_head=2,
                                 apply_residual_connection_post_layernorm=True), {}, "", "float16"),
    "falcon_7b": lambda: (small("falcon", hidden_size=24, num_hidden_layers=2, num_attention_heads=4, ffn_hidden_size=28,
                                multi_query=True, parallel_attn=True, rope_parameters=default_rope(900.0)),
                          {"rope_parameters": None, "rope_theta": 900.0}, "", "bfloat16"),
    "falcon_40b": lambda: (small("falcon", hidden_size=24, num_hidden_layers=2, num_attention_heads=4, num_kv_heads=2,
                                 ffn_hidden_size=28, new_decoder_architecture=True, bias=True,
                                 tie_word_embeddings=False, rope_parameters=default_rope(900.0)), {}, "", "bfloat16"),
    "falcon_rw": lambda: (small("falcon", hidden_size=18, num_hidden_layers=2, num_attention_heads=3, ffn_hidden_size=28,
                                multi_query=False, parallel_attn=False, bias=True, alibi=True), {}, "", "bfloat16"),
    "olmo2": lambda: (small("olmo2", **divided_sizes(attention_bias=True, rms_norm_eps=2e-4,
                                                     rope_parameters=default_rope(900.0))), {}, "", "bfloat16"),
    "stablelm": lambda: (small("stablelm", **divided_sizes(
        num_attention_heads=3, num_key_value_heads=1, use_qkv_bias=True, qk_layernorm=True, layer_norm_eps=2e-4,
        rope_parameters=default_rope(900.0, partial_rotary_factor=0.5))),
        {"rope_parameters": None, "rope_theta": 900.0, "partial_rotary_factor": 0.5}, "", "float16"),
    "stablelm_parallel": lambda: (small("stablelm", **divided_sizes(
        num_attention_heads=3, num_key_value_heads=3, use_parallel_residual=True,
        rope_parameters=default_rope(900.0, partial_rotary_factor=0.25))), {}, "", "bfloat16"),
}

# Found by tools/dev/differential.
CASES |= {
    # Only the word "gelu" means the tanh form in Gemma's files; this other name of the exact one is exact.
    "gemma_gelu_python": lambda: (small("gemma", **llama_sizes(
        hidden_size=16, intermediate_size=12, head_dim=4, hidden_act="gelu_python", rope_parameters=default_rope(900.0))),
        {}, "", "float16"),
    # attention_layers counts where attention_types says something else.
    "gpt_neo_layers": lambda: (small("gpt_neo", hidden_size=12, num_layers=2, num_heads=3, intermediate_size=18,
                                     max_position_embeddings=16, attention_types=[[["global"], 2]], window_size=3),
                               {"attention_layers": ["local", "global"]}, "", "float16"),
    # rope_scaling goes over rope_parameters of the full layers, whose theta stays.
    "gemma3_text_both_styles": lambda: (small("gemma3_text", **llama_sizes(
        num_hidden_layers=2, hidden_size=12, intermediate_size=16, head_dim=6, query_pre_attn_scalar=20, sliding_window=4,
        layer_types=["full_attention", "sliding_attention"])),
        {"rope_parameters": {"full_attention": default_rope(600.0), "sliding_attention": default_rope(300.0)},
         "rope_scaling": {"rope_type": "linear", "factor": 4.0}, "rope_theta": 77.0}, "", "float16"),
    # Six layers would be needed to see the default pattern's full one: here all have the window, in spite of the field.
    "gemma3_text_pattern": lambda: (small("gemma3_text", **llama_sizes(
        num_hidden_layers=2, hidden_size=12, intermediate_size=16, head_dim=6, query_pre_attn_scalar=20, sliding_window=4)),
        {"layer_types": None, "sliding_window_pattern": None, "_sliding_window_pattern": 2}, "", "float16"),
}

# Others than Llama's and GPT-2's nearest.
CASES |= {
    "phi": lambda: (small("phi", **divided_sizes(num_attention_heads=3, num_key_value_heads=1, hidden_size=18,
                                                 qk_layernorm=True, layer_norm_eps=2e-4,
                                                 rope_parameters=default_rope(900.0, partial_rotary_factor=0.7))),
                    {"rope_parameters": None, "rope_theta": 900.0, "partial_rotary_factor": 0.7}, "", "float16"),
    "starcoder2": lambda: (small("starcoder2", **divided_sizes(sliding_window=4, norm_epsilon=2e-4, use_bias=True,
                                                               rope_parameters=default_rope(900.0))),
                           {"rope_parameters": None, "rope_theta": 900.0}, "", "bfloat16"),
    "glm": lambda: (small("glm", **llama_sizes(hidden_size=16, rms_norm_eps=2e-4, attention_bias=True,
                                               rope_parameters=default_rope(900.0, partial_rotary_factor=0.6))),
                    {"rope_parameters": None, "rope_theta": 900.0, "partial_rotary_factor": 0.6}, "", "bfloat16"),
    "glm4": lambda: (small("glm4", **llama_sizes(rms_norm_eps=2e-4, attention_bias=False, tie_word_embeddings=True,
                                                 rope_parameters=default_rope(900.0, partial_rotary_factor=0.5))),
                     {}, "model.", "float16"),
    "gpt_bigcode": lambda: (small("gpt_bigcode", n_embd=18, n_layer=2, n_head=3, n_inner=20, n_positions=16,
                                  layer_norm_epsilon=2e-4, multi_query=True), {}, "transformer.", "float16"),
    "gpt_bigcode_per_head": lambda: (small("gpt_bigcode", n_embd=18, n_layer=2, n_head=3, n_inner=20, n_positions=16,
                                           multi_query=False, scale_attn_weights=False, activation_function="relu",
                                           tie_word_embeddings=False), {}, "", "bfloat16"),
    "codegen": lambda: (small("codegen", n_embd=24, n_layer=2, n_head=8, n_inner=20, n_positions=16, rotary_dim=2,
                              layer_norm_epsilon=2e-4), {}, "", "float16"),
    "cohere": lambda: (small("cohere", **divided_sizes(
        layer_norm_eps=2e-4, use_qk_norm=True, attention_bias=True, logit_scale=0.3, rope_parameters=default_rope(900.0))),
        {"rope_parameters": None, "rope_theta": 900.0}, "model.", "float16"),
    "cohere2": lambda: (small("cohere2", **divided_sizes(
        num_hidden_layers=3, hidden_size=16, intermediate_size=20, layer_norm_eps=2e-4, logit_scale=0.3, sliding_window=4,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"], rope_parameters=default_rope(900.0))),
        {"rope_parameters": None, "rope_theta": 900.0, "layer_types": None, "sliding_window_pattern": 2,
         "position_embedding_type": "rope_gptj"}, "", "bfloat16"),
    "nemotron": lambda: (small("nemotron", **llama_sizes(hidden_size=16, norm_eps=2e-4, attention_bias=True, mlp_bias=True,
                                                         rope_parameters=default_rope(900.0, partial_rotary_factor=0.6))),
                         {"rope_parameters": None, "rope_theta": 900.0, "partial_rotary_factor": 0.6}, "", "float16"),
    "persimmon": lambda: (small("persimmon", hidden_size=18, intermediate_size=28, num_hidden_layers=2, num_attention_heads=3,
                                max_position_embeddings=64, layer_norm_eps=2e-4, qk_layernorm=True,
                                rope_parameters=default_rope(900.0, partial_rotary_factor=0.7)),
                          {"rope_parameters": None, "rope_theta": 900.0, "partial_rotary_factor": 0.7}, "", "float16"),
    # alibi_bias_max and clip_qkv as in mpt-7b-storywriter; 3 heads: no power of two.
    "mpt": lambda: (small("mpt", d_model=18, n_layers=2, n_heads=3, max_seq_len=16, layer_norm_epsilon=2e-4, logit_scale=0.3,
                          attn_config=dict(alibi_bias_max=16, clip_qkv=1.5, softmax_scale=0.6)), {}, "transformer.", "float16"),
    "xglm": lambda: (small("xglm", d_model=21, num_layers=2, attention_heads=3, ffn_dim=20, max_position_embeddings=8,
                           pad_token_id=1), {}, "", "float16"),
    "biogpt": lambda: (small("biogpt", hidden_size=18, intermediate_size=20, num_hidden_layers=2, num_attention_heads=3,
                             max_position_embeddings=16, layer_norm_eps=0.01, pad_token_id=1), {}, "biogpt.", "float16"),
    "xglm_padded": lambda: (small("xglm", d_model=16, num_layers=2, attention_heads=2, ffn_dim=20, pad_token_id=5,
                                  scale_embedding=False, activation_function="quick_gelu"), {}, "", "bfloat16"),
}


def whole(kind, text, vision, **settings):
    """A model of images and text, its text part's config among its own."""
    return transformers.AutoConfig.for_model(kind, text_config=text.to_dict(), vision_config=vision, **settings)


SMALL_VISION = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=4, patch_size=2)
QWEN_VISION = dict(depth=1, num_heads=2, patch_size=2)
SECTIONS = default_rope(900.0, mrope_section=[2, 1, 1])

# Text parts of models of more than text: names, ties and fields as the hub's files have them.
CASES |= {
    "gemma3": lambda: (whole("gemma3", small("gemma3_text", **llama_sizes(
        head_dim=6, query_pre_attn_scalar=20, sliding_window=4, layer_types=["full_attention", "sliding_attention"],
        rope_parameters=dict(full_attention=dict(rope_type="linear", rope_theta=5000.0, factor=8.0),
                             sliding_attention=default_rope(300.0)))),
        SMALL_VISION | {"model_type": "siglip_vision_model"}, mm_tokens_per_image=4), {}, "", "bfloat16"),
    "llava": lambda: (whole("llava", small("llama", **llama_sizes(rope_parameters=default_rope(700.0))),
                            SMALL_VISION | {"model_type": "clip_vision_model", "projection_dim": 8}, image_token_index=99),
                      {}, "", "float16"),
    "qwen2_vl": lambda: (whole("qwen2_vl", small("qwen2_vl_text", **divided_sizes(hidden_size=32, rope_parameters=SECTIONS)),
                               QWEN_VISION | dict(embed_dim=8, hidden_size=32, mlp_ratio=1), image_token_id=99),
                         {("text_config", "rope_parameters"): None, ("text_config", "rope_theta"): 900.0,
                          ("text_config", "rope_scaling"): {"type": "mrope", "mrope_section": [2, 1, 1]},
                          ("text_config",): FLAT}, "", "bfloat16"),
    "qwen2_5_vl": lambda: (whole("qwen2_5_vl", small("qwen2_5_vl_text", **divided_sizes(
        hidden_size=32, use_sliding_window=True, sliding_window=4, max_window_layers=1, rope_parameters=SECTIONS)),
        QWEN_VISION | dict(hidden_size=8, out_hidden_size=32, intermediate_size=8, fullatt_block_indexes=[0]),
        image_token_id=99, tie_word_embeddings=True), {}, "", "float16"),
    "qwen3_vl": lambda: (whole("qwen3_vl", small("qwen3_vl_text", **llama_sizes(
        attention_bias=True, rope_parameters=SECTIONS)),
        QWEN_VISION | dict(hidden_size=8, out_hidden_size=20, intermediate_size=8, deepstack_visual_indexes=[0],
                           num_position_embeddings=16), image_token_id=99), {}, "", "bfloat16"),
}

# Llama's relatives of 2024 and 2025.
CASES |= {
    "arcee": lambda: (small("arcee", **llama_sizes(attention_bias=True, mlp_bias=True, rms_norm_eps=2e-4,
                                                   rope_parameters=default_rope(900.0))),
                      {"rope_parameters": None, "rope_theta": 900.0}, "", "bfloat16"),
    "seed_oss": lambda: (small("seed_oss", **llama_sizes(hidden_size=24, attention_out_bias=True, mlp_bias=True, head_dim=None,
                                                           rope_parameters=default_rope(900.0))),
                         {"head_dim": NULL}, "", "bfloat16"),
    "helium": lambda: (small("helium", **llama_sizes(
        hidden_size=24, intermediate_size=12, head_dim=6, attention_bias=True, mlp_bias=True,
        rope_parameters=default_rope(900.0))), {}, "", "bfloat16"),
    "ernie4_5": lambda: (small("ernie4_5", **llama_sizes(use_bias=True, tie_word_embeddings=False,
                                                         rope_parameters=default_rope(900.0))),
                         {"rope_parameters": None, "rope_theta": 900.0}, "", "bfloat16"),
    # The class has a whole rope_parameters where there is none.
    "cwm": lambda: (small("cwm", **llama_sizes(sliding_window=4, mlp_bias=True)),
                    {"layer_types": None, "rope_parameters": None, "rope_theta": 77.0}, "", "bfloat16"),
    "olmo": lambda: (small("olmo", **divided_sizes(clip_qkv=1.2, attention_bias=True,
                                                   rope_parameters=default_rope(900.0))), {}, "", "float16"),
    "olmo3": lambda: (small("olmo3", **llama_sizes(
        num_hidden_layers=4, hidden_size=8, intermediate_size=10, head_dim=6, sliding_window=4, attention_bias=True,
        rope_parameters=dict(full_attention=dict(rope_type="yarn", rope_theta=500000.0, factor=8.0, attention_factor=1.2,
                                                 original_max_position_embeddings=8, beta_fast=2.0, beta_slow=0.2),
                             sliding_attention=default_rope(500000.0)))),
        {"layer_types": None, "rope_parameters": None, "rope_theta": 500000.0,
         "rope_scaling": {"rope_type": "yarn", "factor": 8.0, "attention_factor": 1.2, "beta_fast": 2.0, "beta_slow": 0.2,
                          "original_max_position_embeddings": 8}}, "", "bfloat16"),
    "smollm3": lambda: (small("smollm3", **divided_sizes(
        num_hidden_layers=3, hidden_size=16, intermediate_size=12, no_rope_layer_interval=2, use_sliding_window=True,
        sliding_window=4, attention_bias=True, mlp_bias=True, rope_parameters=default_rope(900.0))),
        {"layer_types": None, "no_rope_layers": None}, "model.", "float16"),
    "granite": lambda: (small("granite", **divided_sizes(
        attention_multiplier=0.3, embedding_multiplier=3.0, residual_multiplier=0.4, logits_scaling=2.5,
        attention_bias=True, mlp_bias=True, rope_parameters=default_rope(900.0))), {}, "", "bfloat16"),
    "ministral": lambda: (small("ministral", **llama_sizes(
        sliding_window=4, layer_types=["sliding_attention", "full_attention"], rope_parameters=default_rope(900.0))),
        {}, "", "bfloat16"),
    "ministral3": lambda: (small("ministral3", **llama_sizes(rope_parameters=dict(
        rope_type="yarn", rope_theta=900.0, factor=16.0, original_max_position_embeddings=4, beta_fast=4.0, beta_slow=0.5,
        mscale=1.0, mscale_all_dim=0.7, llama_4_scaling_beta=0.3, max_position_embeddings=64))), {}, "", "bfloat16"),
    "exaone4": lambda: (small("exaone4", **llama_sizes(
        num_hidden_layers=3, hidden_size=12, intermediate_size=12, sliding_window=4, sliding_window_pattern=2,
        rope_parameters=default_rope(900.0))), {"layer_types": None}, "", "bfloat16"),
    # Without windows every layer turns.
    "exaone4_full": lambda: (small("exaone4", **llama_sizes(
        hidden_size=16, intermediate_size=12, sliding_window=None, layer_types=["full_attention"] * 2,
        tie_word_embeddings=True, rope_parameters=default_rope(900.0))), {}, "", "bfloat16"),
    "vaultgemma": lambda: (small("vaultgemma", **llama_sizes(
        hidden_size=16, head_dim=6, query_pre_attn_scalar=20, sliding_window=4, attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0, attention_bias=True, rope_parameters=default_rope(900.0))),
        {"layer_types": None}, "", "float16"),
    "hunyuan_v1_dense": lambda: (small("hunyuan_v1_dense", **llama_sizes(
        attention_bias=True, rope_parameters=default_rope(900.0, rope_type="dynamic", alpha=50.0, factor=1.0))),
        {"rope_parameters": None, "rope_theta": 900.0, "use_qk_norm": True, "use_cla": False,
         "rope_scaling": {"type": "dynamic", "alpha": 50.0, "factor": 1.0, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0,
                          "mscale_all_dim": 0.0}}, "", "bfloat16"),
    "apertus": lambda: (small("apertus", **divided_sizes(attention_bias=True, rope_parameters=LLAMA3)),
                        {"qk_norm": True, "post_norm": False}, "", "bfloat16"),
    "nanochat": lambda: (small("nanochat", **divided_sizes(final_logit_softcapping=3.0, attention_bias=True,
                                                           rope_parameters=default_rope(900.0))), {}, "", "bfloat16"),
    "mimo": lambda: (small("mimo", **divided_sizes(
        hidden_size=16, intermediate_size=12, num_nextn_predict_layers=1, rope_parameters=default_rope(900.0))),
        {"attention_bias": True, "rope_parameters": None, "rope_theta": 900.0}, "", "bfloat16"),
    # Phi-4-mini: three quarters of each head turn, at other frequencies in long prompts; the head is tied.
    "phi4_mini": lambda: (small("phi3", **divided_sizes(
        hidden_size=16, num_attention_heads=2, num_key_value_heads=1, intermediate_size=12,
        original_max_position_embeddings=8, tie_word_embeddings=True, rope_parameters=default_rope(
            900.0, rope_type="longrope", short_factor=[1.0, 1.2, 1.7], long_factor=[1.3, 1.9, 4.0],
            partial_rotary_factor=0.75))),
        {"rope_parameters": None, "rope_theta": 900.0, "partial_rotary_factor": 0.75, "sliding_window": 262144,
         "attention_bias": False, "mlp_bias": False, "lm_head_bias": False, "full_attn_mod": 1, "interpolate_factor": 1,
         "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.2, 1.7], "long_factor": [1.3, 1.9, 4.0]}},
        "", "bfloat16"),
}


def randomize(model, seed, query_key_scale=1.6, norm_centre=0.8):
    """Random weights of a size that keeps attention far from uniform and from one-hot, and norms away from 1.

    `query_key_scale` is the size of what W_Q and W_K make of a normed vector, `norm_centre` the mean of norm weights.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        if parameter.dim() == 1 or name.endswith("norm.weight"):
            centre = norm_centre if "norm" in name.lower() or ".ln_" in name else 0.0
            centre = centre if name.endswith("weight") else 0.1
            parameter.copy_(centre + 0.3 * noise)
        elif "embed" in name or ".wte." in name or ".wpe." in name:
            parameter.copy_(0.9 * noise)
        else:
            makes_scores = any(part in name for part in ("q_proj", "k_proj", "c_attn", "query_key_value", "qkv"))
            scale = query_key_scale if makes_scores else 1.0
            parameter.copy_(scale * noise / parameter.shape[-1] ** 0.5)


def prompts_of(seed, vocab, lengths):
    generator = np.random.default_rng(seed)
    return [generator.integers(0, vocab, size=n).tolist() for n in lengths]


def change_config(folder, changes):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for key, value in changes.items():
        *outer, name = (key,) if isinstance(key, str) else key
        within = config
        for part in outer:
            within = within[part]
        if value is FLAT:
            config |= {field: found for field, found in within.pop(name).items() if field not in config}
        elif value is None:
            within.pop(name, None)
        else:
            within[name] = None if value is NULL else value
    path.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def renamed(name, renames):
    for old, new in renames:
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def split_in_shards(tensors, shard_bytes):
    """Lists of names, in order, each of at most `shard_bytes` (or of one tensor that is larger)."""
    shards, size = [[]], 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensor.nbytes
    return shards


def write_tensors(folder, tensors, files, shard_bytes):
    """One file, or several of about `shard_bytes` and their index, as the hub names them."""
    stem, ending, save = {
        "safetensors": ("model", "safetensors", lambda part, path: safetensors.torch.save_file(part, path, {"format": "pt"})),
        "pytorch": ("pytorch_model", "bin", torch.save),
    }[files]
    if shard_bytes is None:
        save(tensors, folder / f"{stem}.{ending}")
        return
    shards = split_in_shards(tensors, shard_bytes)
    index = {"metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())}, "weight_map": {}}
    for number, names in enumerate(shards, 1):
        file = f"{stem}-{number:05}-of-{len(shards):05}.{ending}"
        save({name: tensors[name] for name in names}, folder / file)
        index["weight_map"] |= {name: file for name in names}
    (folder / f"{stem}.{ending}.index.json").write_text(json.dumps(index, indent=1) + "\n")


def add_old_tensors(model, tensors, prefix):
    """What files of older transformers hold besides: the tied head once more, causal masks, rotary tables."""
    if model.config.tie_word_embeddings:
        for copy, original in model._tied_weights_keys.items():
            tensors[copy] = tensors[original.removeprefix(prefix)].clone()
    kind = model.config.model_type
    first_of_attention = re.compile(r"(.*\.(?:attn|attention|self_attn)\.)(?:c_attn|k_proj|query_key_value|qkv_proj)\.weight")
    for base in [match[1] for match in map(first_of_attention.fullmatch, list(tensors)) if match]:
        if kind in ("gpt2", "gpt_neo", "gptj", "gpt_neox"):
            tensors[base + "bias"] = torch.ones(8, 8).tril().bool().view(1, 1, 8, 8)
            tensors[base + "masked_bias"] = torch.tensor(-1e9)
        if kind == "codegen":
            tensors[base + "causal_mask"] = torch.ones(8, 8).tril().bool().view(1, 1, 8, 8)
        if kind in ("gpt_neox", "llama", "mimo", "mistral", "olmo", "qwen2", "phi3", "stablelm"):
            tensors[base + "rotary_emb.inv_freq"] = torch.rand(4)


def mtp_tensors(config, dtype):
    """The head beside MiMo's model, as modeling_mimo.py names it: random, and used by nobody."""
    hidden, inner, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    d = getattr(config, "head_dim", None) or hidden // heads
    queries, keys = heads * d, config.num_key_value_heads * d
    norms = ("input_layernorm", "post_attention_layernorm", "token_layernorm", "hidden_layernorm", "final_layernorm")
    shapes = {f"{norm}.weight": (hidden,) for norm in norms} | {"input_proj.weight": (hidden, 2 * hidden)}
    for name, size in (("q", queries), ("k", keys), ("v", keys)):
        shapes |= {f"self_attn.{name}_proj.weight": (size, hidden), f"self_attn.{name}_proj.bias": (size,)}
    shapes |= {"self_attn.o_proj.weight": (hidden, queries), "mlp.down_proj.weight": (hidden, inner)}
    shapes |= {"mlp.gate_proj.weight": (inner, hidden), "mlp.up_proj.weight": (inner, hidden)}
    count = config.num_nextn_predict_layers
    named = {f"model.mtp_layers.{i}.{name}": shape for i in range(count) for name, shape in shapes.items()}
    return {name: torch.randn(shape, dtype=dtype) for name, shape in named.items()}


def save_checkpoint(
    config, folder, seed, changes=None, prefix="", dtype="float16", files="safetensors", shard_bytes=None, weights=None,
    old_tensors=False, renames=(),
):
    """Saves a random model of this config as the hub would; returns nothing.

    `changes` of config.json: None removes a field, NULL writes null, FLAT takes an object's fields out of it; a tuple
    names a field of an inner object. `prefix` is taken off the tensors' names, `renames` are pairs of
    old and new beginnings of them. `files`
    is "safetensors" or "pytorch", one file or shards of about `shard_bytes`. `weights` are settings of randomize.
    """
    if folder.exists():
        shutil.rmtree(folder)
    torch.manual_seed(seed)
    model = oracle.auto_class(config).from_config(config, attn_implementation="eager")
    if dtype == "float64":
        model.double()  # before the weights are drawn: numbers that only float64 holds
    randomize(model, seed, **(weights or {}))
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    change_config(folder, changes or {})
    if prefix or files != "safetensors" or shard_bytes or old_tensors or renames or config.model_type == "mimo":
        path = folder / "model.safetensors"
        tensors = safetensors.torch.load_file(path)
        if config.model_type == "mimo":
            tensors |= mtp_tensors(config, getattr(torch, dtype))
        tensors = {renamed(name.removeprefix(prefix), renames): tensor for name, tensor in tensors.items()}
        if old_tensors:
            add_old_tensors(model, tensors, prefix)
        path.unlink()
        write_tensors(folder, tensors, files, shard_bytes)


def save_expected(folder, prompts):
    """What the oracle finds, with its float32 steps in float64, beside the checkpoint."""
    expected = {}
    for index, forward in enumerate(oracle.oracle_forward(folder, prompts, exact=True)):
        expected[f"attentions.{index}"] = forward.attentions
        expected[f"boundaries.{index}"] = forward.boundaries
        expected[f"final_norm.{index}"] = forward.final_norm
    expected = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in expected.items()}
    stored = next(iter(safetensors.torch.load_file(folder / "model.safetensors").values())).dtype
    for index, matrices in enumerate(oracle.attention_weights(folder)):
        for name, matrix in matrices.items():
            expected[f"{name}.{index}"] = torch.from_numpy(matrix.copy()).to(stored)  # exact: that is what was stored
    safetensors.torch.save_file(expected, folder / "expected.safetensors")
    (folder / "prompts.json").write_text(json.dumps(prompts) + "\n")


def make_case(name, folder, seed):
    config, changes, prefix, dtype = CASES[name]()
    save_checkpoint(config, folder, seed, changes, prefix, dtype)
    save_expected(folder, prompts_of(seed, VOCAB, PROMPT_LENGTHS))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fixed", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument("--only", nargs="*", default=None, choices=sorted(CASES))
    arguments = parser.parse_args()
    for seed, name in enumerate(CASES):
        if arguments.only and name not in arguments.only:
            continue
        make_case(name, arguments.fixed / name, seed)
        size = sum(path.stat().st_size for path in (arguments.fixed / name).iterdir())
        print(f"{name}: {size} bytes")


if __name__ == "__main__":
    main()
