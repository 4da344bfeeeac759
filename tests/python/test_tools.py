"""The shell and Python tools under tools/."""

import re
import subprocess
import sys

import pytest


def check(root, tool, tree):
    return subprocess.run([sys.executable, root / "tools" / tool, tree], capture_output=True, text=True)


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
    assert check(root, "check_layers", tree).returncode == 0


@pytest.mark.parametrize("file, line, message", [
    ("src/core/bad.cpp", '#include "spectrace/numerics/x.hpp"', "src/core/bad.cpp:1: core includes spectrace/numerics/x.hpp"),
    ("src/plan/bad.cpp", '#  include "spectrace/comm/x.hpp"', "comm does not stand left of plan"),
    ("include/spectrace/work/bad.hpp", "#include <hdf5.h>", "only store may"),
    ("src/model/bad.cpp", "#include <mpi.h>", "only comm may"),
    ("src/numerics/bad.cpp", "#include <torch/torch.h>", "only nobody may"),
    ("tests/text/bad_test.cpp", '#include "spectrace/model/x.hpp"', "model does not stand left of text"),
    ("src/other/bad.cpp", "", "src/other/bad.cpp: in no module"),
])
def test_layers_name_what_breaks_them(root, tree, file, line, message):
    (tree / file).parent.mkdir(parents=True, exist_ok=True)
    (tree / file).write_text(line + "\n")
    run = check(root, "check_layers", tree)
    assert run.returncode == 1 and message in run.stdout


HIDDEN = "namespace spectrace {{\nnamespace {{\n\n{}\n\n}}  // namespace\n}}  // namespace spectrace\n"


@pytest.mark.parametrize("own", [
    "int twice(int x) { return 2 * x; }",
    "template <typename T>\nT twice(T x) {\n  return 2 * x;\n}",
    "constexpr int twice = 2;",
    "struct twice {\n  int x = 0;\n};",
    "using twice = int;",
    "int twice(int x);",
])
def test_names_of_two_sources_are_told_where_they_are_the_same(root, tree, own):
    (tree / "src/store/other.cpp").write_text(HIDDEN.format("double twice(double x) { return x + x; }"))
    assert check(root, "check_names", tree).returncode == 0
    (tree / "src/store/own.cpp").write_text(HIDDEN.format(own))
    run = check(root, "check_names", tree)
    assert run.returncode == 1 and "'twice' is in src/store/o" in run.stdout
    # Of another module it would never be compiled together; in a class, a function or a comment it is another name.
    (tree / "src/store/own.cpp").write_text(HIDDEN.format('class Own {\n  int twice() { return 2; }\n};\nint own() {\n  int twice = 2;\n  return twice;  // twice(2)\n}\nconst char* text = "int twice() {";'))
    (tree / "src/work").mkdir()
    (tree / "src/work/own.cpp").write_text(HIDDEN.format(own))
    assert check(root, "check_names", tree).returncode == 0


@pytest.mark.parametrize("header, is_seen", [("include/spectrace/core/a.hpp", True), ("include/spectrace/store/a.hpp", True), ("include/spectrace/app/a.hpp", False)])
def test_names_of_headers_that_a_source_may_include_are_not_its_own(root, tree, header, is_seen):
    (tree / header).parent.mkdir(parents=True, exist_ok=True)
    (tree / header).write_text("namespace spectrace {\nint twice(int x);\n}\n")
    (tree / "src/store/own.cpp").write_text(HIDDEN.format("double twice(double x) { return x + x; }"))
    assert check(root, "check_names", tree).returncode == is_seen


def test_sizes_are_told_where_they_are_too_large(root, tree):
    # A constructor's initializers, a lambda, braces in text: none of them ends a function.
    long = "Own::Own(int x)\n    : x_{x}, y_(x) {\n" + '  const auto f = [] { return "}"; };\n' * 57 + "}\n"
    (tree / "src/store/own.cpp").write_text("namespace spectrace {\n" + long + "}\n")
    assert check(root, "check_sizes", tree).returncode == 0
    (tree / "src/store/own.cpp").write_text("namespace spectrace {\n" + long.replace("{\n", "{\n\n") + "}\n")
    run = check(root, "check_sizes", tree)
    assert run.returncode == 1 and "src/store/own.cpp:2: Own::Own has 61 lines" in run.stdout
    (tree / "src/store/own.cpp").write_text("int x;\n" * 401)
    run = check(root, "check_sizes", tree)
    assert run.returncode == 1 and "src/store/own.cpp: has 401 lines" in run.stdout


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
