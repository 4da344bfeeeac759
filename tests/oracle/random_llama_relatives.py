"""Random checkpoints of the families that differ from Llama by little; see random_configs."""

from make_checkpoints import NULL
from random_draw import OMIT, draw_layer_types, old_rope
from random_llama import draw_biases, draw_gemma2_like, draw_layer_ropes, draw_llama_like, draw_qwen_windows


def draw_arcee(draw):
    model, _ = draw_llama_like(draw, "arcee")
    model.settings |= draw_biases(draw, "attention_bias", "mlp_bias")
    return model


def draw_seed_oss(draw):
    model, _ = draw_llama_like(draw, "seed_oss")
    model.settings |= draw_biases(draw, "attention_bias", "attention_out_bias", "mlp_bias")
    model.hub |= {"pretraining_tp": 1}
    return model


def draw_helium(draw):
    model, _ = draw_llama_like(draw, "helium")
    model.settings |= draw_biases(draw, "attention_bias", "mlp_bias")
    return model


def draw_ernie4_5(draw):
    model, _ = draw_llama_like(draw, "ernie4_5")
    model.settings |= draw_biases(draw, "use_bias")
    return model


def draw_default_rope(draw, model):
    """At times nothing: the class has a whole rope_parameters of its own then."""
    if draw.chance(0.2):
        model.settings["rope_parameters"] = OMIT


def draw_cwm(draw):
    model, _ = draw_llama_like(draw, "cwm")
    draw_default_rope(draw, model)
    model.settings |= draw_biases(draw, "mlp_bias")
    kinds = draw.maybe(draw_layer_types(draw, model.settings["num_hidden_layers"]), 0.5)
    model.settings |= dict(sliding_window=draw.maybe(draw.integer(1, 12), 0.9), layer_types=kinds)
    if kinds is OMIT:
        model.hub["layer_types"] = None
    return model


def draw_olmo(draw):
    model, _ = draw_llama_like(draw, "olmo")
    model.settings.pop("rms_norm_eps")
    model.settings |= draw_biases(draw, "attention_bias")
    model.settings["clip_qkv"] = draw.maybe(draw.one_of(None, draw.number(0.3, 4.0), draw.number(0.3, 4.0)))
    return model


def draw_olmo3(draw):
    model, head_dim = draw_llama_like(draw, "olmo3")
    settings = model.settings
    kinds = draw.maybe(draw_layer_types(draw, settings["num_hidden_layers"]), 0.5)
    ropes = draw_layer_ropes(draw, head_dim)
    settings |= draw_biases(draw, "attention_bias")
    settings |= dict(sliding_window=draw.maybe(draw.integer(1, 12), 0.9), layer_types=kinds, rope_parameters=ropes)
    if kinds is OMIT:
        model.hub["layer_types"] = None

    def old_rope_of_full_layers(ropes):
        # transformers gives the old style's theta to the layers without a window alone; the others then have the
        # class's, which is also that of every published model. Another is in tests/model/adapter_test.cpp.
        full, sliding = dict(ropes["full_attention"]), ropes["sliding_attention"]
        if sliding["rope_type"] != "default":
            return {}
        kind = full.pop("rope_type")
        full.pop("rope_theta", None)
        theta = draw.one_of(None, 500000.0)
        # Named "type", the kind would not go over the "default" that transformers has there before.
        scaling = {"rope_type": kind} | full if kind != "default" else NULL
        return {"rope_parameters": None, "rope_theta": theta, "rope_scaling": scaling}

    model.old_rope, model.theta = old_rope_of_full_layers, None
    return model


def draw_smollm3(draw):
    model, _ = draw_llama_like(draw, "smollm3")
    settings = model.settings
    layers = settings["num_hidden_layers"]
    settings |= draw_biases(draw, "attention_bias", "mlp_bias")
    settings["no_rope_layer_interval"] = draw.maybe(draw.integer(1, 5))
    more = draw.one_of(0, 0, 2)  # a list may be longer than needed
    turned = draw.maybe([draw.integer(0, 1) for _ in range(layers + more)], 0.5)
    used = draw.maybe(draw.chance(0.7))
    window = draw.maybe(draw.one_of(None, draw.integer(1, 12), draw.integer(1, 12)))
    # Layers with a window that is not used are refused: in transformers it depends on the kind of attention.
    has_windows = used is True and window not in (None, OMIT)
    kinds = draw.maybe(draw_layer_types(draw, layers), 0.5) if has_windows else OMIT
    settings |= dict(no_rope_layers=turned, use_sliding_window=used, sliding_window=window, layer_types=kinds)
    if turned is OMIT:
        model.hub["no_rope_layers"] = None
    if kinds is OMIT:
        model.hub["layer_types"] = None
    model.hub |= {"max_window_layers": 28, "pretraining_tp": 2}
    return model


def draw_granite(draw):
    model, head_dim = draw_llama_like(draw, "granite")
    multiplier = draw.maybe(draw.number(0.02, 2.0), 0.8)
    model.settings |= draw_biases(draw, "attention_bias", "mlp_bias")
    model.settings |= dict(
        attention_multiplier=multiplier,
        embedding_multiplier=draw.maybe(draw.number(0.3, 12.0)),
        residual_multiplier=draw.maybe(draw.number(0.1, 2.0)),
        logits_scaling=draw.maybe(draw.number(0.3, 16.0)),
    )
    model.score_gain = (1.0 if multiplier is OMIT else multiplier) * head_dim**0.5
    return model


