"""Same bytes for any number of ranks and threads, any kill and restart; only what is new is computed."""

import json
import os
import signal
import subprocess
import time
import uuid
from datetime import datetime

import h5py
import pytest
from models import ids_set, make_llama
from program import ENVIRONMENT, MARK, PROGRAM, all_analyses, bytes_of, described, kill_marked, run_job, spectrace, write_job


def make_job(tmp_path, name="job", **changes):
    for i in (1, 2):
        make_llama(tmp_path / f"m{i}", seed=i, layers=2 + i)
    job = {
        "name": name,
        "models": [{"name": f"m{i}", "path": str(tmp_path / f"m{i}")} for i in (1, 2)],
        "prompt_sets": [ids_set("a", count=11), ids_set("b", count=3, seed=5)],
        "analyses": all_analyses(),
        "compute": {"tokens_per_batch": 30},
    }
    return job | changes


def test_ranks_and_threads_same_bytes(tmp_path):
    job = make_job(tmp_path)
    results = run_job(tmp_path / "ranks1", job)
    one = bytes_of(results)
    assert sorted(one) == ["m1.h5", "m2.h5", "summary.h5"]
    with h5py.File(results / "m1.h5") as file:
        there = {dataset["analysis"] for dataset in described()["datasets"]
                 if "analysis" in dataset and f"{dataset['group'].replace('<set>', 'a')}/{dataset['name']}" in file}
        assert there == set(all_analyses())
    for ranks in (1, 2, 3, 4):
        assert bytes_of(run_job(tmp_path / f"mpi{ranks}", job, ranks=ranks)) == one, f"{ranks} ranks"
    for threads in (1, 3, 9, 16):  # from 8 on, spectra of several layers are taken side by side
        threaded = make_job(tmp_path, compute={"tokens_per_batch": 30, "threads": threads})
        assert bytes_of(run_job(tmp_path / f"threads{threads}", threaded)) == one, f"{threads} threads"


def test_long_prompts_same_bytes(tmp_path):
    """Some heads at a time, as many as the threads make it: 4 heads of 1100 x 1100 entries are past the size for that."""
    make_llama(tmp_path / "m", layers=2)
    prompts = {"name": "long", "prompts": [{"id": f"p{n}", "input_ids": [(i * i + 3 * i + n) % 50 for i in range(n)]} for n in (1100, 9, 1051)]}

    def run(name, ranks=None, **compute):
        job = {"name": "job", "models": [{"name": "m", "path": str(tmp_path / "m")}], "prompt_sets": [prompts], "analyses": all_analyses(),
               "keep": "all", "compute": compute}
        return bytes_of(run_job(tmp_path / name, job, ranks=ranks))

    one = run("one", threads=1)
    for threads in (2, 3):
        assert run(f"threads{threads}", threads=threads) == one, f"{threads} threads"
    assert run("ranks", ranks=2, threads=2) == one
    assert run("stages", ranks=2, threads=1, stages=2) == one


def test_stages_same_bytes(tmp_path):
    """Groups of ranks share the layers, whole groups and a smaller last one, more stages than ranks and than layers."""
    job = make_job(tmp_path)
    one = bytes_of(run_job(tmp_path / "one", job))
    for ranks, stages in [(1, 2), (2, 1), (2, 2), (3, 2), (3, 3), (4, 2), (4, "auto"), (8, 3), (8, 8)]:
        staged = run_job(tmp_path / f"{ranks}x{stages}", job, "--stages", stages, ranks=ranks)
        assert bytes_of(staged) == one, f"{ranks} ranks, {stages} stages"


def test_stages_without_room_for_their_layers_same_bytes(tmp_path):
    """Layers do not stay in memory: batches go through each stage in rounds."""
    job = make_job(tmp_path)
    one = bytes_of(run_job(tmp_path / "one", job))
    for ranks, stages in [(2, 2), (3, 3)]:
        staged = run_job(tmp_path / f"{ranks}x{stages}", job, "--stages", stages, "--max-memory", "0.01", ranks=ranks)
        assert bytes_of(staged) == one, f"{ranks} ranks, {stages} stages"


def test_a_bad_layer_in_one_stage_fails_as_on_one_rank(tmp_path):
    job = make_job(tmp_path)

    def damage(tensors):
        tensors["model.layers.2.mlp.up_proj.weight"][3, 5] = float("nan")

    make_llama(tmp_path / "m1", layers=4, change=damage)
    one = bytes_of(run_job(tmp_path / "one", job, expect=1))
    for ranks, stages in [(2, 2), (3, 3), (3, 2)]:
        staged = run_job(tmp_path / f"{ranks}x{stages}", job, "--stages", stages, ranks=ranks, expect=1)
        assert bytes_of(staged) == one, f"{ranks} ranks, {stages} stages"


