"""What of the program's own files was damaged, edited or put in their way: never built upon, never a hang or a crash."""

import hashlib
import json
import os
import shutil
import sys

import h5py
import numpy as np
import pytest
from models import ids_set, make_llama
from program import ROOT, run_job, spectrace, write_job

sys.path.insert(0, str(ROOT / "tests" / "store"))
from check_open import digest  # noqa: E402

VETTED = "a process of its own reads it first"


def make_job(tmp_path, models=("m", "good"), **changes):
    for seed, name in enumerate(models):
        make_llama(tmp_path / name, seed=seed, layers=2)
    job = {
        "name": "job",
        "models": [{"name": name, "path": str(tmp_path / name)} for name in models],
        "prompt_sets": [ids_set("a", count=4)],
        "analyses": ["weights"],
        "compute": {"tokens_per_batch": 30, "threads": 1},
    }
    return job | changes


def rows_of(results):
    with h5py.File(results / "summary.h5") as file:
        group = file["summary"]
        return {model: (status, error) for model, status, error in
                zip(group["model"].asstr()[:], group["status"].asstr()[:], group["error"].asstr()[:])}


def forge(path, change):
    """Changes the file and gives it the digest of what it then holds."""
    with h5py.File(path, "r+") as file:
        change(file)
        file.attrs["content_sha256"] = digest(file)


def expect_refused(results, done, name="m"):
    """This model's failure, by the file's name and with what to do; the other is there."""
    assert done.returncode == 1, done.stderr
    rows = rows_of(results)
    assert rows["good"][0] == "ok"
    status, error = rows[name]
    assert status == "failed" and f"{name}.h5" in error and "emove it" in error and "--fresh" in error, error
    assert "bug" not in done.stderr


@pytest.mark.parametrize("ranks", [None, 2])
@pytest.mark.parametrize("more", [[], ["residual"]])
def test_damaged_results_are_not_built_upon(tmp_path, more, ranks):
    job = make_job(tmp_path)
    results = run_job(tmp_path, job)
    whole = (results / "m.h5").read_bytes()
    with h5py.File(results / "m.h5", "r+") as file:
        file["weights/spectral_norm"][0, 0] = 999
    damaged = (results / "m.h5").read_bytes()
    job["analyses"] += more
    path = write_job(tmp_path, job)
    for _ in range(2):
        done = spectrace("run", path, ranks=ranks)
        expect_refused(results, done)
        assert "content_sha256" in done.stderr
        assert (results / "m.h5").read_bytes() == damaged
    (results / "m.h5").write_bytes(whole)
    done = spectrace("run", path, ranks=ranks)
    assert done.returncode == 0, done.stderr
    assert more or (results / "m.h5").read_bytes() == whole


