"""The other commands: plan, inspect, tokenize, diff, completion, version; and what files people open."""

import json
import os
import re
import shutil
import subprocess
import warnings

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from models import ids_set, make_llama
from program import DEMO_MODELS, ENVIRONMENT, PROGRAM, ROOT, run_job, spectrace, write_job


def make_job(tmp_path):
    model = make_llama(tmp_path / "model")
    return {"name": "j", "models": [{"name": "m", "path": "model"}], "prompt_sets": [ids_set(count=4)]}


def test_version_names_the_libraries():
    done = spectrace("--version")
    assert done.returncode == 0
    for text in ("spectrace 0.", "libtorch", "Open MPI", "nccl", "hdf5"):
        assert text in done.stdout


def test_help_of_every_command():
    top = spectrace("--help")
    assert top.returncode == 0
    for command in ("run", "plan", "check", "inspect", "tokenize", "diff", "completion"):
        assert command in top.stdout
        done = spectrace(command, "--help")
        assert done.returncode == 0 and "Usage" in done.stdout


def test_wrong_usage_exits_2(tmp_path):
    assert spectrace().returncode == 2
    assert spectrace("run").returncode == 2
    assert spectrace("run", "job.json", "--reduce", "smoke").returncode == 2
    assert spectrace("frobnicate").returncode == 2
    for option, value in [("--max-hours", "nan"), ("--max-hours", "inf"), ("--max-hours", "0"), ("--max-memory", "-1"),
                          ("-o", ""), ("--stages", "0"), ("--stages", "many"), ("--stages", "1e3"), ("--stages", "0x2"), ("--threads", "1.5")]:
        done = spectrace("run", "job.json", option, value)
        assert done.returncode == 2 and "must" in done.stderr and len(done.stderr) < 200, done.stderr


def changed(job, key):
    """The job, and what is different of it now."""
    if key == "prompt":
        job["prompt_sets"][0]["prompts"][2]["input_ids"][0] += 1
    elif key == "dtype":
        job["compute"] = {"dtype": "float64"}
    elif key == "beta":
        job["sheaf"] = {"beta": {"from": 0.1, "to": 10, "count": 4}}
    elif key == "another analysis":
        job["analyses"] = ["weights", "mlp"]
    elif key == "another set":
        job["prompt_sets"].append(ids_set(name="more", count=2))
    return job


@pytest.mark.parametrize(("key", "code"), [("nothing", 0), ("prompt", 2), ("dtype", 2), ("beta", 2), ("weights", 2), ("another analysis", 0), ("another set", 0)])
def test_check_knows_what_is_there_and_ends_as_run_would(tmp_path, key, code):
    job = make_job(tmp_path)
    results = run_job(tmp_path, job)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in results.rglob("*") if path.is_file()}
    if key == "weights":
        make_llama(tmp_path / "model", seed=9)
    path = write_job(tmp_path, changed(job, key))
    check = spectrace("check", path)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in results.rglob("*") if path.is_file()} == before
    assert check.returncode == code, check.stdout
    run = spectrace("run", path)
    assert run.returncode == code
    if code:
        named = {"prompt": "prompts of the set", "dtype": "compute dtype", "beta": "beta grid", "weights": "tensors were others"}[key]
        assert named in check.stdout and named in run.stdout and "holds results of something else" in check.stdout


def test_check_of_damaged_results_ends_as_run_does(tmp_path):
    job = make_job(tmp_path)
    results = run_job(tmp_path, job)
    (results / "m.h5").write_bytes(b"no HDF5")
    path = write_job(tmp_path, job)
    check, run = spectrace("check", path), spectrace("run", path)
    assert check.returncode == run.returncode == 1 and "m.h5" in check.stdout


