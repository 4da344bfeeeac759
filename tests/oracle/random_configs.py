"""Random checkpoints of every family: sizes, switches, rope scalings, windows, storage and config style.

    random_sample("llama", seed) -> Sample, which make_checkpoints.save_checkpoint writes to a folder

One function a family draws every field that its adapter reads and that transformers honours. Fields are often left at
the default of their class, and then often left out of config.json, so that the adapter's defaults are tried too.
Combinations that transformers itself cannot run are not drawn; where that is not plain from the config, a comment says
so.
"""

import dataclasses
import zlib

import random_llama_relatives
import random_other_families
import transformers
from make_checkpoints import FLAT, NULL, small
from random_draw import (
    OMIT,
    Draw,
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
from random_llama import draw_gemma2_like, draw_layer_ropes, draw_llama_like, draw_llama_sizes, draw_qwen_windows
from random_towers import KINDS, draw_whole


@dataclasses.dataclass
class Sample:
    """A checkpoint to be: what save_checkpoint takes, and the prompts to run."""

    family: str
    seed: int
    config: object  # of transformers
    changes: dict  # of config.json: None removes a field, NULL writes null
    prefix: str  # taken off the tensor names
    renames: tuple  # pairs: other beginnings for the tensors' names
    dtype: str  # on disk
    files: str  # "safetensors" or "pytorch"
    shard_bytes: int | None  # None: one file
    weights: dict  # settings of make_checkpoints.randomize
    old_tensors: bool  # masks, rotary tables and a tied head in the file, as older transformers wrote them
    prompts: list  # of lists of token ids
    text_family: str  # what spectrace calls the family


def draw_llama(draw):
    model, _ = draw_llama_like(draw, "llama")
    model.settings |= dict(attention_bias=draw.maybe(draw.chance(0.6)), mlp_bias=draw.maybe(draw.chance(0.6)))
    model.hub |= {"pretraining_tp": 1}
    return model


def draw_mistral(draw):
    model, _ = draw_llama_like(draw, "mistral")
    model.settings["sliding_window"] = draw.maybe(draw.one_of(None, draw.integer(1, 12), draw.integer(1, 12)), 0.9)
    return model


def draw_gemma(draw):
    model, _ = draw_llama_like(draw, "gemma")
    model.settings["attention_bias"] = draw.maybe(draw.chance(0.6))
    if model.settings["hidden_act"] in (OMIT, "gelu_pytorch_tanh") and draw.chance(0.5):
        model.always["hidden_act"] = "gelu"  # the class reads it as the tanh form
    model.hub["hidden_activation"] = NULL
    return model


def draw_gemma2(draw):
    return draw_gemma2_like(draw, "gemma2")


def draw_gemma3_text(draw):
    model, head_dim = draw_llama_like(draw, "gemma3_text")
    settings = model.settings
    layers = settings["num_hidden_layers"]
    pattern = draw.integer(1, 6)
    by_pattern = ["full_attention" if (i + 1) % pattern == 0 else "sliding_attention" for i in range(layers)]
    kinds = draw.one_of(draw_layer_types(draw, layers), by_pattern)
    settings |= dict(
        attention_bias=draw.maybe(draw.chance(0.6)),
        query_pre_attn_scalar=draw.maybe(draw.integer(2, 40)),
        sliding_window=draw.maybe(draw.integer(1, 12), 0.9),
        final_logit_softcapping=draw.maybe(draw.one_of(None, draw.number(1.0, 60.0))),
        layer_types=kinds,
    )
    settings["rope_parameters"] = draw_layer_ropes(draw, head_dim)

    def old_rope_of_two(ropes):
        # The old style has a theta for each and scales the full layers alone.
        full, sliding = dict(ropes["full_attention"]), dict(ropes["sliding_attention"])
        if sliding["rope_type"] != "default":
            return {}
        kind = full.pop("rope_type")
        found = {
            "rope_parameters": None,
            "rope_theta": full.pop("rope_theta", None),
            "rope_local_base_freq": sliding.get("rope_theta"),
            "rope_scaling": {"rope_type": kind} | full if kind != "default" else NULL,
        }
        if kind != "default" and draw.chance(0.3):  # both styles in one file: rope_scaling goes over the full layers'
            found |= {"rope_theta": 77.0, "rope_local_base_freq": 78.0}
            found["rope_parameters"] = {
                "full_attention": {"rope_type": "default", "rope_theta": draw.number(40.0, 1e6)},
                "sliding_attention": {"rope_type": "default", "rope_theta": draw.number(40.0, 1e6)},
            }
        if kinds == by_pattern:
            found |= {"layer_types": None, "sliding_window_pattern": pattern}
            if pattern == 6 and draw.chance(0.5):  # the default; the other name is transformers' own, and not read
                found |= {"sliding_window_pattern": None, "_sliding_window_pattern": 2}
        return found

    model.old_rope, model.theta = old_rope_of_two, None
    return model


def draw_qwen2(draw):
    model, _ = draw_llama_like(draw, "qwen2")
    draw_qwen_windows(draw, model)
    return model


def draw_qwen3(draw):
    model, _ = draw_llama_like(draw, "qwen3")
    model.settings["attention_bias"] = draw.maybe(draw.chance(0.6))
    draw_qwen_windows(draw, model)
    return model


def draw_olmo2(draw):
    model, _ = draw_llama_like(draw, "olmo2")
    model.settings["attention_bias"] = draw.maybe(draw.chance(0.6))
    return model


def draw_phi3(draw):
    settings, hub, head_dim = draw_llama_sizes(draw, "phi3")
    # The class checks the factors' count against hidden_size / heads, so they need the usual head size.
    own_head_dim = settings["hidden_size"] != settings["num_attention_heads"] * head_dim
    kinds = ("default",) if own_head_dim else ("default", "longrope", "longrope", "longrope")
    rope = draw_partial_rope(draw, head_dim, 1.0, kinds)
    original = rope.pop("original_max_position_embeddings", OMIT)  # a field of the config here
    settings |= dict(
        rms_norm_eps=draw_epsilon(draw),
        hidden_act=draw_activation(draw),
        rope_parameters=rope,
        original_max_position_embeddings=original,
        sliding_window=draw.maybe(draw.one_of(None, draw.integer(1, 12))),
    )
    to_old = old_rope(draw, partial="partial_rotary_factor")

    def old_names(rope):
        found = to_old(rope)
        scaling = found["rope_scaling"]
        if isinstance(scaling, dict):
            kept = scaling.pop("original_max_position_embeddings")
            if "type" in scaling:
                scaling["type"] = draw.one_of("longrope", "su", "yarn")  # names of the same thing over the years
                if scaling["type"] == "su":  # transformers looks into the config for the other two alone
                    scaling["original_max_position_embeddings"] = kept
        return found

    return Model(settings, hub, old_rope=old_names, theta="rope_theta")


def draw_stablelm(draw):
    settings, hub, head_dim = draw_llama_sizes(draw, "stablelm")
    rope = draw_partial_rope(draw, head_dim, 0.25)
    settings |= dict(
        layer_norm_eps=draw_epsilon(draw),
        hidden_act=draw_activation(draw),
        use_qkv_bias=draw.maybe(draw.chance(0.6)),
        qk_layernorm=draw.maybe(draw.chance(0.6)),
        use_parallel_residual=draw.maybe(draw.chance(0.6)),
        rope_parameters=rope,
    )
    return Model(settings, hub, old_rope=old_rope(draw, partial="partial_rotary_factor"), theta="rope_theta")


def draw_gpt2(draw):
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
        scale_attn_weights=draw.maybe(draw.chance(0.6), 0.5),
        scale_attn_by_inverse_layer_idx=draw.maybe(draw.chance(0.6), 0.5),
        reorder_and_upcast_attn=draw.maybe(draw.chance(0.5), 0.3),
        tie_word_embeddings=draw_tied(draw),
    )
    hub = {"n_ctx": positions}
    if draw.chance(0.3):  # the other names of the same fields
        hub |= {"n_layer": None, "num_hidden_layers": settings["n_layer"], "n_head": None, "num_attention_heads": heads}
        hub |= {"n_embd": None, "hidden_size": hidden, "n_positions": None, "max_position_embeddings": positions}
    gain = (hidden / heads) ** 0.5 if settings["scale_attn_weights"] is False else 1.0
    return Model(settings, hub, most_tokens=positions, score_gain=gain)


