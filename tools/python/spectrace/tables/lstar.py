"""Tables of the L* formula study: can the layer of transition be told from architecture, entropy and conditioning?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from spectrace import inference, lstar_formula
from spectrace.results import Results
from spectrace.tables.frame import EXPECTED, LAB, LAYER, MODEL, NUM_HEADS, NUM_LAYERS, NUM_PROMPTS, PROMPT_SET, Column, Table
from spectrace.tables.general import NAN, by_layer, identity, mean, prompt_counts, prompt_mean, scalar, sets_of, std
from spectrace.tables.independence import once_each, units_of

FEATURES = ("num_layers", "hidden_size", "num_heads", "head_dim", "vocab_size", "G", "entropy_mean", "entropy_std", "entropy_first",
            "entropy_last", "entropy_gradient", "condition_first", "condition_last", "condition_ratio", "frobenius_first",
            "frobenius_last", "frobenius_ratio")


def _of_weights(results: Results, model: str) -> dict:
    row = {}
    for column, name in (("condition", "condition_number"), ("frobenius", "frobenius_norm")):
        values = by_layer(results.group(model, "weights"), name, matrix="W_V")
        if values is not None and len(values):
            row |= {f"{column}_first": float(values[0]), f"{column}_last": float(values[-1])}
            with np.errstate(divide="ignore", invalid="ignore"):
                row[f"{column}_ratio"] = float(np.divide(values[-1], values[0]))
    if "condition_first" in row:
        row["condition_capped"] = min(row["condition_first"], lstar_formula.CONDITION_CAP)
    return row


def _rows(results: Results, prompt_set: str | None) -> Iterator[dict]:
    for model in results:
        if not results.attributes(model).get("num_layers"):
            continue  # it could not be opened
        row = identity(results, model) | {"G": lstar_formula.growth_factor()} | _of_weights(results, model)
        row["l_star_v1"] = float(lstar_formula.l_star_v1(row["num_layers"], row["G"]))
        for name in sets_of(results, model, prompt_set):
            entropy = prompt_mean(results, model, name, "flat_entropy_mean_attention")
            statistics = results.statistics(model, name)
            found = {} if entropy is None else {
                "entropy_mean": mean(entropy), "entropy_std": std(entropy), "entropy_first": float(entropy[0]),
                "entropy_last": float(entropy[-1]), "entropy_gradient": float(entropy[-1] - entropy[0])}
            yield row | {"prompt_set": name} | prompt_counts(results, model, name) | found | {
                star: scalar(statistics, star) for star in ("l_star_entropy", "l_star_trace", "l_star_sign_change")}


def _layer_rows(results: Results, prompt_set: str | None) -> Iterator[dict]:
    for model in results:
        for name in sets_of(results, model, prompt_set):
            entropy = prompt_mean(results, model, name, "flat_entropy_mean_attention")
            for layer, value in enumerate(entropy if entropy is not None else ()):
                yield identity(results, model) | {"prompt_set": name, "layer": layer, "flat_entropy": float(value)}


# The fit ------------------------------------------------------------------------------------------------------------

def _arrays(features: pd.DataFrame, is_capped: bool) -> tuple[np.ndarray, ...]:
    condition = features["condition_capped" if is_capped else "condition_first"].to_numpy(dtype=float)
    layers = features["num_layers"].to_numpy(dtype=float, na_value=np.nan)
    return layers, features["entropy_gradient"].to_numpy(), condition, features["l_star_entropy"].to_numpy()


def fit_of(features: pd.DataFrame, is_capped: bool, units: dict[str, str]) -> lstar_formula.Fit:
    """v2 fitted to the rows of the table "lstar" of one prompt set, models that are one counted once."""
    return lstar_formula.fit_l_star_v2(*_arrays(once_each(features, units), is_capped))


def predictions_of(features: pd.DataFrame, is_capped: bool, units: dict[str, str]) -> np.ndarray:
    """v2 of these rows by the fit to them; NaN where there is no fit."""
    layers, gradient, condition, _ = _arrays(features, is_capped)
    fit = fit_of(features, is_capped, units)
    return np.full(len(features), NAN) if fit.reason else lstar_formula.l_star_v2(layers, gradient, condition, *fit.parameters)


def unseen_predictions(features: pd.DataFrame, units: dict[str, str]) -> np.ndarray:
    """v2, κ capped, of each row by the fit to the models that are not one with it: what the formula is worth for a model that it has
    not seen. NaN where there is no fit."""
    layers, gradient, condition, _ = _arrays(features, True)
    of_rows, predictions = features["model"].map(units), np.full(len(features), NAN)
    for unit in dict.fromkeys(of_rows):
        mine = (of_rows == unit).to_numpy()
        fit = fit_of(features[~mine], True, units)
        if not fit.reason:
            predictions[mine] = lstar_formula.l_star_v2(layers[mine], gradient[mine], condition[mine], *fit.parameters)
    return predictions


def _features(results: Results, prompt_set: str | None) -> Iterator[tuple[str, pd.DataFrame]]:
    table = LSTAR.make(results, prompt_set)
    for name in dict.fromkeys(table["prompt_set"]):
        yield name, table[table["prompt_set"] == name].reset_index(drop=True)


def _fit_rows(results: Results, prompt_set: str | None) -> Iterator[dict]:
    units = units_of(results)
    for name, features in _features(results, prompt_set):
        for is_capped in (True, False):
            fit = fit_of(features, is_capped, units)
            at_bound = [symbol for symbol, value, (low, high) in zip("αβγ", fit.parameters, lstar_formula.BOUNDS) if value in (low, high)]
            yield {"prompt_set": name, "is_capped": is_capped, "alpha": fit.alpha, "beta": fit.beta, "gamma": fit.gamma, "mae": fit.mae,
                   "num_models": fit.n, "at_bound": ", ".join(at_bound) or None, "reason": fit.reason or None}


def _prediction_rows(results: Results, prompt_set: str | None) -> Iterator[dict]:
    units = units_of(results)
    for name, features in _features(results, prompt_set):
        columns = {"v2": predictions_of(features, True, units), "v2_uncapped": predictions_of(features, False, units),
                   "v2_unseen": unseen_predictions(features, units)}
        columns = {"v1": features["num_layers"].to_numpy(dtype=float, na_value=np.nan) / 2} | columns
        for i, row in features.iterrows():
            empirical, layers = row["l_star_entropy"], float(row["num_layers"])
            values = {f"l_star_{key}": float(column[i]) for key, column in columns.items()}
            errors = {f"error_{key}": abs(float(column[i]) - empirical) for key, column in columns.items()}
            percent = {f"{key}_percent": value / layers * 100 for key, value in errors.items()}
            yield row.to_dict() | values | errors | percent


def _correlation_rows(results: Results, prompt_set: str | None) -> Iterator[dict]:
    units = units_of(results)
    for name, features in _features(results, prompt_set):
        features = once_each(features, units)
        target = features["l_star_entropy"].to_numpy()
        found = [(feature, inference.pearson("", features[feature].to_numpy(dtype=float, na_value=np.nan), target, (feature, "L*")))
                 for feature in FEATURES]
        for (feature, outcome), adjusted in zip(found, inference.holm([outcome.p for _, outcome in found])):
            good = np.isfinite(features[feature].to_numpy(dtype=float, na_value=np.nan)) & np.isfinite(target)
            yield {"prompt_set": name, "feature": feature, "num_models": int(good.sum()), "r": outcome.effect, "low": outcome.low,
                   "high": outcome.high, "p": outcome.p, "p_holm": float(adjusted), "words": outcome.words}


_ENTROPY = "flat entropy of the mean attention Ā, mean over prompts"
LSTAR = Table("lstar", "a model and prompt set", (
    MODEL, LAB, EXPECTED, PROMPT_SET, NUM_LAYERS,
    Column("hidden_size", "int", "width of the residual stream, D", heading="D"),
    NUM_HEADS,
    Column("head_dim", "int", "width of a head, d", heading="d"),
    Column("vocab_size", "int", "tokens of the vocabulary, V", heading="V"),
    NUM_PROMPTS,
    Column("G", "float", "growth of the width from first to last block: 1 for all these models", heading="G"),
    Column("l_star_v1", "float", "(L/2)·(1 + tanh(5·(G−1))): L/2 wherever G is 1", "layer", "L* v1"),
    Column("entropy_mean", "float", f"{_ENTROPY}; mean over layers", heading="entropy"),
    Column("entropy_std", "float", f"{_ENTROPY}; standard deviation (n-1) over layers", heading="± std"),
    Column("entropy_first", "float", f"{_ENTROPY}; first layer", heading="first"),
    Column("entropy_last", "float", f"{_ENTROPY}; last layer", heading="last"),
    Column("entropy_gradient", "float", "last minus first, ∇H", heading="∇H"),
    Column("condition_first", "float", "condition number of the first layer's W_V, κ; inf if its smallest singular value is 0", heading="κ first"),
    Column("condition_capped", "float", "the same, at most 1000, as the notebook has it", heading="κ capped"),
    Column("condition_last", "float", "condition number of the last layer's W_V", heading="κ last"),
    Column("condition_ratio", "float", "last over first", heading="κ ratio"),
    Column("frobenius_first", "float", "Frobenius norm of the first layer's W_V", heading="‖W_V‖_F first"),
    Column("frobenius_last", "float", "Frobenius norm of the last layer's W_V", heading="‖W_V‖_F last"),
    Column("frobenius_ratio", "float", "last over first", heading="‖W_V‖_F ratio"),
    Column("l_star_entropy", "float", "first layer whose entropy has reached the midpoint of first and last layer: the notebook's empirical L*", "layer", "L* empirical"),
    Column("l_star_trace", "float", "layer of the steepest change of the prompt-mean trace", "layer", "L* (trace)"),
    Column("l_star_sign_change", "float", "first layer where the prompt-mean trace turns from rising to falling", "layer", "L* (sign)"),
), _rows)

LSTAR_LAYERS = Table("lstar_layers", "a model, prompt set and layer",
                     (MODEL, LAB, PROMPT_SET, LAYER, Column("flat_entropy", "float", _ENTROPY, heading="entropy")), _layer_rows)

LSTAR_FIT = Table("lstar_fit", "a fit of v2, with κ capped at 1000 or not, for each prompt set", (
    PROMPT_SET, Column("is_capped", "bool", "whether κ is capped at 1000", heading="κ capped"),
    Column("alpha", "float", "α, strength of the entropy's effect, within 0…2", heading="α"),
    Column("beta", "float", "β, sensitivity to the entropy's gradient, within 1…50", heading="β"),
    Column("gamma", "float", "γ, strength of the conditioning's effect, within 0…0.5", heading="γ"),
    Column("mae", "float", "mean absolute error of the fitted models", "layer", "mean error"),
    Column("num_models", "int", "models that the three parameters were fitted to, those that are one counted once", heading="models"),
    Column("at_bound", "text", "parameters that ended at their bound", heading="at a bound"),
    Column("reason", "text", "why there is no fit", heading="no fit because"),
), _fit_rows)

_VERSIONS = {"v1": "L/2", "v2": "v2 by the fit, κ capped at 1000", "v2_uncapped": "v2 by the fit, κ as it is",
             "v2_unseen": "v2 (κ capped) by the fit to all models that are not one with it"}
_SHORT = {"v1": "v1", "v2": "v2", "v2_uncapped": "v2, no cap", "v2_unseen": "v2, unseen"}
LSTAR_PREDICTIONS = Table("lstar_predictions", "a model and prompt set", (
    MODEL, PROMPT_SET, NUM_LAYERS, Column("l_star_entropy", "float", "empirical L*", "layer", "L* empirical"),
    *(Column(f"l_star_{key}", "float", f"prediction by {meaning}", "layer", f"L* {_SHORT[key]}") for key, meaning in _VERSIONS.items()),
    *(Column(f"error_{key}", "float", f"absolute error of {meaning}", "layer", f"error {_SHORT[key]}") for key, meaning in _VERSIONS.items()),
    *(Column(f"error_{key}_percent", "float", f"absolute error of {meaning}, of the depth L", "%", f"% {_SHORT[key]}") for key, meaning in _VERSIONS.items()),
), _prediction_rows)

LSTAR_CORRELATIONS = Table("lstar_correlations", "a feature and prompt set", (
    PROMPT_SET, Column("feature", "text", "column of the table “lstar” that is held against the empirical L*", heading="feature"),
    Column("num_models", "int", "models with both values, those that are one counted once", heading="models"),
    Column("r", "float", "Pearson's correlation with L*", heading="r"),
    Column("low", "float", "lower end of its 95 % interval", heading="from"),
    Column("high", "float", "upper end", heading="to"),
    Column("p", "float", "two-sided p", heading="p"),
    Column("p_holm", "float", "p by Holm's correction for all features of the set", heading="p (Holm)"),
    Column("words", "text", "what that means", heading="in words"),
), _correlation_rows)
