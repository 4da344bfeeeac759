"""spectrace-export: the notebooks' JSON runs through what their plotting cells do; tables as CSV and Parquet."""

import io
import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from fake_results import FakeModel, write_folder
from made_results import attributes_of, prompt_groups, write_job, write_results

import spectrace
from spectrace import export, notebooks, tables

LAYERS, PROMPTS = 4, 3
LABS = {"pythia-160m": ("EleutherAI", "DAMPEN"), "opt-125m": ("Meta", "EXPAND"), "gpt2": ("OpenAI", "EXPAND"),
        "llama3.1-8b": ("Meta", "CONTRACTS"), "mistral-7b": ("Mistral", "EXPANDS"), "mine": ("me", "UNKNOWN")}


def layer_values(seed, *shape):
    return np.random.default_rng(seed).uniform(0.5, 2.0, shape)


def model_groups(seed):
    weights = {name: (("layer", "matrix"), (k + 1) * layer_values(seed + k, LAYERS, 4)) for k, name in enumerate(
        ("spectral_norm", "frobenius_norm", "effective_rank", "condition_number", "entry_mean", "entry_std", "numerical_rank"))}
    unembedding = {name: ((), value) for name, value in {"spectral_norm": 90.0 + seed, "frobenius_norm": 300.0, "row_norm_mean": 0.9,
                                                          "row_norm_std": 0.1, "spectral_per_sqrt_vocab": 0.26}.items()}
    quantities = {name: (("layer",), layer_values(seed + 20 + k, PROMPTS, LAYERS)) for k, name in enumerate(
        ("trace_multihead", "trace_mean_attention", "row_entropy_mean_attention", "sparsity_mean_attention", "flat_entropy_mean_attention"))}
    scalars = {"l_star_trace": 2, "l_star_entropy": seed % LAYERS, "last_gain_mean": 0.5 + seed / 10}
    return {"weights": weights, "unembedding": unembedding} | prompt_groups("test", quantities, scalars)


@pytest.fixture
def sweep(tmp_path):
    folder = tmp_path / "sweep"
    for seed, (name, (lab, expected)) in enumerate(LABS.items()):
        write_results(folder / f"{name}.h5", attributes_of(LAYERS, lab=lab, expected=expected, rope_theta=10000.0 * (seed + 1)), model_groups(seed))
    write_job(folder, {name: f"models/{name}" for name in LABS})
    return folder


def exported(folder, notebook, tmp_path, *options):
    """As the command writes it and a notebook reads it."""
    path = tmp_path / f"{notebook}.json"
    assert export.main([str(folder), "--notebook", notebook, "-o", str(path), *options]) == 0
    return json.loads(path.read_text())


def group_of(folder, model, group):
    return spectrace.open_results(folder).group(model, group)


# What the plotting cells read, rewritten: a key that is missing or a length that is wrong ends them ---------------------


def test_h4_v2_extended_has_what_the_figure_reads(sweep, tmp_path):
    document = exported(sweep, "h4_v2_extended", tmp_path)
    assert document["models_tested"] == len(document["extended_results"]) == len(LABS)
    for r in document["extended_results"]:
        assert len(np.arange(len(r["traces_mh"])) / len(r["traces_mh"])) == len(r["traces_full"]) == r["n_layers"] == LAYERS
        assert r["model"].split("/")[-1] and isinstance(r["lab"], str) and isinstance(r["L_star"], int)
        assert f"{r['mean_trace_mh']:.0f}" and f"{r['L_star_ratio']:.2f}" == "0.50" and r["n_layers"] * (r["n_heads"] or 12) == 16
    assert f"{document['reference_results']['gpt2']['trace_mh']:.0f} {document['reference_results']['gpt2']['behavior']}" == "62696 EXPAND"
    first = document["extended_results"][0]
    assert (first["model"], first["behavior"], first["known_gain"]) == ("EleutherAI/pythia-160m", "DAMPEN", 0.5)
    expected = group_of(sweep, "pythia-160m", "prompts/test")["trace_multihead"].values.mean(axis=0)
    np.testing.assert_allclose(first["traces_mh"], expected, rtol=1e-15)
    assert first["mean_trace_mh"] == pytest.approx(expected.mean(), rel=1e-15)


