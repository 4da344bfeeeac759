"""Random checkpoints of models of more than text, whose text part is a family: each draws its text model as the family does.

    draw_whole("llava") -> a function of random_configs.FAMILIES
"""

import dataclasses

from random_draw import OMIT

# Ids that stand for images: no prompt here has one.
NO_TOKEN = 100_000

SMALL_VISION = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
QWEN_VISION = dict(depth=1, num_heads=2, patch_size=14)
QWEN_TOKENS = {name: NO_TOKEN + i for i, name in enumerate(
    ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id"))}


def vision(kind, **more):
    return lambda text: {"vision_config": SMALL_VISION | {"model_type": kind} | more}


def qwen_vision(text):
    return {"vision_config": QWEN_VISION | dict(embed_dim=16, hidden_size=text["hidden_size"], mlp_ratio=2)}


def qwen_vision_of_output(**more):
    return lambda text: {"vision_config": QWEN_VISION | dict(hidden_size=16, intermediate_size=20,
                                                             out_hidden_size=text["hidden_size"]) | more}


@dataclasses.dataclass
class Kind:
    """A model of more than text."""

    texts: tuple  # families that its text part may be of
    others: object  # text settings -> settings of the other parts
    settings: dict = dataclasses.field(default_factory=dict)  # of the whole
    text_type: str | None = None  # the text part's model type, if not the family's name
    renames: tuple = ()  # what a newer or older version calls the tensors: pairs of beginnings
    flat: bool = False  # whether older files have the text's fields beside the other parts' objects


# As the classes call them today, for what is saved under the names of the hub's first files.
LLAVA_NAMES = (("language_model.model.", "model.language_model."), ("language_model.lm_head.", "lm_head."),
               ("vision_tower.", "model.vision_tower."), ("multi_modal_projector.", "model.multi_modal_projector."),
               ("image_newline", "model.image_newline"))
QWEN_NAMES = (("model.", "model.language_model."), ("visual.", "model.visual."))
IMAGE = {"image_token_index": NO_TOKEN}

KINDS = {
    "aya_vision": Kind(("cohere2",), vision("siglip_vision_model"), IMAGE | {"downsample_factor": 1}, renames=LLAVA_NAMES),
    "cohere2_vision": Kind(("cohere2",), vision("siglip_vision_model"),
                           {"image_token_id": NO_TOKEN, "downsample_factor": 1, "alignment_intermediate_size": 16}),
    "gemma3": Kind(("gemma3_text",), vision("siglip_vision_model"),
                   IMAGE | {"mm_tokens_per_image": 4, "boi_token_index": NO_TOKEN + 1, "eoi_token_index": NO_TOKEN + 2},
                   renames=LLAVA_NAMES),
    "idefics2": Kind(("mistral",), lambda text: vision("idefics2_vision")(text) | {"perceiver_config": dict(
        resampler_n_latents=2, resampler_depth=1, resampler_n_heads=2, resampler_head_dim=4, num_key_value_heads=1,
        hidden_size=text["hidden_size"])}, {"image_token_id": NO_TOKEN}),
    "idefics3": Kind(("llama",), vision("idefics3_vision"), {"image_token_id": NO_TOKEN, "scale_factor": 1}),
    "internvl": Kind(("qwen2", "qwen3", "llama"), vision("internvl_vision", image_size=[28, 28], patch_size=[14, 14]),
                     {"image_token_id": NO_TOKEN, "downsample_ratio": 0.5}, renames=LLAVA_NAMES),
    "llava": Kind(("llama", "mistral", "qwen2"), vision("clip_vision_model", projection_dim=16), IMAGE, renames=LLAVA_NAMES),
    "llava_next": Kind(("llama", "mistral"), vision("clip_vision_model", projection_dim=16), IMAGE, renames=LLAVA_NAMES),
    "llava_onevision": Kind(("qwen2",), vision("siglip_vision_model"), IMAGE | {"video_token_index": NO_TOKEN + 1},
                            renames=LLAVA_NAMES),
    "mistral3": Kind(("mistral", "ministral3"), lambda text: {"vision_config": SMALL_VISION | {
        "model_type": "pixtral", "head_dim": 8}}, IMAGE, renames=LLAVA_NAMES),
    "qwen2_vl": Kind(("qwen2",), qwen_vision, QWEN_TOKENS, "qwen2_vl_text", QWEN_NAMES, flat=True),
    "qwen2_5_vl": Kind(("qwen2",), qwen_vision_of_output(fullatt_block_indexes=[0]), QWEN_TOKENS, "qwen2_5_vl_text",
                       QWEN_NAMES, flat=True),
    "qwen3_vl": Kind(("qwen3",), qwen_vision_of_output(deepstack_visual_indexes=[0], num_position_embeddings=16), QWEN_TOKENS,
                     "qwen3_vl_text"),
    "smolvlm": Kind(("llama",), vision("smolvlm_vision"), {"image_token_id": NO_TOKEN, "scale_factor": 1}),
}


@dataclasses.dataclass
class Whole:
    """What random_configs.Model has of the whole that it is the text part of."""

    model_type: str
    text_family: str  # as spectrace calls it
    text_type: str
    settings: dict
    renames: tuple
    is_flat: bool


def draw_sections(draw, half):
    """Sections of a head's turned pairs for time, height and width."""
    first = draw.integer(1, half - 2)
    second = draw.integer(1, half - first - 1)
    return [first, second, half - first - second]


def draw_whole(model_type, families):
    """`families`: those of random_configs that have been named before."""
    kind = KINDS[model_type]

    def drawn(draw):
        family = draw.one_of(*(text for text in kind.texts if text in families))
        model = families[family](draw)
        settings = model.settings
        settings.pop("tie_word_embeddings", None)
        if kind.text_type is not None:
            heads = settings["num_attention_heads"]
            head_dim = draw.one_of(6, 8, 10, 12)
            if family == "qwen2":  # these have no head size of their own
                settings.pop("head_dim", None)
                settings["hidden_size"] = heads * head_dim
            else:
                settings["head_dim"] = head_dim
                settings.pop("use_sliding_window"), settings.pop("sliding_window")
                settings.pop("max_window_layers"), settings.pop("layer_types")
            rope = {"rope_type": draw.one_of("default", "default", "linear"),
                    "rope_theta": draw.maybe(draw.number(40.0, 1e6), 0.8), "mrope_section": draw_sections(draw, head_dim // 2)}
            if rope["rope_type"] == "linear":
                rope["factor"] = draw.number(1.0, 16.0)
            if rope["rope_theta"] is OMIT:
                del rope["rope_theta"]
            settings["rope_parameters"] = rope
            model.old_rope = old_sections(draw, "mrope" if family == "qwen2" else "default")
        model.whole = Whole(
            model_type, kind.text_type or family, kind.text_type or family,
            kind.others(settings) | kind.settings | {"tie_word_embeddings": draw.maybe(draw.chance(0.5))},
            kind.renames if draw.chance(0.5) else (), kind.flat and draw.chance(0.5),
        )
        return model

    return drawn


def old_sections(draw, plain):
    """rope_parameters -> the fields of older files. `plain`: what they call rotation without a scaling."""

    def changes(rope):
        rope = dict(rope)
        found = {"rope_parameters": None, "rope_theta": rope.pop("rope_theta")}
        kind = rope.pop("rope_type")
        found["rope_scaling"] = {draw.one_of("type", "rope_type"): plain if kind == "default" else kind} | rope
        return found

    return changes
