"""The shell and Python tools under tools/."""

import json
import re
import subprocess
import sys

import pytest


def check_layers(root, tree):
    return subprocess.run([sys.executable, root / "tools" / "check_layers", tree], capture_output=True, text=True)


@pytest.fixture
def tree(tmp_path):
    """A small source tree that obeys."""
    files = {"include/spectrace/core/a.hpp": "#include <string>\n",
             "src/store/b.cpp": '#include "spectrace/store/b.hpp"\n#include "spectrace/core/a.hpp"\n#include <hdf5.h>\n',
             "tests/comm/c_test.cpp": "#include <mpi.h>\n"}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_layers_pass_where_all_obey(root, tree):
    assert check_layers(root, tree).returncode == 0


@pytest.mark.parametrize("file, line, message", [
    ("src/core/bad.cpp", '#include "spectrace/numerics/x.hpp"', "src/core/bad.cpp:1: core includes spectrace/numerics/x.hpp"),
    ("src/plan/bad.cpp", '#  include "spectrace/comm/x.hpp"', "comm does not stand left of plan"),
    ("include/spectrace/sweep/bad.hpp", "#include <hdf5.h>", "only store may"),
    ("src/model/bad.cpp", "#include <mpi.h>", "only comm may"),
    ("src/numerics/bad.cpp", "#include <torch/torch.h>", "only nobody may"),
    ("tests/text/bad_test.cpp", '#include "spectrace/model/x.hpp"', "model does not stand left of text"),
    ("src/other/bad.cpp", "", "src/other/bad.cpp: in no module"),
])
def test_layers_name_what_breaks_them(root, tree, file, line, message):
    (tree / file).parent.mkdir(parents=True, exist_ok=True)
    (tree / file).write_text(line + "\n")
    run = check_layers(root, tree)
    assert run.returncode == 1 and message in run.stdout


@pytest.fixture
def declaring(tmp_path):
    """A tree whose datasets are "trace", "gain" and "last_gain", each written where it is declared."""
    files = {"tools/python/spectrace/quantities.json": json.dumps({"groups": {"/prompts/<set>": {"trace": {"dims": ["layer"]}, "gain": {}}},
                                                                   "summary": {"last_gain": "The last"}}),
             "include/spectrace/measure/names.hpp": 'inline constexpr const char* kGain = "gain";\nauto again = "gain";\n',
             "src/measure/a.cpp": '#include "trace"\nauto q = Quantity{.name = "trace", .dims = {"layer"}};  // no "gain"\n',
             "src/store/b.cpp": 'auto t = "a trace"; auto u = R"(gain)"; auto d = "layer"; auto f = Quantity{.function = "trace"};\n'}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def check_datasets(root, tree):
    return subprocess.run([sys.executable, root / "tools" / "check_datasets", tree], capture_output=True, text=True)


def test_names_of_datasets_pass_where_each_stands_in_one_source(root, declaring):
    run = check_datasets(root, declaring)
    assert (run.returncode, run.stdout) == (0, "3 files write no dataset's name that another one writes\n")


@pytest.mark.parametrize("line, problem", [
    ('set("gain", 1);', 'src/results/bad.cpp:2: "gain" is written in include/spectrace/measure/names.hpp too'),
    ('set("trace", 1);', 'src/measure/a.cpp:2: "trace" is written in src/results/bad.cpp too'),
    ('a = {.name = "trace", .function = "trace"};', 'src/results/bad.cpp:2: "trace" is written in src/measure/a.cpp too'),
])
def test_second_source_that_writes_a_datasets_name_is_named(root, declaring, line, problem):
    (declaring / "src/results").mkdir()
    (declaring / "src/results/bad.cpp").write_text(f"\n{line}\n")
    run = check_datasets(root, declaring)
    assert run.returncode == 1 and problem in run.stdout and len(run.stdout.splitlines()) == 2


def test_column_of_the_summary_is_a_datasets_name(root, declaring):
    for name in ("a.cpp", "b.cpp"):
        (declaring / "src/measure" / name).write_text('auto c = "last_gain";\n')
    assert check_datasets(root, declaring).returncode == 1


def test_sources_write_each_datasets_name_once(root):
    run = check_datasets(root, root)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("tool", ["setup", "test", "demo", "docs"])
def test_unknown_options_are_wrong_usage(root, tool):
    run = subprocess.run([root / "tools" / tool, "--no-such-option"], capture_output=True, text=True)
    assert run.returncode == 2 and "usage" in run.stderr


def test_requirements_agree_with_each_other_and_fix_every_version(root):
    versions = {}
    for path in sorted((root / "tools").glob("requirements*.txt")):
        for line in path.read_text().splitlines():
            if not line or line.startswith(("#", "-r ")):
                continue
            match = re.fullmatch(r"([A-Za-z0-9_.-]+)==([0-9][A-Za-z0-9.]*)", line)
            assert match, f"{path.name}: {line}"
            assert versions.setdefault(match[1].lower(), match[2]) == match[2], f"{path.name}: {line}"
    assert {"torch", "numpy", "xarray", "transformers"} <= set(versions)


JUNIT = """<?xml version="1.0"?>
<testsuite>
  <testcase name="good" status="run"><system-out>[       OK ] A.x (0 ms)
[       OK ] A.y (1 ms)
[  PASSED  ] 2 tests.
</system-out></testcase>
  <testcase name="half" status="fail"><failure/><system-out>[       OK ] B.x (0 ms)
[  FAILED  ] B.y (1 ms)
[  FAILED  ] 1 test, listed below:
[  FAILED  ] B.y
</system-out></testcase>
  <testcase name="crashed" status="fail"><failure/><system-out>[       OK ] C.x (0 ms)
</system-out></testcase>
  <testcase name="pytest_case"/>
  <testcase name="skipped"><skipped/></testcase>
</testsuite>
"""


def test_cases_are_counted_and_a_crash_is_a_failure(root, tmp_path):
    (tmp_path / "junit.xml").write_text(JUNIT)
    run = subprocess.run([sys.executable, root / "tools" / "lib" / "count_tests.py", tmp_path / "junit.xml"],
                         check=True, capture_output=True, text=True)
    assert run.stdout.split() == ["5", "2"]