def test_opt_anomaly_has_what_the_figure_reads(sweep, tmp_path):
    document = exported(sweep, "opt_anomaly", tmp_path)
    weights, attention = document["W_V_analysis"], document["attention_analysis"]
    for name in ["facebook/opt-125m", "gpt2", "EleutherAI/pythia-160m"]:  # by these names
        assert [s["layer"] for s in weights[name]["stats"]] == list(range(LAYERS)) == list(range(len(attention[name]["entropy_by_layer"])))
        assert set(weights[name]["stats"][0]) == {"layer", "frobenius_norm", "spectral_norm", "mean", "std", "rank", "condition_number"}
        assert all(math.isfinite(weights[name][key]) for key in ("mean_spectral", "mean_frobenius", "mean_condition"))
        assert all(math.isfinite(attention[name][key]) for key in ("mean_entropy", "mean_sparsity"))
    assert "mine" in weights
    norms = group_of(sweep, "opt-125m", "weights")["spectral_norm"].sel(matrix="W_V").values
    assert weights["facebook/opt-125m"]["mean_spectral"] == pytest.approx(norms.mean(), rel=1e-15)


def test_llama31_anomaly_has_what_cells_and_figure_read(sweep, tmp_path):
    document = exported(sweep, "llama31_anomaly", tmp_path)
    results = document["hypothesis_1_titanium_projector"]["results"]
    for r in (results["llama3.1-8b"], results["mistral-7b"]):  # by these names
        assert f"{r['vocab_size']:6,} {r['spectral_norm']:15.2f} {r['last_gain']:9.2f} {r['effective_amplification']:13.2f}"
        assert r["shape"] == [r["vocab_size"], r["hidden_dim"]]
        assert r["effective_amplification"] == pytest.approx(r["spectral_norm"] * r["last_gain"], rel=1e-15)
    rope = document["hypothesis_2_rope"]["results"]
    assert rope["llama3.1-8b"]["rope_theta"] / rope["mistral-7b"]["rope_theta"] == pytest.approx(4 / 5)
    assert set(rope["mistral-7b"]) == {"rope_theta", "rope_scaling", "max_position", "context_length"}
    assert "status" in document["hypothesis_3_grokking"]


def test_llama31_anomaly_keeps_a_model_that_failed_with_its_error(sweep, tmp_path, capsys):
    write_results(sweep / "lost.h5", {"status": "failed", "error": "no config.json"}, {})
    results = exported(sweep, "llama31_anomaly", tmp_path)["hypothesis_1_titanium_projector"]["results"]
    assert "no config.json" in results["lost"]["error"]  # the cells skip what has an 'error'
    assert "lost is left out: failed (no config.json)" in capsys.readouterr().err


def test_llama31_anomaly_gives_rope_scaling_as_the_config_has_it(tmp_path):
    scaling = {"rope_type": "llama3", "rope_factor": 8.0, "rope_low_freq_factor": 1.0, "rope_dimensions": 64}
    write_results(tmp_path / "s" / "llama3.1-8b.h5", attributes_of(LAYERS, **scaling), model_groups(0))
    rope = exported(tmp_path / "s", "llama31_anomaly", tmp_path)["hypothesis_2_rope"]["results"]
    assert rope["llama3.1-8b"]["rope_scaling"] == {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}


def test_restriction_maps_have_what_figure_tables_and_test_read(sweep, tmp_path):
    document = exported(sweep, "restriction_map_spectral", tmp_path)
    for r in document["results"]:
        assert len(r["W_V_spectral_norm"]) == len(r["W_O_spectral_norm"]) == len(r["W_V_effective_rank"]) == r["n_layers"]
        assert r["color"].startswith("#") and r["marker"] in "os^DvP" and r["lab"] and r["expected"] and r["arch"]
        for matrix in ("W_V", "W_O", "W_Q", "W_K"):
            # The notebook's std is numpy's own, over n
            assert r[f"{matrix}_std_spectral"] == pytest.approx(np.std(r[f"{matrix}_spectral_norm"], ddof=0), rel=1e-14)
            assert len(r[f"{matrix}_frobenius_norm"]) == r["n_layers"]
    pythia = document["results"][0]
    assert (pythia["color"], pythia["marker"]) == ("#E74C3C", "o")
    frame = pd.DataFrame(document["summary"])
    assert set(frame[frame["Lab"] == "EleutherAI"]["Model"]) == {"pythia-160m"}


def test_restriction_maps_csv_has_the_notebooks_columns(sweep, tmp_path):
    assert export.main([str(sweep), "--notebook", "restriction_map_spectral", "-o", str(tmp_path / "maps.csv")]) == 0
    frame = pd.read_csv(tmp_path / "maps.csv")
    assert list(frame) == ["Model", "Lab", "Expected", "Layers", "W_V Mean", "W_V Std", "W_O Mean", "W_O Std"]
    norms = group_of(sweep, "gpt2", "weights")["spectral_norm"].sel(matrix="W_O").values
    assert frame.set_index("Model").loc["gpt2", "W_O Mean"] == pytest.approx(norms.mean(), rel=1e-14)


