"""Threads that the system does not give: one clear error, whichever rank lacks them, and no results that are half there."""

import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest
from models import ids_set, make_llama
from program import PROGRAM, spectrace, write_job

HERE = Path(__file__).resolve().parent
GIB = 1 << 30


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here")
    library = tmp_path_factory.mktemp("shim") / "thread_shim.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(HERE / "thread_shim.c"), "-ldl"], check=True)
    return library


def job_of(folder, threads):
    make_llama(folder / "m")
    return write_job(folder, {"name": "job", "models": [{"name": "m", "path": "m"}], "prompt_sets": [ids_set(count=3)], "compute": {"threads": threads}})


def expect_no_threads(done, threads):
    said = done.stderr
    assert done.returncode == 2, said
    assert f"cannot start {threads} compute thread" in said and os.strerror(11) in said and "compute.threads" in said, said
    assert said.count("cannot start") == 1, said  # not by every rank
    assert "bug" not in said and "terminate called" not in said, said


@pytest.mark.parametrize("most", [8, 40])
@pytest.mark.parametrize("rank", [None, 0, 1])
def test_threads_that_cannot_be_had_end_the_run_before_it_begins(tmp_path, shim, rank, most):
    """MPI takes some of the first threads, where there is one: far fewer than are asked for here."""
    path = job_of(tmp_path, 64)
    only = {} if rank is None else {"SHIM_RANK": str(rank)}
    environment = {"LD_PRELOAD": str(shim), "SHIM_THREADS": str(most), **only}
    done = spectrace("run", path, ranks=None if rank is None else 2, environment=environment)
    expect_no_threads(done, 64)
    assert not (tmp_path / "job").exists()
    assert spectrace("run", path).returncode == 0


def test_no_thread_at_all(tmp_path, shim):
    """Not even the one that computes."""
    done = spectrace("run", job_of(tmp_path, 1), environment={"LD_PRELOAD": str(shim), "SHIM_THREADS": "0"})
    assert "warning: cannot start a thread" in done.stderr, done.stderr
    assert done.stderr.count("cannot start a thread") == 1
    assert done.returncode == 2 and "cannot start 1 compute thread on" in done.stderr and os.strerror(11) in done.stderr, done.stderr


def test_address_space_for_fewer_threads_than_asked_for(tmp_path):
    """As under ulimit -v: each thread's stack counts."""

    def limit():
        resource.setrlimit(resource.RLIMIT_STACK, (32 << 20, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_AS, (12 * GIB, 12 * GIB))

    path = job_of(tmp_path, 1000)
    expect_no_threads(spectrace("run", path, preexec_fn=limit), 1000)


def test_plan_says_the_same(tmp_path, shim):
    done = spectrace("plan", job_of(tmp_path, 64), environment={"LD_PRELOAD": str(shim), "SHIM_THREADS": "8"})
    expect_no_threads(done, 64)
