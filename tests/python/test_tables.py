"""Tables: every column typed and documented, every number that of the files."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import spectrace
from fake_results import (FakeModel, condition_numbers, effective_ranks, entropies, gains, per_prompt_values, spectral_norms, traces,
                          two_levels, unembedding_norm, write_folder, zoo)
from made_results import attributes_of, write_results
from spectrace import lstar_formula, tables
from spectrace.tables import references
from spectrace.tables.frame import DTYPES

NAMES = tables.names()


@pytest.fixture(scope="module")
def zoo_folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("zoo"), zoo())


@pytest.fixture(scope="module")  # what one test has opened is open for the next
def sweep(zoo_folder):
    with spectrace.open_results(zoo_folder) as results:
        yield results


def model_of(name):
    return next(model for model in zoo() if model.name == name)


def row_of(results, table, model):
    frame = results.table(table)
    return frame[frame["model"] == model].iloc[0]


@pytest.mark.parametrize("name", NAMES)
def test_table_has_its_documented_columns_and_types(sweep, name):
    frame, table = sweep.table(name), tables.find(name)
    dtypes = DTYPES | {"label": "float64"}  # the only labels here are inverse temperatures
    assert [column for column in frame if not column.startswith("meta_")] == [column.name for column in table.columns]
    for column in table.columns:
        assert str(frame[column.name].dtype).split("[")[0] == dtypes[column.kind].split("[")[0], column.name
        assert column.meaning and column.unit and table.rows_are


@pytest.mark.parametrize("name", NAMES)
def test_table_of_models_without_anything_has_columns_and_no_numbers(tmp_path, name):
    folder = write_folder(tmp_path / "sweep", [FakeModel("bad", error="cut short"), FakeModel("bare", analyses=(), sets={})])
    with spectrace.open_results(folder) as results:
        frame = results.table(name)
    assert [column for column in frame if not column.startswith("meta_")] == [column.name for column in tables.find(name).columns]


@pytest.mark.parametrize("name", NAMES)
def test_description_says_type_unit_and_meaning(name):
    described = tables.describe(name)
    assert list(described) == ["column", "type", "unit", "meaning"] and len(described) == len(tables.find(name).columns)
    assert not described["column"].duplicated().any()


def test_unknown_table_or_prompt_set_is_an_error_that_says_what_there_is(sweep):
    with pytest.raises(spectrace.ResultsError, match="no table 'nope'.*opt_anomaly"):
        sweep.table("nope")
    with pytest.raises(spectrace.ResultsError, match="no prompt set 'nope'.*test"):
        sweep.table("summary", "nope")


def test_prompt_set_takes_its_rows_only(folder):
    with spectrace.open_results(folder) as results:
        assert set(results.table("summary", "facts")["prompt_set"]) == {"facts", ""}  # the failed model has no set
        assert set(results.table("prompts", "facts")["prompt"]) == {"x", "y"}


def test_models_table_has_the_jobs_meta_as_columns(sweep):
    frame = sweep.table("models").set_index("model")
    assert frame.loc["llama3.1-8b", "meta_training_tokens"] == 1.5e13
    assert frame.loc["llama3.1-8b", "rope_scaling"] == "factor 8"
    assert frame.loc["gpt2", "tied_embeddings"] and not frame.loc["pythia-70m", "tied_embeddings"]


def test_meta_of_several_kinds_becomes_text(tmp_path):
    models = [FakeModel("one", meta={"size": 3}), FakeModel("two", meta={"size": "3B"}), FakeModel("three")]
    with spectrace.open_results(write_folder(tmp_path / "sweep", models)) as results:
        assert list(results.table("models")["meta_size"].fillna("none")) == ["3", "3B", "none"]


def test_weights_table_is_long(sweep):
    model = model_of("gpt2")
    frame = sweep.table("weights")
    rows = frame[(frame["model"] == "gpt2") & (frame["matrix"] == "W_V")]
    np.testing.assert_array_equal(rows["spectral_norm"], spectral_norms(model)[:, 2])
    np.testing.assert_array_equal(rows["condition_number"], condition_numbers(model)[:, 2])
    assert len(frame) == sum(4 * each.num_layers for each in zoo())


def test_layer_statistics_are_those_of_the_file(sweep):
    frame = sweep.table("layer_statistics")
    rows = frame[(frame["model"] == "gpt2") & (frame["quantity"] == "gain")]
    np.testing.assert_allclose(rows["std"], gains(model_of("gpt2"), 12).std(axis=0, ddof=1), rtol=1e-12)
    assert set(rows["count"]) == {12} and set(rows["nonfinite"]) == {0}


def test_opt_anomaly_table_has_the_notebooks_means(sweep):
    model = model_of("opt-125m")
    row = row_of(sweep, "opt_anomaly", "opt-125m")
    assert row["spectral_norm_mean"] == pytest.approx(spectral_norms(model)[:, 2].mean(), rel=1e-14)
    assert row["condition_number_mean"] == pytest.approx(condition_numbers(model)[:, 2].mean(), rel=1e-14)
    assert row["sparsity_mean"] == pytest.approx(per_prompt_values(model, 12)["sparsity_mean_attention"][1].mean(), rel=1e-14)
    assert row["reference"] == "gpt2"
    assert row["reference_over_model"] == pytest.approx(spectral_norms(model_of("gpt2"))[:, 2].mean() / spectral_norms(model)[:, 2].mean(), rel=1e-14)
    assert row["tied_embeddings"]


def test_infinite_condition_numbers_are_counted_and_not_averaged_away(tmp_path):
    with spectrace.open_results(write_folder(tmp_path / "sweep", [FakeModel("one", infinite_condition=True)])) as results:
        row = results.table("opt_anomaly").iloc[0]
        assert np.isinf(row["condition_number_mean"]) and row["num_infinite_conditions"] == 1
        assert np.isinf(results.table("lstar").iloc[0]["condition_first"]) and results.table("lstar").iloc[0]["condition_capped"] == 1000
        assert list(results.table("nonfinite")["quantity"]) == ["condition_number of W_V"]


def test_norms_of_every_group_of_weights_that_are_no_numbers_are_said(tmp_path):
    norms = np.ones((4, 4))
    norms[2, 1] = np.nan
    groups = {"circuits": {"ov_spectral_norm": (("layer", "head"), norms)}, "mlp": {"condition_number": (("layer", "matrix"), np.where(norms == 1, 1, np.inf))},
              "unembedding": {"frobenius_norm": ((), np.inf)}}
    with spectrace.open_results(write_results(tmp_path / "a.h5", attributes_of(), groups)) as results:
        found = results.table("nonfinite").set_index("quantity")
    assert list(found.index) == ["ov_spectral_norm (circuits)", "condition_number of W_K (mlp)", "frobenius_norm (unembedding)"]
    assert found["places"].tolist() == [1, 1, 1] and found["of_places"].tolist() == [16, 4, 1]


def test_llama_table_has_measured_gains_and_ratios(sweep):
    llama, mistral = model_of("llama3.1-8b"), model_of("mistral-7b")
    row = row_of(sweep, "llama31_anomaly", "llama3.1-8b")
    gain = {model.name: gains(model, 12)[:, -1].mean() for model in (llama, mistral)}
    assert row["last_gain_mean"] == pytest.approx(gain["llama3.1-8b"], rel=1e-14)
    assert row["amplification_ratio"] == pytest.approx(unembedding_norm(llama) * gain["llama3.1-8b"] / (unembedding_norm(mistral) * gain["mistral-7b"]), rel=1e-14)
    assert row["theta_ratio"] == 50 and row["context_length"] == 131072 and float(row["training_tokens"]) == 1.5e13


def test_restriction_map_tables_by_model_and_lab(sweep):
    row = row_of(sweep, "restriction_maps", "gpt2")
    assert row["W_O_spectral_norm_std"] == pytest.approx(spectral_norms(model_of("gpt2"))[:, 3].std(ddof=1), rel=1e-14)
    assert row["W_K_effective_rank_mean"] == pytest.approx(effective_ranks(model_of("gpt2"))[:, 1].mean(), rel=1e-14)
    labs = sweep.table("restriction_maps_labs").set_index("lab")
    means = [spectral_norms(model)[:, 2].mean() for model in zoo() if model.lab == "Meta"]
    assert labs.loc["Meta", "num_models"] == 3
    assert labs.loc["Meta", "W_V_mean"] == pytest.approx(np.mean(means), rel=1e-14)
    assert labs.loc["Meta", "W_V_std"] == pytest.approx(np.std(means, ddof=1), rel=1e-14)
    assert np.isnan(labs.loc["OpenAI", "W_V_std"])


def test_lstar_table_has_the_notebooks_features(sweep):
    model = model_of("pythia-160m")
    entropy = entropies(model, 12).mean(axis=0)
    row = row_of(sweep, "lstar", "pythia-160m")
    assert row["entropy_gradient"] == pytest.approx(entropy[-1] - entropy[0], rel=1e-12)
    assert row["entropy_std"] == pytest.approx(entropy.std(ddof=1), rel=1e-12)
    assert row["l_star_v1"] == 6 and row["G"] == 1
    assert row["condition_ratio"] == pytest.approx(condition_numbers(model)[-1, 2] / condition_numbers(model)[0, 2], rel=1e-14)
    assert row["condition_capped"] == min(1000, condition_numbers(model)[0, 2])


def test_h4_table_has_traces_and_ratios(sweep):
    model = model_of("opt-350m")
    trace = traces(model, 12)
    row = row_of(sweep, "h4_v2_extended", "opt-350m")
    assert row["mean_trace"] == pytest.approx(trace.sum(axis=2).mean(), rel=1e-13)
    assert row["over_gpt2"] == pytest.approx(row["mean_trace"] / 62696, rel=1e-14)
    assert row["mean_trace_per_token"] == pytest.approx(row["mean_trace"] / row["mean_tokens"], rel=1e-15) and row["mean_tokens"] > 0
    assert row["l_star_ratio"] == row["l_star_trace"] / 24 and row["layers_times_heads"] == 24 * 8
    layers = sweep.table("h4_v2_extended_layers")
    layers = layers[layers["model"] == "opt-350m"]
    np.testing.assert_allclose(layers["depth"], np.arange(24) / 24)
    np.testing.assert_allclose(layers["lambda_max"], (trace / 3).mean(axis=(0, 2)), rtol=1e-13)


def test_thermodynamics_have_a_row_a_beta_and_show_what_the_file_has(sweep):
    frame = sweep.table("thermodynamics")
    over_beta = {"log_partition_nonzero", "internal_energy", "heat_capacity", "thermal_entropy"}
    assert set(frame["quantity"]) == {"log_partition", "free_energy"} | over_beta | {f"graph_{quantity}" for quantity in over_beta}
    capacity = frame[(frame["model"] == "gpt2") & (frame["quantity"] == "heat_capacity")]
    np.testing.assert_allclose(capacity["mean"], two_levels(next(model for model in zoo() if model.name == "gpt2"), 0.5)["heat_capacity"].mean(axis=(0, 1)), rtol=1e-13)
    rows = frame[(frame["model"] == "gpt2") & (frame["quantity"] == "free_energy")]
    log_z = frame[(frame["model"] == "gpt2") & (frame["quantity"] == "log_partition")]
    np.testing.assert_allclose(rows["mean"].to_numpy(), -log_z["mean"].to_numpy() / rows["beta"].to_numpy(), rtol=1e-13)


def test_equal_weights_under_two_names_are_found(tmp_path):
    models = [FakeModel("one"), FakeModel("copy", weights_of="one"), FakeModel("two")]
    with spectrace.open_results(write_folder(tmp_path / "sweep", models)) as results:
        frame = results.table("duplicates")
    assert list(frame[["model", "same_as", "num_tensors"]].itertuples(index=False, name=None)) == [("one", "copy", 2)]


def test_values_that_are_not_finite_are_counted(tmp_path):
    with spectrace.open_results(write_folder(tmp_path / "sweep", [FakeModel("one", nonfinite_gain=True, failed_prompts=("b",))])) as results:
        frame = results.table("nonfinite").set_index("quantity")
    assert frame.loc["gain", "max_nonfinite"] == 2 and frame.loc["gain", "num_failed_prompts"] == 1 and frame.loc["gain", "places"] == 1
    assert "trace" not in frame.index  # only the failed prompt's


@pytest.mark.parametrize("models, reference, subjects, words", [
    (["gpt2", "opt-125m", "pythia-70m"], "gpt2", ("opt-125m",), "the first GPT-2"),
    (["pythia-70m", "opt-125m"], "pythia-70m", ("opt-125m",), "none is a GPT-2"),
    (["pythia-70m", "mistral-7b"], "pythia-70m", ("mistral-7b",), "none is a OPT model"),
    (["opt-125m"], "opt-125m", (), "the only model"),
])
def test_reference_is_chosen_by_kind_and_says_why(tmp_path, models, reference, subjects, words):
    folder = write_folder(tmp_path / "sweep", [model_of(name) for name in models])
    with spectrace.open_results(folder) as results:
        chosen = references.opt_anomaly(results)
    assert (chosen.model, chosen.subjects) == (reference, subjects) and words in chosen.reason


def test_job_decides_the_reference_by_role(tmp_path):
    models = [model_of("gpt2"), model_of("opt-125m"), model_of("pythia-70m")]
    models[2].meta = {"role": "reference"}
    models[0].meta = {"role": "subject"}
    with spectrace.open_results(write_folder(tmp_path / "sweep", models)) as results:
        chosen = references.opt_anomaly(results)
    assert (chosen.model, chosen.subjects) == ("pythia-70m", ("gpt2",)) and "the job says so" in chosen.reason


@pytest.mark.parametrize("names, paths, series", [
    (["pythia-step1000", "pythia-step2000"], ["", ""], ["pythia", "pythia"]),
    (["a", "b"], ["org/run@step1000", "org/run@step2000"], ["org/run", "org/run"]),
])
def test_checkpoints_of_one_run_are_a_series(tmp_path, names, paths, series):
    models = [FakeModel(name, step=step, path=path) for name, step, path in zip(names, (1000, 2000), paths)]
    with spectrace.open_results(write_folder(tmp_path / "sweep", models)) as results:
        assert list(results.table("models")["series"]) == series


def seed_l_star_v2(num_layers, gradient, condition, alpha, beta, gamma):
    """As the notebook writes it, a model at a time."""
    cond_factor = 1 - gamma * np.log(condition + 1) / 10
    cond_factor = max(0.5, min(1.5, cond_factor))
    return num_layers / 2 * (1 + alpha * np.tanh(beta * gradient)) * cond_factor


def test_l_star_formula_is_the_notebooks():
    rng = np.random.default_rng(1)
    layers, gradient, condition = rng.integers(2, 80, 50), rng.normal(0, 0.2, 50), 10 ** rng.uniform(0, 12, 50)
    for parameters in ((0.5, 10.0, 0.1), (2.0, 50.0, 0.5), (0.0, 1.0, 0.0)):
        ours = lstar_formula.l_star_v2(layers, gradient, condition, *parameters)
        np.testing.assert_allclose(ours, [seed_l_star_v2(*values, *parameters) for values in zip(layers, gradient, condition)], rtol=1e-14)


def test_fit_recovers_parameters_that_made_the_data():
    """The error at the end is a small part of that at the start; the minimum of a mean absolute error is found roughly at best."""
    rng = np.random.default_rng(2)
    layers, gradient, condition = rng.integers(6, 80, 40), rng.normal(0, 0.1, 40), 10 ** rng.uniform(0, 3, 40)
    target = lstar_formula.l_star_v2(layers, gradient, condition, 0.9, 12.0, 0.3)
    start = np.abs(lstar_formula.l_star_v2(layers, gradient, condition, *lstar_formula.START) - target).mean()
    fit = lstar_formula.fit_l_star_v2(layers, gradient, condition, target)
    assert fit.n == 40 and fit.mae < start / 3
    assert fit.mae == pytest.approx(np.abs(lstar_formula.l_star_v2(layers, gradient, condition, *fit.parameters) - target).mean(), rel=1e-12)
    for value, (low, high) in zip(fit.parameters, lstar_formula.BOUNDS):
        assert low <= value <= high


@pytest.mark.parametrize("count", [0, 1, 3])
def test_fit_of_too_few_models_is_refused_with_the_reason(count):
    fit = lstar_formula.fit_l_star_v2(*[np.ones(count)] * 4)
    assert np.isnan(fit.mae) and f"there are {count}" in fit.reason


def test_fit_leaves_out_what_is_not_finite():
    values = np.array([4.0, 6, 8, 10, 12])
    condition = np.array([np.inf, 10, 20, 30, 40])
    fit = lstar_formula.fit_l_star_v2(values, values / 100, condition, values / 2)
    assert fit.n == 4 and not fit.reason


def test_predictions_table_holds_fit_and_leave_one_out(sweep):
    features = sweep.table("lstar")
    arrays = [features[name].to_numpy(dtype=float) for name in ("num_layers", "entropy_gradient", "condition_capped", "l_star_entropy")]
    frame, fit = sweep.table("lstar_predictions"), sweep.table("lstar_fit")
    capped = fit[fit["is_capped"]].iloc[0]
    np.testing.assert_allclose(frame["l_star_v2"], lstar_formula.l_star_v2(*arrays[:3], capped["alpha"], capped["beta"], capped["gamma"]), rtol=1e-12)
    assert capped["mae"] == pytest.approx(frame["error_v2"].mean(), rel=1e-12)
    np.testing.assert_allclose(frame["error_v2_percent"], 100 * frame["error_v2"] / arrays[0], rtol=1e-12)
    others = lstar_formula.fit_l_star_v2(*(array[1:] for array in arrays))
    assert frame["l_star_v2_unseen"].iloc[0] == pytest.approx(float(lstar_formula.l_star_v2(*(array[0] for array in arrays[:3]), *others.parameters)), rel=1e-12)




def test_import_of_the_tables_loads_no_statsmodels():
    """It takes longer than all the rest, and few tables need it."""
    code = "import sys, spectrace.tables; sys.exit('statsmodels' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(pathlib.Path(spectrace.__file__).parents[1])}).returncode == 0
