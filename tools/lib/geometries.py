"""Published models by their geometry: config.json as the hub has it, and the tensors that follow from it.

Sizes are those of the models' own config.json. A test holds names and shapes against `spectrace inspect`, which knows no
word of this file.
"""

import copy
import math
from dataclasses import dataclass, field

LLAMA3_ROPE = {"high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"}


def llama(layers, hidden, inner, heads, kv_heads, vocab, tied=False, **more):
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "intermediate_size": inner,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads, "vocab_size": vocab,
        "hidden_act": "silu", "rms_norm_eps": 1e-5, "tie_word_embeddings": tied, "initializer_range": 0.02,
        "attention_bias": False, "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2,
    } | more  # fmt: skip


def mistral(**more):
    config = llama(32, 4096, 14336, 32, 8, 32000, rope_theta=10000.0, sliding_window=4096, max_position_embeddings=32768)
    del config["attention_bias"]
    return config | {"architectures": ["MistralForCausalLM"], "model_type": "mistral"} | more


def qwen2(layers, hidden, inner, heads, kv_heads, vocab, **more):
    config = llama(layers, hidden, inner, heads, kv_heads, vocab, rope_theta=1e6, max_position_embeddings=131072)
    del config["attention_bias"]
    return config | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "rms_norm_eps": 1e-6, "max_window_layers": layers,
                     "sliding_window": 131072, "use_sliding_window": False} | more  # fmt: skip


def gemma2(layers, hidden, inner, heads, kv_heads):
    config = llama(layers, hidden, inner, heads, kv_heads, 256000, tied=True, rope_theta=10000.0, max_position_embeddings=8192)
    del config["hidden_act"]
    return config | {
        "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 256, "sliding_window": 4096, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
        "rms_norm_eps": 1e-6,
    }  # fmt: skip


def gpt_neox(layers, hidden, inner, heads, vocab):
    return {
        "architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "hidden_size": hidden, "intermediate_size": inner,
        "num_hidden_layers": layers, "num_attention_heads": heads, "vocab_size": vocab, "hidden_act": "gelu", "rotary_pct": 0.25,
        "rotary_emb_base": 10000, "max_position_embeddings": 2048, "layer_norm_eps": 1e-5, "use_parallel_residual": True,
        "tie_word_embeddings": False, "initializer_range": 0.02, "torch_dtype": "float16", "bos_token_id": 0, "eos_token_id": 0,
    }  # fmt: skip


def gpt2(layers, hidden, heads):
    return {
        "architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_embd": hidden, "n_layer": layers, "n_head": heads,
        "n_positions": 1024, "n_ctx": 1024, "vocab_size": 50257, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
        "initializer_range": 0.02, "torch_dtype": "float32", "bos_token_id": 50256, "eos_token_id": 50256,
    }  # fmt: skip


def opt(layers, hidden, inner, heads):
    return {
        "architectures": ["OPTForCausalLM"], "model_type": "opt", "hidden_size": hidden, "word_embed_proj_dim": hidden, "ffn_dim": inner,
        "num_hidden_layers": layers, "num_attention_heads": heads, "vocab_size": 50272, "max_position_embeddings": 2048,
        "activation_function": "relu", "do_layer_norm_before": True, "init_std": 0.02, "torch_dtype": "float16",
        "bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 1,
    }  # fmt: skip


LLAMA31 = {"max_position_embeddings": 131072, "rope_theta": 500000.0, "bos_token_id": 128000, "eos_token_id": 128001}

CONFIGS = {
    "llama-3.1-8b": llama(32, 4096, 14336, 32, 8, 128256, **LLAMA31, rope_scaling=LLAMA3_ROPE | {"factor": 8.0}),
    "llama-3.2-1b": llama(16, 2048, 8192, 32, 8, 128256, tied=True, **LLAMA31, head_dim=64, rope_scaling=LLAMA3_ROPE | {"factor": 32.0}),
    "llama-2-7b": llama(32, 4096, 11008, 32, 32, 32000, rope_theta=10000.0, max_position_embeddings=4096, torch_dtype="float16"),
    "mistral-7b": mistral(),
    "qwen2.5-7b": qwen2(28, 3584, 18944, 28, 4, 152064),
    "gemma-2-2b": gemma2(26, 2304, 9216, 8, 4),
    "gemma-2-9b": gemma2(42, 3584, 14336, 16, 8),
    "pythia-160m": gpt_neox(12, 768, 3072, 12, 50304),
    "pythia-1b": gpt_neox(16, 2048, 8192, 8, 50304),
    "pythia-6.9b": gpt_neox(32, 4096, 16384, 32, 50432),
    "gpt2": gpt2(12, 768, 12),
    "gpt2-medium": gpt2(24, 1024, 16),
    "gpt2-large": gpt2(36, 1280, 20),
    "gpt2-xl": gpt2(48, 1600, 25),
    "opt-125m": opt(12, 768, 3072, 12),
    "opt-6.7b": opt(32, 4096, 16384, 32),
}