@pytest.mark.parametrize("chosen", [lambda of_weights: of_weights[:1], lambda of_weights: of_weights[1:], lambda of_weights: [*of_weights, "residual"]],
                         ids=["one", "others", "with_prompts"])
def test_layers_in_flight_same_bytes(tmp_path, chosen):
    """With prompts and without, a bad layer among them, in stages, and with room for one layer only."""
    job = make_job(tmp_path, analyses=chosen([analysis["name"] for analysis in described()["analyses"] if "<set>" not in analysis["group"]]))

    def damage(tensors):
        tensors["model.layers.2.self_attn.k_proj.weight"][3, 5] = float("nan")

    make_llama(tmp_path / "m1", layers=7, change=damage)
    one = bytes_of(run_job(tmp_path / "one", job | {"compute": {"tokens_per_batch": 30, "threads": 1}}, expect=1))
    for ranks, more in [(1, {}), (2, {}), (2, {"stages": 2}), (1, {"max_memory_gib": 0.01})]:
        threaded = job | {"compute": {"tokens_per_batch": 30, "threads": 13, **more}}
        assert bytes_of(run_job(tmp_path / f"{ranks}{sorted(more)}", threaded, ranks=ranks, expect=1)) == one, (ranks, more)


def test_memory_limit_same_bytes(tmp_path):
    """A limit that leaves room for one batch at a time: several passes over the layers, the same results."""
    job = make_job(tmp_path)
    one = bytes_of(run_job(tmp_path / "free", job))
    tight = make_job(tmp_path, compute={"tokens_per_batch": 30, "max_memory_gib": 0.01})
    assert bytes_of(run_job(tmp_path / "tight", tight)) == one


def killed_and_run_again(folder, job, ranks):
    """kill -9 of the whole run at several moments, with other numbers of ranks in between, then to the end. The results folder."""
    path = write_job(folder, job)
    interrupted = 0
    for attempt in range(8):
        stages = [] if attempt % 2 else ["--stages", "2"]
        command = ["mpirun", "-n", str(1 + (ranks + attempt) % 3), str(PROGRAM), "run", str(path), *stages]
        mark = uuid.uuid4().hex
        process = subprocess.Popen(command, env=ENVIRONMENT | {MARK: mark}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        # Once more of the journal is there than before: a moment in the middle of the work.
        journal = folder / job["name"] / "journal"
        before = sum(f.stat().st_size for f in journal.rglob("*") if f.is_file()) if journal.exists() else 0
        while process.poll() is None and time.monotonic() < deadline:
            try:
                size = sum(f.stat().st_size for f in journal.rglob("*") if f.is_file()) if journal.exists() else 0
            except FileNotFoundError:
                size = before  # a file went away while we looked: the model is done
            if size > before + 200 * (attempt + 1):
                break
            time.sleep(0.002)
        if process.poll() is None:
            kill_marked(mark)
            interrupted += 1
        process.wait()
    assert interrupted > 0
    done = spectrace("run", path, ranks=ranks)
    assert done.returncode == 0, done.stderr
    return folder / job["name"]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_kill_and_run_again(tmp_path, ranks):
    job = make_job(tmp_path)
    whole = bytes_of(run_job(tmp_path / "whole", job))
    results = killed_and_run_again(tmp_path / "killed", job, ranks)
    assert bytes_of(results) == whole
    left = sorted(p.name for p in results.iterdir())
    assert left == [".seals", "logs", "m1.h5", "m1.run.json", "m2.h5", "m2.run.json", "progress.json", "summary.h5"]


def test_stop_signal_exits_75_and_goes_on(tmp_path):
    job = make_job(tmp_path)
    job["prompt_sets"] = [ids_set("a", count=400, longest=40)]
    path = write_job(tmp_path, job)
    process = subprocess.Popen([str(PROGRAM), "run", str(path)], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "job" / "progress.json").exists() and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 75, stderr
    assert "run the same command again" in stderr
    assert json.loads((tmp_path / "job" / "progress.json").read_text())["state"] == "stopped"
    assert spectrace("run", path).returncode == 0
    assert json.loads((tmp_path / "job" / "progress.json").read_text())["state"] == "done"
    whole = run_job(tmp_path / "whole", job)
    assert bytes_of(tmp_path / "job") == bytes_of(whole)


def test_stop_of_stages_goes_on(tmp_path):
    """Stopped with batches in every stage and between them; gone on with by other numbers of ranks and stages."""
    job = make_job(tmp_path)
    job["prompt_sets"] = [ids_set("a", count=200, longest=40)]
    whole = bytes_of(run_job(tmp_path / "whole", job))
    path = write_job(tmp_path, job)
    stops = 0
    for attempt in range(12):
        ranks, stages = [(3, 3), (2, 2), (4, 3), (1, 1)][attempt % 4]
        command = ["mpirun", "-n", str(ranks), str(PROGRAM), "run", str(path), "--stages", str(stages)]
        process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
        progress = tmp_path / "job" / "progress.json"
        updated = progress.stat().st_mtime_ns if progress.exists() else None
        while process.poll() is None and (not progress.exists() or progress.stat().st_mtime_ns == updated):
            time.sleep(0.002)
        time.sleep(0.02 * attempt)
        process.send_signal(signal.SIGUSR1)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode in (0, 75), stderr
        stops += process.returncode == 75
        if process.returncode == 0:
            break
    assert stops > 0
    assert spectrace("run", path, ranks=2).returncode == 0
    assert bytes_of(tmp_path / "job") == whole


def test_second_run_computes_nothing(tmp_path):
    job = make_job(tmp_path)
    results = run_job(tmp_path, job)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in results.glob("m*.h5")}
    done = spectrace("run", tmp_path / "job.json")
    assert done.returncode == 0
    assert done.stderr.count("results are there") == 2
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in results.glob("m*.h5")} == before


