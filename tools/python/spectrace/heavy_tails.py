"""Heavy tails of the spectra, in the columns that users of WeightWatcher know, from the stored singular values.

The definitions are WeightWatcher 0.7.7's (Martin and Mahoney, arXiv:1810.01075), so its literature applies; eigenvalues λ are
those of WᵀW, the squared singular values. Two of its names mean something else than in the other tables: `spectral_norm` is
λ_max = σ₁², and `norm` is Σλ = ‖W‖_F². Its plots, and what needs the weights themselves (randomized matrices), are not here.

The fit of the power law is written out: the `powerlaw` package has the standard fit, at ten times the time, but not the
one for fewer than 20 eigenvalues. Where there is no fit, status is "failed" and the fit's columns are NaN (there: -1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

NAN = float("nan")
LEAST_EIGENVALUE = 1e-5  # what is not above has no part in the power law
WEAK_RANK_TOLERANCE = 1e-6
SMALL_N = 20  # below, the exponent is corrected for its bias
SMALLEST_TAIL = 8  # of a small sample
OVER_TRAINED, UNDER_TRAINED = 2.0, 6.0
EPSILON = 1e-10
BANDWIDTH = 0.1  # of the density that the Marchenko-Pastur law is fitted to
GRID = 1000
LEAST_DENSITY = 0.01


@dataclass(frozen=True)
class PowerLaw:
    """p(λ) ∝ λ^-alpha from xmin to xmax; D: distance to the sample by Kolmogorov and Smirnov; sigma: error of alpha."""

    alpha: float
    D: float
    sigma: float
    xmin: float
    xmax: float


def fit_power_law(eigenvalues: np.ndarray) -> PowerLaw | None:
    """The power law whose xmin makes D least, of the values above 1e-5, by maximum likelihood; None where there is no fit.

    Clauset, Shalizi and Newman, SIAM Review 51 (2009). Fewer than 20 values: the exponent with n-1 in place of n, and tails of
    at least 8 values (or all values, if there are fewer).
    """
    data = np.sort(np.asarray(eigenvalues, dtype=float))
    data = data[data > LEAST_EIGENVALUE]
    n = data.size
    if n < 2 or not np.isfinite(data).all() or data[0] == data[-1]:
        return None
    is_small = n < SMALL_N
    starts = range(n - 1) if not is_small else range(max(1, n - SMALLEST_TAIL + 1))
    logs = np.log(data)
    best = None
    for start in starts:
        tail = logs[start:] - logs[start]
        total, count = tail.sum(), tail.size
        if total <= (1e-12 if is_small else 0.0):
            continue
        alpha = 1 + (count - 1 if is_small else count) / total
        distance = np.abs(1 - np.exp((1 - alpha) * tail) - np.arange(count) / count).max()
        if best is None or distance < best.D:
            best = PowerLaw(alpha, float(distance), (alpha - 1) / np.sqrt(count), float(data[start]), float(data[-1]))
    return best


@dataclass(frozen=True)
class BulkFit:
    """The Marchenko-Pastur law that fits the eigenvalues, scaled by W_scale² to a mean of 1, best."""

    num_spikes: int
    sigma_mp: float
    mp_softrank: float
    bulk_min: float
    bulk_max: float
    W_scale: float


def fit_marchenko_pastur(eigenvalues: np.ndarray, num_rows: int, num_columns: int) -> BulkFit | None:
    """sigma by least squares between the law's density and a kernel estimate; square matrices: the quarter circle law.

    Spikes are the eigenvalues above the bulk's edge and a margin for its fluctuation (Tracy and Widom). None where there is no fit.
    """
    values = np.sort(np.asarray(eigenvalues, dtype=float))
    if values.size == 0 or not np.isfinite(values).all() or values[-1] <= 0:
        return None
    large, small = max(num_rows, num_columns), min(num_rows, num_columns)
    q = large / small
    scale = np.sqrt(values.size) / np.sqrt(values.sum())
    scaled = scale**2 * values
    edge = scaled[-1] / (1 + 1 / np.sqrt(q)) ** 2
    step = np.sqrt(edge)
    residual = _density_residual(np.sqrt(scaled) if q == 1 else scaled, q)
    sigma = float(scipy.optimize.brute(residual, (slice(0.05 * step, 2.0 * step, 0.01 * step),))[0])
    bulk_max, bulk_min = (sigma * (1 + 1 / np.sqrt(q))) ** 2, (sigma * (1 - 1 / np.sqrt(q))) ** 2
    margin = np.sqrt(1 / np.sqrt(q) * bulk_max ** (2 / 3) * small ** (-2 / 3))
    return BulkFit(int(np.count_nonzero(scaled > bulk_max + margin)), sigma, float(bulk_max / scaled[-1]),
                   float(bulk_min / scale**2), float(bulk_max / scale**2), float(scale))


def _density_residual(values: np.ndarray, q: float):
    """sigma -> sum of squares of the law's density less the estimated one, where that is not almost zero."""
    x = np.linspace(0, values.max() + 0.5, GRID)
    density = np.zeros(GRID)
    for chunk in np.array_split(values, max(1, values.size // 4096)):
        density += np.clip(1 - np.abs(x[:, None] - chunk[None, :]) / BANDWIDTH, 0, None).sum(axis=1)
    density /= values.size * BANDWIDTH
    x, density = x[density > LEAST_DENSITY], density[density > LEAST_DENSITY]
    # The estimate has flat tops: WeightWatcher takes the point of one that rounding made highest, here it is the first.
    peak, end = x[np.flatnonzero(density > density.max() * (1 - 1e-9))[0]], x[-1]

    def residual(parameters) -> float:
        sigma = float(np.asarray(parameters).reshape(-1)[0])
        with np.errstate(invalid="ignore", divide="ignore"):
            if q == 1:
                law = np.nan_to_num(np.sqrt(4 - x**2) / (np.pi * sigma**2))
                return float(np.sum((law - density) ** 2))
            high, low = (sigma * (1 + np.sqrt(1 / q))) ** 2, (sigma * (1 - np.sqrt(1 / q))) ** 2
            if high < peak or high > end or low > peak:
                return float(x.size * 1000.0**2)  # no such bulk
            law = np.nan_to_num(q / (2 * np.pi * sigma**2 * x) * np.sqrt((high - x) * (x - low)))
            return float(np.sum((law - density) ** 2))

    return residual


def metrics(singular_values: np.ndarray, num_rows: int, num_columns: int) -> dict:
    """All columns of one matrix (num_rows, num_columns) from its singular values; those that do not exist are NaN."""
    values = np.sort(np.asarray(singular_values, dtype=float))
    large, small = max(num_rows, num_columns), min(num_rows, num_columns)
    row = {"N": large, "M": small, "Q": large / small if small else NAN, "num_evals": values.size, "status": "failed", "warning": ""}
    if values.size == 0 or not np.isfinite(values).all() or values[-1] <= 0:
        return row
    eigenvalues = values**2
    total, largest = eigenvalues.sum(), eigenvalues[-1]
    rank = int(np.count_nonzero(values > values[-1] * large * np.finfo(float).eps))
    shares = eigenvalues / total + EPSILON
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = float(-np.sum(shares * np.log(shares)) / np.log(rank + EPSILON))
    row |= {"sv_max": values[-1], "sv_min": values[0], "lambda_max": largest, "rank_loss": values.size - rank, "matrix_rank": rank,
            "weak_rank_loss": int(np.count_nonzero(eigenvalues < WEAK_RANK_TOLERANCE)), "entropy": entropy,
            "norm": total, "log_norm": np.log10(total), "spectral_norm": largest, "log_spectral_norm": np.log10(largest),
            "stable_rank": total / largest}
    return row | _tail_columns(eigenvalues) | _bulk_columns(eigenvalues, num_rows, num_columns)


def _tail_columns(eigenvalues: np.ndarray) -> dict:
    fit = fit_power_law(eigenvalues)
    if fit is None:
        return {}
    warning = "over-trained" if fit.alpha < OVER_TRAINED else "under-trained" if fit.alpha > UNDER_TRAINED else ""
    largest = np.log10(eigenvalues[-1])
    # Scaled by the largest, so that no power overflows.
    log_alpha_norm = fit.alpha * largest + np.log10(np.sum((eigenvalues / eigenvalues[-1]) ** fit.alpha))
    return vars(fit) | {"num_pl_spikes": int(np.count_nonzero(eigenvalues >= fit.xmin)), "status": "success", "warning": warning,
                        "alpha_weighted": fit.alpha * largest, "log_alpha_norm": log_alpha_norm}


def _bulk_columns(eigenvalues: np.ndarray, num_rows: int, num_columns: int) -> dict:
    fit = fit_marchenko_pastur(eigenvalues, num_rows, num_columns)
    return {} if fit is None else vars(fit)