def test_lstar_formula_has_what_correlations_and_both_figures_read(sweep, tmp_path):
    document = exported(sweep, "lstar_formula", tmp_path)
    df, results = pd.DataFrame(document["features"]), pd.DataFrame(document["model_results"])
    for feature in ["n_layers", "mean_attn_entropy", "W_V_cond_first", "entropy_gradient", "L_star_empirical", "model"]:
        assert df[feature].notna().all()
    assert list(results) == ["model", "L", "L*_empirical", "L*_v1", "L*_v2", "error_v1", "error_v2", "error_v1_%", "error_v2_%"]
    assert (results["L*_v1"] == LAYERS / 2).all()
    np.testing.assert_allclose(results["error_v2"], (results["L*_v2"] - results["L*_empirical"]).abs(), rtol=1e-15)
    assert document["performance"]["improvement_pp"] == pytest.approx(results["error_v1_%"].mean() - results["error_v2_%"].mean())
    # The formula with the saved parameters gives the saved predictions.
    alpha, beta, gamma = (document["parameters"][key] for key in ("alpha", "beta", "gamma"))
    expected = LAYERS / 2 * (1 + alpha * np.tanh(beta * df["entropy_gradient"])) * np.clip(1 - gamma * np.log(df["W_V_cond_first"] + 1) / 10, 0.5, 1.5)
    np.testing.assert_allclose(results["L*_v2"], expected, rtol=1e-14)
    entropy = group_of(sweep, "gpt2", "prompts/test")["flat_entropy_mean_attention"].values.mean(axis=0)
    assert df.set_index("model").loc["gpt2", "std_attn_entropy"] == pytest.approx(np.std(entropy, ddof=0), rel=1e-13)


def test_lstar_formula_caps_the_condition_number_as_the_notebook(tmp_path):
    groups = model_groups(0)
    groups["weights"]["condition_number"] = (("layer", "matrix"), np.full((LAYERS, 4), np.inf))
    write_results(tmp_path / "s" / "gpt2.h5", attributes_of(LAYERS), groups)
    document = exported(tmp_path / "s", "lstar_formula", tmp_path)
    assert document["features"][0]["W_V_cond_first"] == 1000 and document["features"][0]["W_V_cond_ratio"] == 1
    assert math.isnan(document["parameters"]["alpha"])  # one model, three parameters


# Names, sets, tables ------------------------------------------------------------------------------------------------


def test_names_of_models_can_be_given(sweep, tmp_path):
    document = exported(sweep, "opt_anomaly", tmp_path, "--name", "mine=facebook/opt-350m")
    assert "facebook/opt-350m" in document["W_V_analysis"] and "mine" not in document["W_V_analysis"]


def test_models_are_known_by_the_path_of_the_job_too(tmp_path):
    folder = tmp_path / "s"
    write_results(folder / "small.h5", attributes_of(LAYERS), model_groups(0))
    write_job(folder, {"small": "EleutherAI/pythia-160m@step3000"})
    assert "EleutherAI/pythia-160m" in exported(folder, "opt_anomaly", tmp_path)["W_V_analysis"]


def test_one_of_several_prompt_sets_must_be_chosen(tmp_path, capsys):
    folder = write_folder(tmp_path / "sweep", [FakeModel("ant", sets={"test": ["a", "b"], "facts": ["c", "d"]})])
    assert export.main([str(folder), "--notebook", "h4_v2_extended"]) == 3
    assert "here are test, facts. Choose one: --prompts test" in capsys.readouterr().err
    assert export.main([str(folder), "--notebook", "h4_v2_extended", "--prompts", "nope"]) == 3
    assert "no prompt set 'nope' (there are test, facts)" in capsys.readouterr().err


def test_what_was_not_computed_is_named(tmp_path, capsys):
    groups = model_groups(0)
    del groups["prompts/test"]["flat_entropy_mean_attention"], groups["prompts/test/statistics"]["flat_entropy_mean_attention"]
    write_results(tmp_path / "s" / "ant.h5", attributes_of(LAYERS), groups)
    write_results(tmp_path / "s" / "bat.h5", {"status": "failed", "error": "config.json is missing"}, {})
    assert export.main([str(tmp_path / "s"), "--notebook", "lstar_formula"]) == 3
    message = capsys.readouterr().err
    assert "nothing to export for the notebook lstar_formula" in message
    assert "ant: has no flat_entropy_mean_attention in prompt set 'test' (analysis attention)" in message
    assert "bat: failed (config.json is missing)" in message


def test_failed_prompts_are_told(sweep, tmp_path, capsys):
    groups = model_groups(9)
    groups["prompts/test"]["prompt_error"] = (("prompt",), np.array(["", "overflow", ""], dtype=object))
    write_results(sweep / "mine.h5", attributes_of(LAYERS), groups)
    exported(sweep, "h4_v2_extended", tmp_path)
    assert "mine: 1 of 3 prompts failed; means are over the others" in capsys.readouterr().err


