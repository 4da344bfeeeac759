"""Random checkpoints of the families that are not near Llama or GPT-2's first relatives; see random_configs."""

from make_checkpoints import NULL
from random_draw import (
    OMIT,
    Model,
    divisors,
    draw_activation,
    draw_divided,
    draw_epsilon,
    draw_layer_types,
    draw_partial_rope,
    draw_rope,
    draw_tied,
    old_rope,
    without_omitted,
)


def draw_sizes(draw, class_kv_heads=None, own_head_dim=0.3):
    """Sizes, heads and head_dim.

    `class_kv_heads` is what the family's class has for num_key_value_heads (None: as many as heads), `own_head_dim` how
    often the head size does not follow from hidden_size.
    """
    heads, head_dim = draw.one_of(1, 2, 3, 4, 5, 6, 8), draw.one_of(4, 6, 8, 10, 12, 16)
    kv_heads = draw.one_of(*divisors(heads))
    settings = dict(
        num_hidden_layers=draw.integer(1, 4),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        hidden_size=heads * head_dim,
        intermediate_size=draw.integer(3, 50),
        vocab_size=draw.integer(5, 60),
        max_position_embeddings=draw.maybe(draw.integer(4, 40), 0.9),
        tie_word_embeddings=draw_tied(draw),
    )
    hub = {}
    if class_kv_heads is None and kv_heads == heads:
        settings["num_key_value_heads"] = draw.one_of(OMIT, heads, None)
        hub["num_key_value_heads"] = draw.one_of(None, NULL)
    elif kv_heads == class_kv_heads:
        settings["num_key_value_heads"] = draw.one_of(OMIT, kv_heads)
    if draw.chance(own_head_dim):
        settings["head_dim"] = head_dim
        if draw.chance(0.6):
            settings["hidden_size"] = draw.integer(3, 40)
    return settings, hub, head_dim


def draw_phi(draw):
    settings, hub, head_dim = draw_sizes(draw)
    settings |= dict(
        layer_norm_eps=draw_epsilon(draw),
        hidden_act=draw_activation(draw),
        # The class makes these norms as long as hidden_size / heads.
        qk_layernorm=OMIT if "head_dim" in settings else draw.maybe(draw.chance(0.7)),
        rope_parameters=draw_partial_rope(draw, head_dim, 0.5),
    )
    return Model(settings, hub, old_rope=old_rope(draw, partial="partial_rotary_factor"), theta="rope_theta")


def draw_starcoder2(draw):
    settings, hub, head_dim = draw_sizes(draw, class_kv_heads=2)
    settings |= dict(
        norm_epsilon=draw_epsilon(draw),
        hidden_act=draw_activation(draw),
        use_bias=draw.maybe(draw.chance(0.5)),
        sliding_window=draw.maybe(draw.one_of(None, draw.integer(1, 12), draw.integer(1, 12))),
        rope_parameters=draw_rope(draw, head_dim),
    )
    return Model(settings, hub, old_rope=old_rope(draw), theta="rope_theta")


def draw_glm(draw):
    settings, hub, head_dim = draw_sizes(draw, class_kv_heads=2, own_head_dim=1.0)
    if draw.chance(0.05) and settings["num_attention_heads"] < 4:
        settings["head_dim"], head_dim = OMIT, 128
    settings |= dict(
        rms_norm_eps=draw_epsilon(draw),
        hidden_act=draw_activation(draw),
        attention_bias=draw.maybe(draw.chance(0.5)),
        rope_parameters=draw_partial_rope(draw, head_dim, 0.5),
    )
    return Model(settings, hub, old_rope=old_rope(draw, partial="partial_rotary_factor"), theta="rope_theta")


def draw_glm4(draw):
    model = draw_glm(draw)
    # Four norms a layer of a few dimensions blow up the oracle's own rounding, whatever the weights.
    model.settings["hidden_size"] = max(model.settings["hidden_size"], 12)
    return model


def draw_gpt_bigcode(draw):
    heads, hidden = draw_divided(draw)
    positions = draw.integer(4, 30)
    settings = dict(
        n_layer=draw.integer(1, 4),
        n_head=heads,
        n_embd=hidden,
        n_inner=draw.maybe(draw.integer(3, 50), 0.6),
        n_positions=positions,
        vocab_size=draw.integer(5, 60),
        layer_norm_epsilon=draw_epsilon(draw),
        activation_function=draw_activation(draw),
        multi_query=draw.maybe(draw.chance(0.5)),
        scale_attn_weights=draw.maybe(draw.chance(0.6), 0.5),
        attention_softmax_in_fp32=draw.maybe(draw.chance(0.5), 0.3),
        scale_attention_softmax_in_fp32=draw.maybe(draw.chance(0.5), 0.3),
        tie_word_embeddings=draw_tied(draw),
    )
    hub = {}
    if draw.chance(0.3):  # the other names of the same fields
        hub |= {"n_layer": None, "num_hidden_layers": settings["n_layer"], "n_head": None, "num_attention_heads": heads}
        hub |= {"n_embd": None, "hidden_size": hidden, "n_positions": None, "max_position_embeddings": positions}
    gain = (hidden / heads) ** 0.5 if settings["scale_attn_weights"] is False else 1.0
    return Model(settings, hub, most_tokens=positions, score_gain=gain)


