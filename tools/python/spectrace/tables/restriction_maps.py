"""Tables of the restriction maps study: do labs differ in the strength of W_Q, W_K, W_V, W_O?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from spectrace.results import Results
from spectrace.tables.frame import EXPECTED, LAB, LAYER, MATRIX, MODEL, NUM_LAYERS, Column, Table
from spectrace.tables.general import by_layer, identity, mean, std
from spectrace.tables.quantities import columns_of, group_rows

MATRICES = ("W_Q", "W_K", "W_V", "W_O")
NO_LAB = "(no lab)"
QUANTITIES = {"spectral_norm": "σ₁", "effective_rank": "effective rank", "condition_number": "κ"}


def _rows(results: Results, _prompt_set: str | None) -> Iterator[dict]:
    for model in results:
        weights = results.group(model, "weights")
        if weights is None:
            continue
        row = identity(results, model)
        for matrix in MATRICES:
            for quantity in QUANTITIES:
                values = by_layer(weights, quantity, matrix=matrix)
                row |= {f"{matrix}_{quantity}_mean": mean(values), f"{matrix}_{quantity}_std": std(values)}
        yield row


def lab_values(results: Results, matrix: str, quantity: str = "spectral_norm") -> dict[str, dict[str, float]]:
    """lab -> model -> mean over layers; models without weights are left out."""
    found: dict[str, dict[str, float]] = {}
    for model in results:
        weights = results.group(model, "weights")
        if weights is not None:
            lab = results.attributes(model).get("lab") or NO_LAB
            found.setdefault(lab, {})[model] = mean(by_layer(weights, quantity, matrix=matrix))
    return found


def _lab_rows(results: Results, _prompt_set: str | None) -> Iterator[dict]:
    by_matrix = {matrix: lab_values(results, matrix) for matrix in MATRICES}
    for lab in by_matrix["W_V"]:
        row = {"lab": lab, "num_models": len(by_matrix["W_V"][lab]), "models": ", ".join(by_matrix["W_V"][lab])}
        for matrix in MATRICES:
            values = np.array(list(by_matrix[matrix][lab].values()))
            row |= {f"{matrix}_mean": mean(values), f"{matrix}_std": std(values)}
        yield row


RESTRICTION_MAPS = Table("restriction_maps", "a model", (
    MODEL, LAB, EXPECTED, NUM_LAYERS,
    *(Column(f"{matrix}_{quantity}_{statistic}", "float",
             f"{'mean' if statistic == 'mean' else 'standard deviation (n-1)'} over layers of the {quantity.replace('_', ' ')} of {matrix}",
             heading=f"{heading} {matrix}" if statistic == "mean" else "± std")
      for matrix in MATRICES for quantity, heading in QUANTITIES.items() for statistic in ("mean", "std")),
), _rows)

LAYER_COLUMNS = columns_of("weights", QUANTITIES)
RESTRICTION_MAPS_LAYERS = Table("restriction_maps_layers", "a model, layer and matrix", (MODEL, LAB, LAYER, MATRIX) + LAYER_COLUMNS,
                                group_rows("weights", LAYER_COLUMNS, ("layer", "matrix")))

RESTRICTION_MAPS_LABS = Table("restriction_maps_labs", "a lab", (
    LAB, Column("num_models", "int", "models of the lab that have weights", heading="models"),
    Column("models", "text", "their names", heading="which"),
    *(Column(f"{matrix}_{statistic}", "float", f"{'mean' if statistic == 'mean' else 'standard deviation (n-1)'} over the lab's models "
             f"of the mean spectral norm of {matrix}", heading=f"σ₁ {matrix}" if statistic == "mean" else "± std")
      for matrix in MATRICES for statistic in ("mean", "std")),
), _lab_rows)