def test_models_of_the_command_line(tmp_path):
    job = make_job(tmp_path)
    job["models"].append({"name": "other", "path": "nowhere"})
    path = write_job(tmp_path, job)
    for command in ("run", "check"):
        done = spectrace(command, path, "--model", "n", "--model", "m")
        assert done.returncode == 2 and "'n'" in done.stderr and "'m', 'other'" in done.stderr
    assert spectrace("check", path).returncode == 1
    assert spectrace("check", "--model", "m", path).returncode == 0
    assert spectrace("run", "--model", "m", path, "--stages", "auto", "--threads", "1").returncode == 0
    assert [p.name for p in (tmp_path / "j").glob("*.h5") if p.name != "summary.h5"] == ["m.h5"]


def test_revision_of_the_hub_cache(tmp_path):
    cache = tmp_path / "cache" / "models--org--name"
    make_llama(cache / "snapshots" / "abc123", seed=1, layers=2)
    make_llama(cache / "snapshots" / "def456", seed=2, layers=3)
    for ref, snapshot in (("main", "abc123"), ("step1000", "def456")):
        (cache / "refs").mkdir(exist_ok=True)
        (cache / "refs" / ref).write_text(snapshot)
    environment = {"HF_HUB_CACHE": str(tmp_path / "cache")}

    def num_layers(name):
        return json.loads(spectrace("inspect", name, "--json", environment=environment).stdout)["num_layers"]

    assert [num_layers("org/name" + revision) for revision in ("", "@main", "@step1000", "@def")] == [2, 2, 3, 3]
    job = {"name": "j", "models": [{"name": "m", "path": "org/name", "revision": "step1000"}], "prompt_sets": [],
           "analyses": ["weights"]}
    assert spectrace("check", write_job(tmp_path, job), environment=environment).returncode == 0
    job["models"][0]["revision"] = "step9"
    done = spectrace("check", write_job(tmp_path, job), environment=environment)
    assert done.returncode == 1 and "'main', 'step1000', 'abc123', 'def456'" in done.stdout


def test_what_is_not_there_ends_inspect_and_tokenize_with_3(tmp_path):
    for arguments in (("inspect", "nope"), ("tokenize", "nope", "x"), ("tokenize", DEMO_MODELS[0], "--file", "nope"),
                      ("tokenize", DEMO_MODELS[0], "--file", tmp_path)):
        done = spectrace(*arguments, cwd=tmp_path)
        assert done.returncode == 3 and str(arguments[-1] if "--file" in arguments else "nope") in done.stderr
        assert done.stdout == ""


def test_help_of_diff_lists_its_own_exit_codes():
    text = spectrace("diff", "--help").stdout
    assert "1 something differs" in text and "models or prompts failed" not in text


def test_plan_shares_every_unit_once(tmp_path):
    path = write_job(tmp_path, make_job(tmp_path))
    keys = None
    for ranks in (1, 3, 1000):
        done = spectrace("plan", path, "--ranks", ranks, "--json")
        assert done.returncode == 0, done.stderr
        plan = json.loads(done.stdout)
        assert plan["ranks"] == len(plan["rank_totals"]) == ranks
        assert plan["makespan_s"] > 0 and 0 < plan["efficiency"] <= 1 and plan["sensible_ranks"] >= 1
        (model,) = plan["models"]
        assert len(model["ranks"]) <= ranks
        assert model["least_memory_bytes"] <= model["memory_bytes"] == max(rank["memory_bytes"] for rank in model["ranks"]) == plan["memory_bytes"]
        units = sorted(key for rank in model["ranks"] for key in rank.get("unit_keys", []))
        assert len(set(units)) == len(units) == model["units"]
        assert keys is None or units == keys
        keys = units
    text = spectrace("plan", path).stdout
    assert f"memory of a rank: about {plan['memory_bytes'] / 2**20:.0f} MiB (for " in text, text


def test_a_bar_on_a_terminal_under_mpirun_too(tmp_path):
    """mpirun passes ranks' output on by a pipe: the terminal is its own."""
    job = make_job(tmp_path)
    job["prompt_sets"] = [ids_set("a", count=3000, longest=17)]
    path = write_job(tmp_path, job)
    ours, theirs = os.openpty()
    process = subprocess.Popen(["mpirun", "-n", "2", str(PROGRAM), "run", str(path)], env=ENVIRONMENT, stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=theirs)  # fmt: skip
    os.close(theirs)
    shown = b""
    while True:
        try:
            some = os.read(ours, 65536)
        except OSError:  # what Linux says at the end of a terminal
            break
        if not some:
            break
        shown += some
    os.close(ours)
    assert process.wait() == 0
    assert b"\r\x1b[K[" in shown and b"ranks at work" in shown


