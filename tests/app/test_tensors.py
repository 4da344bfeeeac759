"""/tensors against numpy on what safetensors holds: models of families that no other analysis knows, and of one that all know."""

import json
import re

import h5py
import numpy as np
import pytest
from models import ids_set, make_llama, read_safetensors, write_safetensors
from program import bytes_of, described, run_analysis, run_job, spectrace, write_job
from test_bits import killed_and_run_again

import spectrace as spectrace_package
from spectrace.export import dataset_table

EPS = 2.0**-52


def in_order(names):
    """Numbers within names counted as numbers."""
    return sorted(names, key=lambda name: [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.findall(r"\d+|\D", name)])


def expected_matrices(tensors):
    """{name: matrix} of a checkpoint, the definition once more: stacks by their first dimension, convolutions flat."""
    found = {}
    for name in in_order(tensors):
        tensor = np.float64(tensors[name])
        if tensor.ndim == 3 and "conv" not in name:
            found |= {f"{name}[{i}]": matrix for i, matrix in enumerate(tensor)}
        elif tensor.ndim >= 2:
            found[name] = tensor.reshape(len(tensor), -1)
    return found


def check_tensors(group, expected):
    """Every dataset of /tensors; names in the file's order."""
    assert list(group["tensor"].asstr()[:]) == list(expected)
    assert group["singular_values"].shape == (len(expected), max(min(matrix.shape) for matrix in expected.values()))
    for place, (name, w) in enumerate(expected.items()):
        def at(dataset):
            return group[dataset][place]

        sigma = np.linalg.svd(w, compute_uv=False)
        bound = at("singular_value_error") + min(w.shape) * EPS * sigma[0]  # the stored one, and numpy's own
        values = at("singular_values")
        assert (at("rows"), at("columns"), at("num_singular_values")) == (*w.shape, len(sigma)), name
        assert at("singular_value_error") < 1e-12 * sigma[0], name
        np.testing.assert_allclose(values[:len(sigma)], sigma, rtol=0, atol=bound, err_msg=name)
        assert np.isnan(values[len(sigma):]).all(), name
        norm = np.linalg.norm(w)
        p = sigma / sigma.sum()
        tight = {"rtol": 1e-12, "atol": 1e-15, "err_msg": name}
        np.testing.assert_allclose(at("spectral_norm"), sigma[0], **tight)
        np.testing.assert_allclose(at("frobenius_norm"), norm, **tight)
        np.testing.assert_allclose(at("stable_rank"), (norm / sigma[0]) ** 2, **tight)
        np.testing.assert_allclose(at("effective_rank"), np.exp(-(p[p > 0] * np.log(p[p > 0])).sum()), **tight)
        np.testing.assert_allclose(at("entry_mean"), w.mean(), rtol=1e-9, atol=1e-15, err_msg=name)
        np.testing.assert_allclose(at("entry_std"), w.std(ddof=1) if w.size > 1 else np.nan, **tight)
        if sigma[-1] > 2 * bound:
            np.testing.assert_allclose(at("condition_number"), sigma[0] / sigma[-1], rtol=3 * bound / sigma[-1] + 1e-12, err_msg=name)
        else:
            assert at("condition_number") >= sigma[0] / (4 * bound), name
        assert at("numerical_rank") == (sigma > sigma[0] * max(w.shape) * 2.0**-23).sum(), name


def left_out(group):
    return dict(zip(group["left_out"].asstr()[:], group["why_left_out"].asstr()[:]))


def other_analyses():
    return {analysis["name"] for analysis in described()["analyses"]} - {"tensors"}


def saved(folder, model):
    model.save_pretrained(folder)
    return folder