def draw_ministral(draw):
    model, _ = draw_llama_like(draw, "ministral")
    kinds = draw.maybe(draw_layer_types(draw, model.settings["num_hidden_layers"]))
    # Without a window transformers makes the mask of one all the same, and fails.
    model.settings |= dict(sliding_window=draw.maybe(draw.integer(1, 12), 0.9), layer_types=kinds)
    if kinds is OMIT:
        model.hub["layer_types"] = None
    return model


def draw_ministral3(draw):
    model, _ = draw_llama_like(draw, "ministral3")
    rope = model.settings["rope_parameters"]
    rope["llama_4_scaling_beta"] = draw.one_of(0.0, draw.number(0.05, 0.5), draw.number(0.05, 0.5))
    rope["original_max_position_embeddings"] = draw.integer(2, 24)  # the queries' growth needs it with every rope
    if rope["rope_type"] in ("yarn", "llama3", "longrope") and draw.chance(0.2):
        rope.pop("original_max_position_embeddings")
    if draw.chance(0.3):
        rope["max_position_embeddings"] = 64  # there, and read by nobody
    draw_default_rope(draw, model)
    model.settings["sliding_window"] = draw.maybe(draw.one_of(None, draw.integer(1, 12)))
    to_old = old_rope(draw)

    def with_kind(rope):  # also the plain one needs its settings
        found = to_old(rope)
        if not isinstance(found["rope_scaling"], dict):
            found["rope_scaling"] = {name: value for name, value in rope.items() if name != "rope_theta"}
        return found

    model.old_rope = with_kind
    return model


def draw_exaone4(draw):
    model, _ = draw_llama_like(draw, "exaone4")
    layers = model.settings["num_hidden_layers"]
    pattern = draw.integer(1, 5)
    if draw.chance(0.25):  # no windows: transformers needs layer_types then
        model.settings |= dict(sliding_window=None, layer_types=["full_attention"] * layers)
        model.hub["sliding_window_pattern"] = draw.one_of(None, NULL, 4)
        return model
    kinds = draw.maybe(draw_layer_types(draw, layers), 0.5)
    model.settings |= dict(sliding_window=draw.maybe(draw.integer(1, 12), 0.9), layer_types=kinds)
    model.settings["sliding_window_pattern"] = draw.maybe(pattern)
    if kinds is OMIT:
        model.hub["layer_types"] = None
    else:
        model.hub["sliding_window_pattern"] = draw.one_of("LLLG", pattern)  # layer_types counts
    return model


def draw_vaultgemma(draw):
    return draw_gemma2_like(draw, "vaultgemma")


def draw_hunyuan_v1_dense(draw):
    model, _ = draw_llama_like(draw, "hunyuan_v1_dense")
    model.settings |= draw_biases(draw, "attention_bias")
    rope = model.settings["rope_parameters"]
    if rope["rope_type"] == "dynamic":  # a fixed factor; without one (or with 0) theta grows with the length
        rope["alpha"] = draw.one_of(0, draw.number(1.0, 1000.0), draw.number(1.0, 1000.0))
        if draw.chance(0.5):
            rope |= {"beta_fast": 32, "beta_slow": 1, "mscale": 1.0, "mscale_all_dim": 0.0}
    model.hub |= {"use_qk_norm": True, "use_cla": False, "cla_share_factor": 2, "attention_head_dim": 128}
    return model


def draw_apertus(draw):
    model, _ = draw_llama_like(draw, "apertus")
    draw_default_rope(draw, model)
    if draw.chance(0.6):
        model.settings["hidden_act"] = draw.one_of(OMIT, "xielu")
    model.settings |= draw_biases(draw, "attention_bias")
    model.hub |= {"qk_norm": True, "post_norm": False, "mlp_bias": False}
    return model


def draw_nanochat(draw):
    model, _ = draw_llama_like(draw, "nanochat")
    model.settings |= draw_biases(draw, "attention_bias")
    model.settings["final_logit_softcapping"] = draw.maybe(draw.one_of(None, draw.number(1.0, 60.0)))
    return model


def draw_mimo(draw):
    model, _ = draw_llama_like(draw, "mimo")
    draw_qwen_windows(draw, model)
    model.settings["num_nextn_predict_layers"] = draw.maybe(draw.integer(0, 2))
    model.hub["attention_bias"] = True
    return model


FAMILIES = {
    "apertus": draw_apertus,
    "arcee": draw_arcee,
    "cwm": draw_cwm,
    "ernie4_5": draw_ernie4_5,
    "exaone4": draw_exaone4,
    "granite": draw_granite,
    "helium": draw_helium,
    "hunyuan_v1_dense": draw_hunyuan_v1_dense,
    "mimo": draw_mimo,
    "ministral": draw_ministral,
    "ministral3": draw_ministral3,
    "nanochat": draw_nanochat,
    "olmo": draw_olmo,
    "olmo3": draw_olmo3,
    "seed_oss": draw_seed_oss,
    "smollm3": draw_smollm3,
    "vaultgemma": draw_vaultgemma,
}
