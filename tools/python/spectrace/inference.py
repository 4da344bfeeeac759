"""Tests of the studies: each by SciPy or statsmodels, each with n, effect size, interval and a verdict in plain words.

A test never refuses: where groups are too small or values constant it says so and why, and what could be said with more.
statsmodels is imported where a test needs it: that takes longer than most of what imports this module.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy

NAN = float("nan")
ALPHA = 0.05
CONFIDENCE = 0.95
RESAMPLES = 9999
SMALL = 10  # fewer values than this and a reader is told that they are few


@dataclass(frozen=True)
class Outcome:
    """What a test found. p, effect, low and high are NaN where they can't be had; `note` then says why."""

    question: str
    method: str
    n: str                # of what, and how many, in words
    effect_name: str
    effect: float
    low: float            # 95 % confidence interval of the effect
    high: float
    statistic_name: str
    statistic: float
    p: float
    verdict: str          # "yes", "no" or "open"
    words: str            # the verdict as a sentence
    note: str = ""


def finite(values) -> np.ndarray:
    """The finite ones, as float64."""
    array = np.asarray(values, dtype=float).ravel()
    return array[np.isfinite(array)]


def _dropped(before, after) -> str:
    count = np.size(before) - np.size(after)
    return f"{count} value{'s' if count > 1 else ''} that {'are' if count > 1 else 'is'} not finite left out. " if count else ""


def number(value: float) -> str:
    """Three significant digits for a sentence."""
    return "–" if value != value else f"{value:.3g}"


MOST_LISTED = 6  # models that a sentence names one by one


def listed(values: dict[str, float], form: str) -> str:
    """"a 0.5, b 0.7" for a few models; least, greatest and mean for many."""
    if len(values) <= MOST_LISTED:
        return ", ".join(f"{name} {value:{form}}" for name, value in values.items())
    least, most = min(values, key=values.get), max(values, key=values.get)
    return (f"from {values[least]:{form}} ({least}) to {values[most]:{form}} ({most}), mean {np.mean(list(values.values())):{form}} "
            f"over {len(values)} models")


def first_of(items: list[str], of: str, separator: str = "; ") -> str:
    """The first few, and how many more there are: `of` is a plural."""
    more = len(items) - MOST_LISTED
    return separator.join(items[:MOST_LISTED]) + (f"{separator}and {count(more, of)} more" if more > 0 else "")


def count(n: int, of: str) -> str:
    """"1 model", "2 models": `of` is a plural."""
    return f"{n} {of.removesuffix('s') if n == 1 else of}"


def is_constant(values: np.ndarray) -> bool:
    """All the same but for rounding: SciPy's own bound for warning of a correlation that means nothing."""
    return bool(np.linalg.norm(values - values.mean()) <= 1e-13 * abs(values.mean()))


def p_text(p: float) -> str:
    """p as a reader expects it."""
    return "p –" if p != p else "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def mann_whitney(question: str, first, second, names: tuple[str, str], alternative: str, of: str = "models") -> Outcome:
    """Mann-Whitney U: are the first group's values less (or: other) than the second's?

    Exact where SciPy can (no ties, a group of at most 8). Effect: the chance that a value of the first group is above one of
    the second, ties halved (0.5: no difference), with Brunner and Munzel's interval, which needs two values a group.
    """
    a, b = finite(first), finite(second)
    note = _dropped(first, a) + _dropped(second, b)
    groups = f"{names[0]}: {count(a.size, of)}; {names[1]}: {count(b.size, of)}"
    base = {"question": question, "method": f"Mann-Whitney U, {'one-sided (less)' if alternative == 'less' else 'two-sided'}", "n": groups,
            "effect_name": f"P({names[0]} > {names[1]})", "statistic_name": "U"}
    if not a.size or not b.size:
        empty = names[0] if not a.size else names[1]
        return Outcome(**base, effect=NAN, low=NAN, high=NAN, statistic=NAN, p=NAN, verdict="open",
                       words=f"Can't be tested: no {of} in the group “{empty}”.", note=note)
    found = scipy.stats.mannwhitneyu(a, b, alternative=alternative)
    effect, low, high = found.statistic / (a.size * b.size), NAN, NAN
    if min(a.size, b.size) >= 2 and 0 < effect < 1:
        from statsmodels.stats.nonparametric import rank_compare_2indep  # see the top

        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            low, high = (float(np.clip(bound, 0, 1)) for bound in rank_compare_2indep(a, b).conf_int(alpha=1 - CONFIDENCE))
    elif min(a.size, b.size) >= 2:
        note += "No interval: the groups do not overlap. "
    else:
        note += "No interval: a group of one. "
    least = (1 if alternative == "less" else 2) / math.comb(a.size + b.size, a.size)
    if least > ALPHA:
        verdict = "open"
        words = (f"Can't be decided: with {a.size} and {b.size} {of} the smallest possible p is {number(least)}, "
                 f"above {ALPHA}. More models are needed.")
    elif found.pvalue < ALPHA:
        verdict = "yes"
        words = f"{names[0]} {'lies below' if alternative == 'less' else 'differs from'} {names[1]} ({p_text(found.pvalue)})."
    else:
        verdict = "no"
        words = (f"No sign that {names[0]} {'lies below' if alternative == 'less' else 'differs from'} {names[1]} "
                 f"({p_text(found.pvalue)}); that is not proof of no difference.")
    if min(a.size, b.size) < SMALL:
        note += f"Small groups ({a.size} and {b.size}). "
    return Outcome(**base, effect=float(effect), low=low, high=high, statistic=float(found.statistic), p=float(found.pvalue),
                   verdict=verdict, words=words, note=note.strip())


