"""Tables of the OPT anomaly study: why does OPT have a small trace beside a gain above 1?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from spectrace import declarations
from spectrace.results import Results
from spectrace.tables import references
from spectrace.tables.frame import EXPECTED, LAB, LAYER, MODEL, NUM_HEADS, NUM_LAYERS, NUM_PROMPTS, PROMPT_SET, Column, Table
from spectrace.tables.general import by_layer, identity, mean, prompt_counts, prompt_mean, scalar, sets_of

# Name in /weights -> column
W_V = {"frobenius_norm": "frobenius_norm", "spectral_norm": "spectral_norm", "entry_mean": "entry_mean", "entry_std": "entry_std",
       "numerical_rank": "rank", "condition_number": "condition_number"}
ATTENTION = {"row_entropy_mean_attention": "entropy", "sparsity_mean_attention": "sparsity"}


def _values(results: Results, model: str, prompt_set: str) -> dict[str, np.ndarray]:
    weights = results.group(model, "weights")
    found = {column: by_layer(weights, name, matrix="W_V") for name, column in W_V.items()}
    found |= {column: prompt_mean(results, model, prompt_set, name) for name, column in ATTENTION.items()}
    return {column: values for column, values in found.items() if values is not None}


def _rows(results: Results, prompt_set: str | None) -> Iterator[dict]:
    reference = references.opt_anomaly(results).model
    spectral = {model: mean(by_layer(results.group(model, "weights"), "spectral_norm", matrix="W_V")) for model in results}
    for model in results:
        for name in sets_of(results, model, prompt_set) or [""]:
            values = _values(results, model, name)
            condition = values.get("condition_number")
            yield identity(results, model) | {"prompt_set": name} | (
                prompt_counts(results, model, name) if name else {}) | {
                f"{column}_mean": mean(array) for column, array in values.items()} | {
                "num_infinite_conditions": None if condition is None else int(np.count_nonzero(~np.isfinite(condition))),
                "mean_trace": mean(prompt_mean(results, model, name, "trace_multihead")),
                "last_gain_mean": scalar(results.statistics(model, name), "last_gain_mean"),
                "reference": reference,
                "reference_over_model": spectral[reference] / spectral[model] if reference in spectral and spectral[model] else None}


def _layer_rows(results: Results, prompt_set: str | None) -> Iterator[dict]:
    for model in results:
        for name in sets_of(results, model, prompt_set) or [""]:
            values = _values(results, model, name)
            for layer in range(max((len(array) for array in values.values()), default=0)):
                yield identity(results, model) | {"prompt_set": name, "layer": layer} | {
                    column: float(array[layer]) for column, array in values.items()}


_ENTROPY_UNIT = declarations.dataset(declarations.PROMPTS, "row_entropy_mean_attention").units
_MEANING = {
    "frobenius_norm": ("Frobenius norm of W_V", "1", "‖W_V‖_F"), "spectral_norm": ("spectral norm of W_V, σ₁", "1", "‖W_V‖₂"),
    "entry_mean": ("mean of W_V's entries", "1", "entry mean"), "entry_std": ("standard deviation of W_V's entries, unbiased", "1", "entry std"),
    "rank": ("numerical rank of W_V", "1", "rank"), "condition_number": ("condition number of W_V, κ; inf if its smallest singular value is 0", "1", "κ"),
    "entropy": ("row entropy of the mean attention Ā, mean over prompts", _ENTROPY_UNIT, "entropy"),
    "sparsity": ("share of Ā's entries below 0.01, the masked ones too; mean over prompts", "1", "sparsity"),
}

OPT_ANOMALY = Table("opt_anomaly", "a model and prompt set", (
    MODEL, LAB, EXPECTED, PROMPT_SET, NUM_LAYERS, NUM_HEADS,
    Column("hidden_size", "int", "width of the residual stream, D", heading="D"),
    Column("vocab_size", "int", "tokens of the vocabulary, V", heading="V"),
    Column("tied_embeddings", "bool", "whether input and output embeddings are one matrix", heading="tied"),
    NUM_PROMPTS,
    *(Column(f"{name}_mean", "float", f"{meaning}; mean over layers", unit, heading) for name, (meaning, unit, heading) in _MEANING.items()),
    Column("num_infinite_conditions", "int", "layers whose W_V has no finite condition number; the mean is then inf", heading="κ = ∞"),
    Column("mean_trace", "float", "trace of the sheaf Laplacian summed over heads, mean over prompts and layers", heading="mean trace"),
    Column("last_gain_mean", "float", "measured gain of the last block, mean over prompts", heading="last gain"),
    Column("reference", "text", "model that the ratio is against", heading="reference"),
    Column("reference_over_model", "float", "mean spectral norm of W_V of the reference over this model's; above 3 the notebook calls the anomaly explained", heading="reference / model"),
), _rows)

OPT_ANOMALY_LAYERS = Table("opt_anomaly_layers", "a model, prompt set and layer", (
    MODEL, LAB, PROMPT_SET, LAYER, *(Column(name, "float", meaning, unit, heading) for name, (meaning, unit, heading) in _MEANING.items()),
), _layer_rows)
