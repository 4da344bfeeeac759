"""What the scripts of tools/dev/gpu_bundle share: the torch that is there, the program's environment, jobs, cases.

They run in the unpacked bundle, with its own files and the torch of the Python that runs them.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRAM = HERE / "bin/spectrace"
FACTS = json.loads((HERE / "bundle.json").read_text())
LIMIT_S = 570  # of a script: what is left then is not run, and counts as failed
OTHER_KERNELS = {"ATEN_CPU_CAPABILITY": "default"}  # libtorch without vector instructions: other bits, as another device's


class Stop(Exception):
    """Nothing can be run here; says why."""


def torch_folder():
    """Of the package torch of this Python, which need not be imported for that."""
    found = importlib.util.find_spec("torch")
    if found is None or not found.origin:
        raise Stop(f"no torch in {sys.executable}: run this script with the Python that has torch {FACTS['torch']}")
    return Path(found.origin).parent


def expect_torch():
    """The version of torch that is installed. A program runs with that torch only against which it was built: Stop says so."""
    file = torch_folder() / "version.py"
    here = re.search(r"^__version__\s*=\s*['\"]([^'\"]+)", file.read_text(), re.MULTILINE)[1]
    if here.split("+")[0] != FACTS["torch"].split("+")[0]:
        raise Stop(
            f"the program of this bundle was built against torch {FACTS['torch']}, and {file} says {here}. A build against one torch "
            "runs with that version only. Build and pack it with that version (tools/requirements-torch.txt, tools/dev/gpu_bundle)"
        )
    return here


def expect_c_library():
    here = platform.libc_ver()[1]
    if tuple(map(int, here.split("."))) < tuple(map(int, FACTS["glibc"].split("."))):
        raise Stop(f"the bundle needs glibc {FACTS['glibc']}, here is {here}. Build and pack on a system as old as this one")


def environment():
    """In which the program starts: its own libraries, this Python's libtorch, Open MPI from the bundle."""
    torch = torch_folder()
    folders = [HERE / "lib", torch / "lib", *sorted((torch.parent / "nvidia").glob("*/lib"))]
    plugins = HERE / "openmpi"
    chosen = dict(os.environ, OMPI_MCA_rmaps_base_oversubscribe="1", OMPI_MCA_mpi_yield_when_idle="1", OMPI_MCA_hwloc_base_binding_policy="none")
    if FACTS["has_mpirun"]:
        chosen |= {"OPAL_PREFIX": str(plugins), "OPAL_PKGLIBDIR": str(plugins / "plugins"), "OPAL_LIBDIR": str(HERE / "lib"),
                   "OPAL_DATADIR": str(plugins / "share"), "OPAL_PKGDATADIR": str(plugins / "share/openmpi")}  # fmt: skip
    if os.geteuid() == 0:
        chosen |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    said = ""
    # The machine's libstdc++ first: what else libtorch loads there may need a newer one than the bundle's.
    for more in ([], [HERE / "lib/gcc"]):
        chosen["LD_LIBRARY_PATH"] = ":".join(map(str, folders + more))
        run = subprocess.run([PROGRAM, "--version"], env=chosen, capture_output=True, text=True)
        if run.returncode == 0:
            return chosen
        said = (run.stderr or run.stdout).strip()
    raise Stop(f"the program does not start: {said}")


