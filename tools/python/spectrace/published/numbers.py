"""The published numbers, where they come from, and what is known to be wrong with them."""

from __future__ import annotations

import csv
import functools
import importlib.resources
from dataclasses import dataclass

import numpy as np

FLOAT16, FLOAT32 = 2.0**-11, 2.0**-24  # unit roundoffs


@dataclass(frozen=True)
class Source:
    """A published file: its name, how it was computed (unit roundoff of weights and forward pass), and its prompts.

    prompt_set: the set's name in jobs/published; prompts: its texts, empty where they were not published.
    """

    file: str
    about: str
    unit: float
    prompt_set: str = ""
    num_prompts: int = 0
    prompts: tuple[str, ...] = ()
    notebook: str = ""  # empty: it was not published


H4_PROMPTS = ("The capital of France is Paris.", "The sky is made of chocolate.", "Once upon a time in a land far away",
              "def fibonacci(n): return n if n < 2 else")

SOURCES = {
    "h4_v2_extended": Source("H4_v2_extended_20260106_012606.json", "sheaf traces of 1B to 7B models", FLOAT16, "h4", 4, H4_PROMPTS, "h4_v2_extended"),
    "h4_v2_validation": Source("H4_v2_validation_20260106_015547.json", "sheaf traces of small models; prompts taken to be those of h4_v2_extended",
                               FLOAT16, "h4", 4, H4_PROMPTS),
    "opt_anomaly": Source("OPT_anomaly_20260106_013155.json", "W_V and attention of OPT, GPT-2 and Pythia", FLOAT16, "opt", 2,
                          ("The capital of France is Paris.", "Once upon a time in a land far away"), "opt_anomaly"),
    "clean_residual": Source("clean_residual_NO_FINAL_LN_20260105_173546.json", "gains of the residual stream", FLOAT32, "clean-residual", 3,
                             ("The capital of France is", "Water freezes at", "The quick brown fox")),
    "l_star_sign_change": Source("l_star_sign_change_20260106_111315.json", "L* by the sign change of the trace", FLOAT32, "l-star-sign-change", 5),
    "llama31_anomaly": Source("llama_anomaly_hypothesis_tests.json", "unembeddings and RoPE", FLOAT16, notebook="llama31_anomaly"),
    "pythia_family": Source("pythia_family_NO_FINAL_LN_20260105_174820.json", "gains of the Pythia family", FLOAT32, "pythia-family", 25),
    "restriction_map_summary": Source("restriction_map_summary_20260105_202448.csv", "mean spectral norms by lab", FLOAT32,
                                      notebook="restriction_map_spectral"),
    "restriction_maps_results": Source("restriction_maps_results.json", "one prompt through pythia-1.4b", FLOAT16, "restriction-maps-results", 1,
                                       ("The capital of France is Paris, which is known for the Eiffel Tower.",)),
}

# As docs/quantities.md numbers them.
ERRORS = {
    1: "Pythia and BLOOM fuse q, k and v by head; the rows were cut in thirds, so W_V is a mix of q, k and v rows (\"slicing\": \"as-published\" cuts so too)",
    2: "grouped queries: v_proj was cut into as many slices as there are query heads, so heads past the last key/value head are empty",
    3: "the head's width is not hidden size over heads",
    4: "the weights were quantized: norms of packed 4-bit bytes, not of weights",
    5: "float16 overflowed: NaN from some layer on, and means over what was left",
    6: "hidden_states[-1] is after the final norm: the \"last gain\" is that of the block before last",
    7: "the gain was typed in, not measured",
    8: "sign changes of |sum(A) - n|, which is rounding noise since rows sum to 1; found by prompt and averaged, with fallbacks",
    9: "W_V was found by searching keys: the whole fused matrix for Pythia, a bias as the last layer, nothing for GPT-2",
}


@dataclass(frozen=True)
class Number:
    """A published quantity of a model ("" of the whole study): one value, or one a layer or prompt."""

    source: str
    model: str
    quantity: str
    values: np.ndarray


@functools.cache
def numbers() -> tuple[Number, ...]:
    """Every number of the nine files, in their order."""
    text = importlib.resources.files(__package__).joinpath("numbers.csv").read_text(encoding="utf-8")
    return tuple(Number(row["source"], row["model"], row["quantity"], np.array([float(word) for word in row["values"].split()]))
                 for row in csv.DictReader(text.splitlines()))


def models() -> list[str]:
    """Hub ids of all models that numbers were published of."""
    return list(dict.fromkeys(number.model for number in numbers() if number.model))
