"""An unembedding large enough to be done in parts, which ranks share: values, bits, restarts, bad rows, other weights."""

import json
import os
import signal
import subprocess
import time

import h5py
import numpy as np
import pytest
from models import LLAMA_CONFIG, ids_set, llama_tensors, write_safetensors
from program import ENVIRONMENT, PROGRAM, bytes_of, run_job, spectrace, write_job

ROWS, COLUMNS, PARTS = 39_211, 1024, 4  # rows that no number of parts divides


@pytest.fixture(scope="module", params=["<f4", "<f2"])
def tensors(request):
    rng = np.random.default_rng(5)
    made = llama_tensors(rng, layers=2, hidden=COLUMNS, vocab=4)
    unembedding = rng.normal(size=(ROWS, COLUMNS)).astype("<f4")
    # Columns and rows of different size: a spectrum from 1 to 1e-6, and parts that are not alike.
    unembedding *= np.logspace(0, -6, COLUMNS, dtype="<f4")
    unembedding *= np.linspace(0.5, 2, ROWS, dtype="<f4")[:, None]
    # Of float32 a part leaves a triangle, of float16 its exact Gram matrix.
    return made | {"lm_head.weight": unembedding.astype(request.param)}


def make_model(folder, tensors):
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "model.safetensors", tensors)
    sizes = {"hidden_size": COLUMNS, "num_hidden_layers": 2, "vocab_size": ROWS}
    (folder / "config.json").write_text(json.dumps(LLAMA_CONFIG | sizes))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory, tensors):
    embedding = np.resize(tensors["model.embed_tokens.weight"], (ROWS, COLUMNS))
    return make_model(tmp_path_factory.mktemp("model"), tensors | {"model.embed_tokens.weight": embedding})


def job_of(model, **changes):
    prompts = [ids_set(count=5)]
    return {"name": "job", "models": [{"name": "m", "path": str(model)}], "prompt_sets": prompts, "compute": {"tokens_per_batch": 30}} | changes


@pytest.fixture(scope="module")
def one(tmp_path_factory, model):
    """Results of one rank."""
    return run_job(tmp_path_factory.mktemp("one"), job_of(model))


def test_values_are_those_of_the_whole(one, tensors):
    expected = np.linalg.svd(tensors["lm_head.weight"].astype(float), compute_uv=False)
    with h5py.File(one / "m.h5") as file:
        group = file["unembedding"]
        bound = group["singular_value_error"][()]
        assert bound < 1e-11 * expected[0]
        # numpy's own error is no larger than the bound.
        np.testing.assert_allclose(group["singular_values"][:], expected, rtol=0, atol=2 * bound)
        np.testing.assert_allclose(group["row_norm"][:], np.linalg.norm(tensors["lm_head.weight"].astype(float), axis=1), rtol=1e-14)
        assert "lm_head.weight" in [name.decode() for name in file["checkpoint/tensor"][:]]


@pytest.mark.parametrize("ranks, options", [(2, []), (3, []), (2, ["--stages", "2"]), (5, ["--stages", "2"])])
def test_ranks_share_it_and_leave_the_same_bytes(tmp_path, model, one, ranks, options):
    results = run_job(tmp_path, job_of(model), *options, ranks=ranks)
    assert bytes_of(results) == bytes_of(one)
    info = json.loads((results / "m.run.json").read_text())
    who = [report["rank"] for report in info["rank_reports"] if report["stages"].get("unembedding", {}).get("seconds", 0) > 0]
    assert len(set(who)) >= 2


def test_alone_it_is_planned_and_joined(tmp_path, model, one):
    job = job_of(model, analyses=["unembedding"], prompt_sets=[])
    planned = json.loads(spectrace("plan", write_job(tmp_path, job), "--ranks", 2, "--json").stdout)
    assert planned["models"][0]["units"] == PARTS
    threaded = run_job(tmp_path, job | {"compute": {"threads": 3}}, ranks=2)
    with h5py.File(threaded / "m.h5") as a, h5py.File(one / "m.h5") as b:
        for name in a["unembedding"]:
            assert a["unembedding"][name][()].tobytes() == b["unembedding"][name][()].tobytes(), name
        digest = dict(zip(b["checkpoint/tensor"][:], b["checkpoint/digest"][:]))
        assert list(a["checkpoint/tensor"][:]) == [b"lm_head.weight"]
        assert a["checkpoint/digest"][0] == digest[b"lm_head.weight"]


