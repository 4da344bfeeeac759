"""Bad models, prompts, jobs and disks: one clear error that names what is wrong, and everything else finished."""

import json
import os
import re
import subprocess
import time

import h5py
import numpy as np
import pytest
from models import LLAMA_CONFIG, ids_set, make_llama, write_safetensors
from program import ENVIRONMENT, PROGRAM, run_job, spectrace, write_job


def job_with(bad, tmp_path, **changes):
    """A bad model between two good ones."""
    good = make_llama(tmp_path / "good", seed=9)
    models = [("first", good), ("bad", bad), ("last", good)]
    job = {"name": "sweep", "models": [{"name": n, "path": str(p)} for n, p in models], "prompt_sets": [ids_set(count=3)]}
    return job | changes


def drop(name):
    return lambda tensors: tensors.pop(name)


def reshape(name):
    return lambda tensors: tensors.update({name: tensors[name][:, :-1]})


def cut_off(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def set_config(**changes):
    def change(folder):
        (folder / "config.json").write_text(json.dumps(LLAMA_CONFIG | changes))

    return change


def missing_shard(folder):
    (folder / "model.safetensors").unlink()
    names = {"model.embed_tokens.weight": "model-00001-of-00002.safetensors", "model.norm.weight": "model-00002-of-00002.safetensors"}
    write_safetensors(folder / "model-00001-of-00002.safetensors", {"model.embed_tokens.weight": np.ones((50, 24))})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


V_PROJ = "model.layers.1.self_attn.v_proj.weight"
# Of these some layers are there.
PARTLY_BAD_MODELS = {
    "absent tensor": (drop(V_PROJ), None, [V_PROJ]),
    "wrong shape": (reshape("model.layers.0.mlp.down_proj.weight"), None, ["model.layers.0.mlp.down_proj.weight", "[24, 39]", "[24, 40]"]),
}
BAD_MODELS = PARTLY_BAD_MODELS | {
    "cut short": (None, cut_off, ["model.safetensors", "cut short"]),
    "missing shard": (None, missing_shard, ["model-00002-of-00002.safetensors"]),
    "unknown family": (None, set_config(model_type="frobnicator", architectures=["Frob"]), ["frobnicator", "llama"]),
    "mixture of experts": (None, set_config(model_type="dbrx", architectures=["DbrxForCausalLM"]), ["dbrx", "mixture of experts"]),
    "quantized": (lambda tensors: tensors.update({V_PROJ + ".absmax": np.ones(4)}), set_config(quantization_config={"quant_method": "bitsandbytes"}),
                  ["quantized", "bitsandbytes"]),
    "no config": (None, lambda folder: (folder / "config.json").unlink(), ["config.json"]),
    "config is not JSON": (None, lambda folder: (folder / "config.json").write_text('{"hidden_size": 24,\n oops}'), ["config.json", "line 2"]),
}


@pytest.mark.parametrize("case", BAD_MODELS)
@pytest.mark.parametrize("ranks", [None, 3])
def test_bad_model_does_not_end_the_sweep(tmp_path, case, ranks):
    change, damage, named = BAD_MODELS[case]
    bad = make_llama(tmp_path / "bad", change=change)
    if damage:
        damage(bad)
    results = run_job(tmp_path, job_with(bad, tmp_path), ranks=ranks, expect=1)
    with h5py.File(results / "bad.h5") as file:
        assert file.attrs["status"] == ("partial" if case in PARTLY_BAD_MODELS else "failed")
        for text in named:
            assert text in file.attrs["error"], file.attrs["error"]
    for name in ("first", "last"):
        with h5py.File(results / f"{name}.h5") as file:
            assert file.attrs["status"] == "ok"
    checked = spectrace("check", tmp_path / "job.json")
    assert checked.returncode == 1
    for text in named:
        assert text in checked.stdout


def test_missing_folder_is_named(tmp_path):
    results = run_job(tmp_path, job_with(tmp_path / "nowhere", tmp_path), expect=1)
    with h5py.File(results / "bad.h5") as file:
        assert str(tmp_path / "nowhere") in file.attrs["error"]


@pytest.mark.parametrize("ranks", [None, 2])
def test_nan_in_a_weight(tmp_path, ranks):
    """Spectra of the other layers are there; the prompts cannot go past it. The same bytes for any number of ranks."""

    def poison(tensors):
        tensors[V_PROJ][3, 5] = np.nan

    bad = make_llama(tmp_path / "bad", change=poison)
    results = run_job(tmp_path, job_with(bad, tmp_path), ranks=ranks, expect=1)
    with h5py.File(results / "bad.h5") as file:
        assert file.attrs["status"] == "partial"
        assert V_PROJ in file.attrs["error"]
        norms = file["weights/spectral_norm"][:]
        assert np.isnan(norms[1]).all() and np.isfinite(norms[[0, 2]]).all()
        assert all(V_PROJ in text for text in file["prompts/ids/prompt_error"].asstr()[:])
        assert np.isnan(file["prompts/ids/trace"][:]).all()
        assert (file["prompts/ids/statistics/trace"][1] == 3).all()
    again = run_job(tmp_path / "again", job_with(bad, tmp_path), expect=1)
    assert (again / "bad.h5").read_bytes() == (results / "bad.h5").read_bytes()


def set_entries(name, row, value):
    def change(tensors):
        tensors[name][row] = value

    return change


# Of finite entries: which unit has none, and what it says.
BEYOND_THE_RANGE = {
    "a row of the unembedding": (
        set_entries("lm_head.weight", 17, 1e308),
        "unembedding",
        "row 17 of 'lm_head.weight' has a norm beyond the range of float64 (its largest entry is 1e+308)",
    ),
    "a matrix of a layer": (
        set_entries("model.layers.1.self_attn.k_proj.weight", 3, 1e308),
        "weights",
        "layer 1: W_K: the spectral norm is beyond the range of float64",
    ),
}


@pytest.mark.parametrize("case", BEYOND_THE_RANGE)
@pytest.mark.parametrize("ranks", [None, 2])
def test_a_norm_beyond_float64_is_its_units_error(tmp_path, case, ranks):
    """The good model beside it has the bytes that it has alone, and a restart ends as the first run did."""
    change, group, said = BEYOND_THE_RANGE[case]
    good = {"name": "good", "path": str(make_llama(tmp_path / "good", seed=9))}
    bad = {"name": "bad", "path": str(make_llama(tmp_path / "bad", dtype="<f8", config={"torch_dtype": "float64"}, change=change))}
    job = {"name": "sweep", "models": [bad, good], "prompt_sets": [ids_set(count=3)]}
    alone = (run_job(tmp_path / "alone", job | {"models": [good]}) / "good.h5").read_bytes()
    for start in ("first", "again"):
        results = run_job(tmp_path / "both", job, ranks=ranks, expect=1)
        with h5py.File(results / "bad.h5") as file:
            assert file.attrs["status"] == "partial", start
            assert said in file.attrs["error"]
            assert "unembedding" not in file if group == "unembedding" else np.isnan(file[group]["frobenius_norm"][1]).all()
            assert np.isfinite(file["heads"]["spectral_norm"][0]).all()
        assert (results / "good.h5").read_bytes() == alone, start


@pytest.mark.parametrize("ranks, stages", [(None, 1), (2, 2)])
def test_nan_in_a_row_of_the_embedding_fails_the_prompts_that_use_it(tmp_path, ranks, stages):
    def poison(tensors):
        tensors["model.embed_tokens.weight"][7, 2] = np.nan

    prompts = [{"id": f"p{i}", "input_ids": ids} for i, ids in enumerate([[1, 2, 3], [4, 7, 5], [6, 8], [7]])]
    sets = [{"name": "s", "prompts": prompts}]
    bad = make_llama(tmp_path / "bad", change=poison)
    good = make_llama(tmp_path / "good")
    job = {"name": "j", "models": [{"name": "m", "path": str(bad)}], "prompt_sets": sets}
    results = run_job(tmp_path, job, "--stages", stages, ranks=ranks, expect=1)
    whole = run_job(tmp_path / "whole", job | {"models": [{"name": "m", "path": str(good)}]})
    with h5py.File(results / "m.h5") as file, h5py.File(whole / "m.h5") as other:
        assert file.attrs["status"] == "partial"
        errors = file["prompts/s/prompt_error"].asstr()[:]
        assert [bool(e) for e in errors] == [False, True, False, True]
        assert "embed_tokens" in errors[1] and "[7, 2]" in errors[1]
        for name in ("trace", "row_entropy", "last_token_norm", "gain", "log_partition"):
            values = file[f"prompts/s/{name}"][:]
            assert np.isnan(values[[1, 3]]).all()
            # In one batch with them, and yet what they are without them.
            assert (values[[0, 2]] == other[f"prompts/s/{name}"][:][[0, 2]]).all()
        assert (file["prompts/s/statistics/trace"][0] == 2).all() and (file["prompts/s/statistics/trace"][1] == 2).all()


OVERFLOWS = {
    # The squares of a norm's input overflow: without care it would give plausible numbers.
    "embedding": (lambda t: t.update({"model.embed_tokens.weight": t["model.embed_tokens.weight"] * 1e21}), ["attention of layer 0"]),
    "scores": (lambda t: t.update({n: a * 1e21 for n, a in t.items() if "q_proj" in n or "k_proj" in n}), ["attention of layer 0"]),
    "mlp": (lambda t: t.update({"model.layers.1.mlp.up_proj.weight": t["model.layers.1.mlp.up_proj.weight"] * 1e38}), ["after block 1 ", "attention of layer 2"]),  # or the next norm
}


@pytest.mark.parametrize("ranks, stages", [(1, 1), (2, 2)])
@pytest.mark.parametrize("case", OVERFLOWS)
def test_overflow_fails_the_prompts_by_layer(tmp_path, case, ranks, stages):
    change, where = OVERFLOWS[case]
    job = job_with(make_llama(tmp_path / "bad", seed=5, change=change), tmp_path, compute={"stages": stages})
    results = run_job(tmp_path, job, ranks=ranks, expect=1)
    with h5py.File(results / "bad.h5") as file:
        assert file.attrs["status"] == "partial"
        errors = file["prompts/ids/prompt_error"].asstr()[:]
        assert all(any(place in error for place in where) and "not finite" in error for error in errors), errors
        assert np.isnan(file["prompts/ids/trace"][:]).all()
        assert file["prompts/ids/statistics/trace"][0].max() == 0  # count
        assert np.isfinite(file["weights/spectral_norm"][:]).all()
    for name in ("first", "last"):
        with h5py.File(results / f"{name}.h5") as file:
            assert file.attrs["status"] == "ok"


def test_overflow_of_float32_is_none_of_float64(tmp_path):
    change, _ = OVERFLOWS["embedding"]
    job = job_with(make_llama(tmp_path / "bad", seed=5, change=change), tmp_path, compute={"dtype": "float64"})
    run_job(tmp_path, job, expect=0)


def test_unused_tensors_are_named(tmp_path):
    folder = make_llama(tmp_path / "bad", layers=3, config={"num_hidden_layers": 2})
    job = write_job(tmp_path, job_with(folder, tmp_path))
    done = spectrace("run", job)
    assert done.returncode == 0, done.stderr
    results = tmp_path / "sweep"
    assert "bad: 9 of the checkpoint's tensors are not used, the first is 'model.layers.2." in done.stderr
    with h5py.File(results / "bad.h5") as file:
        assert file.attrs["num_unused_tensors"] == 9
        assert all(name.startswith("model.layers.2.") for name in file.attrs["unused_tensors"].split())
    with h5py.File(results / "first.h5") as file:
        assert "unused_tensors" not in file.attrs


def test_bad_prompts_are_left_out_and_counted(tmp_path):
    model = make_llama(tmp_path / "model")
    good = [[1, 2, 3], [4, 5, 6, 7]]
    prompts = [
        {"id": "good", "input_ids": good[0]},
        {"id": "out of range", "input_ids": [1, 50]},
        {"id": "negative", "input_ids": [-1, 2]},
        {"id": "empty", "input_ids": []},
        {"id": "also good", "input_ids": good[1]},
    ]
    job = {"name": "j", "models": [{"name": "m", "path": str(model)}], "prompt_sets": [{"name": "s", "prompts": prompts}]}
    results = run_job(tmp_path, job, expect=1)
    with h5py.File(results / "m.h5") as file:
        assert file.attrs["status"] == "partial"
        errors = file["prompts/s/prompt_error"].asstr()[:]
        assert [bool(e) for e in errors] == [False, True, True, True, False]
        assert "50" in errors[1] and "-1" in errors[2]
        assert np.isnan(file["prompts/s/trace"][1:4]).all() and np.isfinite(file["prompts/s/trace"][[0, 4]]).all()
        assert (file["prompts/s/statistics/trace"][0] == 2).all() and (file["prompts/s/statistics/trace"][1] == 3).all()
        expected = file["prompts/s/trace"][[0, 4]].mean(0)
        np.testing.assert_allclose(file["prompts/s/statistics/trace"][2], expected, rtol=1e-14)
    # The same command again: nothing is computed, the exit code still says so.
    assert spectrace("run", tmp_path / "job.json").returncode == 1


def test_prompt_longer_than_the_position_table(tmp_path):
    from program import ROOT

    folder = ROOT / "tests" / "data" / "model" / "gpt2"
    limit = json.loads((folder / "config.json").read_text())["n_positions"]
    sets = [{"name": "s", "prompts": [{"id": "fits", "input_ids": [1] * limit}, {"id": "too long", "input_ids": [1] * (limit + 1)}]}]
    job = {"name": "j", "models": [{"name": "m", "path": str(folder)}], "prompt_sets": sets}
    results = run_job(tmp_path, job, expect=1)
    with h5py.File(results / "m.h5") as file:
        errors = file["prompts/s/prompt_error"].asstr()[:]
        assert errors[0] == "" and str(limit) in errors[1] and str(limit + 1) in errors[1]


def change_at(*path, value):
    def change(job):
        for key in path[:-1]:
            job = job[key]
        job[path[-1]] = value

    return change


BAD_JOBS = {
    "unknown key": (change_at("modles", value=[]), ["modles", "models"]),
    "unknown nested key": (change_at("compute", value={"dtyp": "float32"}), ["/compute", "dtyp", "dtype"]),
    "bad dtype": (change_at("compute", value={"dtype": "float16"}), ["/compute/dtype", "float16", "float32"]),
    "wrong type": (change_at("compute", value={"threads": "two"}), ["/compute/threads", "two", "integer"]),
    "bad analysis": (change_at("analyses", value=["weights", "wieghts"]), ["/analyses/1", "wieghts", "weights"]),
    "no models": (change_at("models", value=[]), ["/models"]),
    "two models of one name": (lambda job: job["models"].append(dict(job["models"][0])), ["first", "two models"]),
    "unknown prompt set": (change_at("models", 0, "prompt_sets", value=["nope"]), ["nope"]),
    "beta backwards": (change_at("sheaf", value={"beta": {"from": 2, "to": 1, "count": 3}}), ["/sheaf/beta"]),
    "prompt file missing": (change_at("prompt_sets", 0, value={"name": "f", "path": "nowhere.txt"}), ["nowhere.txt"]),
}


@pytest.mark.parametrize("case", BAD_JOBS)
def test_bad_job_is_named(tmp_path, case):
    change, named = BAD_JOBS[case]
    job = job_with(make_llama(tmp_path / "bad"), tmp_path)
    change(job)
    path = write_job(tmp_path, job)
    for command in ("run", "check"):
        done = spectrace(command, path)
        assert done.returncode == 2, done.stdout + done.stderr
        for text in named:
            assert text in done.stderr, done.stderr
    assert not list(tmp_path.glob("sweep/*.h5"))


def test_all_errors_of_a_job_at_once(tmp_path):
    job = job_with(make_llama(tmp_path / "bad"), tmp_path, modles=[], compute={"dtype": "int4", "threads": 0})
    done = spectrace("check", write_job(tmp_path, job))
    assert done.returncode == 2
    for text in ("3 errors", "modles", "int4", "/compute/threads"):
        assert text in done.stderr, done.stderr


def test_every_error_stands_once(tmp_path):
    """One line a problem: an unreadable set is not called empty as well, and no document is named twice."""
    job = job_with(make_llama(tmp_path / "bad"), tmp_path, prompt_sets=[{"name": "s", "path": "no.txt"}])
    job["models"][0]["prompt_sets"] = ["s"]
    for command in ("run", "check"):
        done = spectrace(command, write_job(tmp_path, job))
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1 and done.stderr.count("no.txt") == 1, done.stderr
        assert "empty" not in done.stderr and done.stderr.count("job.json") == 1, done.stderr


def test_key_twice_and_deep_nesting(tmp_path):
    path = tmp_path / "job.json"
    path.write_text('{"name": "x",\n "models": [{"name": "m",\n  "path": "a", "name": "n"}], "prompt_sets": []}')
    done = spectrace("check", path)
    assert done.returncode == 2 and "/models/0: the key 'name' is there twice (again at line 3)" in done.stderr, done.stderr
    for text in ('{"name": ' + "[" * 200000, '{"a":' * 200000):
        path.write_text(text)
        done = spectrace("check", path)
        assert done.returncode == 2 and "nested deeper than 64 levels" in done.stderr, done.stderr
    model = make_llama(tmp_path / "model")
    (model / "config.json").write_text('{"hidden_size": ' + "[" * 100000)
    job = {"name": "j", "models": [{"name": "m", "path": str(model)}], "prompt_sets": [], "analyses": ["weights"]}
    done = spectrace("check", write_job(tmp_path, job))
    assert done.returncode == 1 and "nested deeper than 64 levels" in done.stdout


def test_model_without_tokenizer_keeps_its_weights(tmp_path):
    """Its text prompts carry the reason, without the folder's name; its prompts of token ids run."""
    model = make_llama(tmp_path / "model")
    prompts = [{"id": "t1", "text": "some"}, {"id": "t2", "text": "more"}, {"id": "ids", "input_ids": [1, 2, 3]}]
    job = {"name": "j", "models": [{"name": "m", "path": str(model)}], "prompt_sets": [{"name": "s", "prompts": prompts}]}
    checked = spectrace("check", write_job(tmp_path, job))
    assert checked.returncode == 1 and "2 prompts of set 's' ('t1', 't2')" in checked.stdout, checked.stdout
    assert "tokenizer" in checked.stdout and "2 errors in 1 of 1 model" in checked.stdout
    results = run_job(tmp_path, job, expect=1)
    with h5py.File(results / "m.h5") as file:
        errors = file["prompts/s/prompt_error"].asstr()[:]
        assert "tokenizer" in errors[0] and errors[0] == errors[1] and errors[2] == ""
        assert str(tmp_path) not in errors[0]
        assert np.isfinite(file["weights/spectral_norm"][:]).all() and np.isfinite(file["prompts/s/trace"][2]).all()
    job["prompt_sets"] = [{"name": "ids", "prompts": prompts[2:]}]
    assert spectrace("check", write_job(tmp_path, job)).returncode == 0


def test_check_refuses_what_run_refuses(tmp_path):
    job = job_with(make_llama(tmp_path / "bad"), tmp_path)
    path = write_job(tmp_path, job | {"compute": {"device": "cuda"}})
    for command in ("run", "check"):
        done = spectrace(command, path)
        assert done.returncode == 2 and "device cuda" in done.stdout + done.stderr
    done = spectrace("run", path, ranks=2)
    assert done.returncode == 2 and "(rank 0 on " in done.stderr
    assert not (tmp_path / "sweep").exists()  # nothing is begun
    path = write_job(tmp_path, job)
    (tmp_path / "file").write_text("")
    for output in ("/proc/nope", tmp_path / "file" / "below"):
        for command in ("run", "check"):
            done = spectrace(command, path, "-o", output)
            assert done.returncode == 3 and str(output) in done.stdout + done.stderr
    before = sorted(tmp_path.rglob("*"))
    assert spectrace("check", path, "-o", tmp_path / "deep" / "output").returncode == 0
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "sweep").mkdir()
    assert spectrace("check", path).returncode == 0
    assert list((tmp_path / "sweep").iterdir()) == []


