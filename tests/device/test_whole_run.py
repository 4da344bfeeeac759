"""Whole runs of the program with guarded devices in place of GPUs: the same bytes for any ranks, threads, stages, stops
and kills, and the CPU's where that is promised. A host that touches a device's memory ends the run with SIGSEGV."""

import os
import random
import signal
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from models import ids_set, make_llama
from processes import Place, send
from program import ROOT, bytes_of, run_job, write_job

PROGRAM = Path(os.environ.get("SPECTRACE_GUARDED_PROGRAM", ROOT / "build/release/tests/device/spectrace_guarded"))
SEED = int(os.environ.get("SPECTRACE_SOAK_SEED", 1))

# Sums in the device's order, and what is made of them; all else has the CPU's bits (pass_test.cpp).
SUMMED_THERE = {"row_entropy", "flat_entropy", "row_entropy_mean_attention", "flat_entropy_mean_attention", "l_star_entropy", "effective_amplification"}
SUMMED_THERE |= {"last_token_norm", "mean_token_norm", "gain", "last_gain_mean", "final_norm_last_token", "final_norm_mean_token", "last_gain_after_norm", "last_gain_after_norm_mean"}
SUMMED_THERE |= {"boundary_cosine", "attention_write_norm", "attention_write_cosine", "mlp_write_norm", "mlp_write_cosine"}
SUMMED_THERE |= {"next_token_nll", "next_token_nll_mean", "perplexity", "perplexity_of_mean", "prediction_entropy", "lens_kl", "lens_entropy"}


def make_job(tmp_path, device="cuda", count=11, **compute):
    for i in (1, 2):
        make_llama(tmp_path / f"m{i}", seed=i, layers=2 + i)
    return {
        "name": "job",
        "models": [{"name": f"m{i}", "path": str(tmp_path / f"m{i}")} for i in (1, 2)],
        "prompt_sets": [ids_set("a", count=count), ids_set("b", count=3, seed=5)],
        "compute": {"tokens_per_batch": 30, "device": device} | compute,
    }


def run(folder, job, *options, ranks=None, expect=0):
    return run_job(folder, job, *options, ranks=ranks, expect=expect, program=PROGRAM)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What one rank makes of the job on a guarded device."""
    folder = tmp_path_factory.mktemp("undisturbed")
    return bytes_of(run(folder, make_job(folder)))


def same_bits(a, b):
    a, b = np.asarray(a), np.asarray(b)
    return a.tolist() == b.tolist() if b.dtype == object else a.tobytes() == b.tobytes()


def datasets(file):
    found = {}
    file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def test_what_the_host_computes_has_the_bits_of_the_cpu(tmp_path):
    there = run(tmp_path / "there", make_job(tmp_path))
    here = run(tmp_path / "here", make_job(tmp_path, device="cpu"))
    num_equal = num_near = 0
    for name in ("m1.h5", "m2.h5"):
        with h5py.File(there / name) as a, h5py.File(here / name) as b:
            assert "guarded" in a.attrs["identity"] and "guarded" not in b.attrs["identity"]
            mine, theirs = datasets(a), datasets(b)
        assert mine.keys() == theirs.keys()
        for path, values in theirs.items():
            if path.startswith("prompts/") and Path(path).name in SUMMED_THERE:
                np.testing.assert_allclose(mine[path], values, rtol=1e-11, atol=1e-12, err_msg=path)
                num_near += 1
            else:
                assert same_bits(mine[path], values), path
                num_equal += 1
    assert num_equal > 50 and num_near > 10


@pytest.mark.parametrize("ranks, options", [(2, []), (3, []), (4, ["--stages", 2]), (3, ["--stages", 3]), (2, ["--stages", 2, "--max-memory", "0.01"])])
def test_ranks_and_stages_same_bytes(tmp_path, undisturbed, ranks, options):
    assert bytes_of(run(tmp_path, make_job(tmp_path), *options, ranks=ranks)) == undisturbed


def test_threads_same_bytes(tmp_path, undisturbed):
    for threads in (1, 4):
        results = run(tmp_path / str(threads), make_job(tmp_path, threads=threads))
        for name in ("m1.h5", "m2.h5"):
            with h5py.File(results / name) as file:
                found = datasets(file)
            path = tmp_path / "undisturbed.h5"
            path.write_bytes(undisturbed[name])
            with h5py.File(path) as file:
                wanted = datasets(file)
            assert found.keys() == wanted.keys()
            for key, values in wanted.items():
                assert same_bits(found[key], values), f"{threads} threads, {key}"


def journal_bytes(folder):
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            pass  # a model is done
    return total


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR1])
def test_ended_anywhere_and_started_again(tmp_path, number):
    """Ranks and stages are drawn anew with each start, and so is where it is ended."""
    draw = random.Random(f"{SEED} {number}")
    job = make_job(tmp_path, count=150)  # long enough to be ended more than once on a fast machine
    whole = bytes_of(run(tmp_path / "whole", job))
    path = write_job(tmp_path, job)
    ended = 0
    with Place(program=PROGRAM) as place:
        for _ in range(7):
            ranks, stages = draw.choice([(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3)])
            process = place.start("run", path, "--stages", stages, ranks=ranks, output=tmp_path / "log")
            # Once it has added something to what was there.
            wanted = journal_bytes(tmp_path / "job" / "journal") + draw.randrange(1, 20000)
            end = time.monotonic() + 60
            while process.poll() is None and journal_bytes(tmp_path / "job" / "journal") < wanted and time.monotonic() < end:
                time.sleep(0.002)
            if process.poll() is not None:
                assert process.returncode == 0, (tmp_path / "log").read_text()
                break
            if number == signal.SIGKILL:
                for pid in place.processes():
                    send(pid, number)
                place.kill()
                ended += 1
            else:
                send(process.pid, number)  # mpirun passes it on
            code = process.wait(timeout=60)
            if number != signal.SIGKILL:
                assert code in (0, 75), (tmp_path / "log").read_text()
                ended += code == 75
    assert ended > 1
    log = (tmp_path / "log").read_text()
    assert "device memory" not in log, log
    done = run(tmp_path, job, ranks=draw.choice([1, 2, 3]))
    assert bytes_of(done) == whole
    assert not (done / "journal").exists()
