"""The package knows of datasets what the program declares: what an analysis adds is in the tables without an edit in Python."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
import spectrace
from made_results import attributes_of, prompt_groups, write_results
from spectrace import declarations, tables
from spectrace.tables.quantities import LONG_DIMENSIONS

PACKAGE = pathlib.Path(spectrace.__file__).parent
LAYERS, HEADS = 3, 4
RNG = np.random.default_rng(1)
POSITIVITY, SPREAD = RNG.normal(size=(LAYERS, HEADS)), RNG.normal(size=LAYERS)
NORMS = RNG.normal(size=(LAYERS, 3))
SCORE, DECAY = RNG.normal(size=2), RNG.normal(size=(2, LAYERS, 5))


def declared(dims, meaning, units="1", **more):
    return {"dims": dims, "units": units, "meaning": meaning, "formula": "", "source": "", **more}


def with_more(known):
    """The declarations of a program that has one more analysis of weights, and more quantities of prompts."""
    known["groups"]["/biases"] = {"bias_norm": declared(["layer", "head"], "Norm of the head's bias"),
                                  "spread": declared(["layer"], "Spread over the layer's heads"),
                                  "bias_share": declared(["layer", "head"], "Share of the bias in what the head writes"),
                                  "bias_values": declared(["layer", "head", "index"], "Entries of the bias")}
    known["own_dimensions"]["/biases"] = {"head": {"units": "1", "meaning": "Head that has a bias"}}
    known["groups"]["/prompts/<set>"] |= {
        "score": declared(["prompt"], "How well it goes", "nat", analysis="more", has_statistics=True),
        "decay": declared(["prompt", "layer", "offset"], "Attention by distance", analysis="more", has_statistics=True)}
    known["own_dimensions"]["/prompts/<set>"]["offset"] = {"units": "tokens", "meaning": "Distance"}
    known["groups"]["/prompts/<set>/statistics"]["score_scale"] = declared([], "Scale of the score")
    known["summary"]["bias_mean"] = "Mean over layers and heads of the norm of biases"
    return known


@pytest.fixture(scope="module")
def newer(tmp_path_factory):
    """A copy of the package with these declarations, and results that have what they declare."""
    folder = tmp_path_factory.mktemp("newer")
    shutil.copytree(PACKAGE, folder / "python" / "spectrace", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "python" / "spectrace" / "quantities.json"
    path.write_text(json.dumps(with_more(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
    groups = {"biases": {"bias_norm": (("layer", "head"), POSITIVITY), "spread": (("layer",), SPREAD)}}
    groups |= prompt_groups("test", {"score": ((), SCORE), "decay": (("layer", "offset"), DECAY)}, {"score_scale": 2.5})
    write_results(folder / "sweep" / "a.h5", attributes_of(num_layers=LAYERS), groups)
    with h5py.File(folder / "sweep" / "summary.h5", "w") as file:
        file.attrs["Conventions"] = "spectrace-2"
        file["summary/model"], file["summary/prompt_set"] = ["b", "a"], ["test", "test"]
        file["summary/bias_mean"] = [7.0, 8.0]
    return folder


def in_newer(newer, code):
    """What the code prints as JSON; `results` are the newer ones."""
    head = "import json, spectrace, sys\nresults = spectrace.open_results(sys.argv[1])\ndescribe = lambda name: spectrace.tables.describe(name).set_index('column')\n"
    run = subprocess.run([sys.executable, "-c", f"{head}print(json.dumps({code}))", newer / "sweep"], capture_output=True, text=True,
                         env=os.environ | {"PYTHONPATH": str(newer / "python")})
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_circuits_and_mlp_have_tables_as_they_are_declared(tmp_path):
    """No line of the package names them."""
    groups = {"circuits": {"ov_eigenvalue_positivity": (("layer", "head"), POSITIVITY), "ov_singular_values": (("layer", "head", "index"), np.ones((LAYERS, HEADS, 2)))},
              "mlp": {"spectral_norm": (("layer", "matrix"), NORMS)}}
    with spectrace.open_results(write_results(tmp_path / "a.h5", attributes_of(num_layers=LAYERS), groups, matrices=["W_gate", "W_up", "W_down"])) as results:
        circuits, mlp = results.table("circuits"), results.table("mlp")
    assert list(circuits)[:4] == ["model", "lab", "layer", "head"] and not any("values" in name for name in circuits)
    assert set(circuits) >= {"ov_eigenvalue_positivity", "qk_singular_value_error"}
    assert circuits[["layer", "head", "ov_eigenvalue_positivity"]].values.tolist() == [
        [layer, head, POSITIVITY[layer, head]] for layer in range(LAYERS) for head in range(HEADS)]
    assert mlp["spectral_norm"].tolist() == NORMS.ravel().tolist() and mlp["matrix"].tolist() == ["W_gate", "W_up", "W_down"] * LAYERS
    meanings = {name: tables.describe(name).set_index("column")["meaning"] for name in ("mlp", "weights", "circuits")}
    assert [meanings[name]["matrix"] for name in ("mlp", "weights")] == [declarations.dimension(name, "matrix").meaning for name in ("mlp", "weights")]
    assert "MLP" in meanings["mlp"]["matrix"] and "Attention" in meanings["weights"]["matrix"]
    assert meanings["circuits"]["ov_spectral_radius"] == declarations.dataset("circuits", "ov_spectral_radius").meaning


def test_new_group_of_weights_has_a_table(newer):
    columns, rows = in_newer(newer, "[list(results.table('biases')), results.table('biases')[['layer', 'head', 'bias_norm']].values.tolist()]")
    assert columns == ["model", "lab", "layer", "head", "bias_norm", "bias_share"]  # no vector, and nothing of a whole layer
    assert rows == [[layer, head, POSITIVITY[layer, head]] for layer in range(LAYERS) for head in range(HEADS)]
    assert in_newer(newer, "results.table('biases_by_layer')['spread'].tolist()") == SPREAD.tolist()


def test_meanings_and_units_are_the_declared_ones(newer):
    assert in_newer(newer, "describe('biases').loc[['head', 'bias_norm'], 'meaning'].tolist()") == ["Head that has a bias", "Norm of the head's bias"]
    assert in_newer(newer, "describe('prompts').loc['score', ['unit', 'meaning']].tolist()") == ["nat", "How well it goes"]


def test_new_quantities_of_prompts_have_rows_and_columns(newer):
    assert in_newer(newer, "results.table('prompts')['score'].tolist()") == SCORE.tolist()
    dtype, rows = in_newer(newer, "[str(results.table('offset_statistics')['offset'].dtype), "
                                  "results.table('offset_statistics')[['quantity', 'layer', 'offset', 'mean']].values.tolist()]")
    assert dtype == "Int64"
    assert rows == [["decay", layer, offset, pytest.approx(DECAY[:, layer, offset].mean())] for layer in range(LAYERS) for offset in range(5)]


def test_new_scalars_and_columns_of_the_summary_are_in_the_summary(newer):
    assert in_newer(newer, "results.summary[['score_scale', 'bias_mean']].values.tolist()") == [[2.5, 8.0]]
    assert in_newer(newer, "describe('summary').loc['bias_mean', 'meaning']") == "Mean over layers and heads of the norm of biases"


def test_every_dataset_that_is_not_long_is_in_a_table():
    columns = {column.name for table in tables.TABLES.values() for column in table.columns}
    for group in declarations.weight_groups():
        of_group = {column.name for name, table in tables.TABLES.items() if name.startswith(group) for column in table.columns}
        for dataset in declarations.datasets(group):
            assert (dataset.name in of_group) != bool(LONG_DIMENSIONS.intersection(dataset.dims)), f"{group}/{dataset.name}"
    for dataset in declarations.datasets(declarations.PROMPTS):
        assert dataset.dims != ("prompt",) or not dataset.analysis or dataset.name in columns, dataset.name
    assert {dataset.name for dataset in declarations.datasets(declarations.STATISTICS)} | set(declarations.summary()) <= columns


@pytest.mark.parametrize("group, name, said", [
    ("circuits", "ov_spectral_raduis", "no dataset 'ov_spectral_raduis' is declared of circuits (did you mean 'ov_spectral_radius'"),
    ("weights", "zzz", "no dataset 'zzz' is declared of weights (tools/update_docs brings the declarations up to date)"),
    ("circiuts", "ov_spectral_norm", "no group 'circiuts' is declared (did you mean 'circuits'"),
])
def test_unknown_names_are_answered_by_the_nearest(group, name, said):
    with pytest.raises(declarations.DeclarationsError) as problem:
        declarations.dataset(group, name)
    assert str(problem.value).startswith(said)


@pytest.mark.parametrize("name, analysis", [("trace", "sheaf"), ("l_star_entropy", "attention"), ("effective_amplification", "residual"), ("induction_score", "patterns")])
def test_declarations_say_which_analysis_to_ask_for(name, analysis):
    assert declarations.of_prompts(name).analysis == analysis
    assert {dataset.analysis for dataset in declarations.datasets("circuits")} == {"circuits"}


def test_unknown_dimensions_are_answered_by_the_nearest():
    with pytest.raises(declarations.DeclarationsError, match=r"^no dimension 'layr' is declared of weights \(did you mean 'layer'\?\)"):
        declarations.dimension("weights", "layr")


def test_package_without_its_data_says_so(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "spectrace", ignore=shutil.ignore_patterns("__pycache__", "quantities.json"))
    run = subprocess.run([sys.executable, "-c", "import spectrace"], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert run.returncode != 0
    last = run.stderr.splitlines()[-1]
    assert "DeclarationsError" in last and "quantities.json: cannot be read" in last and "install that again" in last