def test_check_warns(tmp_path):
    job = job_with(make_llama(tmp_path / "bad"), tmp_path)
    job["models"][0]["prompt_sets"] = []
    job["prompt_sets"][0]["prompts"].append({"id": "long one", "input_ids": [1] * 65})
    done = spectrace("check", write_job(tmp_path, job))
    assert done.returncode == 0 and "3 warnings" in done.stdout
    assert "first: warning: attention, sheaf and residual are not computed" in done.stdout
    assert "bad: warning: prompt 'long one' of set 'ids': up to 65 tokens, more than the 64 positions" in done.stdout


def test_zero_work_is_refused(tmp_path):
    job = job_with(make_llama(tmp_path / "bad"), tmp_path, analyses=["attention", "residual"])
    job["models"][1]["prompt_sets"] = []
    for command in ("run", "check"):
        done = spectrace(command, write_job(tmp_path, job))
        assert done.returncode == 2 and "model 'bad' is zero work" in done.stderr


def test_output_folder_that_is_not_utf8(tmp_path):
    folder = os.path.join(os.fsencode(tmp_path), b"b\xe4d")
    path = write_job(tmp_path, job_with(make_llama(tmp_path / "bad"), tmp_path))
    for command in ("check", "run"):
        done = subprocess.run([str(PROGRAM), command, str(path), "-o", folder], env=ENVIRONMENT, capture_output=True, timeout=300)
        assert done.returncode == 0, done.stderr
    assert os.path.isfile(os.path.join(folder, b"first.h5"))


