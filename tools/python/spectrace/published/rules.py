"""For each published quantity: what it is here, how far rounding may take it, and which errors are known to be in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from spectrace.lstar_formula import l_star_v1
from spectrace.published import tolerance
from spectrace.published.measured import Measured, NotRun
from spectrace.published.numbers import FLOAT32, Number, numbers
from spectrace.published.tolerance import Interval


@dataclass(frozen=True)
class Rule:
    """measure: the interval around what was measured that rounding explains, and the errors that can explain more.

    as_published: what the error makes of it, where that can be computed: a match confirms the error. absent: why the number can
    never be held against anything. note: what a reader must know, or a function of the published number that says it.
    """

    measure: Callable[[Measured], Interval] | None = None
    errors: Callable[[Measured], tuple[int, ...]] = lambda _: ()
    as_published: Callable[[Measured], Interval] | None = None
    note: str | Callable[[Number], str] = ""
    absent: str = ""


def _always(*errors: int) -> Callable[[Measured], tuple[int, ...]]:
    return lambda _: errors


def _of_slices(*others: int) -> Callable[[Measured], tuple[int, ...]]:
    """Errors of how W_V was cut, unless the sweep cuts as the notebooks do; and others."""
    def errors(m: Measured) -> tuple[int, ...]:
        found = list(others)
        if not m.is_as_published:
            if str(m.attributes.get("architecture", "")).startswith(("GPTNeoX", "Bloom")):
                found.append(1)
            if m.attribute("num_kv_heads") < m.attribute("num_heads"):
                found.append(2)
            if m.attribute("head_dim") * m.attribute("num_heads") != m.attribute("hidden_size"):
                found.append(3)
        return tuple(found)
    return errors


# What the quantities are ----------------------------------------------------------------------------------------------

def _config(*names: str) -> Callable[[Measured], Interval]:
    return lambda m: tolerance.exact([m.attribute(name) for name in names])


def _error_of(m: Measured, matrix: str) -> np.ndarray:
    return tolerance.singular_value_error(m.weights("frobenius_norm", matrix), m.weights("spectral_norm", matrix), m.shape(matrix), m.weights_unit)


def _spectral(matrix: str, is_mean: bool) -> Callable[[Measured], Interval]:
    def measure(m: Measured) -> Interval:
        values, error = m.weights("spectral_norm", matrix), _error_of(m, matrix)
        return tolerance.around([values.mean()], error.mean()) if is_mean else tolerance.around(values, error)
    return measure


def _frobenius_mean(m: Measured) -> Interval:
    value = m.weights("frobenius_norm", "W_V").mean()
    return tolerance.around([value], value * tolerance.frobenius_relative(int(np.prod(m.shape("W_V"))), m.weights_unit))


def _condition_mean(m: Measured) -> Interval:
    largest, kappa = m.weights("spectral_norm", "W_V"), m.weights("condition_number", "W_V")
    by_layer = tolerance.condition(largest, largest / kappa, _error_of(m, "W_V"))
    return Interval(*(np.array([part.mean()]) for part in by_layer))


def _traces(quantity: str, is_mean: bool) -> Callable[[Measured], Interval]:
    def measure(m: Measured) -> Interval:
        values = m.mean(quantity)
        error = values * (tolerance.forward_relative(len(values), m.source.unit) + 2 * tolerance.frobenius_relative(
            int(np.prod(m.shape("W_V"))), m.weights_unit))
        return tolerance.around([values.mean()], error.mean()) if is_mean else tolerance.around(values, error)
    return measure


def _entropies(is_mean: bool) -> Callable[[Measured], Interval]:
    def measure(m: Measured) -> Interval:
        values = m.mean("row_entropy_mean_attention")
        error = tolerance.forward_relative(len(values), m.source.unit) * (values + 1)
        return tolerance.around([values.mean()], error.mean()) if is_mean else tolerance.around(values, error)
    return measure


def _sparsities(is_mean: bool) -> Callable[[Measured], Interval]:
    def measure(m: Measured) -> Interval:
        values = m.mean("sparsity_mean_attention")
        entry = float(np.mean(1 / m.num_tokens() ** 2))  # one entry a prompt on the other side of 0.01
        return tolerance.around([values.mean()] if is_mean else values, entry)
    return measure


def _contraction(m: Measured) -> tuple[np.ndarray, np.ndarray]:
    """Mean of √Ā over the pairs, and how far √a may be off: half of a's relative error."""
    values = m.mean("contraction_ratio")
    return values, values * tolerance.forward_relative(len(values), m.source.unit) / 2