def draw_gpt_neo(draw):
    heads, hidden = draw_divided(draw, high=8)
    positions = draw.integer(4, 30)
    kinds = []
    for _ in range(draw.integer(1, 2)):
        kinds.append([[draw.one_of("global", "local") for _ in range(draw.integer(1, 2))], draw.integer(1, 2)])
    settings = dict(
        num_layers=sum(len(words) * repeats for words, repeats in kinds),
        num_heads=heads,
        hidden_size=hidden,
        intermediate_size=draw.maybe(draw.integer(3, 50), 0.6),
        max_position_embeddings=positions,
        attention_types=kinds,
        window_size=draw.maybe(draw.integer(1, 12), 0.9),
        vocab_size=draw.integer(5, 60),
        layer_norm_epsilon=draw_epsilon(draw),
        activation_function=draw_activation(draw),
        tie_word_embeddings=draw_tied(draw),
    )
    words = [word for names, repeats in kinds for word in names * repeats]
    hub = draw.one_of(
        {},
        {"attention_types": None},  # the class writes attention_layers too, which alone says all
        {"attention_layers": None},
        {"attention_layers": [draw.one_of("global", "local") for _ in words]},  # where they differ, this one counts
    )
    return Model(settings, hub, most_tokens=positions, score_gain=(hidden / heads) ** 0.5)


