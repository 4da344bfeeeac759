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
from spectrace.tables.quantities import LONG_DIMENSIONS, PROMPT_FACTS

PACKAGE = pathlib.Path(spectrace.__file__).parent
LAYERS, HEADS = 3, 4
RNG = np.random.default_rng(1)
POSITIVITY, SPREAD = RNG.normal(size=(LAYERS, HEADS)), RNG.normal(size=LAYERS)
NORMS = RNG.normal(size=(LAYERS, 4))
SCORE, DECAY = RNG.normal(size=2), RNG.normal(size=(2, LAYERS, 5))


def declared(dims, meaning, units="1", **more):
    return {"dims": dims, "units": units, "meaning": meaning, "formula": "", "source": "", **more}


def with_more(known):
    """The declarations of a program that has two more analyses of weights, and more quantities of prompts."""
    known["groups"]["/circuits"] = {"positivity": declared(["layer", "head"], "Whether the head copies"),
                                    "circuit_values": declared(["layer", "head", "index"], "Singular values of the map"),
                                    "radius": declared(["layer", "head"], "Largest absolute eigenvalue"),
                                    "spread": declared(["layer"], "Spread over the layer's heads")}
    known["groups"]["/mlp"] = {"spectral_norm": declared(["layer", "matrix"], "Largest singular value")}
    known["own_dimensions"]["/mlp"] = {"matrix": {"units": "1", "meaning": "Matrix of the MLP"}}
    known["groups"]["/prompts/<set>"] |= {
        "score": declared(["prompt"], "How well it goes", "nat", has_statistics=True),
        "decay": declared(["prompt", "layer", "offset"], "Attention by distance", has_statistics=True)}
    known["own_dimensions"]["/prompts/<set>"]["offset"] = {"units": "tokens", "meaning": "Distance"}
    known["groups"]["/prompts/<set>/statistics"]["score_scale"] = declared([], "Scale of the score")
    known["summary"]["copying_mean"] = "Mean over layers and heads of the positivity"
    return known


@pytest.fixture(scope="module")
def newer(tmp_path_factory):
    """A copy of the package with these declarations, and results that have what they declare."""
    folder = tmp_path_factory.mktemp("newer")
    shutil.copytree(PACKAGE, folder / "python" / "spectrace", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder / "python" / "spectrace" / "quantities.json"
    path.write_text(json.dumps(with_more(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")
    groups = {"circuits": {"positivity": (("layer", "head"), POSITIVITY), "spread": (("layer",), SPREAD)},
              "mlp": {"spectral_norm": (("layer", "matrix"), NORMS)}}
    groups |= prompt_groups("test", {"score": ((), SCORE), "decay": (("layer", "offset"), DECAY)}, {"score_scale": 2.5})
    write_results(folder / "sweep" / "a.h5", attributes_of(num_layers=LAYERS), groups)
    with h5py.File(folder / "sweep" / "summary.h5", "w") as file:
        file.attrs["Conventions"] = "spectrace-2"
        file["summary/model"], file["summary/prompt_set"] = ["b", "a"], ["test", "test"]
        file["summary/copying_mean"] = [7.0, 8.0]
    return folder


def in_newer(newer, code):
    """What the code prints as JSON; `results` are the newer ones."""
    head = "import json, spectrace, sys\nresults = spectrace.open_results(sys.argv[1])\ndescribe = lambda name: spectrace.tables.describe(name).set_index('column')\n"
    run = subprocess.run([sys.executable, "-c", f"{head}print(json.dumps({code}))", newer / "sweep"], capture_output=True, text=True,
                         env=os.environ | {"PYTHONPATH": str(newer / "python")})
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_new_group_of_weights_has_a_table(newer):
    columns, rows = in_newer(newer, "[list(results.table('circuits')), results.table('circuits')[['layer', 'head', 'positivity']].values.tolist()]")
    assert columns == ["model", "lab", "layer", "head", "positivity", "radius"]  # no spectrum, and nothing of a whole layer
    assert rows == [[layer, head, POSITIVITY[layer, head]] for layer in range(LAYERS) for head in range(HEADS)]
    assert in_newer(newer, "results.table('circuits_by_layer')['spread'].tolist()") == SPREAD.tolist()
    assert in_newer(newer, "results.table('mlp')['spectral_norm'].tolist()") == NORMS.ravel().tolist()


def test_meanings_and_units_are_the_declared_ones(newer):
    assert in_newer(newer, "describe('circuits').loc['positivity', 'meaning']") == "Whether the head copies"
    assert in_newer(newer, "[describe(name).loc['matrix', 'meaning'] for name in ('mlp', 'weights')]") == ["Matrix of the MLP", "Attention matrix"]
    assert in_newer(newer, "describe('prompts').loc['score', ['unit', 'meaning']].tolist()") == ["nat", "How well it goes"]


def test_new_quantities_of_prompts_have_rows_and_columns(newer):
    assert in_newer(newer, "results.table('prompts')['score'].tolist()") == SCORE.tolist()
    dtype, rows = in_newer(newer, "[str(results.table('offset_statistics')['offset'].dtype), "
                                  "results.table('offset_statistics')[['quantity', 'layer', 'offset', 'mean']].values.tolist()]")
    assert dtype == "Int64"
    assert rows == [["decay", layer, offset, pytest.approx(DECAY[:, layer, offset].mean())] for layer in range(LAYERS) for offset in range(5)]


def test_new_scalars_and_columns_of_the_summary_are_in_the_summary(newer):
    assert in_newer(newer, "results.summary[['score_scale', 'copying_mean']].values.tolist()") == [[2.5, 8.0]]
    assert in_newer(newer, "describe('summary').loc['copying_mean', 'meaning']") == "Mean over layers and heads of the positivity"


def test_every_dataset_that_is_not_long_is_in_a_table():
    columns = {column.name for table in tables.TABLES.values() for column in table.columns}
    for group in declarations.weight_groups():
        of_group = {column.name for name, table in tables.TABLES.items() if name.startswith(group) for column in table.columns}
        for dataset in declarations.datasets(group):
            assert (dataset.name in of_group) != bool(LONG_DIMENSIONS.intersection(dataset.dims)), f"{group}/{dataset.name}"
    for dataset in declarations.datasets(declarations.PROMPTS):
        assert dataset.dims != ("prompt",) or dataset.name in (*columns, *PROMPT_FACTS), dataset.name
    assert {dataset.name for dataset in declarations.datasets(declarations.STATISTICS)} | set(declarations.summary()) <= columns


def test_package_without_its_data_says_so(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "spectrace", ignore=shutil.ignore_patterns("__pycache__", "quantities.json"))
    run = subprocess.run([sys.executable, "-c", "import spectrace"], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert run.returncode != 0
    last = run.stderr.splitlines()[-1]
    assert "DeclarationsError" in last and "quantities.json: cannot be read" in last and "install that again" in last