def saved_as_in_memory(folder, model):
    """With the names and shapes of the modules: transformers 5 fuses experts, and takes them apart again when it saves."""
    saved(folder, model)
    write_safetensors(folder / "model.safetensors", {name: tensor.numpy() for name, tensor in model.state_dict().items()})
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Tiny random models of transformers, their sizes all different, by name: {name: (folder, why the others are impossible)}."""
    import torch
    from transformers import (
        BertConfig,
        BertModel,
        MambaConfig,
        MambaModel,
        MixtralConfig,
        MixtralForCausalLM,
        T5Config,
        T5ForConditionalGeneration,
        ViTConfig,
        ViTModel,
    )
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("made")
    models = {
        "bert": (BertModel(BertConfig(vocab_size=37, hidden_size=24, num_hidden_layers=11, num_attention_heads=3, intermediate_size=20,
                                      max_position_embeddings=13)), "an encoder"),
        "t5": (T5ForConditionalGeneration(T5Config(vocab_size=31, d_model=18, d_kv=5, d_ff=26, num_layers=2, num_heads=4)), "an encoder-decoder"),
        "mixtral": (MixtralForCausalLM(MixtralConfig(vocab_size=29, hidden_size=16, intermediate_size=22, num_hidden_layers=2, num_attention_heads=4,
                                                     num_key_value_heads=2, num_local_experts=3)), "a mixture of experts"),
        "vit": (ViTModel(ViTConfig(hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=14, image_size=8, patch_size=4)), "an encoder"),
        "mamba": (MambaModel(MambaConfig(vocab_size=23, hidden_size=10, state_size=4, num_hidden_layers=2)), "known: "),
    }
    folders = {name: (saved(root / name, model), why) for name, (model, why) in models.items()}
    folders |= {"fused": (saved_as_in_memory(root / "fused", models["mixtral"][0]), models["mixtral"][1])}
    for name in ("mixtral", "fused"):  # as a family with experts that nobody knows
        path = folders[name][0] / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "frobmoe", "architectures": ["FrobMoeForCausalLM"]}))
    return folders


@pytest.mark.parametrize("name", ["bert", "t5", "mixtral", "fused", "vit", "mamba"])
def test_models_of_no_family(tmp_path, made, name):
    folder, why = made[name]
    tensors = read_safetensors(folder / "model.safetensors")
    with h5py.File(run_analysis(tmp_path, folder, "tensors")) as file:
        assert (file.attrs["status"], file.attrs["error"], file.attrs["failed_units"]) == ("ok", "", 0)
        check_tensors(file["tensors"], expected_matrices(tensors))
        assert left_out(file["tensors"]) == {key: "1 dimension: no matrix" for key in in_order(tensors) if tensors[key].ndim < 2}
        model_type = json.loads((folder / "config.json").read_text())["model_type"]
        assert why in file.attrs["no_family"] and f"'{model_type}'" in file.attrs["no_family"] and str(tmp_path) not in file.attrs["no_family"]
        assert file.attrs["num_parameters"] == sum(tensor.size for tensor in tensors.values())
        assert file.attrs["storage_dtype"] == "float32" and "num_layers" not in file.attrs
        impossible = json.loads(file.attrs["impossible_analyses"])
        assert impossible == dict.fromkeys(other_analyses(), file.attrs["no_family"])
        assert sorted(file["checkpoint/tensor"].asstr()[:]) == sorted(key for key in tensors if tensors[key].ndim > 1)


def test_fused_experts_are_stacks(tmp_path, made):
    """What the case above rests on: gate and up of an expert in one matrix, the experts in one tensor."""
    with h5py.File(run_analysis(tmp_path, made["fused"][0], "tensors")) as file:
        names = list(file["tensors/tensor"].asstr()[:])
        for layer in range(2):
            for part, shape in (("gate_up_proj", (44, 16)), ("down_proj", (16, 22))):
                for expert in range(3):
                    at = names.index(f"model.layers.{layer}.mlp.experts.{part}[{expert}]")
                    assert (file["tensors/rows"][at], file["tensors/columns"][at]) == shape


def experts(folder, change=None):
    """Fused experts as transformers 5 holds them in memory, and a gate that is none."""
    rng = np.random.default_rng(7)
    tensors = {f"model.layers.{layer}.mlp.{name}": rng.normal(size=shape) for layer in (0, 2, 10)
               for name, shape in (("experts.gate_up_proj", (4, 12, 7)), ("experts.down_proj", (4, 7, 6)), ("gate.weight", (4, 7)))}
    tensors["model.norm.weight"] = rng.normal(size=7)
    if change is not None:
        change(tensors)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "mixtral", "architectures": ["MixtralForCausalLM"]}))
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def test_experts_and_one_that_is_damaged(tmp_path):
    def damage(tensors):
        tensors["model.layers.2.mlp.experts.gate_up_proj"][3, 5, 1] = np.nan

    expected = expected_matrices(read_safetensors(experts(tmp_path / "good") / "model.safetensors"))
    assert list(expected)[4:8] == [f"model.layers.0.mlp.experts.gate_up_proj[{e}]" for e in range(4)]
    with h5py.File(run_analysis(tmp_path / "a", tmp_path / "good", "tensors")) as file:
        check_tensors(file["tensors"], expected)
    job = {"name": "j", "models": [{"name": "m", "path": str(experts(tmp_path / "bad", damage))}], "prompt_sets": [], "analyses": ["tensors"]}
    one = run_job(tmp_path / "b", job, expect=1)
    with h5py.File(one / "m.h5") as file, h5py.File(tmp_path / "a" / "tensors" / "model.h5") as good:
        bad = "model.layers.2.mlp.experts.gate_up_proj[3]"
        assert (file.attrs["status"], file.attrs["failed_units"]) == ("partial", 1)
        assert "gate_up_proj" in file.attrs["error"] and "NaN at [3, 5, 1]" in file.attrs["error"]
        assert file["tensors"].attrs["failed_units"] == 1
        is_bad = file["tensors/tensor"].asstr()[:] == bad
        assert is_bad.sum() == 1
        for name in ("singular_values", "spectral_norm", "entry_mean"):
            assert np.isnan(file["tensors"][name][:][is_bad]).all()
            np.testing.assert_array_equal(file["tensors"][name][:][~is_bad], good["tensors"][name][:][~is_bad])
        assert tuple(file["tensors/rows"][:][is_bad]) == (12,)
    assert bytes_of(run_job(tmp_path / "c", job, ranks=3, expect=1)) == bytes_of(one)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8"])
def test_types_and_a_tall_matrix_that_comes_in_rows(tmp_path, dtype):
    rng = np.random.default_rng(5)
    tensors = {"embed.weight": rng.normal(size=(16500, 256)) + 0.5, "wide.weight": rng.normal(size=(5, 300)), "conv.weight": rng.normal(size=(9, 2, 3)),
               "one.weight": rng.normal(size=(1, 1)), "zero.bias": np.zeros(3)}
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "none_such"}')
    write_safetensors(folder / "model.safetensors", tensors, dtype)
    stored = read_safetensors(folder / "model.safetensors")
    with h5py.File(run_analysis(tmp_path, folder, "tensors", compute={"threads": 2})) as file:
        check_tensors(file["tensors"], expected_matrices(stored))
    other = run_analysis(tmp_path / "other", folder, "tensors", compute={"threads": 1})
    assert other.read_bytes() == (tmp_path / "tensors" / "model.h5").read_bytes()


def test_what_is_no_floating_matrix_is_left_out_by_name(tmp_path):
    folder = experts(tmp_path / "model")
    data = (folder / "model.safetensors").read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + size])
    end = len(data) - 8 - size
    header["position_ids"] = {"dtype": "I64", "shape": [2, 2], "data_offsets": [end, end + 32]}
    header["scale"] = {"dtype": "F32", "shape": [], "data_offsets": [end + 32, end + 36]}
    header["empty"] = {"dtype": "F32", "shape": [0, 3], "data_offsets": [end + 36, end + 36]}
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size:] + bytes(36))
    with h5py.File(run_analysis(tmp_path, folder, "tensors")) as file:
        assert file["tensors/tensor"].shape == (27,)
        assert left_out(file["tensors"]) == {"empty": "no elements", "model.norm.weight": "1 dimension: no matrix",
                                             "position_ids": "type int64, which holds no floating numbers", "scale": "0 dimensions: no matrix"}


def test_patterns_and_most_elements(tmp_path):
    folder = experts(tmp_path / "model")
    settings = {"include": ["*.experts.*", "*.gate.weight"], "exclude": ["model.layers.1?.*"], "max_elements": 42}
    path = run_analysis(tmp_path, folder, "tensors", tensors=settings)
    expected = expected_matrices(read_safetensors(folder / "model.safetensors"))
    taken = {name: matrix for name, matrix in expected.items() if ".10." not in name and matrix.size <= 42}
    assert len(taken) == 10
    with h5py.File(path) as file:
        check_tensors(file["tensors"], taken)
        reasons = left_out(file["tensors"])
        assert reasons["model.layers.10.mlp.gate.weight"] == "excluded by 'model.layers.1?.*'"
        assert reasons["model.layers.0.mlp.experts.gate_up_proj"] == "84 elements, more than max_elements"
        assert json.loads(file.attrs["parameters"])["tensors_include"] == settings["include"]
    # The same again is there; other patterns are other results, whether the matrices would be others or not.
    run_analysis(tmp_path, folder, "tensors", tensors=settings)
    write_job(tmp_path, {"name": "tensors", "models": [{"name": "model", "path": str(folder)}], "prompt_sets": [], "analyses": ["tensors"],
                         "tensors": settings | {"exclude": []}})
    before = path.read_bytes()
    done = spectrace("run", tmp_path / "job.json")
    assert done.returncode == 2 and "tensors exclude: was" in done.stdout + done.stderr
    assert path.read_bytes() == before


def test_patterns_that_fit_nothing_are_an_error_with_names(tmp_path):
    job = {"name": "j", "models": [{"name": "m", "path": str(experts(tmp_path / "model"))}], "prompt_sets": [], "analyses": ["tensors"], "tensors": {"include": ["*.wte.*"]}}
    for command in ("run", "check"):
        done = spectrace(command, write_job(tmp_path, job))
        said = done.stdout + done.stderr
        assert done.returncode == 1, said
        assert 'include ["*.wte.*"]' in said and "'model.layers.0.mlp.experts.down_proj'" in said and "4 more" in said, said
    done = spectrace("check", write_job(tmp_path, job | {"tensors": {"includes": ["*"]}}))
    assert done.returncode == 2 and "includes" in done.stdout + done.stderr


def test_other_analyses_are_refused_by_name_and_tensors_is_done(tmp_path, made):
    job = {"name": "j", "models": [{"name": "m", "path": str(made["bert"][0])}], "prompt_sets": [ids_set()],
           "analyses": ["weights", "attention", "tensors"]}
    checked = spectrace("check", write_job(tmp_path, job))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    done = spectrace("run", tmp_path / "job.json")
    assert done.returncode == 0, done.stdout + done.stderr
    for said in (checked.stdout, done.stderr):
        for name in ("weights", "attention"):
            assert re.search(rf"{name} is not computed: .*'bert'.*an encoder", said), said
    with h5py.File(tmp_path / "j" / "m.h5") as file:
        assert file.attrs["status"] == "ok" and set(file) == {"tensors", "checkpoint"}
    # Without it, nothing of the job can be had.
    for command in ("run", "check"):
        done = spectrace(command, write_job(tmp_path, job | {"name": "k", "prompt_sets": [], "analyses": ["weights"]}))
        assert done.returncode == 1 and "an encoder" in done.stdout + done.stderr


def test_a_folder_without_config(tmp_path):
    folder = experts(tmp_path / "model")
    (folder / "config.json").unlink()
    with h5py.File(run_analysis(tmp_path, folder, "tensors")) as file:
        assert file["tensors/tensor"].shape == (27,)
        assert "has no config.json" in file.attrs["no_family"] and str(tmp_path) not in file.attrs["no_family"]
    done = spectrace("run", write_job(tmp_path, {"name": "k", "models": [{"name": "m", "path": str(folder)}], "prompt_sets": [], "analyses": ["weights"]}))
    assert done.returncode == 1 and "has no config.json" in done.stdout + done.stderr


def test_a_known_family_that_is_damaged_fails_where_it_is(tmp_path):
    """What does not need the absent tensor is measured; a warning names it."""
    folder = make_llama(tmp_path / "model", change=lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    absent = "tensor 'model.layers.1.mlp.up_proj.weight' is absent"
    job = {"name": "j", "models": [{"name": "m", "path": str(folder)}], "prompt_sets": [], "analyses": ["weights", "tensors"]}
    done = spectrace("run", write_job(tmp_path, job))
    assert done.returncode == 0 and absent in done.stderr
    checked = spectrace("check", write_job(tmp_path, job))
    assert checked.returncode == 0 and f"warning: {folder}: {absent}" in checked.stdout
    with h5py.File(tmp_path / "j" / "m.h5") as file:
        assert file.attrs["status"] == "ok"
        check_tensors(file["tensors"], expected_matrices(read_safetensors(folder / "model.safetensors")))

    job = job | {"name": "k", "analyses": ["weights", "mlp", "attention"], "prompt_sets": [ids_set()]}
    checked = spectrace("check", write_job(tmp_path, job))
    assert checked.returncode == 1 and f"m: {absent}" in checked.stdout
    assert spectrace("run", write_job(tmp_path, job)).returncode == 1
    with h5py.File(tmp_path / "k" / "m.h5") as file:
        assert file.attrs["status"] == "partial" and np.isfinite(file["weights/spectral_norm"]).all()
        assert absent in file["mlp"].attrs["error"] and file["mlp"].attrs["failed_units"] == 1
        assert np.isnan(file["mlp/spectral_norm"][1]).all() and np.isfinite(file["mlp/spectral_norm"][0]).all()
        (prompts,) = file["prompts"].values()
        assert all(absent in error for error in prompts["prompt_error"].asstr())

    done = spectrace("run", write_job(tmp_path, job | {"name": "l", "analyses": ["attention"]}))
    assert done.returncode == 1 and absent in done.stdout + done.stderr
    with h5py.File(tmp_path / "l" / "m.h5") as file:
        assert file.attrs["status"] == "failed"


def test_a_known_family_and_the_same_numbers(tmp_path):
    """With all else that is measured; of W_Q the very numbers of /weights."""
    folder = make_llama(tmp_path / "model", layers=3)
    job = {"name": "j", "models": [{"name": "m", "path": str(folder)}], "prompt_sets": [], "analyses": ["weights", "tensors"]}
    with h5py.File(run_job(tmp_path, job) / "m.h5") as file:
        assert file.attrs["num_layers"] == 3 and "no_family" not in file.attrs
        check_tensors(file["tensors"], expected_matrices(read_safetensors(folder / "model.safetensors")))
        names = list(file["tensors/tensor"].asstr()[:])
        for layer in range(3):
            for place, part in enumerate("qkvo"):
                at = names.index(f"model.layers.{layer}.self_attn.{part}_proj.weight")
                values = file["weights/singular_values"][layer, place]
                np.testing.assert_array_equal(file["tensors/singular_values"][at, :len(values)], values)
                for quantity in ("singular_value_error", "frobenius_norm", "entry_mean", "entry_std", "effective_rank"):
                    assert file["tensors"][quantity][at] == file["weights"][quantity][layer, place]
    with h5py.File(tmp_path / "j" / "summary.h5") as file, h5py.File(tmp_path / "j" / "m.h5") as results:
        np.testing.assert_allclose(file["summary/tensors_stable_rank_mean"][0], results["tensors/stable_rank"][:].mean(), rtol=1e-14)


def test_ranks_threads_memory_and_kills_same_bytes(tmp_path):
    job = {"name": "j", "models": [{"name": "m", "path": str(experts(tmp_path / "model"))}], "analyses": ["tensors"], "prompt_sets": []}
    one = bytes_of(run_job(tmp_path / "one", job | {"compute": {"threads": 1}}))
    for ranks, compute in [(1, {"threads": 7}), (2, {}), (3, {"threads": 2}), (1, {"max_memory_gib": 0.01}), (3, {"stages": 2})]:
        assert bytes_of(run_job(tmp_path / f"{ranks}{sorted(compute)}", job | {"compute": compute}, ranks=ranks)) == one, (ranks, compute)
    assert bytes_of(killed_and_run_again(tmp_path / "killed", job, 2)) == one


def test_a_mistake_would_be_noticed(tmp_path):
    """A stack cut along the wrong dimension has matrices of other shapes or values."""
    folder = experts(tmp_path / "model")
    expected = expected_matrices(read_safetensors(folder / "model.safetensors"))
    names = [f"model.layers.0.mlp.experts.down_proj[{e}]" for e in range(4)]
    with h5py.File(run_analysis(tmp_path, folder, "tensors")) as file:
        with pytest.raises(AssertionError, match="down_proj.0."):
            check_tensors(file["tensors"], expected | {names[0]: expected[names[1]]})
        with pytest.raises(AssertionError, match="down_proj.0."):
            check_tensors(file["tensors"], expected | {names[0]: expected[names[0]].T})


def test_inspect_says_what_tensors_would_take(tmp_path, made):
    folder = made["bert"][0]
    done = spectrace("inspect", folder, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    expected = expected_matrices(read_safetensors(folder / "model.safetensors"))
    found = said["stored_matrices"]["tensors"]
    assert [(one["name"], one["rows"], one["columns"]) for one in found["matrices"]] == [(name, *w.shape) for name, w in expected.items()]
    assert (found["num_matrices"], found["num_elements"]) == (len(expected), sum(w.size for w in expected.values()))
    assert found["flops"] > 0 and found["memory_bytes"] > 0 and "an encoder" in said["no_family"]
    done = spectrace("inspect", folder)
    assert done.returncode == 0 and "11 of 24 x 24  encoder.layer.#.attention.self.query.weight" in done.stdout, done.stdout
    planned = spectrace("plan", write_job(tmp_path, {"name": "j", "models": [{"name": "m", "path": str(folder)}], "prompt_sets": [], "analyses": ["tensors"]}), "--json")
    assert planned.returncode == 0, planned.stderr
    assert json.loads(planned.stdout)["models"][0]["units"] == len(expected)


def test_python_tables(tmp_path, made):
    """`tensors` by declaration; `heavy_tails` of the same numbers as from numpy's."""
    folder = made["t5"][0]
    results = spectrace_package.open_results(run_analysis(tmp_path, folder, "tensors").parent)
    expected = expected_matrices(read_safetensors(folder / "model.safetensors"))
    table = results.table("tensors")
    assert table["tensor"].tolist() == list(expected) and table["rows"].tolist() == [len(w) for w in expected.values()]
    np.testing.assert_allclose(table["spectral_norm"], [np.linalg.norm(w, 2) for w in expected.values()], rtol=1e-12)
    tails = results.table("heavy_tails")
    assert tails["matrix"].tolist() == list(expected)
    for (_, row), w in zip(tails.iterrows(), expected.values()):
        of_numpy = spectrace_package.heavy_tails.metrics(np.linalg.svd(w, compute_uv=False), *w.shape)
        assert (row["N"], row["M"]) == (max(w.shape), min(w.shape))
        np.testing.assert_allclose([row["alpha"], row["log_norm"], row["stable_rank"]],
                                   [of_numpy["alpha"], of_numpy["log_norm"], of_numpy["stable_rank"]], rtol=1e-6, equal_nan=True)
    left = dataset_table(results, "tensors/why_left_out")
    assert set(left["value"]) == {"1 dimension: no matrix"} and "encoder.final_layer_norm.weight" in set(left["left_out"])
    assert len(dataset_table(results, "tensors/singular_values")) == len(expected) * max(min(w.shape) for w in expected.values())
