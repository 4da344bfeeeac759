"""Random choices for random_configs: numbers, switches, and rotary settings in the new and the old style."""

import dataclasses

import numpy as np
from make_checkpoints import NULL

ROPE_KINDS = ("default", "linear", "dynamic", "yarn", "llama3", "longrope")
ACTIVATIONS = ("relu", "gelu", "gelu_python", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_accurate", "silu", "swish",
               "relu2", "quick_gelu")
OMIT = object()  # a setting that stays at its class's default


class Draw:
    """Random choices, each written to be readable where it is used."""

    def __init__(self, *seed):
        self.generator = np.random.default_rng(seed)

    def chance(self, probability):
        return bool(self.generator.random() < probability)

    def integer(self, low, high):
        """From low to high, both included."""
        return int(self.generator.integers(low, high + 1))

    def one_of(self, *options):
        return options[self.integer(0, len(options) - 1)]

    def number(self, low, high):
        """Uniform in the logarithm, as a person would write it: three digits."""
        return float(f"{np.exp(self.generator.uniform(np.log(low), np.log(high))):.3g}")

    def numbers(self, count, low, high):
        return [self.number(low, high) for _ in range(count)]

    def maybe(self, value, probability=0.7):
        return value if self.chance(probability) else OMIT


@dataclasses.dataclass
class Model:
    """What a family's function draws; random_sample adds storage, style and prompts."""

    settings: dict  # of the config class; OMIT: its default
    hub: dict = dataclasses.field(default_factory=dict)  # changes of config.json in the hub's old style
    always: dict = dataclasses.field(default_factory=dict)  # changes in either style
    most_tokens: int | None = None  # rows of a position table
    score_gain: float = 1.0  # by how much more the scores are scaled than by 1 / sqrt(head_dim)
    old_rope: object = None  # rope_parameters -> changes of config.json for the old style
    long_prompts: bool = True  # whether prompts of hundreds of tokens may be drawn
    theta: str | None = None  # the field outside rope_parameters that can hold the theta
    whole: object = None  # random_towers.Whole: what this is the text part of


def without_omitted(settings):
    return {name: value for name, value in settings.items() if value is not OMIT}


def divisors(n):
    return [d for d in range(1, n + 1) if n % d == 0]


def draw_epsilon(draw):
    return draw.maybe(draw.number(1e-6, 1e-2))


def draw_activation(draw):
    return draw.maybe(draw.one_of(*ACTIVATIONS))


def draw_tied(draw):
    return draw.maybe(draw.chance(0.5))


def draw_layer_types(draw, num_layers):
    return [draw.one_of("sliding_attention", "full_attention") for _ in range(num_layers)]


def draw_divided(draw, low=3, high=12):
    """Heads and the hidden size of families whose head size follows from the two, without rotary."""
    heads = draw.one_of(1, 2, 3, 4, 5, 6, 7, 12)
    return heads, heads * draw.integer(low, high if heads < 7 else 4)


def draw_rope(draw, dim, kinds=ROPE_KINDS):
    """rope_parameters for `dim` turned dimensions of a head."""
    kinds = [kind for kind in kinds if kind != "dynamic" or dim > 2]  # dynamic divides by dim - 2
    rope = {"rope_type": "default" if draw.chance(0.25) else draw.one_of(*kinds)}
    rope["rope_theta"] = draw.maybe(draw.number(40.0, 1e6), 0.8)
    kind = rope["rope_type"]
    if kind in ("linear", "dynamic", "yarn", "llama3"):
        rope["factor"] = draw.number(1.0, 16.0)
    if kind in ("yarn", "llama3", "longrope"):
        rope["original_max_position_embeddings"] = draw.maybe(draw.integer(4, 24), 0.8)
    if kind == "llama3":
        rope["low_freq_factor"] = draw.number(0.3, 2.0)
        rope["high_freq_factor"] = round(rope["low_freq_factor"] * draw.number(1.5, 8.0), 3)
    if kind == "yarn":
        if draw.chance(0.15):
            rope["factor"] = None  # then the ratio of the two lengths
        rope["beta_fast"] = draw.maybe(draw.number(1.5, 40.0), 0.5)
        rope["beta_slow"] = draw.maybe(draw.number(0.1, 1.4), 0.5)
        rope["truncate"] = draw.maybe(draw.chance(0.5), 0.5)
        if draw.chance(0.4):
            rope["mscale"] = draw.number(0.3, 2.0)
            rope["mscale_all_dim"] = draw.maybe(draw.number(0.3, 2.0))
    if kind == "longrope":
        rope["short_factor"] = draw.numbers(dim // 2, 1.0, 3.0)
        rope["long_factor"] = draw.numbers(dim // 2, 1.0, 9.0)
        rope["factor"] = draw.maybe(draw.number(1.0, 16.0), 0.4)
    if kind in ("yarn", "longrope"):
        rope["attention_factor"] = draw.maybe(draw.number(0.6, 1.5), 0.3)
    return without_omitted(rope)


def draw_partial_rope(draw, head_dim, default, kinds=ROPE_KINDS):
    """rope_parameters that turn an even number of a head's dimensions; `default` is the class's share."""
    if head_dim * default % 2 == 0 and draw.chance(0.2):
        return draw_rope(draw, int(head_dim * default), kinds)
    if draw.chance(0.04):
        return {"rope_type": "default", "partial_rotary_factor": 0.5 / head_dim}  # none is turned
    dim, share = draw_partial(draw, head_dim)
    return draw_rope(draw, dim, kinds) | {"partial_rotary_factor": share}


def draw_partial(draw, head_dim):
    """An even number of turned dimensions and a share of the head that is cut to it."""
    dim = 2 * draw.integer(1, head_dim // 2)
    share = dim / head_dim
    if dim < head_dim and draw.chance(0.5):
        share = round((dim + 0.6) / head_dim, 4)
    return dim, share if int(head_dim * share) == dim else (dim + 0.01) / head_dim


def old_rope(draw, theta="rope_theta", partial=None, default_theta=10000.0):
    """rope_parameters -> the fields of the hub's old files: the theta, the share, rope_scaling."""

    def changes(rope):
        rope = dict(rope)
        kind = rope.pop("rope_type")
        found = {"rope_parameters": None, theta: rope.pop("rope_theta")}
        if found[theta] == default_theta and draw.chance(0.5):
            found[theta] = None
        if partial is not None and "partial_rotary_factor" in rope:
            found[partial] = rope.pop("partial_rotary_factor")
        if kind == "default":
            found["rope_scaling"] = draw.one_of(None, NULL)
            return found
        found["rope_scaling"] = {draw.one_of("type", "rope_type"): kind} | rope
        if "original_max_position_embeddings" in rope and draw.chance(0.2):
            found["original_max_position_embeddings"] = draw.integer(4, 24)  # this one counts, where both are there
        if draw.chance(0.2):  # both styles in one file: rope_scaling counts
            found["rope_parameters"] = {"rope_type": "default", "rope_theta": 77.0}
        return found

    return changes
