"""What the random configs of Llama and its relatives share: sizes, activation, rotary, windows; see random_configs."""

import dataclasses

from make_checkpoints import NULL
from random_draw import (
    OMIT,
    ROPE_KINDS,
    Model,
    divisors,
    draw_activation,
    draw_epsilon,
    draw_layer_types,
    draw_rope,
    draw_tied,
    old_rope,
)


@dataclasses.dataclass
class Sizes:
    """How a family's config class takes sizes."""

    kv_heads: int = 0  # the class's default; 0: as many as heads, which null means too
    null_kv_heads: bool = False  # where there is another default: whether null means as many as heads
    own_head_dim: float = 0.3  # how often head_dim is given; 0: it always follows from hidden_size
    class_head_dim: int | None = None  # the class's default; None: it follows from hidden_size
    null_head_dim: bool = False  # whether null is allowed where there is a default
    multiple: bool = False  # whether hidden_size is a multiple of the heads also where head_dim is given
    square: bool = False  # whether hidden_size is the heads' whole size
    default_theta: float = 10000.0
    activation_field: str = "hidden_act"
    output_norms: bool = False  # whether the MLP's output is normed


GEMMA2 = Sizes(
    kv_heads=4, own_head_dim=1.0, class_head_dim=256, multiple=True, activation_field="hidden_activation",
    output_norms=True,
)
SIZES = {
    "apertus": Sizes(default_theta=12e6),
    "arcee": Sizes(own_head_dim=0.8, multiple=True),
    "cwm": Sizes(kv_heads=8, own_head_dim=1.0, class_head_dim=128, multiple=True, default_theta=1e6),
    "ernie4_5": Sizes(
        kv_heads=2, null_kv_heads=True, own_head_dim=1.0, class_head_dim=128, null_head_dim=True, default_theta=5e5
    ),
    "exaone4": Sizes(kv_heads=32, output_norms=True),
    "gemma": Sizes(kv_heads=16, own_head_dim=1.0, class_head_dim=256),
    "gemma2": GEMMA2,
    "gemma3_text": GEMMA2,
    "granite": Sizes(),
    "helium": Sizes(kv_heads=20, own_head_dim=1.0, class_head_dim=128, square=True, default_theta=1e5),
    "hunyuan_v1_dense": Sizes(own_head_dim=1.0),
    "llama": Sizes(own_head_dim=0.8, multiple=True),
    "mimo": Sizes(kv_heads=32, null_kv_heads=True),
    "ministral": Sizes(kv_heads=8, own_head_dim=1.0),
    "ministral3": Sizes(kv_heads=8, own_head_dim=1.0, class_head_dim=128),
    "mistral": Sizes(kv_heads=8, own_head_dim=0.8),
    "nanochat": Sizes(),
    "olmo": Sizes(),
    "olmo2": Sizes(output_norms=True),
    "olmo3": Sizes(default_theta=5e5, output_norms=True),
    "phi3": Sizes(),
    "qwen2": Sizes(kv_heads=32, null_kv_heads=True),
    "qwen3": Sizes(kv_heads=32, null_kv_heads=True, own_head_dim=1.0, class_head_dim=128),
    "seed_oss": Sizes(kv_heads=8, null_kv_heads=True, own_head_dim=1.0, class_head_dim=128, null_head_dim=True),
    "smollm3": Sizes(kv_heads=4, null_kv_heads=True, default_theta=2e6),
    "stablelm": Sizes(kv_heads=32, own_head_dim=0.0),
    "vaultgemma": dataclasses.replace(GEMMA2, output_norms=False),
}


def draw_llama_sizes(draw, family):
    """Sizes, heads and head_dim: settings, changes for the hub's style, head_dim."""
    sizes = SIZES[family]
    heads = draw.one_of(1, 2, 3, 4, 5, 6, 8)
    kv_heads = draw.one_of(*divisors(heads))
    if sizes.kv_heads and draw.chance(0.08):
        heads, kv_heads = sizes.kv_heads * draw.one_of(1, 2 if sizes.kv_heads < 20 else 1), OMIT
    head_dim = draw.one_of(4, 6, 8, 10, 12, 16) if heads < 16 else draw.one_of(4, 8)
    settings = dict(
        # Of many heads with norms of their own one is always badly conditioned; layers on top would blow it up.
        num_hidden_layers=draw.integer(1, 4 if heads < 16 else 2),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        hidden_size=heads * head_dim,
        intermediate_size=draw.integer(3, 50),
        vocab_size=draw.integer(5, 60),
        max_position_embeddings=draw.maybe(draw.integer(4, 40), 0.9),
        tie_word_embeddings=draw_tied(draw),
    )
    hub = {}
    if kv_heads == heads and not sizes.kv_heads:
        settings["num_key_value_heads"] = draw.one_of(OMIT, heads, None)
        hub["num_key_value_heads"] = draw.one_of(None, NULL)
    elif kv_heads == heads and sizes.null_kv_heads:
        hub["num_key_value_heads"] = NULL
    head_dim = draw_head_dim(draw, sizes, settings, hub, head_dim)
    return settings, hub, head_dim