# Field names of one size in the families' words.
WORDS = {
    "layers": ("num_hidden_layers", "n_layer"),
    "hidden": ("hidden_size", "n_embd"),
    "heads": ("num_attention_heads", "n_head"),
    "kv_heads": ("num_key_value_heads",),
    "head_dim": ("head_dim",),
    "inner": ("intermediate_size", "ffn_dim"),
    "vocab": ("vocab_size",),
    "positions": ("max_position_embeddings", "n_positions"),
}


def resized(config, **sizes):
    """A copy of `config` with other sizes: layers, hidden, heads, kv_heads, head_dim, inner, vocab, positions."""
    config = copy.deepcopy(config)
    for size, value in sizes.items():
        for word in WORDS[size]:
            if word in config or (size == "head_dim" and config["model_type"] in ("llama", "mistral", "gemma2")):
                config[word] = value
    for word in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if word in config:
            config[word] = min(config[word], config["vocab_size"] - 1)
    if "word_embed_proj_dim" in config:
        config["word_embed_proj_dim"] = config["hidden_size"]
    return config


def size_of(config, size):
    """Its value, or None where the family has no such field."""
    return next((config[word] for word in WORDS[size] if word in config), None)


def like(name, **sizes):
    return resized(CONFIGS[name], **sizes)


def tiny(config):
    """The family with every switch, in a few thousand numbers: for tests."""
    grouped = (size_of(config, "kv_heads") or 0) < size_of(config, "heads")
    sizes = dict(layers=2, hidden=64, heads=4, kv_heads=2 if grouped else 4, inner=80, vocab=301, positions=64)
    if "head_dim" in config:
        sizes["head_dim"] = 10
    return resized(config, **sizes)


@dataclass
class Matrix:
    """A matrix that spectra are taken of, inside a tensor: `tensor.reshape(view)[index]`, its first axes taken together."""

    name: str  # "W_Q" …, with layers "layers.3.W_Q"
    view: tuple
    index: tuple = ()


@dataclass
class TensorOf:
    """A tensor of a checkpoint: all `value`, or noise of `std`; where a spectrum is asked for, `matrices` have one."""

    shape: tuple
    std: float = 0.0
    value: float = 0.0
    matrices: list = field(default_factory=list)


def tensors_of(config):
    """name -> TensorOf, in the order of the file."""
    family = {"llama": llama_tensors, "mistral": llama_tensors, "qwen2": llama_tensors, "gemma2": llama_tensors,
              "gpt_neox": gpt_neox_tensors, "gpt2": gpt2_tensors, "opt": opt_tensors}[config["model_type"]]  # fmt: skip
    return family(config)


def whole(name, shape, std):
    return TensorOf(shape, std, matrices=[Matrix(name, shape)])


def bias(size, std):
    return TensorOf((size,), std)


def norm(base, hidden, has_bias=True):
    return {base + ".weight": TensorOf((hidden,), value=1.0)} | ({base + ".bias": TensorOf((hidden,))} if has_bias else {})