def test_grown_job_computes_only_what_is_new(tmp_path):
    full = make_job(tmp_path)
    small = make_job(tmp_path, analyses=["weights", "attention", "residual"])
    small["models"], small["prompt_sets"] = small["models"][:1], small["prompt_sets"][:1]
    run_job(tmp_path / "grown", small)
    results = run_job(tmp_path / "grown", full)
    info = json.loads((results / "m1.run.json").read_text())
    whole = run_job(tmp_path / "whole", full)
    assert info["units"] < json.loads((whole / "m1.run.json").read_text())["units"]
    assert bytes_of(results)["m2.h5"] == bytes_of(whole)["m2.h5"]
    assert spectrace("diff", results, whole).returncode == 0


@pytest.mark.parametrize(
    "change, named",
    [
        (lambda job: job["compute"].update(dtype="float64"), "compute dtype: was float32, now float64"),
        (lambda job: job["prompt_sets"][0]["prompts"].pop(), "prompts of the set 'a'"),
        (lambda job: job.update(slicing="as-published"), "slicing: was correct, now as-published"),
    ],
)
def test_what_no_longer_matches_is_named(tmp_path, change, named):
    job = make_job(tmp_path)
    results = run_job(tmp_path, job)
    before = bytes_of(results)
    change(job)
    write_job(tmp_path, job)
    done = spectrace("run", tmp_path / "job.json")
    assert done.returncode == 2
    assert named in done.stderr and "--fresh" in done.stderr
    after = bytes_of(results)
    assert after["m1.h5"] == before["m1.h5"]
    assert spectrace("run", tmp_path / "job.json", "--fresh").returncode == 0


def test_other_weights_are_noticed(tmp_path):
    job = make_job(tmp_path)
    run_job(tmp_path, job)
    make_llama(tmp_path / "m1", seed=77)
    done = spectrace("run", tmp_path / "job.json")
    assert done.returncode == 2
    assert "tensors were others, the first is" in done.stderr


def test_touched_but_equal_weights_are_the_same(tmp_path):
    job = make_job(tmp_path)
    run_job(tmp_path, job)
    os.utime(tmp_path / "m1" / "model.safetensors")
    assert spectrace("run", tmp_path / "job.json").returncode == 0


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
def test_a_rank_reads_each_byte_once(tmp_path, dtype, tied):
    """Spectra, forward pass, rows of the embedding, unembedding and digests from one reading."""
    config = {"torch_dtype": {"<f4": "float32", "<f8": "float64"}[dtype], "tie_word_embeddings": tied}
    model = make_llama(tmp_path / "m", layers=6, dtype=dtype, config=config, change=(lambda t: t.pop("lm_head.weight")) if tied else None)
    job = {"name": "j", "models": [{"name": "m", "path": "m"}], "prompt_sets": [ids_set(count=60)],
           # tensors takes each tensor once more, prediction the unembedding twice
           "analyses": [name for name in all_analyses() if name not in ("tensors", "prediction")],
           "compute": {"tokens_per_batch": 30}}
    info = json.loads((run_job(tmp_path, job) / "m.run.json").read_text())
    ends = [info["collected"], *(report["ended"] for report in info["rank_reports"])]
    assert all(datetime.strptime(end, "%Y-%m-%dT%H:%M:%SZ") for end in ends)
    size = (model / "model.safetensors").stat().st_size
    assert sum(report["bytes_read"] for report in info["rank_reports"]) <= size
