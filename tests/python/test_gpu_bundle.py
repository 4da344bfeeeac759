"""tools/dev/gpu_bundle: what it packs runs from its own folder, sees what is wrong, and refuses another torch."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import h5py
import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ.get("SPECTRACE_PROGRAM", ROOT / "build" / "release" / "spectrace"))
pytestmark = [
    pytest.mark.skipif(not PROGRAM.exists(), reason="no program in build/release"),
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="this Python has no torch"),
]
LIMIT = 60 << 20


def pack(out, **more):
    return subprocess.run([sys.executable, ROOT / "tools/dev/gpu_bundle", "--program", PROGRAM, "--out", out], capture_output=True, text=True, **more)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "bundle.tar.gz"
    run = pack(path)
    assert run.returncode == 0, run.stderr
    assert "no other version" in run.stdout
    return path


@pytest.fixture(scope="module")
def unpacked(archive, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(archive) as tar:
        tar.extractall(folder)
    yield folder / "spectrace-gpu"
    shutil.rmtree(folder)


def run_script(unpacked, name, out, *options, **environment):
    """From another folder, with an environment that names no checkout."""
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1", **environment}
    run = subprocess.run([sys.executable, unpacked / name, "--device", "cpu", "--out", out, *options], capture_output=True, text=True, timeout=500,
                         env=environment, cwd=out.parent)  # fmt: skip
    return run, json.loads(out.read_text()) if out.exists() else None


def ask(unpacked, code, **environment):
    """What a line of Python prints that has imported what the scripts share."""
    code = f"import sys; sys.path.insert(0, {str(unpacked)!r}); sys.dont_write_bytecode = True\nimport bundle\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **environment}).stdout


def test_bundle_is_small_and_holds_what_the_scripts_need_and_no_torch(archive):
    assert archive.stat().st_size < LIMIT
    with tarfile.open(archive) as tar:
        names = {name.removeprefix("spectrace-gpu/") for name in tar.getnames()}
    assert {"README", "bundle.json", "bin/spectrace", "correctness", "bits", "speed", "bundle.py", "tools/make_checkpoint"} <= names
    for family in (path.parent.name for path in (ROOT / "tests/data/model").glob("*/config.json")):
        assert {f"models/{family}/{file}" for file in ("config.json", "model.safetensors", "prompts.json")} <= names
    libraries = {Path(name).name for name in names if ".so" in name}
    assert any(name.startswith("libhdf5") for name in libraries)
    # libtorch and CUDA are the machine's, and so is the C library with its loader.
    assert not [name for name in libraries if re.match(r"(libtorch|libc10|libcu(da|blas|solver|dnn|pti|sparse)|libnccl|ld-linux|lib(c|m|pthread)\.so)", name)]


def test_program_takes_its_libraries_from_the_bundle_and_libtorch_from_the_python(unpacked):
    path = ask(unpacked, "print(bundle.environment()['LD_LIBRARY_PATH'])").strip()
    said = subprocess.run(["ldd", unpacked / "bin/spectrace"], capture_output=True, text=True, check=True, env={**os.environ, "LD_LIBRARY_PATH": path}).stdout
    torch = Path(importlib.util.find_spec("torch").origin).parent
    found = dict(re.findall(r"(\S+) => (/\S+)", said))
    for name, place in found.items():
        if Path(place).is_relative_to(unpacked / "lib"):
            continue
        if re.match(r"lib(torch_cpu|c10)\.so", name):
            assert Path(place).is_relative_to(torch), place
        else:
            assert Path(place).is_relative_to(torch.parent) or re.match(r"lib(c|m|dl|rt|pthread|util|resolv|stdc\+\+|gcc_s)\.so", name), (name, place)
    assert sum(Path(place).is_relative_to(unpacked / "lib") for place in found.values()) > 5


def test_correctness_passes_on_one_family(unpacked, tmp_path):
    run, found = run_script(unpacked, "correctness", tmp_path / "c.json", "--quick", "--families", "gemma2")
    assert run.returncode == 0, run.stdout + run.stderr
    cases = {case["case"]: case for case in found["cases"]}
    assert found["verdict"] == "passed" and len(run.stdout.splitlines()) == len(cases) + 1
    for dtype in ("float64", "float32"):
        case = cases[f"gemma2 {dtype}"]
        # The second side takes other kernels: their bits differ, or nothing was compared.
        assert case["verdict"] == "ok" and 0 < case["worst_in_tolerances"] < 1 and case["datasets"] > 50
    assert "not finite" in cases["nan_in_w_q float32"]["cpu"]["error"]


def test_correctness_without_h5py_compares_by_the_program(unpacked, tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "none/h5py.py").write_text("raise ImportError('not here')\n")
    run, found = run_script(unpacked, "correctness", tmp_path / "c.json", "--quick", "--families", "bloom", PYTHONPATH=str(tmp_path / "none"))
    assert run.returncode == 0, run.stdout + run.stderr
    assert {case["by"] for case in found["cases"] if "by" in case} == {"spectrace diff"}


def test_comparison_finds_heads_in_another_order_and_a_bit_of_a_spectrum(unpacked, tmp_path):
    """In copies of one result: what is a plausible number in the wrong place is no less wrong."""
    sets = [{"name": "s", "prompts": [{"id": "0", "input_ids": [31, 36, 4, 6, 19, 23]}, {"id": "1", "input_ids": [2, 0, 25]}]}]
    job = {"name": "job", "models": [{"name": "m", "path": str(unpacked / "models/llama")}], "prompt_sets": sets, "output": str(tmp_path / "r")}
    (tmp_path / "job.json").write_text(json.dumps(job))
    subprocess.run([PROGRAM, "run", tmp_path / "job.json"], check=True, capture_output=True)
    code = ("from importlib.machinery import SourceFileLoader as L\nimport importlib.util as u\n"
            f"l = L('correctness', {str(unpacked / 'correctness')!r}); m = u.module_from_spec(u.spec_from_loader('correctness', l)); l.exec_module(m)\n"
            f"print(m.compare_files({str(tmp_path / 'r/m.h5')!r}, {str(tmp_path / 'other.h5')!r}, 'float32')[0])")  # fmt: skip

    def problems(change):
        shutil.copy(tmp_path / "r/m.h5", tmp_path / "other.h5")
        with h5py.File(tmp_path / "other.h5", "r+") as file:
            change(file)
        return ask(unpacked, code).strip()

    def swap(file):
        values = file["prompts/s/row_entropy"]
        values[...] = values[...][:, :, [1, 0, 2, 3]]

    def one_bit(file):
        values = file["weights/singular_values"]
        values[0, 0, 0] = values[0, 0, 0] * (1 + 2.0**-52)

    def a_nan(file):
        file["prompts/s/gain"][0, 1] = float("nan")

    assert problems(lambda file: None) == "[]"
    assert "prompts/s/row_entropy: " in problems(swap) and "times the tolerance" in problems(swap)
    assert problems(one_bit) == "['weights/singular_values: not the same bits']"
    assert "NaN and infinity elsewhere" in problems(a_nan)


def test_bits_and_speed_run_from_the_bundle(unpacked, tmp_path):
    (tmp_path / "none/scipy").mkdir(parents=True)
    (tmp_path / "none/scipy/__init__.py").write_text("raise ImportError('not here')\n")
    run, found = run_script(unpacked, "bits", tmp_path / "b.json", "--quick")
    assert found["counts"]["ok"] >= 4, run.stdout + run.stderr
    # A busy machine may see no kill come in time where so little is to be done; nothing else may fail.
    assert [case for case in found["cases"] if case["verdict"] == "failed" and "no kill came" not in case["text"]] == []
    if importlib.util.find_spec("torch._C") is None:
        return
    run, found = run_script(unpacked, "speed", tmp_path / "s.json", "--quick", PYTHONPATH=str(tmp_path / "none"))
    assert run.returncode == 0, run.stdout + run.stderr


def test_another_torch_is_refused_by_its_version(unpacked, tmp_path):
    (tmp_path / "other/torch").mkdir(parents=True)
    (tmp_path / "other/torch/__init__.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "other/torch/version.py").write_text("__version__ = '1.2.3+cu999'\n")
    for script in ("correctness", "bits", "speed"):
        run, found = run_script(unpacked, script, tmp_path / "o.json", PYTHONPATH=str(tmp_path / "other"))
        assert run.returncode == 2 and "1.2.3+cu999" in run.stderr and "runs with that version only" in run.stderr
        assert "1.2.3+cu999" in found["stopped"]


def test_what_is_no_program_is_refused(tmp_path):
    run = subprocess.run([sys.executable, ROOT / "tools/dev/gpu_bundle", "--program", tmp_path / "none", "--out", tmp_path / "o"], capture_output=True, text=True)
    assert run.returncode == 1 and "is no program" in run.stderr and not (tmp_path / "o").exists()
    run = subprocess.run([sys.executable, ROOT / "tools/dev/gpu_bundle", "--program", "/bin/ls", "--out", tmp_path / "o"], capture_output=True, text=True)
    assert run.returncode == 1 and "not linked to libtorch_cpu.so" in run.stderr