def test_calibration_measures_this_machine_for_later_plans_and_runs(tmp_path):
    path = write_job(tmp_path, make_job(tmp_path))
    environment = {"SPECTRACE_PROFILE": str(tmp_path / "cache" / "machine.json")}

    def plan(*options, threads=1):
        done = spectrace("plan", path, "--json", "--threads", threads, *options, environment=environment)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    before, measured, after = plan(), plan("--calibrate"), plan()
    assert not before["calibrated"] and measured["calibrated"] and after["calibrated"]
    assert measured["makespan_s"] == after["makespan_s"] > 0
    # Of the same number of threads only.
    assert not plan(threads=2)["calibrated"]
    (rates,) = json.loads((tmp_path / "cache" / "machine.json").read_text())["measured"].values()
    assert all(value > 0 for value in rates.values())
    (tmp_path / "cache" / "machine.json").write_text("{")
    done = spectrace("plan", path, environment=environment)
    assert done.returncode == 0 and "machine profile" in done.stderr and "typical cores" in done.stdout


def test_inspect_describes_the_model(tmp_path):
    def add_unused(tensors):
        tensors["model.extra.weight"] = np.ones((3, 3))

    model = make_llama(tmp_path / "model", change=add_unused)
    described = json.loads(spectrace("inspect", model, "--json").stdout)
    assert described["family"] == "llama"
    assert described["kv_head_of_head"] == [0, 0, 1, 1]
    assert described["unused_tensors"] == ["model.extra.weight"]
    assert described["num_parameters"] == 2 * 50 * 24 + 24 + 3 * (2 * 24 + 2 * 32 * 24 + 2 * 16 * 24 + 3 * 40 * 24)
    assert described["memory"]["float64"]["largest_layer_bytes"] == 2 * described["memory"]["float32"]["largest_layer_bytes"]
    shown = spectrace("inspect", model).stdout
    assert "grouped-query" in shown and " KiB" in shown and "_bytes" not in shown
    memory = described["memory"]["float32"]
    assert memory["total_bytes"] > memory["largest_layer_bytes"] + memory["work_bytes_2048_tokens"]


def test_inspect_lists_missing_and_misshapen_tensors(tmp_path):
    def damage(tensors):
        del tensors["model.norm.weight"]
        tensors["model.layers.1.self_attn.o_proj.weight"] = np.ones((24, 31))

    result = spectrace("inspect", make_llama(tmp_path / "model", change=damage), "--json")
    assert result.returncode == 1, result.stderr
    described = json.loads(result.stdout)
    assert described["missing_tensors"] == ["model.norm.weight"]
    assert len(described["unusable_tensors"]) == 1 and "[24, 31], expected [24, 32]" in described["unusable_tensors"][0]


def test_tokenize_matches_tokenizers():
    tokenizers = pytest.importorskip("tokenizers", reason="needs the oracle's packages (tools/setup --oracle)")
    lines = ["def f(x): return x", "", "  spaces  and\ttabs", "naïve café — 東京 🦊", "for i in range(10):"]
    for folder in DEMO_MODELS:
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        done = spectrace("tokenize", folder, input="\n".join(lines) + "\n")
        assert done.returncode == 0, done.stderr
        found = [[int(i) for i in line.split()] for line in done.stdout.split("\n")[:-1]]
        assert found == [tokenizer.encode(line).ids for line in lines]
        assert spectrace("tokenize", folder, lines[0]).stdout == " ".join(map(str, found[0])) + "\n"


