"""How far the numbers of a results file may be from the exact ones: what two files may differ by without anything having changed.

* Spectra: the error bound that is stored beside them (singular_value_error, docs/numerics.md), and what follows from it. Heads
  have none stored; theirs is the same formula's first term.
* Eigenvalues: no bound of them is stored, since those of matrices that are not normal can move much farther than the backward
  error ε that is. They may be off by √(ε σ₁), as far as two that have fallen together move.
* Sums over entries: 64 roundings.
* What comes from the forward pass: the tolerance that every family is held to against transformers (docs/families.md), 5e-5 in
  float32 and 1e-10 in float64, of the largest value of the quantity in the layer.
* Counts, layers and numbers of tokens: none, but for what stands at the edge of being counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr

from spectrace import declarations

UNIT = 2.0**-53
OF_SUMS = 64 * UNIT
FORWARD = {"float32": 5e-5, "float64": 1e-10}
RANK_TOLERANCE = 2.0**-23
LEAST_LOG = 37.0  # -ln(2^-53): the steepest that -p ln p gets
STORED_ERROR = "singular_value_error"
FACTS = ("kv_head_of_head", "row_start", "num_tokens")  # how the file is laid out

Bound = Callable[[str, xr.DataArray], "xr.DataArray | float"]


def is_result(name: str) -> bool:
    """Whether the dataset is a number of the model, rather than how good others are or how the file is laid out."""
    return not name.endswith("_error") and name not in FACTS


def of_spectra(group: str, dataset: xr.Dataset, attributes: dict) -> Bound:
    """Errors of the datasets of a group of weights. It may hold several spectra, told apart by what their names begin with:
    "ov_singular_value_error" bounds "ov_singular_values", and with them "ov_spectral_norm"."""
    prefixes = [name.removesuffix(STORED_ERROR) for name in dataset.data_vars if name.endswith(STORED_ERROR)] or [""]
    spectra = [_Spectrum(group, dataset, prefix, attributes) for prefix in sorted(prefixes, key=len, reverse=True)]

    def bound(name: str, values: xr.DataArray):
        spectrum = next((spectrum for spectrum in spectra if name.startswith(spectrum.prefix)), None)
        error = spectrum.error_of(name.removeprefix(spectrum.prefix), values) if spectrum else None
        return OF_SUMS * abs(values) if error is None else error

    return bound


@dataclass
class _Spectrum:
    """The datasets of a group whose names begin with the prefix."""

    group: str
    dataset: xr.Dataset
    prefix: str
    attributes: dict

    def find(self, name: str) -> xr.DataArray | None:
        return self.dataset.get(self.prefix + name)

    @cached_property
    def largest(self) -> xr.DataArray:
        norm = self.find("spectral_norm")
        return xr.DataArray(np.nan) if norm is None else norm

    @property
    def longest(self) -> int:
        """Entries of the longest row or column of W_Q, W_K, W_V and W_O."""
        size = {name: int(self.attributes.get(name, 1)) for name in ("hidden_size", "num_heads", "head_dim")}
        return max(size["hidden_size"], size["num_heads"] * size["head_dim"])

    @cached_property
    def error(self) -> xr.DataArray:
        """Of every singular value."""
        stored = self.find(STORED_ERROR)
        head_dim = int(self.attributes.get("head_dim", 1))
        return (8 + 2 * np.sqrt(2.0 * head_dim * self.longest)) * UNIT * self.largest if stored is None else stored

    def error_of(self, name: str, values: xr.DataArray) -> xr.DataArray | float | None:
        """name: without the prefix; None of what does not follow from singular values."""
        relative = self.error / self.largest
        of_norm = np.sqrt(self.dataset.sizes.get("index", 1)) * self.error if self.is_norm_of_values() else 0.0
        match name:
            case "singular_values" | "spectral_norm":
                return self.error
            case "spectral_per_sqrt_vocab":
                return self.error / np.sqrt(float(self.attributes["vocab_size"]))
            case "frobenius_norm":
                return OF_SUMS * abs(values) + of_norm
            case "stable_rank":  # ‖W‖_F ≥ σ₁
                return values * (2 * relative + 2 * of_norm / self.largest + OF_SUMS)
            case "condition_number":
                return _of_condition(values, relative)
            case "effective_rank":
                return self._of_effective_rank(values)
            case "numerical_rank":
                return self._at_the_edge()
            case "num_singular_values":
                return 0.0
            case "entry_mean":
                deviation = self.find("entry_std")
                return OF_SUMS * (abs(values) + (0.0 if deviation is None else deviation))
            case "spectral_radius":
                return self._of_eigenvalues()
            case "eigenvalue_positivity":  # Σ Re λ and Σ |λ|
                radius = self.find("spectral_radius")
                return OF_SUMS if radius is None else 2 * self._of_eigenvalues() / radius + OF_SUMS
        return None

    def is_norm_of_values(self) -> bool:
        """Whether the Frobenius norm was taken from the singular values, as its formula says, and not from the entries."""
        formulas = {declared.name: declared.formula for declared in declarations.datasets(self.group)}
        return "σ" in formulas.get(self.prefix + "frobenius_norm", "σ")

    def _of_effective_rank(self, values: xr.DataArray) -> xr.DataArray:
        singular = self.find("singular_values")
        if singular is None:
            return values * OF_SUMS * LEAST_LOG
        count = singular.notnull().sum("index")
        return values * (np.exp(2 * count * self.error / singular.sum("index") * (LEAST_LOG + np.log(count))) - 1 + OF_SUMS * LEAST_LOG)

    def _at_the_edge(self) -> xr.DataArray:
        """How many singular values lie so close to the threshold of the rank that rounding decides whether they count."""
        singular = self.find("singular_values")
        if singular is None:
            return xr.zeros_like(self.largest)
        threshold = self.largest * self._longer_side() * RANK_TOLERANCE
        return (abs(singular - threshold) <= self.error).sum("index").astype(float)

    def _longer_side(self) -> xr.DataArray | int:
        """max(m, n): of layers no file has the shapes of matrices, but ‖W‖_F² = mn mean² + (mn - 1) std² has their number of entries."""
        if "rows" in self.dataset and "columns" in self.dataset:
            return np.maximum(self.dataset["rows"], self.dataset["columns"])
        needed = [self.find(name) for name in ("frobenius_norm", "entry_mean", "entry_std", "num_singular_values")]
        if any(array is None for array in needed):
            return self.longest
        norm, mean, deviation, shorter = needed
        return np.rint((norm**2 + deviation**2) / (mean**2 + deviation**2) / shorter)

    def _of_eigenvalues(self) -> xr.DataArray:
        backward = self.find("eigenvalue_backward_error")
        return np.sqrt((self.error if backward is None else backward) * self.largest)


def _of_condition(kappa: xr.DataArray, relative: xr.DataArray) -> xr.DataArray:
    """Nothing bounds κ where the smallest singular value is no larger than its error."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        shaken = kappa * relative  # the error of σ_min, of σ_min
        return xr.where(shaken < 1, kappa * (relative + shaken) / (1 - shaken), np.inf)


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
