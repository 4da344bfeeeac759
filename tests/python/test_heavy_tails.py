"""Heavy tails from singular values; that they are WeightWatcher's is in tests/app/test_heavy_tails.py."""

import numpy as np
import pytest
from fake_results import FakeModel, write_folder

import spectrace
from spectrace import heavy_tails


def pareto_quantiles(alpha, xmin, count):
    """A sample that lies exactly where the power law's quantiles are."""
    return xmin * (1 - (np.arange(count) + 0.5) / count) ** (-1 / (alpha - 1))


@pytest.mark.parametrize("alpha", [1.5, 2.5, 4.0])
def test_power_law_of_quantiles_is_found(alpha):
    count = 2000
    fit = heavy_tails.fit_power_law(pareto_quantiles(alpha, 0.3, count))
    # The estimate's standard error bounds what the choice of quantiles may shift.
    assert abs(fit.alpha - alpha) < fit.sigma
    assert fit.D < 2 / np.sqrt(count)
    assert fit.sigma == pytest.approx((fit.alpha - 1) / np.sqrt(np.count_nonzero(pareto_quantiles(alpha, 0.3, count) >= fit.xmin)))


def test_power_law_begins_where_the_tail_does():
    bulk = np.linspace(0.9, 1.0, 1000)
    fit = heavy_tails.fit_power_law(np.concatenate([bulk, pareto_quantiles(2.5, 1.0, 300)]))
    assert 0.98 < fit.xmin < 1.1


def test_power_law_of_few_values_is_corrected_for_its_bias():
    values = pareto_quantiles(2.0, 1.0, 12)
    fit = heavy_tails.fit_power_law(values)
    tail = values[values >= fit.xmin]
    assert tail.size >= 8
    assert fit.alpha == pytest.approx(1 + (tail.size - 1) / np.log(tail / fit.xmin).sum(), rel=1e-12)


@pytest.mark.parametrize("values", [[], [1.0], [2.0] * 30, [1e-6] * 30, [np.nan] * 30, [0.0] * 30])
def test_power_law_is_not_made_of_nothing(values):
    assert heavy_tails.fit_power_law(np.array(values)) is None


def test_marchenko_pastur_of_a_random_matrix_has_no_spikes_and_finds_planted_ones():
    rng = np.random.default_rng(3)
    noise = rng.standard_normal((600, 200)) / np.sqrt(600)
    fit = heavy_tails.fit_marchenko_pastur(np.linalg.svd(noise, compute_uv=False) ** 2, 600, 200)
    assert fit.num_spikes == 0
    assert fit.bulk_max == pytest.approx((1 + np.sqrt(1 / 3)) ** 2, rel=0.05)
    assert fit.bulk_min == pytest.approx((1 - np.sqrt(1 / 3)) ** 2, rel=0.05)
    spiked = noise + sum(6.0 * np.outer(u / np.linalg.norm(u), v / np.linalg.norm(v))
                         for u, v in ((rng.standard_normal(600), rng.standard_normal(200)) for _ in range(3)))
    assert heavy_tails.fit_marchenko_pastur(np.linalg.svd(spiked, compute_uv=False) ** 2, 600, 200).num_spikes == 3


def test_metrics_of_the_zero_matrix_say_that_there_is_no_fit():
    row = heavy_tails.metrics(np.zeros(5), 5, 7)
    assert row["status"] == "failed" and row["num_evals"] == 5 and row["N"] == 7 and "alpha" not in row


def test_metrics_do_not_overflow_at_a_large_exponent():
    values = 1e3 * (1 + 1e-4 * np.arange(100))  # alpha is several thousand, λ^alpha beyond any float
    row = heavy_tails.metrics(values, 100, 100)
    assert row["warning"] == "under-trained" and np.isfinite(row["log_alpha_norm"])
    assert row["log_alpha_norm"] >= row["alpha_weighted"]


def test_table_has_a_row_for_every_matrix_with_its_own_shape(tmp_path):
    model = FakeModel("ant")  # 4 heads of 3 on 2 key/value heads: W_K and W_V have 6 singular values of 12
    table = spectrace.open_results(write_folder(tmp_path / "sweep", [model])).table("heavy_tails")
    assert len(table[table["matrix"] != "W_U"]) == 4 * model.num_layers
    assert table.loc[table["matrix"] == "W_U", "layer"].isna().all()
    assert table.loc[table["matrix"] == "W_V", "num_evals"].eq(6).all()
    assert table.loc[table["matrix"] == "W_Q", "num_evals"].eq(12).all()
    assert table.loc[table["matrix"] == "W_V", "Q"].eq(2.0).all()


def test_table_of_a_failed_model_is_empty(tmp_path):
    folder = write_folder(tmp_path / "sweep", [FakeModel("bat", error="config.json is missing")])
    assert spectrace.open_results(folder).table("heavy_tails").empty
