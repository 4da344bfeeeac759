"""docs/adding-an-analysis.md does what it says: its example, put where the page puts it, is built, run, and known to docs and Python."""

import json
import os
import re
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
from models import ids_set, make_llama
from program import ROOT, run_job, spectrace

PAGE = ROOT / "docs" / "adding-an-analysis.md"
MADE = ["docs/file-format.md", "docs/quantities.md", "jobs/job.schema.json", "tools/python/spectrace/quantities.json"]


def tool(checkout, name, *arguments):
    return subprocess.run([sys.executable, checkout / "tools" / name, *arguments], capture_output=True, text=True)


ALONE = ["unshare", "--user", "--map-root-user", "--mount"]  # mounts that nobody else sees
# Under the path of this checkout the copy's objects are up to date, but for what the new source changes.
BUILD = """
for shared in .venv .cache; do mount --bind "$0/$shared" "$1/$shared"; done
mount --rbind "$1" "$0"
cd "$0"
cmake --build --preset release -j "$2" --target spectrace_program
"""


def not_of_the_copy(folder, names):
    if folder == str(ROOT):
        return {".git", ".venv", ".cache"}
    if folder == str(ROOT / "build"):
        return set(names) - {"release"}
    return {name for name in names if name == "__pycache__" or name.endswith("_tests")}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of this checkout and its build with the page's source in it, built as the page says."""
    if not (ROOT / "build" / "release" / "build.ninja").exists():
        pytest.skip("there is no release build to go on from (tools/setup)")
    if subprocess.run([*ALONE, "true"], capture_output=True).returncode != 0:
        pytest.skip("no namespace of mounts may be made here: everything would have to be compiled")
    example, = re.findall(r"```cpp\n(.*?)```", PAGE.read_text(), re.DOTALL)
    name, = re.findall(r"^const Analysis& (\w+)_analysis\(\)", example, re.MULTILINE)
    copy = tmp_path_factory.mktemp("checkout") / "spectrace"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=not_of_the_copy)
    for shared in (".venv", ".cache"):
        (copy / shared).mkdir()
    (copy / "src" / "measure" / "analyses" / f"{name}.cpp").write_text(example)
    environment = os.environ | {"PATH": f"{ROOT}/.venv/build-tools:{os.environ['PATH']}"}
    done = subprocess.run([*ALONE, "bash", "-ec", BUILD, ROOT, copy, str(len(os.sched_getaffinity(0)))], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return copy


def test_the_example_of_the_page_is_a_quantity_like_any_other(checkout, tmp_path):
    program = checkout / "build" / "release" / "spectrace"
    assert "first_token_share" in spectrace("describe", "first_token", program=program).stdout
    job = {"name": "job", "models": [{"name": "m", "path": str(make_llama(tmp_path / "m"))}], "prompt_sets": [ids_set(count=5)],
           "analyses": ["first_token", "patterns"], "keep": "all", "compute": {"dtype": "float64"}}
    with h5py.File(run_job(tmp_path, job, program=program) / "m.h5") as file:
        group = file["prompts/ids"]
        share, tokens = group["first_token_share"][:], group["num_tokens"][:][:, None, None]
        statistics = group["statistics/first_token_share"]
        assert share.shape == (5, 3, 4) and share.dtype == np.float64
        # `patterns` leaves the first row out, which gives all to the first token.
        np.testing.assert_allclose(share, (1 + (tokens - 1) * group["first_token_mass"][:]) / tokens, rtol=1e-14)
        labels = [label.decode() for label in group["statistics/statistic"][:]]
        np.testing.assert_allclose(statistics[labels.index("mean")], share.mean(0), rtol=1e-14)


@pytest.mark.parametrize("check", ["check_layers", "check_names", "check_sizes", "check_datasets"])
def test_the_example_passes_the_checks_of_sources(checkout, check):
    done = tool(checkout, check, checkout)
    assert done.returncode == 0, done.stdout


def test_docs_job_schema_and_python_are_brought_up_to_date(checkout):
    done = tool(checkout, "update_docs", "--check")
    assert done.returncode == 1 and [line.split(" is not up to date")[0] for line in done.stdout.splitlines()] == MADE, f"{done.stdout}\n{done.stderr}"
    assert tool(checkout, "update_docs").returncode == 0 and tool(checkout, "update_docs", "--check").returncode == 0
    row, = re.findall(r"^\| `first_token_share` .*$", (checkout / "docs" / "quantities.md").read_text(), re.MULTILINE)
    assert "mean over rows i of Aᵢ₀" in row and "include/spectrace/measure/analysis.hpp" in row
    known = json.loads((checkout / "tools" / "python" / "spectrace" / "quantities.json").read_text())
    assert known["groups"]["/prompts/<set>"]["first_token_share"]["has_statistics"]