def test_diff_names_what_differs(tmp_path):
    job = make_job(tmp_path)
    results = run_job(tmp_path, job)
    assert spectrace("diff", results, results).returncode == 0
    other = tmp_path / "other.h5"
    other.write_bytes((results / "m.h5").read_bytes())
    with h5py.File(other, "r+") as file:
        file["weights/spectral_norm"][1, 2] *= 1 + 1e-6
    done = spectrace("diff", results / "m.h5", other)
    assert done.returncode == 1
    assert "spectral_norm" in done.stdout and "layer=1" in done.stdout and "W_V" in done.stdout
    assert spectrace("diff", results / "m.h5", other, "--rtol", "1e-5").returncode == 0
    assert spectrace("diff", results, tmp_path / "nowhere").returncode == 3


def test_completion_scripts_are_valid(tmp_path):
    for shell in ("bash", "zsh", "fish"):
        done = spectrace("completion", shell)
        assert done.returncode == 0
        for text in ("tokenize", "max-memory", "nccl"):
            assert text in done.stdout
    script = tmp_path / "complete.bash"
    script.write_text(spectrace("completion", "bash").stdout)
    ask = f'source {script}; COMP_WORDS=(spectrace run --reduce ""); COMP_CWORD=3; _spectrace; echo "${{COMPREPLY[@]}}"'
    assert subprocess.run(["bash", "-c", ask], capture_output=True, text=True).stdout.split() == ["auto", "mpi", "nccl"]


def test_bash_completion_keeps_commands_and_files_apart(tmp_path):
    script = tmp_path / "complete.bash"
    script.write_text(spectrace("completion", "bash").stdout)
    folder = tmp_path / "files"
    folder.mkdir()
    for name in ("my job.json", "run-of-march.json"):
        (folder / name).write_text("")

    def offered(*words):
        ask = f'source {script}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _spectrace; printf "%s\\n" "${{COMPREPLY[@]}}"'
        done = subprocess.run(["bash", "-c", ask, "_", "spectrace", *words], capture_output=True, text=True, cwd=folder)
        return done.stdout.splitlines()

    assert offered("run") == ["run"]
    for word in ("my", '"my', "my\\ j"):
        assert offered("run", word) == ["my job.json"], word
    assert offered("check", "run") == ["run-of-march.json"]
    assert offered("run", "--max-h") == ["--max-hours"]
    assert offered("run", "job.json", "-o", "my") == ["my job.json"]
    assert offered("run", "job.json", "--threads", "") in ([], [""])
    assert offered("completion", "f") == ["fish"]


def leaf_groups(file):
    groups = []
    file.visititems(lambda name, item: groups.append(name) if isinstance(item, h5py.Group) and any(isinstance(v, h5py.Dataset) for v in item.values()) else None)
    return groups


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_results_open_in_xarray_without_a_warning(tmp_path, engine):
    results = run_job(tmp_path, make_job(tmp_path) | {"sheaf": {"graph_eigenvalues": True, "beta": {"from": 1, "to": 10, "count": 3}}})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("m.h5", "summary.h5"):
            with h5py.File(results / name) as file:
                groups = leaf_groups(file)
            assert groups
            for group in groups:
                with xr.open_dataset(results / name, engine=engine, group=group) as data:
                    for variable in data.variables.values():
                        assert {"units", "long_name"} <= set(variable.attrs), variable
                    data.load()
        with xr.open_dataset(results / "m.h5", engine=engine, group="weights") as data:
            assert data.spectral_norm.sel(matrix="W_V").dims == ("layer",)
        with xr.open_dataset(results / "m.h5", engine=engine, group="prompts/ids") as data:
            np.testing.assert_allclose(data.beta, np.geomspace(1, 10, 3), rtol=1e-15)
            assert data.graph_eigenvalues.shape[-1] == data.num_tokens.max()
        with xr.open_datatree(results / "m.h5", engine=engine) as tree:
            assert "unembedding" in tree.children