def draw_head_dim(draw, sizes, settings, hub, head_dim):
    """Fills in head_dim, and the hidden size that may then be another than that of all heads. Returns a head's size."""
    heads = settings["num_attention_heads"]
    if not draw.chance(sizes.own_head_dim):
        if sizes.own_head_dim > 0.3:
            hub["head_dim"] = None
        return head_dim
    settings["head_dim"] = head_dim
    if not sizes.square and draw.chance(0.5):
        settings["hidden_size"] = heads * draw.integer(1, 10) if sizes.multiple else draw.integer(3, 40)
    elif sizes.null_head_dim and draw.chance(0.4):
        hub["head_dim"] = NULL
    if sizes.class_head_dim and heads < 4 and draw.chance(0.1):
        settings["head_dim"], head_dim = OMIT, sizes.class_head_dim
        hub.pop("head_dim", None)
        if sizes.square:
            settings["hidden_size"] = heads * head_dim
    return head_dim


def draw_llama_like(draw, family, rope_kinds=ROPE_KINDS):
    settings, hub, head_dim = draw_llama_sizes(draw, family)
    sizes = SIZES[family]
    settings["rms_norm_eps"] = draw_epsilon(draw)
    activation = draw_activation(draw)
    # Squares of small numbers, normed: badly conditioned whatever the weights.
    settings[sizes.activation_field] = OMIT if activation == "relu2" and sizes.output_norms else activation
    settings["rope_parameters"] = draw_rope(draw, head_dim, rope_kinds)
    to_old = old_rope(draw, default_theta=sizes.default_theta)
    return Model(settings, hub, old_rope=to_old, theta="rope_theta"), head_dim


def draw_biases(draw, *names):
    return {name: draw.maybe(draw.chance(0.6)) for name in names}


def draw_gemma2_like(draw, family):
    """Gemma-2 and what has its scores and windows."""
    model, head_dim = draw_llama_like(draw, family)
    settings = model.settings
    settings |= dict(
        attention_bias=draw.maybe(draw.chance(0.6)),
        query_pre_attn_scalar=draw.maybe(draw.integer(2, 40)),
        sliding_window=draw.maybe(draw.integer(1, 12), 0.9),
        attn_logit_softcapping=draw.maybe(draw.one_of(None, draw.number(0.5, 60.0), draw.number(0.5, 60.0))),
        final_logit_softcapping=draw.maybe(draw.one_of(None, draw.number(1.0, 60.0))),
        layer_types=draw.maybe(draw_layer_types(draw, settings["num_hidden_layers"]), 0.5),
    )
    if settings["layer_types"] is OMIT:
        model.hub["layer_types"] = None
    model.hub |= {"cache_implementation": "hybrid", "hidden_act": "gelu_pytorch_tanh"}
    if settings["query_pre_attn_scalar"] is not OMIT:
        model.score_gain = (head_dim / settings["query_pre_attn_scalar"]) ** 0.5
    return model


def draw_qwen_windows(draw, model):
    layers = model.settings["num_hidden_layers"]
    used = draw.chance(0.6)
    window = draw.integer(1, 12)
    first = draw.maybe(draw.integer(0, layers), 0.9)
    kinds = draw.maybe(draw_layer_types(draw, layers), 0.4) if used else OMIT
    model.settings |= dict(use_sliding_window=used, max_window_layers=first, layer_types=kinds)
    model.settings["sliding_window"] = draw.maybe(window, 0.9) if used else OMIT
    if kinds is OMIT:
        model.hub["layer_types"] = None
    if not used:
        model.hub["sliding_window"] = window  # there, and not used


def draw_layer_ropes(draw, head_dim):
    """rope_parameters of the layers that see everything, and of those with a window."""
    full = draw_rope(draw, head_dim)
    sliding = draw_rope(draw, head_dim, ("default",) if draw.chance(0.6) else ROPE_KINDS)
    for rope in (full, sliding):
        rope.pop("truncate", None)  # transformers looks for it beside the two kinds of layers, and never finds it
    return {"full_attention": full, "sliding_attention": sliding}