def _operator_norms(m: Measured) -> Interval:
    """The mean of ‖√Ā·W_V‖₂ over the pairs."""
    (ratio, error), largest = _contraction(m), m.weights("spectral_norm", "W_V")
    return tolerance.around(ratio * largest, error * largest + ratio * _error_of(m, "W_V"))


def _null_eigenvalues(count: int, added: float) -> Callable[[Measured], Interval]:
    """The `count` smallest eigenvalues of Δ_F are zeros; what was added to the operator, and the noise of an eigensolver in float64."""
    def measure(m: Measured) -> Interval:
        if (m.mean("nullity") < count).any():
            raise NotRun(f"'{m.model}' has no {count} eigenvalues that are zero")
        largest = m.mean("lambda_max").max(axis=-1)
        size = m.attribute("hidden_size") * float(m.num_tokens().max())
        return tolerance.around(np.full(m.num_layers, added), 16 * np.sqrt(size) * 2.0**-53 * largest)
    return measure


def _gains(m: Measured) -> tuple[np.ndarray, np.ndarray]:
    """Means over the prompts of all gains, the last with the final norm, and their errors."""
    values = np.append(m.mean("gain")[:-1], m.mean("last_gain_after_norm"))
    return values, 2 * values * tolerance.forward_relative(len(values), m.source.unit)


def _gain(which: str, statistic: str) -> Callable[[Measured], Interval]:
    """which: "last", "before_last" (the published "no final LN" gain) or "after_norm"; statistic: mean, std or all prompts."""
    def measure(m: Measured) -> Interval:
        quantity, place = ("last_gain_after_norm", ...) if which == "after_norm" else ("gain", (..., -1 if which == "last" else -2))
        mean = m.mean(quantity)[place]
        error = 2 * np.abs(mean) * tolerance.forward_relative(m.num_layers, m.source.unit)[-1]
        value = {"mean": lambda: mean, "std": lambda: m.std(quantity)[place], "all": lambda: m.by_prompt(quantity)[place]}[statistic]()
        return tolerance.around(np.atleast_1d(value), error)
    return measure


def _is_below_one(measure: Callable[[Measured], Interval]) -> Callable[[Measured], Interval]:
    def is_below(m: Measured) -> Interval:
        value, low, high = measure(m)
        return Interval(*(np.asarray(bound < 1, dtype=float) for bound in (value, high, low)))
    return is_below


def _typed_gain(m: Measured) -> Interval:
    gain = m.last_gain()
    return tolerance.around([gain], 2 * gain * tolerance.forward_relative(m.num_layers, FLOAT32)[-1])


def _a_priori(scale: Callable[[Measured], float]) -> Callable[[Measured], Interval]:
    return lambda m: tolerance.exact([float(l_star_v1(m.num_layers, m.last_gain())) * scale(m)])


def _layer(name: str, is_ratio: bool) -> Callable[[Measured], Interval]:
    return lambda m: tolerance.exact([m.statistic(name) / (m.num_layers if is_ratio else 1)])


def _predicted(m: Measured) -> float:
    """The published formula: L·(0.11 + 0.012·L + 4.9/H)."""
    return m.num_layers * (0.11 + 0.012 * m.num_layers + 4.9 / m.attribute("num_heads"))


def _sign_change_error(m: Measured) -> Interval:
    return tolerance.exact([abs(_predicted(m) - m.over_any_prompts("l_star_sign_change")) / m.num_layers * 100])


def _unembedding(quantity: str) -> Callable[[Measured], Interval]:
    def measure(m: Measured) -> Interval:
        value, shape = m.unembedding(quantity), m.shape("W_U")
        if quantity in ("spectral_norm", "spectral_per_sqrt_vocab"):
            error = tolerance.singular_value_error(m.unembedding("frobenius_norm"), m.unembedding("spectral_norm"), shape, m.weights_unit)
            return tolerance.around([value], error / (np.sqrt(shape[0]) if quantity.startswith("spectral_per") else 1))
        if quantity == "row_norm_std":  # as far as the norms of single rows are off
            return tolerance.around([value], m.unembedding("row_norm_mean") * tolerance.frobenius_relative(shape[1], m.weights_unit))
        return tolerance.around([value], value * tolerance.frobenius_relative(shape[0] * shape[1], m.weights_unit))
    return measure


def _amplification(m: Measured) -> Interval:
    return Interval(*(part * m.last_gain() for part in _unembedding("spectral_norm")(m)))


def _own_steepest(number: Number) -> str:
    traces = next(other.values for other in numbers() if (other.source, other.model, other.quantity) == (number.source, number.model, "traces_multihead"))
    steepest = int(np.argmax(np.abs(np.gradient(traces))))
    star = next(other.values[0] for other in numbers() if (other.source, other.model, other.quantity) == (number.source, number.model, "L_star_trace"))
    return "" if steepest == star else f"its own traces_multihead change most at layer {steepest}: L* is something else there, that was not published"


