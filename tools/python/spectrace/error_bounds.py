"""How far the numbers of a results file may be from the exact ones: what two files may differ by without anything having changed.

* Spectra: the error bound that is stored beside them (singular_value_error, docs/numerics.md), and what follows from it. Heads
  have none stored; theirs is the same formula's first term.
* Sums over entries: 64 roundings.
* What comes from the forward pass: the tolerance that every family is held to against transformers (docs/families.md), 5e-5 in
  float32 and 1e-10 in float64, of the largest value of the quantity in the layer.
* Counts, layers and numbers of tokens: none, but for what stands at the edge of being counted.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

UNIT = 2.0**-53
OF_SUMS = 64 * UNIT
FORWARD = {"float32": 5e-5, "float64": 1e-10}
RANK_TOLERANCE = 2.0**-23
LEAST_LOG = 37.0  # -ln(2^-53): the steepest that -p ln p gets

# Datasets that say how good the others are, or how the file is laid out.
NO_RESULTS = ("singular_value_error", "kv_head_of_head", "row_start", "num_tokens")

Bound = Callable[[str, xr.DataArray], "xr.DataArray | float"]


def of_spectra(group: str, dataset: xr.Dataset, attributes: dict) -> Bound:
    """Errors of the datasets of "weights", "heads" or "unembedding"."""
    largest = dataset["spectral_norm"] if "spectral_norm" in dataset else xr.DataArray(np.nan)
    longest = max(int(attributes.get(name, 1)) for name in ("hidden_size", "vocab_size" if group == "unembedding" else "hidden_size"))
    longest = max(longest, int(attributes.get("num_heads", 1)) * int(attributes.get("head_dim", 1)))
    error = dataset["singular_value_error"] if "singular_value_error" in dataset else (
        (8 + 2 * np.sqrt(2.0 * int(attributes.get("head_dim", 1)) * longest)) * UNIT * largest)

    def bound(name: str, values: xr.DataArray):
        if name in ("singular_values", "spectral_norm"):
            return error
        if name == "spectral_per_sqrt_vocab":
            return error / np.sqrt(float(attributes["vocab_size"]))
        if name == "stable_rank":
            return values * (2 * error / largest + OF_SUMS)
        if name == "condition_number":
            return _of_condition(values, error / largest)
        if name == "effective_rank":
            return _of_effective_rank(values, error, dataset)
        if name == "numerical_rank":
            return _at_the_edge(dataset, error, largest, longest)
        if name == "entry_mean":
            return OF_SUMS * (dataset["entry_std"] + abs(values)) if "entry_std" in dataset else OF_SUMS * abs(values)
        return 0.0 if name == "num_singular_values" else OF_SUMS * abs(values)

    return bound


def _of_condition(kappa: xr.DataArray, relative: xr.DataArray) -> xr.DataArray:
    """Nothing bounds κ where the smallest singular value is no larger than its error."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        shaken = kappa * relative  # the error of σ_min, of σ_min
        return xr.where(shaken < 1, kappa * (relative + shaken) / (1 - shaken), np.inf)


def _of_effective_rank(values: xr.DataArray, error: xr.DataArray, dataset: xr.Dataset) -> xr.DataArray:
    if "singular_values" not in dataset:
        return values * OF_SUMS * LEAST_LOG
    singular = dataset["singular_values"]
    count = singular.notnull().sum("index")
    return values * (np.exp(2 * count * error / singular.sum("index") * (LEAST_LOG + np.log(count))) - 1 + OF_SUMS * LEAST_LOG)


def _at_the_edge(dataset: xr.Dataset, error: xr.DataArray, largest: xr.DataArray, longest: int) -> xr.DataArray:
    """How many singular values lie so close to the threshold of the rank that rounding decides whether they count."""
    if "singular_values" not in dataset:
        return xr.zeros_like(largest)
    threshold = largest * longest * RANK_TOLERANCE
    return (abs(dataset["singular_values"] - threshold) <= error).sum("index").astype(float)


def of_prompts(dataset: xr.Dataset, attributes: dict) -> Bound:
    """Errors of means over prompts; dataset: the group "prompts/<set>", for the lengths of its prompts."""
    relative = FORWARD.get(str(attributes.get("compute_dtype")), FORWARD["float32"])
    entry = float(np.mean(1 / np.maximum(dataset["num_tokens"].values, 1) ** 2.0)) if "num_tokens" in dataset else 1.0

    def bound(name: str, values: xr.DataArray):
        if name.startswith("l_star_") or name == "nullity":
            return 0.0
        if name.startswith("sparsity"):
            return entry  # one entry a prompt on the other side of 0.01
        others = [dim for dim in values.dims if dim not in ("layer", "boundary")]
        finite = abs(values.where(np.isfinite(values)))
        return relative * (finite.max(others) if others else finite)

    return bound