def bootstrap_interval(samples: tuple[np.ndarray, ...], statistic: Callable, paired: bool = False) -> tuple[float, float]:
    """SciPy's BCa interval of a statistic, with a fixed seed; NaN where it can't be had (too few or constant values)."""
    if min(sample.size for sample in samples) < 2:
        return NAN, NAN
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = scipy.stats.bootstrap(samples, statistic, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, paired=paired,
                                vectorized=True, rng=np.random.default_rng(0), method="BCa")
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def _ratio(a, b, axis=-1):
    return np.mean(a, axis=axis) / np.mean(b, axis=axis)


def mean_ratio(question: str, numerator, denominator, names: tuple[str, str], of: str, factor: float = 1.0) -> Outcome:
    """Ratio of two means (times a constant factor), with a bootstrap interval; the verdict is the study's to give."""
    a, b = finite(numerator), finite(denominator)
    note = _dropped(numerator, a) + _dropped(denominator, b)
    base = {"question": question, "method": "ratio of means, BCa bootstrap", "n": f"{names[0]}: {count(a.size, of)}; {names[1]}: {count(b.size, of)}",
            "effect_name": f"{names[0]} / {names[1]}", "statistic_name": "", "statistic": NAN, "p": NAN}
    if not a.size or not b.size or not np.mean(b):
        return Outcome(**base, effect=NAN, low=NAN, high=NAN, verdict="open", words="Can't be tested: values are missing.", note=note)
    low, high = bootstrap_interval((a, b), _ratio)
    if low != low:
        note += f"No interval: fewer than two {of}, or all the same. "
    elif min(a.size, b.size) < SMALL:
        note += f"Few {of}: the interval is rough. "
    return Outcome(**base, effect=float(_ratio(a, b) * factor), low=low * factor, high=high * factor, verdict="open", words="",
                   note=note.strip())


def pearson(question: str, x, y, names: tuple[str, str], of: str = "models") -> Outcome:
    """Pearson's r with SciPy's interval (Fisher's z, from four points on)."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    good = np.isfinite(x) & np.isfinite(y)
    note = _dropped(x, x[good])
    base = {"question": question, "method": "Pearson correlation", "n": count(int(good.sum()), of), "effect_name": "r", "statistic_name": "r"}
    reason = (f"fewer than three {of}" if good.sum() < 3 else f"{names[0]} is the same for all {of}" if is_constant(x[good])
              else f"{names[1]} is the same for all {of}" if is_constant(y[good]) else "")
    if reason:
        return Outcome(**base, effect=NAN, low=NAN, high=NAN, statistic=NAN, p=NAN, verdict="open",
                       words=f"Can't be tested: {reason}.", note=note.strip())
    found = scipy.stats.pearsonr(x[good], y[good])
    low, high = found.confidence_interval(CONFIDENCE) if good.sum() > 3 else (NAN, NAN)
    if good.sum() < SMALL:
        note += f"Few {of} ({int(good.sum())}). "
    yes = found.pvalue < ALPHA
    words = (f"{names[1]} {'rises' if found.statistic > 0 else 'falls'} with {names[0]} ({p_text(found.pvalue)})." if yes
             else f"No sign that {names[1]} goes with {names[0]} ({p_text(found.pvalue)}).")
    return Outcome(**base, effect=float(found.statistic), low=float(low), high=float(high), statistic=float(found.statistic),
                   p=float(found.pvalue), verdict="yes" if yes else "no", words=words, note=note.strip())


def regression(question: str, x, y, names: tuple[str, str], of: str = "models") -> Outcome:
    """Ordinary least squares y = a + b·x by statsmodels: the slope b with its t interval."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    good = np.isfinite(x) & np.isfinite(y)
    note = _dropped(x, x[good])
    base = {"question": question, "method": "least squares, t test of the slope", "n": count(int(good.sum()), of),
            "effect_name": f"slope of {names[1]} over {names[0]}", "statistic_name": "t"}
    reason = (f"fewer than three {of}" if good.sum() < 3 else f"{names[0]} is the same for all {of}" if is_constant(x[good])
              else f"{names[1]} is the same for all {of}" if is_constant(y[good]) else "")
    if reason:
        return Outcome(**base, effect=NAN, low=NAN, high=NAN, statistic=NAN, p=NAN, verdict="open",
                       words=f"Can't be fitted: {reason}.", note=note.strip())
    import statsmodels.api as sm  # see the top

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        fit = sm.OLS(y[good], sm.add_constant(x[good])).fit()
        low, high = fit.conf_int(alpha=1 - CONFIDENCE)[1]
    p = float(fit.pvalues[1])
    if good.sum() < SMALL:
        note += f"Few {of} ({int(good.sum())}). "
    words = (f"{names[1]} changes by {number(fit.params[1])} for each unit of {names[0]} (R² = {number(fit.rsquared)}, {p_text(p)})." if p < ALPHA
             else f"No slope that differs from 0 (R² = {number(fit.rsquared)}, {p_text(p)}).")
    return Outcome(**base, effect=float(fit.params[1]), low=float(low), high=float(high), statistic=float(fit.tvalues[1]), p=p,
                   verdict="yes" if p < ALPHA else "no", words=words, note=note.strip())


