"""Set-up and installation away from Debian: what is missing is named, what is installed runs alone, the recipes name what CMake needs."""

import ast
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import pytest


def rows(root):
    lines = (root / "tools/lib/dependencies.tsv").read_text().splitlines()
    return [line.split("\t") for line in lines if line and not line.startswith("#")]


@pytest.fixture
def copy(root, tmp_path):
    """What tools/setup reads, in a folder of its own."""
    for folder in ("tools/lib", "tools/cmake", "tools/python"):
        shutil.copytree(root / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for file in ["tools/setup", *(str(path.relative_to(root)) for path in (root / "tools").glob("requirements*.txt"))]:
        shutil.copy(root / file, tmp_path / file)
    return tmp_path


def run_setup(folder, *options, **environment):
    return subprocess.run([folder / "tools/setup", *options], capture_output=True, text=True, timeout=300,
                          env={**os.environ, **environment})


def path_without(folder, *names):
    """A PATH with the system's commands but for some."""
    folder.mkdir()
    for source in ("/usr/bin", "/bin"):
        for command in pathlib.Path(source).iterdir():
            if command.name not in names and not (folder / command.name).is_symlink():
                (folder / command.name).symlink_to(command)
    return str(folder)


def test_setup_help_names_every_option(root):
    run = subprocess.run([root / "tools/setup", "--help"], capture_output=True, text=True, check=True)
    options = re.findall(r"^    (--[a-z-]+)\)", (root / "tools/setup").read_text(), re.MULTILINE)
    assert {"--no-system", "--system", "--cuda", "--oracle"} <= set(options)
    for option in options:
        assert option in run.stdout


def test_setup_without_system_packages_names_what_the_machine_lacks(copy):
    path = path_without(copy / "path", "c++", "g++", "clang++", "python3")
    run = run_setup(copy, "--no-system", PATH=path, CXX="")
    assert run.returncode == 1
    assert "no C++ compiler: load a module of g++ 12" in run.stderr and "no python3: load a module of Python 3.11" in run.stderr
    assert "docs/installing.md" in run.stderr
    assert not (copy / ".venv").exists()
    # It stays chosen: without the option nothing asks for system packages either.
    assert run_setup(copy, PATH=path, CXX="").stderr == run.stderr
    assert "CXX is no-such-compiler" in run_setup(copy, PATH=path, CXX="no-such-compiler").stderr


def test_setup_without_root_names_the_way_without_packages(copy):
    (copy / "path").mkdir()
    for name, text in {"dpkg-query": "exit 1", "sudo": "exit 1", "id": "echo 1000"}.items():
        (copy / "path" / name).write_text(f"#!/bin/sh\n{text}\n")
        (copy / "path" / name).chmod(0o755)
    run = run_setup(copy, PATH=f"{copy}/path:{os.environ['PATH']}")
    assert run.returncode == 1
    assert "sudo apt-get install" in run.stderr and "tools/setup --no-system" in run.stderr and "docs/installing.md" in run.stderr


def test_setup_without_system_packages_names_missing_libraries_before_it_fetches_anything(copy, root):
    (copy / "nothing.cmake").write_text("set(CMAKE_FIND_ROOT_PATH /nonexistent)\n" + "".join(
        f"set(CMAKE_FIND_ROOT_PATH_MODE_{kind} ONLY)\n" for kind in ("INCLUDE", "LIBRARY", "PACKAGE")))
    run = run_setup(copy, "--no-system", CMAKE_TOOLCHAIN_FILE=str(copy / "nothing.cmake"), PIP_NO_INDEX="1", PKG_CONFIG="false")
    assert run.returncode == 1
    for name, debian, fedora, conda, spack, brew in rows(root):
        if name not in ("GoogleTest", "MPI", "HDF5"):  # the first is not needed, the others are found through their compilers
            assert f"{name}: apt {debian} | dnf {fedora} | conda {conda} | spack {spack} | brew {brew}" in run.stdout
    assert "GoogleTest" not in run.stdout
    assert "CMAKE_PREFIX_PATH" in run.stdout


def test_documented_names_are_those_of_the_message(root):
    text = (root / "docs/installing.md").read_text()
    for row in rows(root):
        assert "| " + " | ".join(row) + " |" in text


def test_setup_installs_what_cmake_looks_for(root):
    packages = re.search(r"^system_packages=\((.*?)^\)", (root / "tools/setup").read_text(), re.MULTILINE | re.DOTALL)[1].split()
    for row in rows(root):
        assert set(row[1].split()) <= set(packages)


def test_dependencies_are_those_that_cmake_looks_for(root):
    text = (root / "tools/cmake/SpectraceDependencies.cmake").read_text()
    named = set(re.findall(r"^ *spectrace_(?:is_missing|header_only|c_library)\((\w+)", text, re.MULTILINE))
    named |= set(re.search(r"foreach\(name (fmt [^)]*)\)", text)[1].split())
    assert named == {row[0] for row in rows(root)}


def configure_check(root, folder, *options):
    return subprocess.run(["cmake", "-S", root / "tools/cmake/check", "-B", folder, *options], capture_output=True, text=True)


def test_old_c_library_is_named_before_anything_large_is_fetched(root, tmp_path):
    needed = configure_check(root, tmp_path / "this machine")
    assert needed.returncode == 0, needed.stderr
    old = configure_check(root, tmp_path / "old", "-DSPECTRACE_HAS_SIGABBREV_NP=OFF")
    assert old.returncode != 0 and "older than glibc 2.32" in " ".join(old.stderr.split())


@pytest.mark.parametrize("files, message", [
    ((), "no lib/libtorch_cpu.so in"),
    (("lib/libtorch_cpu.so",), "is older than 2.10"),
    (("lib/libtorch_cpu.so", "include/torch/headeronly/version.h"), "add_library command is not scriptable"),  # it goes on
])
def test_torch_that_cannot_be_built_with_is_named(root, tmp_path, files, message):
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    run = subprocess.run(["cmake", f"-DSPECTRACE_TORCH_DIR={tmp_path}", "-P", root / "tools/cmake/SpectraceLibtorch.cmake"], capture_output=True, text=True)
    assert run.returncode != 0 and message in " ".join(run.stderr.split())


def test_documented_oldest_torch_and_c_library_are_those_that_cmake_asks_for(root):
    page, recipe = (root / "docs/installing.md").read_text(), (root / "packaging/spack/package.py").read_text()
    torch = re.search(r"is older than ([\d.]+) \(", (root / "tools/cmake/SpectraceLibtorch.cmake").read_text())[1]
    assert f"torch package's folder of version {torch} or newer" in page and f'"py-torch@{torch}:"' in recipe
    glibc = re.search(r"older than glibc ([\d.]+)", (root / "tools/cmake/check/CMakeLists.txt").read_text())[1]
    assert f"glibc {glibc} or newer" in page


def spack_dependencies(path):
    """depends_on("NAME…", when="…") of a recipe, read without Spack: name -> when."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    found = {}
    for call in calls:
        if getattr(call.func, "id", "") == "depends_on":
            name = re.match(r"[a-z0-9-]+", call.args[0].value)[0]
            found[name] = next((ast.literal_eval(k.value) for k in call.keywords if k.arg == "when"), "")
    return found


def test_spack_recipe_depends_on_what_cmake_looks_for(root):
    recipe = root / "packaging/spack/package.py"
    found = spack_dependencies(recipe)
    wanted = {row[4] for row in rows(root)}
    assert wanted <= set(found)
    assert set(found) - wanted == {"cmake", "ninja", "c", "cxx", "python", "py-torch", "cuda", "nccl"}
    assert found["googletest"] == "+tests" and found["cuda"] == found["nccl"] == "+cuda"
    options = set(re.findall(r'"(SPECTRACE_\w+)"', recipe.read_text()))
    cmake = "".join(path.read_text() for path in [root / "CMakeLists.txt", *(root / "tools/cmake").glob("*.cmake")])
    for option in options:
        assert re.search(rf"(option|set)\({option}\b|NOT {option}\)", cmake), option
    minimum = re.search(r"cmake_minimum_required\(VERSION ([0-9.]+)\)", (root / "CMakeLists.txt").read_text())[1]
    assert f'depends_on("cmake@{minimum}:"' in recipe.read_text()


def test_containers_bring_what_the_program_is_linked_to(root):
    """Both recipes install the same, and each run-time package is that of a library which the build needs."""
    container, apptainer = ((root / "packaging" / name).read_text() for name in ("Containerfile", "spectrace.def"))
    packages = re.search(r"^ARG RUN_PACKAGES=\"([^\"]*)\"", container.replace("\\\n", " "), re.MULTILINE)[1].split()
    for package in packages:
        assert re.search(rf"(?<!\S){re.escape(package)}(?!\S)", apptainer), package


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    root = pathlib.Path(__file__).resolve().parents[2]
    cache = root / "build/release/CMakeCache.txt"
    if not (root / "build/release/spectrace").exists() or "SPECTRACE_INSTALL_LIBTORCH:BOOL=ON" not in cache.read_text():
        pytest.skip("no program in build/release that is installed with its libtorch")
    prefix = tmp_path_factory.mktemp("installed")
    subprocess.run(["cmake", "--install", root / "build/release", "--prefix", prefix], check=True, capture_output=True)
    yield prefix
    shutil.rmtree(prefix)


def bare(prefix, *arguments, **more):
    """The installed program, with an environment that helps it to nothing."""
    return subprocess.run([prefix / "bin/spectrace", *map(str, arguments)], capture_output=True, text=True, timeout=300,
                          env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **more})


def test_installed_tree_holds_all_that_is_used_away_from_the_checkout(root, installed):
    for file in ("share/spectrace/job.schema.json", "share/spectrace/slurm/cpu.sbatch", "share/doc/spectrace/manual.md",
                 "share/doc/spectrace/LICENSE", "share/bash-completion/completions/spectrace", "share/zsh/site-functions/_spectrace",
                 "share/fish/vendor_completions.d/spectrace.fish"):
        assert (installed / file).stat().st_size > 0, file
    subprocess.run(["bash", "-n", installed / "share/bash-completion/completions/spectrace"], check=True)


def test_installed_program_loads_nothing_of_the_checkout(root, installed):
    run = bare(installed, "--version", LD_DEBUG="libs")
    assert run.returncode == 0
    loaded = set(re.findall(r"calling init: (\S+)", run.stderr))
    places = {os.path.realpath(path) for path in loaded}
    assert any(path.endswith("/lib/spectrace/libtorch_cpu.so") for path in places)
    # Not even looked for elsewhere: neither in the checkout nor where its .venv lies. (The installed tree may lie in
    # the checkout, where the folder for temporary files does.)
    named = {pathlib.Path(path) for path in re.findall(r"/[^\s:;=()]+", run.stderr)} | {pathlib.Path(path) for path in places}
    homes = {installed, installed.resolve()}
    foreign = sorted(str(path) for path in named if not any(path.is_relative_to(home) for home in homes)
                     and any(path.is_relative_to(place) for place in (root, root.resolve(), (root / ".venv").resolve())))
    assert foreign == []


def test_installed_program_runs_a_job(root, installed, tmp_path):
    shutil.copytree(root / "jobs/demo", tmp_path / "demo", ignore=shutil.ignore_patterns("results"))
    run = bare(installed, "run", tmp_path / "demo/demo.json", OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    assert run.returncode == 0, run.stderr
    assert len(list((tmp_path / "demo/results").glob("*.h5"))) == 5


def test_trimmed_libtorch_is_put_back_as_it_was(root, tmp_path):
    """On a made-up wheel: what is taken out comes back with its bytes and mode, what stays is not touched."""
    site, wheel = tmp_path / "site", tmp_path / "torch-1.0-py3-none-any.whl"
    files = {"torch/__init__.py": b"", "torch/lib/libtorch_cpu.so": b"cpu", "torch/lib/libc10.so": b"c10", "torch/lib/libgomp.so.1": b"omp",
             "torch/lib/libtorch_cuda.so": b"cuda" * 999, "torch/lib/libtorch_cuda_linalg.so": b"l", "torch/lib/libtorch_python.so": b"p",
             "torch/bin/protoc": b"bin", "torch-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: torch\nVersion: 1.0\n"}
    files["torch-1.0.dist-info/RECORD"] = "".join(f"{name},,\n" for name in files).encode()
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o100755 << 16
            archive.writestr(info, data)
        archive.extractall(site)
    kept = [site / "torch/lib" / name for name in ("libtorch_cpu.so", "libc10.so", "libgomp.so.1")]
    times = [path.stat().st_mtime_ns for path in kept]

    def trim(*arguments):
        subprocess.run([sys.executable, root / "tools/lib/trim_libtorch.py", *arguments], check=True, capture_output=True,
                       env={**os.environ, "PYTHONPATH": str(site)})

    trim("trim")
    assert sorted(path.name for path in (site / "torch/lib").iterdir()) == ["libc10.so", "libgomp.so.1", "libtorch_cpu.so"]
    assert not (site / "torch/bin/protoc").exists()
    trim("trim")
    trim("restore", wheel)
    trim("restore", wheel)
    for name, data in files.items():
        assert (site / name).read_bytes() == data
    assert (site / "torch/bin/protoc").stat().st_mode & 0o777 == 0o755
    assert [path.stat().st_mtime_ns for path in kept] == times