def test_same_size_and_times_do_not_hide_a_change(tmp_path):
    job = make_job(tmp_path)
    results = run_job(tmp_path, job)
    before = (results / "m.h5").stat()
    with h5py.File(results / "m.h5", "r+") as file:
        file["weights/spectral_norm"][0, 0] = 999
    os.utime(results / "m.h5", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (results / "m.h5").stat().st_size == before.st_size
    expect_refused(results, spectrace("run", tmp_path / "job.json"))


def test_copied_folder_is_looked_through_once(tmp_path):
    job = make_job(tmp_path)
    results = run_job(tmp_path, job)
    path = tmp_path / "job.json"
    assert VETTED not in spectrace("run", path, "--log-level", "debug").stderr
    shutil.copytree(results, tmp_path / "copy")
    seen = []
    for _ in range(2):
        done = spectrace("run", path, "-o", tmp_path / "copy", "--log-level", "debug")
        assert done.returncode == 0 and "results are there" in done.stderr, done.stderr
        seen.append(done.stderr.count(VETTED))
    assert seen == [2, 0]
    for name in ("m.h5", "good.h5"):
        assert (results / name).read_bytes() == (tmp_path / "copy" / name).read_bytes()


def cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def empty(path):
    path.write_bytes(b"")


def fifo(path):
    path.unlink()
    os.mkfifo(path)


def text(path):
    path.write_text("not HDF5 at all, just some text, longer than any header of a file")


@pytest.mark.parametrize("damage", [cut, empty, text])
def test_what_is_no_results_file_is_this_models_failure(tmp_path, damage):
    job = make_job(tmp_path)
    results = run_job(tmp_path, job)
    damage(results / "m.h5")
    damaged = (results / "m.h5").read_bytes()
    expect_refused(results, spectrace("run", tmp_path / "job.json"))
    assert (results / "m.h5").read_bytes() == damaged
    done = spectrace("run", tmp_path / "job.json", "--fresh")
    assert done.returncode == 0, done.stderr


def link_to_itself(place):
    place.symlink_to(place)


@pytest.mark.parametrize("options", [[], ["--fresh"]])
@pytest.mark.parametrize("name, make", [("m.h5", os.mkdir), ("m.h5", os.mkfifo), ("m.run.json", os.mkdir),
                                        ("journal/m", link_to_itself), ("journal/m", os.mkfifo)])
def test_what_lies_in_the_way_is_this_models_failure(tmp_path, name, make, options):
    job = make_job(tmp_path)
    place = tmp_path / "job" / name
    place.parent.mkdir(parents=True)
    make(place)
    done = spectrace("run", write_job(tmp_path, job), *options)
    assert done.returncode == 1, done.stderr
    assert f"{name}' is in the way" in done.stderr and "Remove it" in done.stderr
    assert rows_of(tmp_path / "job")["good"][0] == "ok"


def drop_identity(file):
    del file.attrs["identity"]


def odd_identity(file):
    file.attrs["identity"] = "[[1]]"


def word_for_tokens(file):
    file.attrs["identity"] = json.dumps([["tokens_per_batch", "many"]])


def drop_checkpoint(file):
    del file["checkpoint"]


def drop_digests(file):
    del file["checkpoint/digest"]


def retype_layers(file):
    file.attrs["num_layers"] = "two"


@pytest.mark.parametrize("change", [drop_identity, odd_identity, word_for_tokens, drop_checkpoint, drop_digests])
@pytest.mark.parametrize("more", [[], ["residual"]])
def test_edited_structure_with_a_right_digest_is_refused(tmp_path, change, more):
    job = make_job(tmp_path)
    results = run_job(tmp_path, job)
    forge(results / "m.h5", change)
    job["analyses"] += more
    expect_refused(results, spectrace("run", write_job(tmp_path, job)))


@pytest.mark.parametrize("more", [[], ["residual"]])
def test_an_analysis_without_one_of_its_datasets_is_measured_anew(tmp_path, more):
    job = make_job(tmp_path)
    job["analyses"] += more
    path = write_job(tmp_path, job)
    results = run_job(tmp_path, job)
    whole = digest_of(results / "m.h5")

    def drop_values(file):
        del file["weights/spectral_norm"]

    forge(results / "m.h5", drop_values)
    done = spectrace("run", path)
    assert done.returncode == 0, done.stderr
    assert digest_of(results / "m.h5") == whole
    with h5py.File(results / "m.h5") as file:
        assert digest(file) == whole


def test_retyped_attribute_does_not_end_the_sweep(tmp_path):
    job = make_job(tmp_path)
    results = run_job(tmp_path, job)
    forge(results / "m.h5", retype_layers)
    done = spectrace("run", tmp_path / "job.json")
    assert done.returncode in (0, 1) and rows_of(results)["good"][0] == "ok", done.stderr


def flip(data, place, bit):
    data = bytearray(data)
    data[place] ^= 1 << bit
    return bytes(data)


def test_flipped_bits_never_pass_in_silence(tmp_path):
    """Anywhere in a small file: refused, or its contents are as they were and the change is warned of."""
    job = make_job(tmp_path)
    results = run_job(tmp_path, job)
    whole = (results / "m.h5").read_bytes()
    before = digest_of(results / "m.h5")
    rng = np.random.default_rng(5)
    for place in rng.integers(0, len(whole), 12):
        (results / "m.h5").write_bytes(flip(whole, int(place), int(rng.integers(8))))
        done = spectrace("run", tmp_path / "job.json")
        if done.returncode == 0:
            assert "not byte for byte what was written" in done.stderr, place
            assert digest_of(results / "m.h5") == before
        else:
            expect_refused(results, done)


def digest_of(path):
    with h5py.File(path) as file:
        return digest(file)


@pytest.mark.parametrize("damage", [cut, empty, fifo, text])
def test_diff_of_damaged_files_ends_with_an_error(tmp_path, damage):
    results = run_job(tmp_path, make_job(tmp_path))
    shutil.copytree(results, tmp_path / "copy")
    assert spectrace("diff", results, tmp_path / "copy").returncode == 0
    damage(tmp_path / "copy" / "m.h5")
    done = spectrace("diff", results / "m.h5", tmp_path / "copy" / "m.h5")
    assert done.returncode == 3 and "m.h5" in done.stderr, done.stderr


SEEDS = ROOT / "tests" / "fuzz" / "seeds"


@pytest.mark.parametrize("seed", ["results_crash.h5", "results_hang.h5"])
def test_files_that_harm_hdf5_harm_no_rank(tmp_path, seed):
    """HDF5 1.10.8 crashes on the one and reads the other for ever; other versions may refuse them."""
    done = spectrace("diff", SEEDS / seed, SEEDS / "results.h5")
    assert done.returncode == 3 and seed in done.stderr and "bug" not in done.stderr, done.stderr
    if seed == "results_hang.h5":
        return  # once is long enough
    job = make_job(tmp_path)
    results = run_job(tmp_path, job)
    shutil.copy(SEEDS / seed, results / "m.h5")
    expect_refused(results, spectrace("run", tmp_path / "job.json", ranks=2))
    assert (results / "m.h5").read_bytes() == (SEEDS / seed).read_bytes()


def nan_in_layer_1(tensors):
    tensors["model.layers.1.self_attn.q_proj.weight"][0, 0] = np.nan


def sha_of(results, name="m"):
    return hashlib.sha256((results / f"{name}.h5").read_bytes()).hexdigest()


def be_empty(journal):
    (journal / "preparation.jsonl").write_bytes(b"")


def be_flipped(journal):
    text = (journal / "preparation.jsonl").read_bytes()
    (journal / "preparation.jsonl").write_bytes(flip(text, len(text) // 2, 0))


def be_other_json(journal):
    (journal / "preparation.jsonl").write_text('{"sha256": 5}\n[[[]]]')


def have_fifo(journal):
    os.mkfifo(journal / "rank-00000-0.journal")
    os.unlink(journal / "preparation.jsonl")
    os.mkfifo(journal / "preparation.jsonl")


def have_loop(journal):
    (journal / "rank-00000-0.journal").symlink_to("rank-00000-0.journal")


def have_folder(journal):
    (journal / "rank-00000-0.journal").mkdir()


def have_another_version(journal):
    (journal / "rank-00000-0.journal").write_bytes(b"9SPCJRNL" + bytes(100))


def have_huge_sizes(journal):
    (journal / "rank-00000-0.journal").write_bytes(b"2SPCJRNL" + b"\xff" * 24 + bytes(100))


@pytest.mark.parametrize("damage", [be_empty, be_flipped, be_other_json, have_fifo, have_loop, have_folder,
                                    have_another_version, have_huge_sizes])
def test_damaged_journal_is_made_anew(tmp_path, damage):
    """A model some of whose units failed keeps its journal."""
    job = make_job(tmp_path, models=["m"], analyses=["weights", "residual"])
    make_llama(tmp_path / "m", seed=1, layers=2, change=nan_in_layer_1)
    results = run_job(tmp_path, job, expect=1)
    before = sha_of(results)
    damage(results / "journal" / "m")
    done = spectrace("run", tmp_path / "job.json")
    assert done.returncode == 1 and "q_proj" in done.stderr, done.stderr
    assert sha_of(results) == before
