"""Statistics that are added up over ranks: the bytes of one rank's, whatever is kept, killed or shared."""

import json
import os
import random
import shutil
import signal
import subprocess
import uuid
from pathlib import Path

import pytest
from models import ids_set, make_llama
from program import ENVIRONMENT, MARK, PROGRAM, bytes_of, kill_marked, marked, run_job, spectrace, write_job

HERE = Path(__file__).resolve().parent


def make_job(tmp_path, models=1, count=40, **changes):
    for i in range(models):
        make_llama(tmp_path / f"m{i}", seed=i, layers=3)
    return {
        "name": "job",
        "models": [{"name": f"m{i}", "path": str(tmp_path / f"m{i}")} for i in range(models)],
        "prompt_sets": [ids_set("a", count=count), ids_set("b", count=3, seed=5)],
        "analyses": ["attention", "sheaf", "residual", "weights"],
        "compute": {"tokens_per_batch": 30},
    } | changes


def run_info(results, model="m0"):
    return json.loads((results / f"{model}.run.json").read_text())


@pytest.mark.parametrize("keep", ["all", "most", "statistics"])
def test_ranks_and_stages_same_bytes(tmp_path, keep):
    job = make_job(tmp_path, keep=keep)
    results = run_job(tmp_path / "one", job)
    one = bytes_of(results)
    assert run_info(results)["reduction"]["backend"] == "nothing"
    for ranks, stages in [(1, 0), (2, 0), (3, 0), (4, 0), (8, 0), (2, 2), (3, 3), (4, 2), (8, 3)]:
        shared = job | {"compute": job["compute"] | ({"stages": stages} if stages else {})}
        results = run_job(tmp_path / f"ranks{ranks}-{stages}", shared, ranks=ranks)
        assert bytes_of(results) == one, f"{ranks} ranks, {stages} stages"
        reduction = run_info(results)["reduction"]
        assert reduction["backend"] == "mpi" and reduction["bytes"] > 1000 and reduction["seconds"] >= 0


def test_without_prompts_nothing_is_reduced(tmp_path):
    results = run_job(tmp_path, make_job(tmp_path, analyses=["weights"]), ranks=2)
    assert "reduction" not in run_info(results)


def test_ranks_without_room_leave_their_sums_to_the_journal(tmp_path):
    """The limit that a job sets decides what a rank keeps in memory, never a bit of the results."""
    one = bytes_of(run_job(tmp_path / "one", make_job(tmp_path)))
    results = run_job(tmp_path / "tight", make_job(tmp_path), "--max-memory", "0.15", ranks=2)
    assert bytes_of(results) == one


def test_prompts_that_fail_are_in_it_once(tmp_path):
    prompts = [*ids_set(count=30)["prompts"], {"id": "bad", "input_ids": [3, 10_000]}]
    job = make_job(tmp_path) | {"prompt_sets": [{"name": "ids", "prompts": prompts}]}
    one = bytes_of(run_job(tmp_path / "one", job, expect=1))
    assert bytes_of(run_job(tmp_path / "three", job, ranks=3, expect=1)) == one


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """The environment in which a rank gets a signal inside its `call`-th reduction."""
    if shutil.which("mpicc") is None:
        pytest.skip("no mpicc here")
    library = tmp_path_factory.mktemp("shim") / "reduction_shim.so"
    subprocess.run(["mpicc", "-shared", "-fPIC", "-o", str(library), str(HERE / "reduction_shim.c")], check=True)
    return lambda rank, call, number: {"LD_PRELOAD": str(library), "SHIM_RANK": str(rank), "SHIM_CALL": str(call), "SHIM_SIGNAL": str(int(number))}


def test_kills_inside_reductions(tmp_path, shim):
    """A rank is killed at its n-th reduction, the receiver among them: the next start has all of it from the journal, or
    from sums of its own, and comes as far as another one."""
    job = make_job(tmp_path, models=3)
    whole = bytes_of(run_job(tmp_path / "whole", job))
    path = write_job(tmp_path / "killed", job)
    results = tmp_path / "killed" / "job"
    draw, killed, wanted = random.Random(24), 0, 20 if os.environ.get("SPECTRACE_LONG_TESTS") else 6
    for attempt in range(3 * wanted):
        if killed == wanted:
            break
        ranks = draw.randrange(2, 5)
        # A model takes four: ranges, units, sums, extremes.
        done = spectrace("run", path, "--stages", 1 + attempt % 3, ranks=ranks, environment=shim(draw.randrange(ranks), draw.randrange(1, 9), signal.SIGKILL))
        if done.returncode == 0:  # fewer reductions were left than that, or all: the next one begins anew
            assert bytes_of(results) == whole
            shutil.rmtree(results)
        else:
            assert "signal 9" in done.stderr, done.stderr
            killed += 1
    assert killed == wanted
    done = spectrace("run", path, ranks=3)
    assert done.returncode == 0, done.stderr
    assert bytes_of(results) == whole


@pytest.mark.parametrize("rank", [0, 2])
def test_a_rank_that_stands_still_inside_a_reduction_ends_the_run_by_name(tmp_path, shim, rank):
    job = make_job(tmp_path, models=2)
    whole = bytes_of(run_job(tmp_path / "whole", job))
    path = write_job(tmp_path / "stopped", job)
    mark = uuid.uuid4().hex
    process = subprocess.Popen(["mpirun", "-n", "3", str(PROGRAM), "run", str(path), "--deadline", "4"],
                               env=ENVIRONMENT | shim(rank, 3, signal.SIGSTOP) | {MARK: mark},
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        said = process.communicate(timeout=60)[0]
    finally:
        kill_marked(mark)
    assert process.returncode != 0 and f"rank {rank}" in said, said
    done = spectrace("run", path, ranks=2)
    assert done.returncode == 0, done.stderr
    assert bytes_of(tmp_path / "stopped" / "job") == whole