def test_python_lines_of_the_readme(tmp_path, monkeypatch):
    job = json.loads((ROOT / "jobs" / "demo" / "demo.json").read_text())
    model = next(folder for folder in DEMO_MODELS if folder.name == "gpt2-tiny")
    job |= {"models": [{"name": "gpt2-tiny", "path": str(model)}], "output": "results"}
    job["prompt_sets"] = job["prompt_sets"][:1]
    run_job(tmp_path, job)
    lines = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    found = {}
    exec(lines, found)
    assert found["weights"].spectral_norm.sizes["matrix"] == 4
    assert list(found["table"].model) == ["gpt2-tiny"]
    assert isinstance(found["table"], pd.DataFrame) and len(found["results"].summary) == 1


def test_results_have_the_contracts_layout(tmp_path):
    results = run_job(tmp_path, make_job(tmp_path))
    assert sorted(p.name for p in results.iterdir()) == [".seals", "logs", "m.h5", "m.run.json", "progress.json", "summary.h5"]
    with h5py.File(results / "m.h5") as file:
        for name in ("Conventions", "source", "parameters", "model", "lab", "expected", "status", "error", "slicing", "architecture",
                     "num_layers", "num_heads", "num_kv_heads", "head_dim", "hidden_size", "vocab_size", "num_parameters",
                     "storage_dtype", "compute_dtype", "tied_embeddings", "norm_placement", "position_encoding",
                     "rope_theta", "prompt_sha256", "content_sha256"):
            assert name in file.attrs, name
        assert file.attrs["Conventions"] == "spectrace-2"
        assert list(file["heads/kv_head_of_head"][:]) == [0, 0, 1, 1]
        assert file["heads/singular_values"].shape == (3, 4, 4, 8)
        k = file["heads/singular_values"][:, 1]
        assert np.array_equal(k[:, 0], k[:, 1]) and not np.array_equal(k[:, 1], k[:, 2])
        assert file["prompts/ids/statistics/log_partition"].shape == (6, 3, 4, 25)
    with h5py.File(results / "summary.h5") as file:
        table = pd.DataFrame({k: (v.asstr()[:] if v.dtype.kind == "O" else v[:]) for k, v in file["summary"].items()})
        assert list(table.model) == ["m"] and list(table.status) == ["ok"] and table.mean_trace[0] > 0


def test_the_table_at_the_end_says_what_its_columns_are(tmp_path):
    done = spectrace("run", write_job(tmp_path, make_job(tmp_path)))
    lines = done.stdout.splitlines()
    head = next(place for place, line in enumerate(lines) if line.startswith("model"))
    legend = "\n".join(lines[head + 2 :])
    for column in re.split(r"\s{2,}", lines[head])[4:]:
        assert re.search(re.escape(column) + r"[:,]", legend), f"{column} is not explained in: {legend}"


def test_as_published_slicing(tmp_path):
    """NeoX: thirds of the fused rows; the forward pass stays right."""
    from program import ROOT

    folder = ROOT / "tests" / "data" / "model" / "gpt_neox"
    job = {"name": "j", "models": [{"name": "m", "path": str(folder)}], "prompt_sets": [ids_set(count=2, longest=8, vocab=43)]}
    right = run_job(tmp_path / "right", job)
    published = run_job(tmp_path / "published", job | {"slicing": "as-published"})
    with h5py.File(right / "m.h5") as a, h5py.File(published / "m.h5") as b:
        assert b.attrs["slicing"] == "as-published"
        assert np.array_equal(a["prompts/ids/row_entropy"][:], b["prompts/ids/row_entropy"][:])
        heads, d, hidden = (int(a.attrs[n]) for n in ("num_heads", "head_dim", "hidden_size"))
        from safetensors.numpy import load_file

        tensors = load_file(folder / "model.safetensors")
        fused = next(v for k, v in tensors.items() if k.endswith("layers.0.attention.query_key_value.weight")).astype(np.float64)
        third = fused.shape[0] // 3
        for m in range(3):
            s = np.linalg.svd(fused[m * third : (m + 1) * third], compute_uv=False)
            np.testing.assert_allclose(b["weights/singular_values"][0, m, : s.size], s, rtol=1e-10)
        height = hidden // heads
        values = fused[2 * third :]
        norms = [np.linalg.norm(values[h * height : (h + 1) * height]) for h in range(heads)]
        np.testing.assert_allclose(b["heads/frobenius_norm"][0, 2], norms, rtol=1e-12)
        assert not np.allclose(a["heads/frobenius_norm"][0, 2], norms)


