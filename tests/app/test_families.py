"""`spectrace families` against transformers' own table of classes."""

import json
import sys

from program import ROOT, all_analyses, spectrace
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

sys.path.insert(0, str(ROOT / "tests" / "oracle"))
import stored_families  # noqa: E402

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
        assert {"weights", "mlp", "unembedding", "tensors"} <= set(family["analyses"])
        impossible = family.get("impossible_analyses", {})
        assert set(family["analyses"]) | set(impossible) == set(all_analyses()) and not set(family["analyses"]) & set(impossible)
        assert ("sheaf" in impossible) == (family["model_type"] in stored_families.FAMILIES)


def test_what_a_family_lacks_is_said_with_the_reason():
    families = {family["model_type"]: family for family in json.loads(spectrace("families", "--json").stdout)}
    assert "mixture of experts" in families["mixtral"]["impossible_analyses"]["attention"]
    assert "hybrid" in families["falcon_h1"]["impossible_analyses"]["residual"]
    assert "latent vector" in families["deepseek_v3"]["impossible_analyses"]["circuits"]
    assert "heads" in families["mixtral"]["analyses"]


def test_models_of_more_than_text_are_named_with_their_text_part():
    families = {family["model_type"]: family for family in json.loads(spectrace("families", "--json").stdout)}
    assert {"llava", "idefics3", "smolvlm"} <= set(families["llama"]["text_part_of"])
    assert families["gemma3_text"]["text_part_of"] == ["gemma3"]
    listed = spectrace("families").stdout
    for name in families:
        assert name in listed