def draw_gptj(draw):
    heads, hidden = draw_divided(draw)
    positions = draw.integer(4, 30)
    settings = dict(
        n_layer=draw.integer(1, 4),
        n_head=heads,
        n_embd=hidden,
        n_inner=draw.maybe(draw.integer(3, 50), 0.6),
        n_positions=positions,
        rotary_dim=2 * draw.integer(1, hidden // heads // 2),
        vocab_size=draw.integer(5, 60),
        layer_norm_epsilon=draw_epsilon(draw),
        activation_function=draw_activation(draw),
        tie_word_embeddings=draw_tied(draw),
    )
    return Model(settings, hub={"rotary": True, "scale_attn_weights": True}, most_tokens=positions)


def draw_gpt_neox(draw):
    heads, head_dim = draw.one_of(1, 2, 3, 4, 5, 6), draw.one_of(4, 6, 8, 10, 12, 16)
    rope = draw_partial_rope(draw, head_dim, 0.25)
    settings = dict(
        num_hidden_layers=draw.integer(1, 4),
        num_attention_heads=heads,
        hidden_size=heads * head_dim,
        intermediate_size=draw.integer(3, 50),
        vocab_size=draw.integer(5, 60),
        max_position_embeddings=draw.maybe(draw.integer(4, 40), 0.9),
        layer_norm_eps=draw_epsilon(draw),
        hidden_act=draw_activation(draw),
        use_parallel_residual=draw.maybe(draw.chance(0.5)),
        attention_bias=draw.maybe(draw.chance(0.5)),
        tie_word_embeddings=draw_tied(draw),
        rope_parameters=rope,
    )
    return Model(settings, old_rope=old_rope(draw, "rotary_emb_base", "rotary_pct"), theta="rotary_emb_base")


def draw_opt(draw):
    heads, hidden = draw_divided(draw)
    positions = draw.integer(4, 30)
    settings = dict(
        num_hidden_layers=draw.integer(1, 4),
        num_attention_heads=heads,
        hidden_size=hidden,
        ffn_dim=draw.integer(3, 50),
        word_embed_proj_dim=draw.maybe(draw.one_of(hidden, draw.integer(3, 40)), 0.6),
        vocab_size=draw.integer(5, 60),
        max_position_embeddings=positions,
        activation_function=draw_activation(draw),
        do_layer_norm_before=draw.maybe(draw.chance(0.4)),
        enable_bias=draw.maybe(draw.chance(0.5)),
        layer_norm_elementwise_affine=draw.maybe(draw.chance(0.5)),
        _remove_final_layer_norm=draw.maybe(draw.chance(0.5), 0.3),
        tie_word_embeddings=draw_tied(draw),
    )
    return Model(settings, most_tokens=positions)


def draw_bloom(draw):
    heads, hidden = draw_divided(draw, high=8)
    # slow_but_exact together with pretraining_tp > 1 is not drawn: transformers then forgets the biases.
    settings = dict(
        n_layer=draw.integer(1, 4),
        n_head=heads,
        hidden_size=hidden,
        vocab_size=draw.integer(5, 60),
        layer_norm_epsilon=draw_epsilon(draw),
        apply_residual_connection_post_layernorm=draw.maybe(draw.chance(0.6)),
        slow_but_exact=draw.maybe(draw.chance(0.5), 0.3),
        tie_word_embeddings=draw_tied(draw),
    )
    hub = {"n_embed": hidden, "hidden_size": None, "seq_length": 2048, "offset_alibi": 100, "n_inner": NULL}
    if draw.chance(0.5):
        hub |= {"n_head": None, "num_attention_heads": heads}
    # ALiBi adds up to half the number of tokens to the scores, which the oracle's softmax then rounds to float32.
    return Model(settings, hub, long_prompts=False)


def draw_falcon(draw):
    heads, head_dim = draw.one_of(1, 2, 3, 4, 5, 6, 8), draw.one_of(4, 6, 8, 10, 12)
    settings = dict(
        num_hidden_layers=draw.integer(1, 4),
        num_attention_heads=heads,
        hidden_size=heads * head_dim,
        ffn_hidden_size=draw.maybe(draw.integer(3, 50), 0.6),
        vocab_size=draw.integer(5, 60),
        max_position_embeddings=draw.maybe(draw.integer(4, 40), 0.9),
        layer_norm_epsilon=draw_epsilon(draw),
        activation=draw_activation(draw),
        bias=draw.maybe(draw.chance(0.6)),
        alibi=draw.maybe(draw.chance(0.5)),
        tie_word_embeddings=draw_tied(draw),
        rope_parameters=draw_rope(draw, head_dim),
    )
    if draw.chance(0.4):  # 40B: it takes no notice of multi_query
        settings |= dict(
            new_decoder_architecture=True,
            num_kv_heads=draw.maybe(draw.one_of(*divisors(heads)), 0.8),
            num_ln_in_parallel_attn=draw.one_of(OMIT, 1, 2),
            multi_query=draw.maybe(draw.chance(0.5)),
        )
    else:  # 7B and RefinedWeb
        settings |= dict(
            multi_query=draw.maybe(draw.chance(0.5)),
            parallel_attn=draw.maybe(draw.chance(0.5)),
            num_ln_in_parallel_attn=draw.one_of(OMIT, 1),
        )
        if settings["multi_query"] is not False:
            settings["num_kv_heads"] = draw.maybe(draw.integer(1, 5), 0.3)  # there, and not used
    hub = {"n_embed": settings["hidden_size"], "hidden_size": None} if draw.chance(0.3) else {}
    # The model's class writes the number that follows from the others into its config.
    always = {"num_ln_in_parallel_attn": None} if settings["num_ln_in_parallel_attn"] is OMIT and draw.chance(0.5) else {}
    return Model(settings, hub, always, old_rope=old_rope(draw), theta="rope_theta")


FAMILIES = {
    "bloom": draw_bloom,
    "falcon": draw_falcon,
    "gemma": draw_gemma,
    "gemma2": draw_gemma2,
    "gemma3_text": draw_gemma3_text,
    "gpt2": draw_gpt2,
    "gpt_neo": draw_gpt_neo,
    "gpt_neox": draw_gpt_neox,
    "gptj": draw_gptj,
    "llama": draw_llama,
    "mistral": draw_mistral,
    "olmo2": draw_olmo2,
    "opt": draw_opt,
    "phi3": draw_phi3,
    "qwen2": draw_qwen2,
    "qwen3": draw_qwen3,
    "stablelm": draw_stablelm,
} | random_llama_relatives.FAMILIES | random_other_families.FAMILIES

FAMILIES |= {kind: draw_whole(kind, dict(FAMILIES)) for kind in KINDS if set(KINDS[kind].texts) & set(FAMILIES)}

# What transformers puts before the names of a family's tensors; a checkpoint of the bare model has none of it.
PREFIXES = {"bloom": "transformer.", "falcon": "transformer.", "gpt2": "transformer.", "gpt_neo": "transformer.",
            "gptj": "transformer.", "gpt_neox": "gpt_neox."} | random_other_families.PREFIXES


# How the names of families begin whose norms have a weight of 1 + w.
WEIGHT_PLUS_ONE = ("gemma", "nemotron", "vaultgemma")

# Fields without which an adapter refuses a config, and those that only save_checkpoint knows.
REQUIRED = ("model_type", "architectures", "dtype", "vocab_size", "hidden_size", "n_embd", "num_hidden_layers", "n_layer",
            "num_layers", "num_attention_heads", "n_head", "num_heads", "intermediate_size", "ffn_dim", "n_positions",
            "rotary_dim")


def make_config(family, model):
    """The config of what is drawn, and that of its text model."""
    settings = without_omitted(model.settings)
    if model.whole is None:
        config = small(family, **settings)
        return config, config
    text = small(model.whole.text_type, **settings)
    whole = transformers.AutoConfig.for_model(
        model.whole.model_type, text_config=text.to_dict(), **without_omitted(model.whole.settings)
    )
    return whole, whole.get_text_config()


def of_text_part(changes, is_flat):
    """Changes of the text model's config as those of the whole's config.json."""
    found = {("text_config", name): value for name, value in changes.items() if name not in ("dtype", "torch_dtype")}
    return found | ({("text_config",): FLAT} if is_flat else {})


def draw_style(draw, model, config, dtype):
    """Changes of config.json: the hub's old style, and fields left out that equal the class's defaults."""
    written = config.to_diff_dict()
    changes = {}
    if draw.chance(0.5):
        changes |= model.hub
        rope = written.get("rope_parameters")
        if rope and model.old_rope:
            changes |= model.old_rope(rope)
        changes |= {"dtype": None, "torch_dtype": dtype}
    elif model.theta and draw.chance(0.2):
        rope = dict(written["rope_parameters"])
        changes |= {model.theta: rope.pop("rope_theta"), "rope_parameters": rope}
    changes |= model.always
    if draw.chance(0.6):
        defaults = type(config)().to_dict()
        for name, value in written.items():
            if name not in REQUIRED and name not in changes and name in defaults and defaults[name] == value and draw.chance(0.7):
                changes[name] = None
    return changes


def draw_prompts(draw, config, model):
    """One token; a few; as many as the position table holds, or more than every window and trained length here."""
    most = model.most_tokens or 40
    lengths = [1, draw.integer(2, 6), draw.integer(min(7, most), min(16, most)), draw.integer(min(25, most), most)]
    if model.most_tokens is None and model.long_prompts and draw.chance(0.04):
        lengths[-1] = draw.integer(257, 300)  # more rows than one piece of work
        most = 300
    order = draw.generator.permutation(len(lengths))
    vocab = config.vocab_size
    return [draw.generator.integers(0, vocab, size=min(lengths[i], most)).tolist() for i in order]


def random_sample(family, seed):
    """The sample of a family and a seed: the same on every machine."""
    draw = Draw(zlib.crc32(family.encode()), seed)
    model = FAMILIES[family](draw)
    whole = model.whole
    config, text = make_config(family, model)
    dtype = draw.one_of("float16", "bfloat16", "float32", "float64")
    changes = draw_style(draw, model, text, dtype)
    if whole is not None:
        changes = of_text_part(changes, whole.is_flat)
    tied = config.tie_word_embeddings
    return Sample(
        family=family,
        seed=seed,
        config=config,
        changes=changes,
        # Only the bare model's checkpoints lack the prefix, and they have no head of their own.
        prefix=PREFIXES.get(family, "model.") if tied and whole is None and draw.chance(0.3) else "",
        renames=whole.renames if whole is not None else (),
        dtype=dtype,
        files="pytorch" if draw.chance(0.3) else "safetensors",
        shard_bytes=draw.integer(200, 20000) if draw.chance(0.4) else None,
        # Moderate scores: else the oracle's own float32 steps grow beyond what float64 is held to.
        weights=dict(query_key_scale=model.score_gain**-0.5, norm_centre=-0.2 if family.startswith(WEIGHT_PLUS_ONE) else 0.8),
        old_tensors=whole is None and draw.chance(0.25),
        prompts=draw_prompts(draw, text, model),
        text_family=whole.text_family if whole is not None else family,
    )