class Script:
    """Runs cases one by one, says a line each, writes what was found as JSON; goes on after a failure."""

    def __init__(self, name, description, more=None):
        parser = argparse.ArgumentParser(prog=name, description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: tries the script itself, without a GPU")
        parser.add_argument("--quick", action="store_true", help="little of everything")
        parser.add_argument("--out", type=Path, default=Path(f"{name}.json"), help=f"default: {name}.json")
        if more:
            more(parser)
        self.name, self.options = name, parser.parse_args()
        self.started, self.cases, self.facts = time.monotonic(), [], {}
        self.device = self.options.device

    def left_s(self):
        return max(0.0, LIMIT_S - (time.monotonic() - self.started))

    def note(self, name, verdict, text="", **found):
        """verdict: "ok", "failed", "skipped" (the machine has not what it takes) or "noted" (a figure, without a judgement)."""
        self.cases.append({"case": name, "verdict": verdict, "text": text} | found)
        short = text if len(text) <= 200 else text[:200] + " ..."
        print(f"{verdict:8}{name}{': ' + short if short else ''}", flush=True)

    def run_case(self, name, function, *arguments):
        """function(*arguments) returns (verdict, text, what was found); what it raises is a failure, and the next one comes."""
        begin = time.monotonic()
        if self.left_s() < 1:
            return self.note(name, "failed", "not run: the script's time is over")
        try:
            verdict, text, found = function(*arguments)
        except Exception as error:  # noqa: BLE001: whatever it is, the other cases are run
            verdict, text, found = "failed", f"{type(error).__name__}: {error}", {"where": traceback.format_exc()}
        self.note(name, verdict, text, seconds=round(time.monotonic() - begin, 3), **found)

    def main(self, cases):
        """Prepares, calls cases(self), sums up; the exit code."""
        self.facts = {"script": self.name, "device": self.device, "quick": self.options.quick, "bundle": FACTS, "python": sys.version,
                      "machine": platform.platform(), "cores": os.cpu_count()}  # fmt: skip
        try:
            expect_c_library()
            self.facts["torch"] = expect_torch()
            self.environment = environment()
            self.facts["gpus"] = gpus()
            with tempfile.TemporaryDirectory(prefix="spectrace-gpu-") as folder:
                self.work = Path(folder)
                try:
                    cases(self)
                except Exception as error:
                    if isinstance(error, Stop):
                        raise
                    self.note("the script itself", "failed", f"{type(error).__name__}: {error}", where=traceback.format_exc())
        except Stop as problem:
            print(f"{self.name}: {problem}", file=sys.stderr)
            self.write({"stopped": str(problem)})
            return 2
        counts = {verdict: sum(case["verdict"] == verdict for case in self.cases) for verdict in ("ok", "failed", "skipped", "noted")}
        good = counts["failed"] == 0 and counts["ok"] > 0
        self.write({"verdict": "passed" if good else "FAILED", "counts": counts, "seconds": round(time.monotonic() - self.started, 1)})
        print(f"{self.name} on {self.device}: {'passed' if good else 'FAILED'}, " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items()) + f"; {self.options.out}")
        return 0 if good else 1

    def write(self, end):
        self.options.out.write_text(json.dumps(self.facts | end | {"cases": self.cases}, indent=1, default=str) + "\n")

    def command(self, *words, ranks=None):
        command = [PROGRAM, *words]
        if ranks is not None:
            command = [mpirun(), "-n", str(ranks), *command]
        return list(map(str, command))

    def spectrace(self, *words, ranks=None, more=None, limit_s=300, before=()):
        """A finished process, stdout and stderr as text; `before`: what runs it. A time limit ends it with -9."""
        command, limit_s = [*map(str, before), *self.command(*words, ranks=ranks)], max(1.0, min(limit_s, self.left_s()))
        # Files, not pipes: what outlives a kill must not keep this script waiting.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(command, env=self.environment | (more or {}), stdout=out, stderr=err, start_new_session=True)
            late = ""
            try:
                process.wait(limit_s)
            except subprocess.TimeoutExpired:
                kill_all(process)
                late = f"ended after {limit_s:.0f} s, which is its time\n"
            said = []
            for file in (out, err):
                file.seek(0)
                said.append(file.read().decode(errors="replace"))
        return subprocess.CompletedProcess(command, process.returncode, said[0], said[1] + late)

    def write_job(self, name, **job):
        path = self.work / f"{name}.json"
        path.write_text(json.dumps({"name": name} | job))
        return path


def kill_all(process):
    """SIGKILL to a process and what it started: mpirun's ranks lead groups of their own."""
    for victim in [process.pid, *children_of(process.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    process.wait()


def children_of(pid):
    found = []
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, tasks.read_text().split()):
            found += [child, *children_of(child)]
    return found


def gpus():
    """nvidia-smi's lines; empty without it."""
    if not shutil.which("nvidia-smi"):
        return []
    asked = "name,uuid,driver_version,memory.total,memory.used,mig.mode.current"
    run = subprocess.run(["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"], capture_output=True, text=True)
    return run.stdout.splitlines()


def mpirun():
    """The bundle's, else the machine's, else None."""
    return HERE / "openmpi/bin/mpirun" if FACTS["has_mpirun"] else shutil.which("mpirun")


def last_line(run):
    lines = [line for line in (run.stdout + run.stderr).splitlines() if line.strip()]
    return lines[-1] if lines else ""


def fact_of_version(name):
    """What `spectrace --version` says under a name, for instance "nccl"."""
    return re.search(rf"^\s*{name}\s+(.*)$", FACTS["program"], re.MULTILINE)[1]


def config_of(model):
    return json.loads((HERE / "models" / model / "config.json").read_text())


def models_and_sets(models, folder=HERE / "models"):
    """Of a job: each with the prompts that come with it."""
    sets = [{"name": model, "prompts": [{"id": str(i), "input_ids": ids} for i, ids in enumerate(json.loads((HERE / "models" / model / "prompts.json").read_text()))]}
            for model in models]  # fmt: skip
    return {"models": [{"name": model, "path": str(folder / model), "prompt_sets": [model]} for model in models], "prompt_sets": sets}


def random_set(name, count, tokens, vocab):
    """A prompt set of random token ids, each of (least, most) tokens; the same for the same name."""
    draw = random.Random(name)
    return {"name": name, "prompts": [{"id": str(i), "input_ids": [draw.randrange(vocab) for _ in range(draw.randint(*tokens))]} for i in range(count)]}


def spoil(file, tensor, element, value):
    """Writes a number ("nan", "inf", "big") over one element of a tensor of a .safetensors file."""
    bits = {"F16": {"nan": 0x7E00, "inf": 0x7C00, "big": 0x7BFF}, "BF16": {"nan": 0x7FC0, "inf": 0x7F80, "big": 0x7F7F},
            "F32": {"nan": 0x7FC00000, "inf": 0x7F800000, "big": 0x7F7FFFFF}}  # fmt: skip
    with file.open("r+b") as stream:
        size = struct.unpack("<Q", stream.read(8))[0]
        entry = json.loads(stream.read(size))[tensor]
        width = 4 if entry["dtype"] == "F32" else 2
        stream.seek(8 + size + entry["data_offsets"][0] + element * width)
        stream.write(bits[entry["dtype"]][value].to_bytes(width, "little"))


def h5py_or_none():
    with contextlib.suppress(ImportError):
        import h5py

        return h5py
    return None