# The table ------------------------------------------------------------------------------------------------------------

UNDEFINED = "what it is was not published: its notebook is not among the five"
NEGATIVE = UNDEFINED + ", and a Laplacian of symmetric weights has no negative eigenvalue"
FIEDLER = (NEGATIVE + "; graph_lambda_2 of the results is λ₂ of L_G, which approaches 1/2 where attention goes to the first token, "
           "while these approach 1")
PAIRS = "inferred: mean_op_norms / W_V_op_norms as published, the mean of √Ā over the pairs j ≤ i; which pairs and which attention was not published"
ZEROS = "zeros of Δ_F, whose nullity is at least D: the published values are 1e-10, which was added to the operator, and an eigensolver's rounding"
STUDY = "is made of the models' numbers; those are checked one by one"
ANY_PROMPTS = "over the prompts of this sweep, since its own were not published"
INFERRED = "its definition is inferred from its name: its notebook was not published"
_SIZES = {"n_layers": ("num_layers",), "n_heads": ("num_heads",), "Layers": ("num_layers",), "L": ("num_layers",), "H": ("num_heads",),
          "hidden_dim": ("hidden_size",), "d_model": ("hidden_size",), "d_head": ("head_dim",), "vocab_size": ("vocab_size",),
          "shape": ("vocab_size", "hidden_size"), "rope_theta": ("rope_theta",), "max_position": ("max_positions",),
          "rope_scaling.factor": ("rope_factor",), "rope_scaling.low_freq_factor": ("rope_low_freq_factor",),
          "rope_scaling.high_freq_factor": ("rope_high_freq_factor",),
          "rope_scaling.original_max_position_embeddings": ("rope_original_max_position_embeddings",)}
SIZES = {quantity: Rule(_config(*names)) for quantity, names in _SIZES.items()} | {
    "rho": Rule(lambda m: tolerance.exact([m.attribute("num_heads") / m.attribute("head_dim")])),
    "rotary_pct": Rule(lambda m: tolerance.exact([m.attribute("rope_dimensions") / m.attribute("head_dim")])),
    "n_hidden_states": Rule(lambda m: tolerance.exact([m.num_layers + 1.0]))}