def llama_tensors(c):
    hidden, heads, kv_heads, inner, std = c["hidden_size"], c["num_attention_heads"], c["num_key_value_heads"], c["intermediate_size"], c["initializer_range"]
    head_dim = c.get("head_dim", hidden // heads)
    is_gemma = c["model_type"] == "gemma2"
    one = TensorOf((hidden,), value=0.0 if is_gemma else 1.0)  # Gemma's norms are 1 + w
    norms = ["input_layernorm", "post_attention_layernorm"] + (["pre_feedforward_layernorm", "post_feedforward_layernorm"] if is_gemma else [])
    tensors = {"model.embed_tokens.weight": TensorOf((c["vocab_size"], hidden), std)}
    for layer in range(c["num_hidden_layers"]):
        base, attention = f"model.layers.{layer}.", f"model.layers.{layer}.self_attn."
        for letter, rows in (("q", heads * head_dim), ("k", kv_heads * head_dim), ("v", kv_heads * head_dim)):
            tensors[f"{attention}{letter}_proj.weight"] = whole(f"layers.{layer}.W_{letter.upper()}", (rows, hidden), std)
            if c["model_type"] == "qwen2":
                tensors[f"{attention}{letter}_proj.bias"] = bias(rows, std)
        tensors[attention + "o_proj.weight"] = whole(f"layers.{layer}.W_O", (hidden, heads * head_dim), std)
        tensors[base + "mlp.gate_proj.weight"] = TensorOf((inner, hidden), std)
        tensors[base + "mlp.up_proj.weight"] = TensorOf((inner, hidden), std)
        tensors[base + "mlp.down_proj.weight"] = TensorOf((hidden, inner), std)
        tensors |= {f"{base}{name}.weight": one for name in norms}
    tensors["model.norm.weight"] = one
    if not c["tie_word_embeddings"]:
        tensors["lm_head.weight"] = TensorOf((c["vocab_size"], hidden), std)
    unembedding = "model.embed_tokens.weight" if c["tie_word_embeddings"] else "lm_head.weight"
    tensors[unembedding] = whole("W_U", (c["vocab_size"], hidden), std)
    return tensors


def gpt_neox_tensors(c):
    hidden, heads, inner, std = c["hidden_size"], c["num_attention_heads"], c["intermediate_size"], c["initializer_range"]
    tensors = {"gpt_neox.embed_in.weight": TensorOf((c["vocab_size"], hidden), std)}
    for layer in range(c["num_hidden_layers"]):
        base = f"gpt_neox.layers.{layer}."
        tensors |= norm(base + "input_layernorm", hidden) | norm(base + "post_attention_layernorm", hidden)
        # Rows are [head, {q, k, v}, head_dim].
        view = (heads, 3, hidden // heads, hidden)
        fused = [Matrix(f"layers.{layer}.W_{letter}", view, (slice(None), i)) for i, letter in enumerate("QKV")]
        tensors[base + "attention.query_key_value.weight"] = TensorOf((3 * hidden, hidden), std, matrices=fused)
        tensors[base + "attention.query_key_value.bias"] = bias(3 * hidden, std)
        tensors[base + "attention.dense.weight"] = whole(f"layers.{layer}.W_O", (hidden, hidden), std)
        tensors[base + "attention.dense.bias"] = bias(hidden, std)
        tensors[base + "mlp.dense_h_to_4h.weight"] = TensorOf((inner, hidden), std)
        tensors[base + "mlp.dense_h_to_4h.bias"] = bias(inner, std)
        tensors[base + "mlp.dense_4h_to_h.weight"] = TensorOf((hidden, inner), std)
        tensors[base + "mlp.dense_4h_to_h.bias"] = bias(hidden, std)
    return tensors | norm("gpt_neox.final_layer_norm", hidden) | {"embed_out.weight": whole("W_U", (c["vocab_size"], hidden), std)}


def gpt2_tensors(c):
    hidden, std = c["n_embd"], c["initializer_range"]
    into_stream = std / math.sqrt(2 * c["n_layer"])  # GPT-2's initialisation of what is added to the residual stream
    tensors = {"wte.weight": whole("W_U", (c["vocab_size"], hidden), std), "wpe.weight": TensorOf((c["n_positions"], hidden), std / 2)}
    for layer in range(c["n_layer"]):
        base = f"h.{layer}."
        # Stored as inputs x outputs: the thirds are of columns.
        thirds = [Matrix(f"layers.{layer}.W_{letter}", (hidden, 3, hidden), (slice(None), i)) for i, letter in enumerate("QKV")]
        tensors |= norm(base + "ln_1", hidden)
        tensors[base + "attn.c_attn.weight"] = TensorOf((hidden, 3 * hidden), std, matrices=thirds)
        tensors[base + "attn.c_attn.bias"] = bias(3 * hidden, std)
        tensors[base + "attn.c_proj.weight"] = whole(f"layers.{layer}.W_O", (hidden, hidden), into_stream)
        tensors[base + "attn.c_proj.bias"] = bias(hidden, std)
        tensors |= norm(base + "ln_2", hidden)
        tensors[base + "mlp.c_fc.weight"] = TensorOf((hidden, 4 * hidden), std)
        tensors[base + "mlp.c_fc.bias"] = bias(4 * hidden, std)
        tensors[base + "mlp.c_proj.weight"] = TensorOf((4 * hidden, hidden), into_stream)
        tensors[base + "mlp.c_proj.bias"] = bias(hidden, std)
    return tensors | norm("ln_f", hidden)


def opt_tensors(c):
    hidden, inner, std = c["hidden_size"], c["ffn_dim"], c["init_std"]
    tensors = {"model.decoder.embed_tokens.weight": whole("W_U", (c["vocab_size"], hidden), std),
               "model.decoder.embed_positions.weight": TensorOf((c["max_position_embeddings"] + 2, hidden), std)}  # fmt: skip
    for layer in range(c["num_hidden_layers"]):
        base = f"model.decoder.layers.{layer}."
        for letter, word in (("K", "k_proj"), ("V", "v_proj"), ("Q", "q_proj"), ("O", "out_proj")):
            tensors[f"{base}self_attn.{word}.weight"] = whole(f"layers.{layer}.W_{letter}", (hidden, hidden), std)
            tensors[f"{base}self_attn.{word}.bias"] = bias(hidden, std)
        tensors |= norm(base + "self_attn_layer_norm", hidden)
        tensors[base + "fc1.weight"] = TensorOf((inner, hidden), std)
        tensors[base + "fc1.bias"] = bias(inner, std)
        tensors[base + "fc2.weight"] = TensorOf((hidden, inner), std)
        tensors[base + "fc2.bias"] = bias(hidden, std)
        tensors |= norm(base + "final_layer_norm", hidden)
    return tensors | norm("model.decoder.final_layer_norm", hidden)
