"""`spectrace families` against transformers' own table of classes."""

import json

from program import spectrace
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

# Not in transformers: code of its own.
OWN = {"mimo": "MiMoForCausalLM"}


def test_classes_are_those_of_transformers():
    families = json.loads(spectrace("families", "--json").stdout)
    assert len(families) >= 50
    for family in families:
        whole = family["model_type"].removesuffix("_text")
        expected = OWN | MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES | MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        known = expected.get(family["model_type"]) or expected[whole]
        assert family["class"] in ([known] if isinstance(known, str) else known)
        assert {"weights", "sheaf", "unembedding"} <= set(family["analyses"])


def test_models_of_more_than_text_are_named_with_their_text_part():
    families = {family["model_type"]: family for family in json.loads(spectrace("families", "--json").stdout)}
    assert {"llava", "idefics3", "smolvlm"} <= set(families["llama"]["text_part_of"])
    assert families["gemma3_text"]["text_part_of"] == ["gemma3"]
    listed = spectrace("families").stdout
    for name in families:
        assert name in listed
