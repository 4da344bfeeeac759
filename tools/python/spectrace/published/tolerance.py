"""How far a number of a notebook may be from the exact one by rounding alone: intervals around what was measured here.

u is the unit roundoff of the notebook's type, 2^-11 (float16) or 2^-24 (float32). Rounding errors are taken as independent, as
in docs/numerics.md (Connolly and Higham, SIAM J. Matrix Anal. Appl. 44, 2023).

* Weights in float16: each entry is off by at most u of itself. Such an error matrix has the 2-norm u/√3·rms·(√m+√n) if the
  entries have one size; twice that is allowed, for they have not.
* Singular values in float32: (8 + 2√(r·m))·2^-24·σ₁ with r = 2·min(m,n) reflections of length at most m, the larger dimension.
* A condition number is σ₁/σ_min, each off by the above: where σ_min is no larger than its error, nothing bounds κ from above.
* The forward pass: a score s is off by |s|·u times what has gathered over l+1 blocks, √(l+1); the exponential makes that a
  relative error of the attention's entries. Scores reach 16, so 16·u·√(l+1): an estimate, not a theorem.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from spectrace.published.numbers import FLOAT16, FLOAT32

LARGEST_SCORE = 16.0


class Interval(NamedTuple):
    """Values as they were measured, and between which bounds rounding may have put the published ones."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def around(values, error) -> Interval:
    values = np.asarray(values, dtype=float)
    return Interval(values, values - error, values + error)


def exact(values) -> Interval:
    return around(values, 0.0)


def singular_value_error(frobenius, largest, shape: tuple[int, int], unit: float):
    """Bound for every singular value of a matrix, from its Frobenius norm and σ₁."""
    rows, columns = shape
    rms = np.asarray(frobenius) / np.sqrt(rows * columns)
    of_weights = 2 * unit / np.sqrt(3) * rms * (np.sqrt(rows) + np.sqrt(columns)) if unit == FLOAT16 else 0.0
    of_svd = (8 + 2 * np.sqrt(2 * min(shape) * max(shape))) * FLOAT32 * np.asarray(largest)
    return of_weights + of_svd


def frobenius_relative(num_entries: int, unit: float) -> float:
    """Errors of single entries cancel but for four of their standard deviations; the sum in float32 adds its own."""
    return (4 * unit / np.sqrt(num_entries) + unit**2 if unit == FLOAT16 else 0.0) + 16 * FLOAT32


def condition(largest, smallest, error) -> Interval:
    largest, smallest, error = (np.asarray(values, dtype=float) for values in (largest, smallest, error))
    with np.errstate(divide="ignore", invalid="ignore"):
        high = np.where(smallest > error, (largest + error) / (smallest - error), np.inf)
        return Interval(largest / smallest, (largest - error) / (smallest + error), high)


def forward_relative(num_layers: int, unit: float) -> np.ndarray:
    """Relative error of the attention and of the residual stream's norms by layer: theirs, and ours in float32."""
    return LARGEST_SCORE * (unit + FLOAT32) * np.sqrt(np.arange(num_layers) + 1)