def mean_against(question: str, values, expected: float, name: str, of: str = "models") -> Outcome:
    """One-sample t test of a mean against a fixed value; the effect is the mean."""
    a = finite(values)
    note = _dropped(values, a)
    base = {"question": question, "method": f"t test of the mean against {number(expected)}", "n": count(a.size, of),
            "effect_name": f"mean {name}", "statistic_name": "t"}
    if a.size < 2 or is_constant(a):
        return Outcome(**base, effect=float(a.mean()) if a.size else NAN, low=NAN, high=NAN, statistic=NAN, p=NAN, verdict="open",
                       words=f"Can't be tested: {'all values are the same' if a.size > 1 else f'fewer than two {of}'}.", note=note.strip())
    found = scipy.stats.ttest_1samp(a, expected)
    low, high = found.confidence_interval(CONFIDENCE)
    if a.size < SMALL:
        note += f"Few {of} ({a.size}). "
    yes = found.pvalue < ALPHA
    words = (f"{name} lies {'above' if a.mean() > expected else 'below'} {number(expected)} on average ({p_text(found.pvalue)})." if yes
             else f"No sign that the mean of {name} is another than {number(expected)} ({p_text(found.pvalue)}).")
    return Outcome(**base, effect=float(a.mean()), low=float(low), high=float(high), statistic=float(found.statistic), p=float(found.pvalue),
                   verdict="yes" if yes else "no", words=words, note=note.strip())


def paired_difference(question: str, first, second, names: tuple[str, str], of: str = "models") -> Outcome:
    """Wilcoxon's signed-rank test of paired values: is the second the smaller? The effect is the mean difference second - first, bootstrapped.

    The verdict is "yes" only where the second is smaller, though the test is two-sided.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    good = np.isfinite(a) & np.isfinite(b)
    difference = (b - a)[good]
    note = _dropped(a, difference)
    base = {"question": question, "method": "Wilcoxon signed-rank, BCa bootstrap", "n": count(difference.size, of),
            "effect_name": f"mean of {names[1]} − {names[0]}", "statistic_name": "W"}
    if difference.size < 2 or not np.any(difference):
        reason = f"fewer than two {of}" if difference.size < 2 else "no difference anywhere"
        return Outcome(**base, effect=float(difference.mean()) if difference.size else NAN, low=NAN, high=NAN, statistic=NAN, p=NAN,
                       verdict="open", words=f"Can't be tested: {reason}.", note=note.strip())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = scipy.stats.wilcoxon(difference)
    low, high = bootstrap_interval((difference,), lambda d, axis=-1: np.mean(d, axis=axis))
    least = 2 / 2**np.count_nonzero(difference)
    if difference.size < SMALL:
        note += f"Few {of} ({difference.size}). "
    if least > ALPHA:
        verdict, words = "open", f"Can't be decided: with {difference.size} {of} the smallest possible p is {number(least)}."
    elif found.pvalue < ALPHA:
        verdict = "yes" if difference.mean() < 0 else "no"
        words = f"The {names[1]} is {'greater' if difference.mean() > 0 else 'smaller'} than the {names[0]} ({p_text(found.pvalue)})."
    else:
        verdict, words = "no", f"No sign that the {names[1]} differs from the {names[0]} ({p_text(found.pvalue)})."
    return Outcome(**base, effect=float(difference.mean()), low=low, high=high, statistic=float(found.statistic), p=float(found.pvalue),
                   verdict=verdict, words=words, note=note.strip())


def holm(p_values) -> np.ndarray:
    """Holm's correction for several tests at once; NaN stay NaN and do not count."""
    p = np.asarray(p_values, dtype=float)
    adjusted = np.full(p.shape, NAN)
    there = np.isfinite(p)
    if there.any():
        from statsmodels.stats.multitest import multipletests  # see the top

        adjusted[there] = multipletests(p[there], method="holm")[1]
    return adjusted