def test_as_published_float16_rounds_weights_and_nothing_else(tmp_path):
    from program import ROOT
    from safetensors.numpy import load_file, save_file

    folder = tmp_path / "model"
    folder.mkdir()
    shutil.copy(ROOT / "tests" / "data" / "model" / "gpt_neox" / "config.json", folder)
    given = load_file(ROOT / "tests" / "data" / "model" / "gpt_neox" / "model.safetensors")
    save_file({name: values.astype(np.float32) * np.float32(1.0003) for name, values in given.items()}, folder / "model.safetensors")
    job = {"name": "j", "models": [{"name": "m", "path": str(folder)}], "prompt_sets": [ids_set(count=2, longest=8, vocab=43)]}
    plain = run_job(tmp_path / "plain", job | {"slicing": "as-published"})
    rounded = run_job(tmp_path / "rounded", job | {"slicing": "as-published-float16"})
    tensors = load_file(folder / "model.safetensors")

    def of(ending):
        weights = next(values for name, values in tensors.items() if name.endswith(ending))
        in_half = weights.astype(np.float16).astype(np.float64)
        assert not np.array_equal(in_half, weights)  # else nothing is tested
        return in_half

    with h5py.File(plain / "m.h5") as a, h5py.File(rounded / "m.h5") as b:
        assert b.attrs["slicing"] == "as-published-float16" and json.loads(b.attrs["parameters"])["slicing"] == "as-published-float16"
        for quantity in ("row_entropy", "last_token_norm", "graph_lambda_2"):
            assert np.array_equal(a["prompts/ids"][quantity][:], b["prompts/ids"][quantity][:]), quantity
        fused, output = of("layers.0.attention.query_key_value.weight"), of("layers.0.attention.dense.weight")
        third = fused.shape[0] // 3
        for m, matrix in enumerate([fused[:third], fused[third : 2 * third], fused[2 * third :], output]):
            np.testing.assert_allclose(b["weights/frobenius_norm"][0, m], np.linalg.norm(matrix), rtol=1e-14)
            s = np.linalg.svd(matrix, compute_uv=False)
            np.testing.assert_allclose(b["weights/singular_values"][0, m, : s.size], s, rtol=1e-10)
        np.testing.assert_allclose(b["unembedding/row_norm"][:], np.linalg.norm(of("embed_out.weight"), axis=1), rtol=1e-14)
        values, height = fused[2 * third :], int(b.attrs["hidden_size"]) // int(b.attrs["num_heads"])
        norms = np.array([np.linalg.norm(values[h * height : (h + 1) * height]) for h in range(int(b.attrs["num_heads"]))])
        before = a["heads/frobenius_norm"][0, 2]
        ratio = b["prompts/ids/trace"][:, 0] / a["prompts/ids/trace"][:, 0]
        finite = np.isfinite(ratio)
        assert finite.any()
        np.testing.assert_allclose(ratio[finite], np.broadcast_to((norms / before) ** 2, ratio.shape)[finite], rtol=1e-12)


def test_as_published_grouped_heads(tmp_path):
    """v_proj of grouped heads cut in H slices of D / H rows: heads past the end are empty and count 0."""
    job = make_job(tmp_path) | {"slicing": "as-published"}
    results = run_job(tmp_path, job)
    with h5py.File(results / "m.h5") as file:
        # 16 rows of v_proj, slices of 24 / 4 = 6 rows: 6, 6, 4, 0.
        trace = file["prompts/ids/trace"][:]
        assert (trace[:, :, 3] == 0).all() and (trace[:, :, 2] > 0).all()
        assert (file["heads/frobenius_norm"][:, 2, 3] == 0).all()
        assert np.isnan(file["heads/singular_values"][:, 2, 2, 4:]).all()
        assert np.isfinite(file["heads/singular_values"][:, 2, 2, :4]).all()
