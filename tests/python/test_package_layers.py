"""The Python package's order (docs/design.md): each part imports only what stands to its left, and no two modules each other."""

import ast
import graphlib
import os
import pathlib
import re
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[2] / "tools" / "python" / "spectrace"

# From left to right; parts of one line do not know each other. A part is a module of the package, or a package in it.
ORDER = (
    ("declarations", "results", "heavy_tails", "inference", "lstar_formula"),
    ("error_bounds", "model_names"),
    ("tables",),
    ("opening", "studies", "notebooks"),
    ("compare", "export", "overview", "published", "report.page"),
    ("", "report"),  # "": what `import spectrace` brings
)
LAYER_OF = {part: number for number, parts in enumerate(ORDER) for part in parts}
NO_MODULES = {".sif"}  # what the pages name so too: a container's image


def modules_of(package):
    """{name without the package's: path}; "" is the package itself."""
    names = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def part_of(module):
    """The part of ORDER that a module lies in; None if it lies in none."""
    while module not in LAYER_OF and module:
        module = module.rpartition(".")[0]
    return module if module in LAYER_OF else None


def imported(text, name, modules):
    """Modules of the package that a source imports, wherever it does: in functions and under TYPE_CHECKING too."""
    is_package = modules[name].name == "__init__.py"
    targets = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            targets |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # from . import x
                above = [PACKAGE.name, *filter(None, name.split("."))]
                above = above[:len(above) - node.level + is_package]
                base = ".".join([*above, *filter(None, [base])])
            targets |= {f"{base}.{alias.name}" for alias in node.names}
    return {known for known in map(lambda target: longest_known(target, modules), targets) if known is not None and known != name}


def longest_known(target, modules):
    """`spectrace.tables.frame.Column` -> "tables.frame"; None for what is not of the package."""
    package, _, rest = target.partition(".")
    if package != PACKAGE.name:
        return None
    while rest not in modules:
        rest = rest.rpartition(".")[0]
    return rest


def graph_of(package):
    modules = modules_of(package)
    return {name: imported(path.read_text(encoding="utf-8"), name, modules) for name, path in modules.items()}


def circle_in(graph):
    """The modules of a circle, in its order; empty if there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as problem:
        return problem.args[1]
    return []


def out_of_order(graph):
    """(module, imported module) where the first does not stand right of the second."""
    return [(name, other) for name, others in graph.items() for other in sorted(others)
            if part_of(name) != part_of(other) and LAYER_OF[part_of(name)] <= LAYER_OF[part_of(other)]]


def test_every_module_lies_in_a_part():
    assert [name for name in modules_of(PACKAGE) if part_of(name) in (None, "") and name not in ("",)] == []
    assert [part for part in LAYER_OF if part not in modules_of(PACKAGE)] == []


def test_no_circle_of_imports():
    assert circle_in(graph_of(PACKAGE)) == []


def test_each_part_imports_only_what_stands_to_its_left():
    assert out_of_order(graph_of(PACKAGE)) == []


def test_results_import_nothing_of_the_package():
    assert graph_of(PACKAGE)["results"] == set()


@pytest.mark.parametrize("line", [
    "from spectrace import tables", "import spectrace.tables.frame", "from spectrace.tables.frame import Column", "from . import tables",
    "from .tables import frame", "def f():\n    from spectrace import tables", "if False:\n    import spectrace.tables",
])
def test_a_circle_is_noticed_however_it_is_written(tmp_path, line):
    package = tmp_path / "spectrace"
    (package / "tables").mkdir(parents=True)
    for name, text in {"__init__.py": "", "results.py": line, "tables/__init__.py": "from spectrace.tables import frame",
                       "tables/frame.py": "from ..results import Results"}.items():
        (package / name).write_text(text)
    graph = graph_of(package)
    assert graph["tables.frame"] == {"results"} and graph["results"] <= {"tables", "tables.frame"} and graph["results"]
    assert {"results", "tables.frame"} <= set(circle_in(graph))
    assert ("results", next(iter(graph["results"]))) in out_of_order(graph)


def test_one_way_is_no_circle(tmp_path):
    package = tmp_path / "spectrace"
    (package / "tables").mkdir(parents=True)
    for name, text in {"__init__.py": "from . import tables", "results.py": "import json, numpy.tables", "tables/__init__.py": "from .frame import x",
                       "tables/frame.py": "from spectrace.results import Results\nimport spectrace.results"}.items():
        (package / name).write_text(text)
    graph = graph_of(package)
    assert graph == {"": {"tables"}, "results": set(), "tables": {"tables.frame"}, "tables.frame": {"results"}}
    assert circle_in(graph) == [] and out_of_order(graph) == []


def documented_names(root):
    """Every spectrace.x.y of the pages and of the docstrings of the package and its tables."""
    texts = [page.read_text(encoding="utf-8") for page in (root / "README.md", *sorted((root / "docs").glob("*.md")))]
    texts += [ast.get_docstring(ast.parse((PACKAGE / path).read_text(encoding="utf-8"))) for path in ("__init__.py", "tables/__init__.py")]
    names = {name for text in texts for name in re.findall(r"(?<![\w/.-])spectrace((?:\.[A-Za-z_]\w*)+)", text)}
    return sorted(names - NO_MODULES)


def after_import(code):
    """A process in which `import spectrace` alone was done before: this one has imported more."""
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    return subprocess.run([sys.executable, "-c", f"import sys, spectrace\n{code}"], env=environment, capture_output=True, text=True)


def test_documented_names_are_there_after_the_import(root):
    names = documented_names(root)
    assert {".tables.describe", ".error_bounds", ".inference", ".published.tolerance", ".open_results"} <= set(names)
    done = after_import("\n".join(f"spectrace{name}" for name in names) + "\nprint(list(spectrace.tables.describe('opt_anomaly')))")
    assert (done.returncode, done.stdout) == (0, "['column', 'type', 'unit', 'meaning']\n"), done.stderr


def test_a_name_that_is_not_there_is_noticed():
    assert "AttributeError" in after_import("spectrace.thermodynamics").stderr


def test_import_loads_nothing_that_takes_long():
    """SciPy brings its parts when they are used; what draws and what only tests need is imported by those."""
    done = after_import("print(*{'statsmodels', 'scipy.stats', 'scipy.optimize', 'plotly', 'matplotlib'} & set(sys.modules))")
    assert (done.returncode, done.stdout) == (0, "\n"), done.stderr