@pytest.mark.parametrize("name", tables.names())
def test_any_table_as_csv_and_parquet(opened, tmp_path, name):
    folder, expected = opened.folder, opened.table(name)
    for suffix in ("csv", "parquet"):
        assert export.main([str(folder), "--table", name, "-o", str(tmp_path / f"t.{suffix}")]) == 0
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), expected)
    text = pd.read_csv(tmp_path / "t.csv", dtype=str) if len(expected) else pd.read_csv(tmp_path / "t.csv")
    assert list(text) == list(expected) and len(text) == len(expected)
    assert pyarrow.parquet.read_schema(tmp_path / "t.parquet").names == list(expected)


def test_csv_keeps_every_digit(sweep, tmp_path):
    assert export.main([str(sweep), "--table", "weights", "-o", str(tmp_path / "t.csv")]) == 0
    read = pd.read_csv(tmp_path / "t.csv")
    assert read["spectral_norm"].tolist() == spectrace.open_results(sweep).table("weights")["spectral_norm"].tolist()


def test_any_dataset_as_a_long_table(folder, tmp_path):
    assert export.main([str(folder), "--dataset", "prompts/test/trace", "-o", str(tmp_path / "t.parquet")]) == 0
    table = pd.read_parquet(tmp_path / "t.parquet")
    assert list(table) == ["model", "prompt", "layer", "head", "value"]
    trace = spectrace.open_results(folder)["zebra"]["prompts/test"]["trace"]
    row = table[(table["model"] == "zebra") & (table["prompt"] == 1) & (table["layer"] == 2) & (table["head"] == 3)]
    assert row["value"].tolist() == [float(trace[1, 2, 3])]


def test_dataset_that_no_model_has_is_named(folder, capsys):
    assert export.main([str(folder), "--dataset", "weights/nope"]) == 3
    assert "no model has a dataset 'weights/nope'" in capsys.readouterr().err


def test_standard_output_without_a_file(folder):
    run = subprocess.run([sys.executable, "-m", "spectrace.export", str(folder), "--table", "summary"], capture_output=True, text=True, check=True)
    assert list(pd.read_csv(io.StringIO(run.stdout))["model"])[0] == "zebra"


@pytest.mark.parametrize("arguments, problem", [
    (["--table", "weights", "--format", "json"], "cannot be written as json"),
    (["--notebook", "opt_anomaly", "-o", "x.csv"], "cannot be written as csv"),
    (["--table", "weights", "--format", "csv", "-o", "x.parquet"], "do not go together"),
    (["--dataset", "weights/spectral_norm", "--prompts", "test"], "--prompts does not go with --dataset"),
    (["--notebook", "opt_anomaly", "--name", "ant"], "--name takes MODEL=NAME"),
    (["--table", "weights", "-o", "ant.h5"], "results files are not written over"),
])
def test_wrong_usage_is_said(folder, capsys, arguments, problem):
    assert export.main([str(folder), *arguments]) == 2
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize("arguments, problem", [
    (["--table", "nope"], "no table 'nope' (there are models"),
    (["--notebook", "h4_v2_extended", "--prompts", "test", "--name", "x=y"], "no model 'x' to name otherwise"),
    (["--table", "weights", "-o", "no/such/folder/t.csv"], "No such file or directory"),
])
def test_what_is_not_there_is_said(folder, capsys, arguments, problem):
    assert export.main([str(folder), *arguments]) == 3
    assert problem in capsys.readouterr().err


def test_folder_without_results_is_said(tmp_path, capsys):
    assert export.main([str(tmp_path), "--table", "weights"]) == 3
    assert "no results" in capsys.readouterr().err
    (tmp_path / "other.h5").write_bytes(b"no HDF5")
    assert export.main([str(tmp_path), "--table", "weights"]) == 3
    assert "other.h5" in capsys.readouterr().err


def test_unknown_notebook_is_an_error_of_the_library_too(folder):
    with pytest.raises(spectrace.ResultsError, match="no notebook 'x'"):
        notebooks.make(spectrace.open_results(folder), "x")


@pytest.mark.parametrize("name", ["table.xlsx", "table.tsv", "table.feather"])
def test_a_name_of_another_form_gets_no_csv(folder, tmp_path, capsys, name):
    """A spreadsheet program would take the name's word for what is in the file."""
    assert export.main([str(folder), "--table", "models", "-o", str(tmp_path / name)]) == 2
    assert not (tmp_path / name).exists() and ".csv, .parquet" in capsys.readouterr().err
    assert export.main([str(folder), "--table", "models", "--format", "csv", "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / name).read_text().startswith("model,")
