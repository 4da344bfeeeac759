"""tools/slurm-submit against an sbatch and an sinfo that only note what they are asked."""

import os
import shlex
import subprocess

import pytest
from models import ids_set, make_llama
from program import PROGRAM, ROOT, write_job


def submit(folder, *options, nodes="n1 32 64000\nn2 16 32000\nn3 32 64000"):
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    for name, text in (("sinfo", f"cat <<END\n{nodes}\nEND"), ("sbatch", f'printf "%s\\n" "$@" > {folder}/asked')):
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "SPECTRACE": str(PROGRAM)}
    done = subprocess.run([ROOT / "tools" / "slurm-submit", *map(str, options)], env=environment, capture_output=True, text=True)
    asked = (folder / "asked").read_text().splitlines() if (folder / "asked").exists() else None
    return done, asked


@pytest.fixture
def job(tmp_path):
    make_llama(tmp_path / "m")
    return write_job(tmp_path, {"name": "sweep", "models": [{"name": "m", "path": "m"}], "prompt_sets": [ids_set()]})


def test_sizes_come_from_the_plan_and_the_smallest_node(tmp_path, job):
    done, asked = submit(tmp_path, job, "--nodes", 2, "--cpus-per-task", 4, "--", "--account=mine")
    assert done.returncode == 0, done.stderr
    values = dict(word.split("=", 1) for word in asked if word.startswith("--"))
    assert (values["--nodes"], values["--ntasks-per-node"], values["--cpus-per-task"]) == ("2", "4", "4")  # 16 cores
    assert 4 * 150 < int(values["--mem"].removesuffix("M")) <= 32000
    assert int(values["--time"]) >= 5 and values["--account"] == "mine" and values["--job-name"] == "sweep"
    assert asked[-2:] == [str(ROOT / "slurm" / "requeue.sbatch"), str(job)]
    assert shlex.join(["sbatch", *asked]) in done.stdout


def test_dry_run_submits_nothing(tmp_path, job):
    done, asked = submit(tmp_path, job, "--dry-run", "--script", "cpu")
    assert done.returncode == 0 and asked is None and "cpu.sbatch" in done.stdout


def test_node_that_is_too_small_is_an_error(tmp_path, job):
    done, asked = submit(tmp_path, job, nodes="n1 8 100")
    assert done.returncode == 1 and asked is None and "a node has 100" in done.stderr


def test_bad_job_is_an_error(tmp_path):
    path = write_job(tmp_path, {"name": "x"})
    done, asked = submit(tmp_path, path)
    assert done.returncode == 2 and asked is None and "models" in done.stderr