def test_hub_cache_that_is_not_utf8(tmp_path):
    cache = os.path.join(os.fsencode(tmp_path), b"h\xe4b")
    make_llama(tmp_path / "model")
    os.makedirs(os.path.join(cache, b"hub", b"models--org--m", b"snapshots"))
    os.makedirs(os.path.join(cache, b"hub", b"models--org--m", b"refs"))
    os.rename(tmp_path / "model", os.path.join(cache, b"hub", b"models--org--m", b"snapshots", b"0" * 40))
    with open(os.path.join(cache, b"hub", b"models--org--m", b"refs", b"main"), "w") as refs:
        refs.write("0" * 40)
    job = {"name": "j", "models": [{"name": "m", "path": "org/m"}], "prompt_sets": [ids_set(count=2)]}
    path = write_job(tmp_path, job)
    for command in ("check", "plan", "run"):
        done = subprocess.run([str(PROGRAM), command, str(path)], env={**ENVIRONMENT, "HF_HOME": os.fsdecode(cache)}, capture_output=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    for form in ([], ["--json"]):
        done = subprocess.run([str(PROGRAM), "inspect", "org/m", *form], env={**ENVIRONMENT, "HF_HOME": os.fsdecode(cache)}, capture_output=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr


def test_tokenizers_made_to_cost_fail_their_prompts_alone(tmp_path):
    """Text that doubles forty times, beside a good model: nothing grows, the weights and the prompts of ids are there."""
    bad = make_llama(tmp_path / "bad")
    double = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
    spec = {"model": {"type": "BPE", "vocab": {"a": 1}, "merges": []}, "normalizer": {"type": "Sequence", "normalizers": [double] * 40}}
    (bad / "tokenizer.json").write_text(json.dumps(spec))
    sets = [{"name": "s", "prompts": [{"id": "text", "text": "aaaa"}, {"id": "ids", "input_ids": [1, 2, 3]}]}]
    job = {"name": "j", "models": [{"name": "bad", "path": str(bad)}], "prompt_sets": sets}
    results = run_job(tmp_path, job, expect=1)
    with h5py.File(results / "bad.h5") as file:
        errors = file["prompts/s/prompt_error"].asstr()[:]
        assert "make too much of this text" in errors[0] and errors[1] == ""


def test_tokenizer_that_takes_too_much_memory_fails_its_prompts_alone(tmp_path):
    """A vocabulary of 70 MB: a rank of half a GiB stays within it, and the same file is read where there is room."""
    bad = make_llama(tmp_path / "bad")
    with open(bad / "tokenizer.json", "w") as file:  # not in memory: a child's peak begins with its parent's size
        file.write('{"model": {"type": "BPE", "merges": [], "vocab": {')
        file.writelines(f'"zz{i:x}": {i}, ' for i in range(2_000_000))
        file.write('"a": 2000000}}}')
    sets = [{"name": "s", "prompts": [{"id": "text", "text": "a"}, {"id": "ids", "input_ids": [1, 2, 3]}]}]
    job = {"name": "j", "models": [{"name": "bad", "path": str(bad)}], "prompt_sets": sets, "compute": {"max_memory_gib": 0.5}}
    done = spectrace("run", write_job(tmp_path, job))
    assert done.returncode == 1, done.stderr
    with h5py.File(tmp_path / "j" / "bad.h5") as file:
        errors = file["prompts/s/prompt_error"].asstr()[:]
        assert "tokenizer.json: takes more than 170 MiB of memory" in errors[0] and "--max-memory" in errors[0] and errors[1] == "", errors
    assert float(re.search(r"peak memory of a rank ([0-9.]+) GiB", done.stderr)[1]) < 0.5


def test_job_that_is_not_json(tmp_path):
    path = tmp_path / "job.json"
    path.write_text('{"name": "x",\n "models": [}')
    done = spectrace("run", path)
    assert done.returncode == 2
    assert "line 2" in done.stderr and str(path) in done.stderr


def test_unreadable_job_and_unwritable_folder(tmp_path):
    done = spectrace("run", tmp_path / "nowhere.json")
    assert done.returncode == 3 and "nowhere.json" in done.stderr
    job = job_with(make_llama(tmp_path / "bad"), tmp_path)
    (tmp_path / "file").write_text("")
    done = spectrace("run", write_job(tmp_path, job), "-o", tmp_path / "file" / "below")
    assert done.returncode == 3 and str(tmp_path / "file") in done.stderr


@pytest.mark.parametrize("ranks", [1, 3])
def test_full_disk_keeps_what_is_finished(tmp_path, ranks):
    """A limit on the size of files stands for the disk: writing fails in the middle, the next run goes on.

    The limit is the ranks' alone: mpirun's own files would hit it, and so would those of Open MPI's shared memory.
    """
    job = job_with(make_llama(tmp_path / "bad", seed=4), tmp_path)
    job["prompt_sets"] = [ids_set(count=60)]
    path = write_job(tmp_path, job)
    limited = f"trap '' XFSZ; ulimit -f 40; exec {PROGRAM} run {path}"
    launch = ["mpirun", "-n", str(ranks), "--mca", "btl", "self,tcp", "bash", "-c", limited]
    began = time.monotonic()
    done = subprocess.run(launch, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 3, done.stderr
    assert "File too large" in done.stderr, done.stderr
    assert time.monotonic() - began < 60
    assert spectrace("run", path, ranks=ranks).returncode == 0
    whole = run_job(tmp_path / "whole", job)
    for name in ("first.h5", "bad.h5", "last.h5"):
        assert (tmp_path / "sweep" / name).read_bytes() == (whole / name).read_bytes()


def test_srun_without_pmi_is_refused(tmp_path):
    """srun without a PMI would start copies that know nothing of each other: refused with the hint."""
    job = job_with(make_llama(tmp_path / "bad"), tmp_path)
    environment = {"SLURM_NTASKS": "4", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4"}
    done = spectrace("run", write_job(tmp_path, job), environment=environment)
    assert done.returncode == 2 and "--mpi=pmix" in done.stderr, done.stderr
