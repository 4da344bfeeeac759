"""Every statistic is SciPy's or statsmodels' own, called here by hand."""

import math

import numpy as np
import pytest
from scipy import stats
from spectrace import inference
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.nonparametric import rank_compare_2indep
import statsmodels.api as sm

RNG = np.random.default_rng(7)
X = RNG.normal(0, 1, 14)
Y = 0.8 * X + RNG.normal(0, 0.5, 14)
FIRST, SECOND = RNG.normal(0, 1, 9), RNG.normal(1.5, 1, 11)


@pytest.mark.parametrize("alternative", ["less", "two-sided"])
def test_mann_whitney_is_scipys(alternative):
    outcome = inference.mann_whitney("?", FIRST, SECOND, ("a", "b"), alternative)
    expected = stats.mannwhitneyu(FIRST, SECOND, alternative=alternative)
    assert (outcome.statistic, outcome.p) == (expected.statistic, expected.pvalue)
    wins = np.mean([(a > b) + 0.5 * (a == b) for a in FIRST for b in SECOND])
    assert outcome.effect == pytest.approx(wins, rel=1e-14)
    low, high = rank_compare_2indep(FIRST, SECOND).conf_int(alpha=0.05)
    assert (outcome.low, outcome.high) == (pytest.approx(max(low, 0)), pytest.approx(min(high, 1)))
    assert outcome.low < outcome.effect < outcome.high and outcome.verdict == "yes"
    assert outcome.n == "a: 9 models; b: 11 models"


def test_mann_whitney_of_groups_too_small_can_never_be_significant_and_says_so():
    outcome = inference.mann_whitney("?", [1.0, 2.0], [3.0, 4.0], ("a", "b"), "less")
    assert outcome.verdict == "open" and f"{1 / math.comb(4, 2):.3g}" in outcome.words
    assert "do not overlap" in outcome.note and np.isnan(outcome.low)


@pytest.mark.parametrize("first, second, empty", [([], [1.0], "a"), ([1.0], [np.nan], "b")])
def test_mann_whitney_of_an_empty_group_names_it(first, second, empty):
    outcome = inference.mann_whitney("?", first, second, ("a", "b"), "less")
    assert outcome.verdict == "open" and f"“{empty}”" in outcome.words and np.isnan(outcome.p)


def test_pearson_is_scipys():
    outcome = inference.pearson("?", X, Y, ("x", "y"))
    expected = stats.pearsonr(X, Y)
    interval = expected.confidence_interval(0.95)
    assert (outcome.effect, outcome.p, outcome.low, outcome.high) == (expected.statistic, expected.pvalue, interval.low, interval.high)
    assert outcome.verdict == "yes" and "rises" in outcome.words


@pytest.mark.parametrize("x, y, words", [([1, 2], [1, 2], "fewer than three"), ([1, 1, 1], [1, 2, 3], "x is the same"), ([1, 2, 3], [2, 2, 2], "y is the same"),
                                         ([1, 2, np.nan], [1, 2, 3], "fewer than three"), ([0.1, 0.1 * (1 + 2e-16), 0.1], [1, 2, 3], "x is the same")])
@pytest.mark.parametrize("test", [inference.pearson, inference.regression])
def test_correlation_or_line_that_cannot_be_had_says_why(x, y, words, test):
    outcome = test("?", x, y, ("x", "y"))
    assert outcome.verdict == "open" and words in outcome.words and np.isnan(outcome.effect)


def test_values_that_are_not_finite_are_left_out_and_counted():
    outcome = inference.pearson("?", [*X, np.inf], [*Y, 1.0], ("x", "y"))
    assert outcome.effect == stats.pearsonr(X, Y).statistic and "1 value that is not finite left out" in outcome.note


def test_regression_is_least_squares():
    outcome = inference.regression("?", X, Y, ("x", "y"))
    expected = stats.linregress(X, Y)
    assert outcome.effect == pytest.approx(expected.slope, rel=1e-12) and outcome.p == pytest.approx(expected.pvalue, rel=1e-9)
    half = stats.t.ppf(0.975, len(X) - 2) * expected.stderr
    assert (outcome.low, outcome.high) == (pytest.approx(expected.slope - half, rel=1e-9), pytest.approx(expected.slope + half, rel=1e-9))
    assert outcome.statistic == pytest.approx(sm.OLS(Y, sm.add_constant(X)).fit().tvalues[1], rel=1e-12)


def test_mean_against_is_the_t_test():
    outcome = inference.mean_against("?", SECOND, 0.5, "y")
    expected = stats.ttest_1samp(SECOND, 0.5)
    assert (outcome.p, outcome.low, outcome.high) == (expected.pvalue, *expected.confidence_interval(0.95))
    assert outcome.effect == SECOND.mean()


def test_paired_difference_is_wilcoxons():
    outcome = inference.paired_difference("?", X, Y + 1, ("x", "y"))
    assert outcome.p == stats.wilcoxon(Y + 1 - X).pvalue and outcome.effect == pytest.approx((Y + 1 - X).mean(), rel=1e-14)
    assert outcome.low < outcome.effect < outcome.high


@pytest.mark.parametrize("shift, verdict", [(-3, "yes"), (3, "no"), (0, "no")])
def test_paired_difference_says_yes_only_where_the_second_is_smaller(shift, verdict):
    assert inference.paired_difference("?", X, X + shift + 0.1 * FIRST.mean() * np.cos(np.arange(14)), ("x", "y")).verdict == verdict


def test_paired_difference_of_few_cannot_be_significant():
    outcome = inference.paired_difference("?", [1, 2, 3], [2, 3, 5], ("x", "y"))
    assert outcome.verdict == "open" and "0.25" in outcome.words


def test_mean_ratio_has_scipys_bootstrap_interval():
    a, b = np.abs(SECOND) + 1, np.abs(FIRST) + 1
    outcome = inference.mean_ratio("?", a, b, ("a", "b"), "layers", factor=2.0)
    expected = stats.bootstrap((a, b), lambda x, y, axis: x.mean(axis=axis) / y.mean(axis=axis), n_resamples=inference.RESAMPLES,
                               rng=np.random.default_rng(0), method="BCa", vectorized=True).confidence_interval
    assert outcome.effect == pytest.approx(2 * a.mean() / b.mean(), rel=1e-14)
    assert (outcome.low, outcome.high) == (pytest.approx(2 * expected.low, rel=1e-12), pytest.approx(2 * expected.high, rel=1e-12))


def test_mean_ratio_of_single_values_has_no_interval_and_says_so():
    outcome = inference.mean_ratio("?", [2.0], [1.0], ("a", "b"), "layers")
    assert outcome.effect == 2 and np.isnan(outcome.low) and "No interval" in outcome.note


def test_mean_ratio_with_nothing_to_divide_by_is_open():
    assert inference.mean_ratio("?", [2.0], [], ("a", "b"), "layers").verdict == "open"


def test_holm_leaves_out_what_has_no_p():
    adjusted = inference.holm([0.01, np.nan, 0.04])
    np.testing.assert_array_equal(adjusted[[0, 2]], multipletests([0.01, 0.04], method="holm")[1])
    assert np.isnan(adjusted[1])
