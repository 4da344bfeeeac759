"""Runs the program as a user would."""

import functools
import json
import os
import signal
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ.get("SPECTRACE_PROGRAM", ROOT / "build" / "release" / "spectrace"))
DEMO_MODELS = sorted(p.parent for p in (ROOT / "jobs" / "demo" / "models").glob("*/config.json"))

ENVIRONMENT = dict(
    os.environ,
    OMPI_MCA_rmaps_base_oversubscribe="1",
    OMPI_MCA_mpi_yield_when_idle="1",
    OMPI_MCA_hwloc_base_binding_policy="none",
)
if os.geteuid() == 0:
    ENVIRONMENT.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")


def spectrace(*arguments, ranks=None, environment=None, program=PROGRAM, **options):
    """A finished process: stdout and stderr as text. `ranks`: under mpirun."""
    command = [str(program), *map(str, arguments)]
    environment = {**ENVIRONMENT, **(environment or {})}
    if ranks is not None:
        command = ["mpirun", "-n", str(ranks), *command]
        if "ASAN_OPTIONS" in environment:
            # Open MPI leaves memory of plug-ins that it has unloaded: no suppression can name them. Leaks are looked
            # for where one process runs.
            environment["ASAN_OPTIONS"] += ":detect_leaks=0"
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, **options)


def write_job(folder, job, name="job.json"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(json.dumps(job))
    return path


def run_job(folder, job, *options, ranks=None, expect=0, program=PROGRAM):
    """Writes the job, runs it, returns the results folder."""
    path = write_job(folder, job)
    done = spectrace("run", path, *options, ranks=ranks, program=program)
    assert done.returncode == expect, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return folder / job.get("output", job["name"])


def run_analysis(folder, model, analysis, **job):
    """The results file of one model (a folder) under this analysis alone; job: what else it says, prompt_sets for instance."""
    job = {"name": analysis, "models": [{"name": "model", "path": str(model)}], "prompt_sets": [], "analyses": [analysis], **job}
    return run_job(folder, job) / "model.h5"


def bytes_of(results):
    """{name: bytes} of the results files of a folder."""
    return {path.name: path.read_bytes() for path in sorted(results.glob("*.h5"))}


@functools.cache
def described():
    """What the program says of its analyses, of each its quantities."""
    done = spectrace("describe", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def all_analyses():
    """Names of all analyses that the program knows, those among them that a job has to ask for."""
    return [analysis["name"] for analysis in described()["analyses"]]


def said_of(pid, what):
    """What /proc says of a process: environ, cmdline, comm; empty once it has ended."""
    try:
        return Path(f"/proc/{pid}/{what}").read_bytes()
    except OSError:
        return b""


MARK = "SPECTRACE_TEST_RUN"  # its value says which run a process is of: mpirun puts ranks in sessions of their own


def marked(mark, variable=MARK):
    """Pids of the processes that were started with the mark in this variable of their environment and have not ended."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if f"{variable}={mark}".encode() in said_of(pid, "environ").split(b"\0")]


def kill_marked(mark):
    """kill -9 of all of a run, until none is left."""
    end = time.monotonic() + 20
    while pids := marked(mark):
        assert time.monotonic() < end, pids
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.005)