_PACKED, _SLICED = _of_slices(4), _of_slices()
_OVERFLOWN = lambda m: (5,) if m.known_as.endswith("pythia-160m") else ()  # noqa: E731
RULES: dict[str, dict[str, Rule]] = {
    "h4_v2_extended": {
        "known_gain": Rule(_typed_gain, _always(7)),
        "traces_full": Rule(_traces("trace_mean_attention", False), _PACKED), "traces_mh": Rule(_traces("trace_multihead", False), _PACKED),
        "mean_trace_mh": Rule(_traces("trace_multihead", True), _PACKED),
        "L_star": Rule(_layer("l_star_trace", False), _PACKED), "L_star_ratio": Rule(_layer("l_star_trace", True), _PACKED)},
    "h4_v2_validation": {
        "known_gain": Rule(_typed_gain, _always(7)),
        "L_star_apriori": Rule(_a_priori(lambda _: 1.0), _always(7)),
        "L_star_ratio_apriori": Rule(_a_priori(lambda m: 1 / m.num_layers), _always(7)),
        "traces_full": Rule(_traces("trace_mean_attention", False), _SLICED), "mean_trace_full": Rule(_traces("trace_mean_attention", True), _SLICED),
        "traces_multihead": Rule(_traces("trace_multihead", False), _SLICED), "mean_trace_multihead": Rule(_traces("trace_multihead", True), _SLICED),
        "L_star_trace": Rule(_layer("l_star_trace", False), _SLICED, note=_own_steepest),
        "L_star_ratio_trace": Rule(_layer("l_star_trace", True), _SLICED, note=_own_steepest),
        "lambda_2": Rule(absent=NEGATIVE), "spectral_gaps": Rule(absent=UNDEFINED), "graph_lambda_2": Rule(absent=FIEDLER),
        "L_star_spectral": Rule(absent=UNDEFINED)},
    "opt_anomaly": {
        "mean_frobenius": Rule(_frobenius_mean, _SLICED), "mean_spectral": Rule(_spectral("W_V", True), _SLICED),
        "mean_condition": Rule(_condition_mean, _SLICED),
        "entropy_by_layer": Rule(_entropies(False), _OVERFLOWN), "mean_entropy": Rule(_entropies(True), _OVERFLOWN),
        "sparsity_by_layer": Rule(_sparsities(False), _OVERFLOWN), "mean_sparsity": Rule(_sparsities(True), _OVERFLOWN)},
    "clean_residual": {
        "gain_with_ln_mean": Rule(_gain("after_norm", "mean")), "gain_with_ln_std": Rule(_gain("after_norm", "std")),
        "gain_no_ln_mean": Rule(_gain("last", "mean"), _always(6), _gain("before_last", "mean")),
        "gain_no_ln_std": Rule(_gain("last", "std"), _always(6), _gain("before_last", "std")),
        "all_layer_gains": Rule(lambda m: tolerance.around(*_gains(m))),
        "is_dampening_with_ln": Rule(_is_below_one(_gain("after_norm", "mean"))),
        "is_dampening_no_ln": Rule(_is_below_one(_gain("last", "mean")), _always(6), _is_below_one(_gain("before_last", "mean"))),
        "h25_accuracy": Rule(absent=STUDY)},
    "l_star_sign_change": {
        "L_star_predicted": Rule(lambda m: tolerance.exact([_predicted(m)])),
        "L_star_empirical": Rule(lambda m: tolerance.exact([m.over_any_prompts("l_star_sign_change")]), _always(8), note=ANY_PROMPTS),
        "L_star_std": Rule(absent="error 8: L* is found once, in the mean over the prompts; it has no spread"),
        "individual_L_stars": Rule(absent="error 8: L* is found once, in the mean over the prompts, not by prompt"),
        "L_star_calibration": Rule(absent="a value that was typed in to compare with"),
        "error_pct": Rule(_sign_change_error, _always(8), note=ANY_PROMPTS),
        "overall_mape": Rule(absent=STUDY), "comparison_v2_argmax": Rule(absent=STUDY), "improvement_pp": Rule(absent=STUDY)},
    "llama31_anomaly": {
        "frobenius_norm": Rule(_unembedding("frobenius_norm")), "spectral_norm": Rule(_unembedding("spectral_norm")),
        "mean_row_norm": Rule(_unembedding("row_norm_mean")), "std_row_norm": Rule(_unembedding("row_norm_std")),
        "spectral_per_sqrt_vocab": Rule(_unembedding("spectral_per_sqrt_vocab")),
        "last_gain": Rule(_typed_gain, _always(7)), "effective_amplification": Rule(_amplification, _always(7)),
        "context_length": Rule(absent="a value that was typed in, what the makers say of the model")},
    "pythia_family": {
        "residual_gain_mean": Rule(_gain("last", "mean"), _always(6), _gain("before_last", "mean")),
        "residual_gain_std": Rule(_gain("last", "std"), _always(6), _gain("before_last", "std")),
        "residual_gain_all": Rule(_gain("last", "all"), _always(6), _gain("before_last", "all")),
        "gain_with_ln_mean": Rule(_gain("after_norm", "mean")), "gain_with_ln_std": Rule(_gain("after_norm", "std")),
        "all_layer_gains": Rule(lambda m: tolerance.around(*_gains(m))),
        "is_dampening": Rule(_is_below_one(_gain("last", "mean")), _always(6), _is_below_one(_gain("before_last", "mean"))),
        "rho_gain_correlation": Rule(absent=STUDY), "correlation_p_value": Rule(absent=STUDY),
        "high_rho_dampen_rate": Rule(absent=STUDY), "low_rho_expand_rate": Rule(absent=STUDY)},
    "restriction_map_summary": {
        "W_V Mean": Rule(_spectral("W_V", True), _SLICED), "W_O Mean": Rule(_spectral("W_O", True))},
    "restriction_maps_results": {
        "seq_len": Rule(lambda m: tolerance.exact(m.num_tokens())),
        "W_V_op_norms": Rule(_spectral("W_V", False), _SLICED, note=INFERRED),
        "attention_entropies": Rule(_entropies(False), note=INFERRED),
        "contraction_ratios": Rule(lambda m: tolerance.around(*_contraction(m)), note=PAIRS),
        "mean_op_norms": Rule(_operator_norms, _SLICED, note=PAIRS),
        "lambda_1": Rule(_null_eigenvalues(1, 1e-10), note=ZEROS), "lambda_2": Rule(_null_eigenvalues(2, 1e-10), note=ZEROS),
        "spectral_gaps": Rule(_null_eigenvalues(2, 0.0), note=ZEROS),
        **{name: Rule(absent=UNDEFINED) for name in ("L_star_min_contraction", "L_star_inflection", "traces")}},
}


def rule_of(source: str, quantity: str) -> Rule:
    return RULES[source].get(quantity) or SIZES[quantity]