def kill_after_parts(path, count):
    """kill -9 as soon as so many parts lie in the journal, whole: a record that is being written grows."""
    process = subprocess.Popen([str(PROGRAM), "run", str(path)], env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    triangle_bytes = COLUMNS * (COLUMNS + 1) // 2 * 8
    journal = path.parent / "job" / "journal"
    size, unchanged = 0, 0
    while process.poll() is None and (size <= count * triangle_bytes or unchanged < 10):
        time.sleep(0.002)
        before, size = size, sum(file.stat().st_size for file in journal.rglob("*.journal"))
        unchanged = unchanged + 1 if size == before else 0
    assert process.poll() is None, process.stderr.read()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_a_kill_costs_the_part_under_work(tmp_path, model, one):
    path = write_job(tmp_path, job_of(model))
    kill_after_parts(path, 2)
    done = spectrace("run", path)
    assert done.returncode == 0, done.stderr
    assert bytes_of(tmp_path / "job") == bytes_of(one)
    info = json.loads((tmp_path / "job" / "m.run.json").read_text())
    assert sum(report["units"] for report in info["rank_reports"]) < info["units"] - 1


def test_parts_of_other_weights_are_done_again(tmp_path, model, one, tensors):
    """The file is replaced between two starts: in rows of a part that is done, or in others, which is as bad."""
    copy = tmp_path / "model"
    copy.mkdir()
    for file in model.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    job = job_of(copy, analyses=["unembedding"], prompt_sets=[])
    path = write_job(tmp_path, job)
    kill_after_parts(path, 1)
    touched = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(touched)  # the same bytes: what is done stays
    stopped = spectrace("run", path)
    assert stopped.returncode == 0 and "changed since the last start" not in stopped.stderr
    with h5py.File(tmp_path / "job" / "m.h5") as a, h5py.File(one / "m.h5") as b:
        assert a["unembedding/singular_values"][:].tobytes() == b["unembedding/singular_values"][:].tobytes()

    again = tmp_path / "again"
    path = write_job(again, job)
    kill_after_parts(path, 1)
    changed = tensors["lm_head.weight"].copy()
    changed[7, 3] *= 1.5
    embedding = np.resize(tensors["model.embed_tokens.weight"], (ROWS, COLUMNS))
    make_model(copy, tensors | {"lm_head.weight": changed, "model.embed_tokens.weight": embedding})
    done = spectrace("run", path)
    assert done.returncode == 0 and "the checkpoint's weights have changed since the last start" in done.stderr
    fresh = run_job(tmp_path / "fresh", job)
    assert bytes_of(again / "job") == bytes_of(fresh)


def test_a_bad_row_costs_the_unembedding_alone(tmp_path, one, tensors):
    bad = tensors["lm_head.weight"].copy()
    bad[ROWS - 5, 9] = np.inf
    embedding = np.resize(tensors["model.embed_tokens.weight"], (ROWS, COLUMNS))
    folder = make_model(tmp_path / "bad", tensors | {"lm_head.weight": bad, "model.embed_tokens.weight": embedding})
    alone = run_job(tmp_path / "one", job_of(folder), expect=1)
    two = run_job(tmp_path / "two", job_of(folder), ranks=2, expect=1)
    assert bytes_of(alone) == bytes_of(two)
    with h5py.File(alone / "m.h5") as file:
        assert file.attrs["status"] == "partial"
        assert "lm_head.weight" in file.attrs["error"] and "not finite" in file.attrs["error"]
        assert "unembedding" not in file and "weights" in file
        assert "lm_head.weight" not in [name.decode() for name in file["checkpoint/tensor"][:]]
    # Mended, only its part is done again.
    make_model(folder, tensors | {"model.embed_tokens.weight": embedding})
    done = spectrace("run", tmp_path / "one" / "job.json")
    assert done.returncode == 0 and "weights have changed" not in done.stderr, done.stderr
    assert bytes_of(tmp_path / "one" / "job") == bytes_of(one)
    reports = json.loads((tmp_path / "one" / "job" / "m.run.json").read_text())["rank_reports"]
    assert min(report["units"] for report in reports) == 1
