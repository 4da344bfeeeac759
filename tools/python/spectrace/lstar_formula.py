"""The L* notebook's formulas: v1, v2 and the fit of v2's three parameters, as the seed has them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy

START = (0.5, 10.0, 0.1)
BOUNDS = ((0.0, 2.0), (1.0, 50.0), (0.0, 0.5))
CONDITION_CAP = 1000.0
FACTOR_BOUNDS = (0.5, 1.5)
V1_KAPPA = 5.0
NUM_PARAMETERS = 3


def growth_factor() -> float:
    """G of v1, the growth of the width over the depth: 1 for every model here, whose blocks all have one width."""
    return 1.0


def l_star_v1(num_layers, growth=1.0):
    """(L/2)·(1 + tanh(5·(G-1))): half the depth wherever G is 1."""
    return np.asarray(num_layers, dtype=float) / 2 * (1 + np.tanh(V1_KAPPA * (np.asarray(growth, dtype=float) - 1)))


def l_star_v2(num_layers, entropy_gradient, condition, alpha: float, beta: float, gamma: float):
    """(L/2)·(1 + α·tanh(β·∇H))·clip(1 - γ·ln(κ+1)/10, 0.5, 1.5), for arrays of models."""
    entropy_factor = 1 + alpha * np.tanh(beta * np.asarray(entropy_gradient, dtype=float))
    condition_factor = np.clip(1 - gamma * np.log(np.asarray(condition, dtype=float) + 1) / 10, *FACTOR_BOUNDS)
    return np.asarray(num_layers, dtype=float) / 2 * entropy_factor * condition_factor


@dataclass(frozen=True)
class Fit:
    """α, β, γ and the mean absolute error in layers; NaN and a reason where there is no fit."""

    alpha: float
    beta: float
    gamma: float
    mae: float
    n: int
    reason: str = ""

    @property
    def parameters(self) -> tuple[float, float, float]:
        return self.alpha, self.beta, self.gamma


def fit_l_star_v2(num_layers, entropy_gradient, condition, empirical) -> Fit:
    """Least mean absolute error by L-BFGS-B from START within BOUNDS; models with a value that is not finite are left out."""
    arrays = [np.asarray(values, dtype=float) for values in (num_layers, entropy_gradient, condition, empirical)]
    good = np.all([np.isfinite(array) for array in arrays], axis=0)
    layers, gradient, kappa, target = (array[good] for array in arrays)
    n = int(good.sum())
    if n <= NUM_PARAMETERS:
        return Fit(*(float("nan"),) * 4, n, f"three parameters need more than three models, there are {n}")

    def mean_absolute_error(parameters) -> float:
        return float(np.mean(np.abs(l_star_v2(layers, gradient, kappa, *parameters) - target)))

    found = scipy.optimize.minimize(mean_absolute_error, x0=START, bounds=BOUNDS, method="L-BFGS-B")
    return Fit(*(float(value) for value in found.x), float(found.fun), n)