def draw_codegen(draw):
    heads = 4 * draw.integer(1, 3)
    hidden = heads * draw.integer(3, 10 if heads < 12 else 4)
    positions = draw.integer(4, 30)
    settings = dict(
        n_layer=draw.integer(1, 4),
        n_head=heads,
        n_embd=hidden,
        n_inner=draw.maybe(draw.integer(3, 50), 0.6),
        n_positions=positions,
        n_ctx=draw.maybe(draw.integer(4, 30), 0.3),  # without effect
        rotary_dim=2 * draw.integer(1, hidden // heads // 2),
        vocab_size=draw.integer(5, 60),
        layer_norm_epsilon=draw_epsilon(draw),
        activation_function=draw_activation(draw),
        tie_word_embeddings=draw_tied(draw),
    )
    return Model(settings, hub={"scale_attn_weights": True}, most_tokens=positions)


def draw_cohere(draw):
    settings, hub, head_dim = draw_sizes(draw)
    settings |= dict(
        layer_norm_eps=draw_epsilon(draw),
        hidden_act=draw_activation(draw),
        attention_bias=draw.maybe(draw.chance(0.5)),
        use_qk_norm=draw.maybe(draw.chance(0.7)),
        logit_scale=draw.maybe(draw.number(0.01, 5.0)),
        rope_parameters=draw_rope(draw, head_dim),
    )
    return Model(settings, hub, old_rope=old_rope(draw), theta="rope_theta")


def draw_cohere2(draw):
    settings, hub, head_dim = draw_sizes(draw)
    layers = settings["num_hidden_layers"]
    pattern = draw.one_of(4, draw.integer(1, 5))
    by_pattern = ["sliding_attention" if (i + 1) % pattern else "full_attention" for i in range(layers)]
    kinds = draw.one_of(draw_layer_types(draw, layers), by_pattern)
    settings |= dict(
        layer_norm_eps=draw_epsilon(draw),
        hidden_act=draw_activation(draw),
        attention_bias=draw.maybe(draw.chance(0.5)),
        logit_scale=draw.maybe(draw.number(0.01, 5.0)),
        sliding_window=draw.maybe(draw.integer(1, 12), 0.9),
        layer_types=kinds,
        rope_parameters=draw_rope(draw, head_dim),
    )
    if kinds == by_pattern:
        hub |= {"layer_types": None, "sliding_window_pattern": pattern}
        if pattern == 4 and draw.chance(0.5):  # the default; the other name is transformers' own, and not read
            hub |= {"sliding_window_pattern": None, "_sliding_window_pattern": 2}
    hub |= {"position_embedding_type": "rope_gptj", "rotary_pct": 1.0, "use_gated_activation": True}
    hub |= {"use_parallel_block": True, "order_of_interleaved_layers": "local_attn_first"}
    return Model(settings, hub, old_rope=old_rope(draw), theta="rope_theta")


def draw_nemotron(draw):
    settings, hub, head_dim = draw_sizes(draw, class_kv_heads=0)  # the class has none, and does not run without
    if settings["hidden_size"] == settings["num_attention_heads"] * head_dim:
        settings["head_dim"] = draw.one_of(OMIT, head_dim, None)
        hub["head_dim"] = draw.one_of(None, NULL)
    settings |= dict(
        norm_eps=draw_epsilon(draw),
        hidden_act=draw_activation(draw),
        attention_bias=draw.maybe(draw.chance(0.5)),
        mlp_bias=draw.maybe(draw.chance(0.5)),
        rope_parameters=draw_partial_rope(draw, head_dim, 0.5),
    )
    return Model(settings, hub, old_rope=old_rope(draw, partial="partial_rotary_factor"), theta="rope_theta")


def draw_persimmon(draw):
    settings, _, head_dim = draw_sizes(draw, own_head_dim=0.0)
    del settings["num_key_value_heads"]
    settings |= dict(
        layer_norm_eps=draw_epsilon(draw),
        hidden_act=draw_activation(draw),
        qk_layernorm=draw.maybe(draw.chance(0.5)),
        rope_parameters=draw_partial_rope(draw, head_dim, 0.5),
    )
    return Model(settings, old_rope=old_rope(draw, partial="partial_rotary_factor"), theta="rope_theta")


def draw_mpt(draw):
    heads, hidden = draw_divided(draw, high=8)
    positions = draw.integer(4, 40)
    attention = without_omitted(dict(
        attn_impl=draw.maybe(draw.one_of("torch", "flash", "triton"), 0.3),
        clip_qkv=draw.maybe(draw.one_of(None, draw.number(0.2, 3.0), draw.number(0.2, 3.0), 0.0)),
        softmax_scale=draw.maybe(draw.one_of(None, draw.number(0.1, 2.0))),
        alibi_bias_max=draw.maybe(draw.integer(1, 20)),
    ))
    settings = dict(
        n_layers=draw.integer(1, 4),
        n_heads=heads,
        d_model=hidden,
        max_seq_len=positions,
        vocab_size=draw.integer(5, 60),
        layer_norm_epsilon=draw_epsilon(draw),
        attn_config=draw.one_of(OMIT, None) if not attention else attention,
        logit_scale=draw.maybe(draw.one_of(None, draw.number(0.01, 5.0), "inv_sqrt_d_model")),
        learned_pos_emb=draw.maybe(draw.chance(0.5)),  # not used
        norm_type=draw.maybe(draw.one_of("layernorm", "low_precision_layernorm"), 0.3),
        tie_word_embeddings=draw_tied(draw),
    )
    usual = dict(alibi=True, alibi_bias_max=8, attn_impl="torch", attn_pdrop=0, attn_type="multihead_attention",
                 attn_uses_sequence_id=False, clip_qkv=None, prefix_lm=False, qk_ln=False, softmax_scale=None)
    hub = {"attn_config": usual | attention, "init_config": {"name": "kaiming_normal_"}, "verbose": 0}
    if draw.chance(0.3):  # the other names of the same fields
        hub |= {"n_layers": None, "num_hidden_layers": settings["n_layers"], "n_heads": None}
        hub |= {"num_attention_heads": heads, "d_model": None, "hidden_size": hidden}
    gain = (attention.get("softmax_scale") or (hidden / heads) ** -0.5) * (hidden / heads) ** 0.5
    # transformers' table of ALiBi has max_seq_len columns. No longer prompts, as with BLOOM: scores as large as ALiBi
    # makes them are rounded to float32 by the oracle's softmax.
    return Model(settings, hub, most_tokens=positions, score_gain=max(gain, 1.0))


def draw_xglm(draw):
    heads, hidden = draw_divided(draw, low=4)  # 2 or 3 dimensions have no sinusoidal positions
    vocab, positions = draw.integer(5, 60), draw.integer(4, 40)
    settings = dict(
        num_layers=draw.integer(1, 4),
        attention_heads=heads,
        d_model=hidden,
        ffn_dim=draw.integer(3, 50),
        vocab_size=vocab,
        max_position_embeddings=draw.maybe(positions, 0.9),
        activation_function=draw_activation(draw),
        scale_embedding=draw.maybe(draw.chance(0.5)),
        # From 2 on it is a position's row, too, which then is 0; it must be in transformers' table.
        pad_token_id=draw.one_of(None, OMIT, 1, draw.integer(0, min(vocab - 1, positions + 1, 12))),
        tie_word_embeddings=draw_tied(draw),
    )
    hub = {}
    if draw.chance(0.3):  # the other names of the same fields
        hub |= {"num_layers": None, "num_hidden_layers": settings["num_layers"], "attention_heads": None}
        hub |= {"num_attention_heads": heads, "d_model": None, "hidden_size": hidden}
    return Model(settings, hub)


def draw_biogpt(draw):
    heads, hidden = draw_divided(draw)
    positions = draw.integer(4, 30)
    settings = dict(
        num_hidden_layers=draw.integer(1, 4),
        num_attention_heads=heads,
        hidden_size=hidden,
        intermediate_size=draw.integer(3, 50),
        vocab_size=draw.integer(5, 60),
        max_position_embeddings=positions,
        hidden_act=draw_activation(draw),
        layer_norm_eps=draw_epsilon(draw),  # not used
        scale_embedding=draw.maybe(draw.chance(0.5)),
        pad_token_id=draw.one_of(None, OMIT, 1),
        tie_word_embeddings=draw_tied(draw),
    )
    return Model(settings, most_tokens=positions)


FAMILIES = {
    "biogpt": draw_biogpt,
    "codegen": draw_codegen,
    "cohere": draw_cohere,
    "cohere2": draw_cohere2,
    "glm": draw_glm,
    "glm4": draw_glm4,
    "gpt_bigcode": draw_gpt_bigcode,
    "mpt": draw_mpt,
    "nemotron": draw_nemotron,
    "persimmon": draw_persimmon,
    "phi": draw_phi,
    "starcoder2": draw_starcoder2,
    "xglm": draw_xglm,
}

PREFIXES = {"biogpt": "biogpt.", "codegen": "transformer.", "gpt_bigcode": "transformer.", "mpt": "transformer."}
