"""Families of which it is known where matrices lie, and no block: their spectra against numpy, of what transformers' modules hold."""

import json
import sys

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from program import PROGRAM, ROOT, bytes_of, run_job, spectrace, write_job
from test_bits import killed_and_run_again

import spectrace as spectrace_package
from spectrace.report import write_report

sys.path.insert(0, str(ROOT / "tests" / "oracle"))
import stored_families  # noqa: E402

ANALYSES = ["weights", "heads", "circuits", "mlp", "unembedding"]


def save(folder, family, seed=0):
    stored_families.save(stored_families.draw_config(family, seed), folder, seed, torch.bfloat16)
    return folder


def job_of(folder, analyses=("weights", "mlp"), **others):
    return {"name": "job", "models": [{"name": "model", "path": str(folder)}], "prompt_sets": [], "analyses": list(analyses)} | others


def results_of(work, folder, **options):
    return run_job(work, job_of(folder), **options) / "model.h5"


def change_tensors(folder, change):
    path = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    change(tensors)
    path.unlink()  # its pages are the old tensors'
    safetensors.torch.save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("family", sorted(stored_families.FAMILIES))
def test_matrices_of_every_family(family, tmp_path):
    assert stored_families.run_family(PROGRAM, family, range(3), tmp_path) == {}


@pytest.mark.parametrize("family", ["gpt_oss", "granitemoe", "llama4_text", "mixtral"])
def test_gate_in_the_place_of_up_is_noticed(family, tmp_path):
    """In each of the forms in which a layer's experts are stored."""
    folder = save(tmp_path / "model", family)
    layers, unembedding, config = stored_families.matrices(folder)
    for _, mlps in layers:
        for name in mlps:
            mlps[name] |= {"W_gate": mlps[name]["W_up"], "W_up": mlps[name]["W_gate"]}
    results = run_job(tmp_path / "run", job_of(folder, ANALYSES)) / "model.h5"
    assert any("W_gate" in problem for problem in stored_families.compare(results, layers, unembedding, config))


def test_gpt_oss_as_it_was_released(tmp_path):
    """MXFP4: what the program reads are the numbers that transformers unpacks, bit for bit."""
    folder = tmp_path / "model"
    plain = stored_families.save_mxfp4(folder, 3)
    with h5py.File(run_job(tmp_path / "run", job_of(folder, ["weights", "heads", "mlp"])) / "model.h5") as file:
        assert file.attrs["status"] == "ok", file.attrs["error"]
        assert "mxfp4" in file.attrs["storage_decoding"]
        assert list(file["mlp/expert"].asstr()) == ["0", "1", "2"]
        for layer in range(2):
            base = f"model.layers.{layer}.mlp.experts."
            both, down = plain[base + "gate_up_proj"], plain[base + "down_proj"]
            for expert in range(3):
                for i, matrix in enumerate((both[expert][:, ::2], both[expert][:, 1::2], down[expert])):
                    sigma = np.linalg.svd(matrix, compute_uv=False)
                    found = file["mlp/singular_values"][layer, expert, i]
                    np.testing.assert_allclose(found[:len(sigma)], sigma, rtol=0, atol=file["mlp/singular_value_error"][layer, expert, i] + 1e-13 * sigma[0])
                    assert file["mlp/frobenius_norm"][layer, expert, i] == pytest.approx(np.linalg.norm(matrix), rel=1e-13)


def test_deepseek_v3_as_it_was_released(tmp_path):
    """FP8 with float32 scales: products of 28 bits, which spectra have to be of whole. Latent matrices and experts alike."""
    folder = tmp_path / "model"
    plain, config = stored_families.save_fp8(folder, 2)
    rank, per_head = config.kv_lora_rank, config.qk_nope_head_dim + config.v_head_dim
    with h5py.File(results_of(tmp_path / "run", folder)) as file:
        assert file.attrs["status"] == "ok", file.attrs["error"]
        roles, experts = list(file["weights/matrix"].asstr()), list(file["mlp/expert"].asstr())
        for layer in range(3):
            base = f"model.layers.{layer}."
            up = plain[base + "self_attn.kv_b_proj.weight"].reshape(config.num_attention_heads, per_head, rank)
            expected = {"W_DKV": plain[base + "self_attn.kv_a_proj_with_mqa.weight"][:rank], "W_UV": up[:, config.qk_nope_head_dim:].reshape(-1, rank),
                        "W_O": plain[base + "self_attn.o_proj.weight"]}
            problems = []
            for role, matrix in expected.items():
                stored_families.compare_slot(file["weights"], (layer, roles.index(role)), matrix, f"layer {layer}, {role}", problems)
            for expert in (name for name in experts if f"{base}mlp.experts.{name}.up_proj.weight" in plain):
                for i, name in enumerate(("gate_proj", "up_proj", "down_proj")):
                    matrix = plain[f"{base}mlp.experts.{expert}.{name}.weight"]
                    stored_families.compare_slot(file["mlp"], (layer, experts.index(expert), i), matrix, f"layer {layer}, {expert}, {name}", problems)
            assert problems == []


@pytest.mark.parametrize("family", ["deepseek_v3", "granitemoe", "mixtral"])
def test_experts_as_the_modules_hold_them(family, tmp_path):
    """transformers 5 has a layer's experts in two tensors, under names of its own: who saves a state dict gets these."""
    folder = save(tmp_path / "model", family)
    layers, unembedding, config = stored_families.matrices(folder)
    state = transformers.AutoModelForCausalLM.from_pretrained(folder).state_dict()
    (folder / "model.safetensors").unlink()
    safetensors.torch.save_file({name: tensor.clone() for name, tensor in state.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    assert any(name.endswith("experts.gate_up_proj") for name in state)
    results = run_job(tmp_path / "run", job_of(folder, ANALYSES)) / "model.h5"
    assert stored_families.compare(results, layers, unembedding, config) == []


def test_tables_and_report(tmp_path):
    """What a layer has not is no number that is wrong; shapes that the file does not say are not guessed."""
    folders = {family: save(tmp_path / family, family, 1) for family in ("deepseek_v3", "falcon_h1", "qwen3_next")}
    job = job_of("", ANALYSES) | {"models": [{"name": family, "path": str(folder)} for family, folder in folders.items()]}
    with spectrace_package.open_results(run_job(tmp_path, job)) as results:
        tails = results.table("heavy_tails")
        assert set(tails.loc[tails["model"] == "deepseek_v3", "matrix"]) == {"W_U"}
        of_hybrid = tails[(tails["model"] == "qwen3_next") & (tails["matrix"] == "W_V")]
        without = json.loads(results.attributes("qwen3_next")["layers_without_attention"])
        assert len(of_hybrid) == 3 - len(without) and np.isfinite(of_hybrid["alpha"]).all()
        assert results.table("nonfinite").empty
        mlp = results.table("mlp")
        assert set(mlp.loc[mlp["model"] == "deepseek_v3", "expert"]) >= {"0", "1", "shared"}
        assert len(mlp[mlp["model"] == "falcon_h1"]) == 9
        write_report(results, tmp_path / "report")
    assert (tmp_path / "report" / "report.html").exists()


def test_what_needs_a_forward_pass_is_refused_by_name(tmp_path):
    folder = save(tmp_path / "model", "qwen3_next")
    prompts = [{"name": "ids", "prompts": [{"id": "a", "input_ids": [1, 2, 3]}]}]
    job = job_of(folder, ["weights", "sheaf", "residual"], prompt_sets=prompts)
    checked = spectrace("check", write_job(tmp_path, job))
    assert "model: warning: sheaf is not computed: a mixture of experts" in checked.stdout
    with h5py.File(run_job(tmp_path, job) / "model.h5") as file:
        assert file.attrs["status"] == "ok", file.attrs["error"]
        assert set(json.loads(file.attrs["impossible_analyses"])) >= {"attention", "residual", "sheaf"}
        assert "mixture of experts" in file.attrs["no_forward"]
        assert set(file) >= {"weights", "checkpoint"} and "prompts" not in file
        without = json.loads(file.attrs["layers_without_attention"])
        assert without and np.isnan(file["weights/spectral_norm"][without]).all()
        with_attention = [layer for layer in range(3) if layer not in without]
        assert np.isfinite(file["weights/spectral_norm"][with_attention]).all()
        assert "norm_placement" not in file.attrs


def test_same_bytes_for_ranks_and_kills(tmp_path):
    """Stacks and single matrices, in layers with and without attention."""
    folders = {family: save(tmp_path / family, family, 1) for family in ("granitemoehybrid", "qwen3_next", "deepseek_v3")}
    job = job_of("", ANALYSES) | {"models": [{"name": family, "path": str(folder)} for family, folder in folders.items()]}
    alone = bytes_of(run_job(tmp_path / "one", job))
    assert bytes_of(run_job(tmp_path / "three", job, ranks=3)) == alone
    assert bytes_of(killed_and_run_again(tmp_path / "killed", job, 2)) == alone


def test_grown_by_its_experts(tmp_path):
    folder = save(tmp_path / "model", "glm4_moe")
    at_once = bytes_of(run_job(tmp_path / "once", job_of(folder, ANALYSES)))
    run_job(tmp_path / "grown", job_of(folder, ["weights"]))
    assert bytes_of(run_job(tmp_path / "grown", job_of(folder, ANALYSES))) == at_once


def test_inspect_says_which_layers_have_what(tmp_path):
    found = json.loads(spectrace("inspect", save(tmp_path / "model", "qwen3_next"), "--json").stdout)
    assert found["family"] == "qwen3_next" and "mixture of experts" in found["no_forward"]
    assert any(experts.endswith("routed, shared") for experts in found["experts"])
    assert found["layers_without_attention"] and found["unused_tensors"] == []
    said = spectrace("inspect", tmp_path / "model").stdout
    assert "layers_without_attention" in said and "routed, shared" in said


# What is wrong with a folder -------------------------------------------------------------------------------------------


def changed_config(folder, **changes):
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | changes))
    return settings


def test_another_number_of_experts_is_named(tmp_path):
    """One more than there are: that one fails, alone. One less: the one that nobody takes is named."""
    folder = save(tmp_path / "model", "mixtral")
    count = changed_config(folder)["num_local_experts"]
    at_once = tmp_path / "run" / "job" / "model.h5"
    run_job(tmp_path / "run", job_of(folder))
    with h5py.File(at_once) as file:
        whole = file["mlp/singular_values"][:]
    changed_config(folder, num_local_experts=count + 1)
    with h5py.File(run_job(tmp_path / "more", job_of(folder), expect=1) / "model.h5") as file:
        assert file.attrs["status"] == "partial"
        assert f"block_sparse_moe.experts.{count}.w1.weight' is absent" in file["mlp"].attrs["error"]
        np.testing.assert_array_equal(file["mlp/singular_values"][:, :count], whole)
        assert np.isnan(file["mlp/spectral_norm"][:, count]).all()
        assert np.isfinite(file["weights/spectral_norm"]).all()
    changed_config(folder, num_local_experts=count - 1)
    done = spectrace("run", write_job(tmp_path / "less", job_of(folder)))
    assert done.returncode == 0 and f"block_sparse_moe.experts.{count - 1}." in done.stderr and "not used" in done.stderr


def test_a_stack_of_another_shape_fails_what_needs_it(tmp_path):
    folder = save(tmp_path / "model", "granitemoe")

    def change(tensors):
        name = "model.layers.1.block_sparse_moe.output_linear.weight"
        tensors[name] = tensors[name][:, :, 1:].contiguous()

    change_tensors(folder, change)
    with h5py.File(results_of(tmp_path / "run", folder, expect=1)) as file:
        assert "'model.layers.1.block_sparse_moe.output_linear.weight' has shape" in file["mlp"].attrs["error"]
        norms = np.isnan(file["mlp/spectral_norm"][:])
        assert norms[1, :, 2].all() and norms.sum() == norms.shape[1]


def test_a_layer_without_any_mlp_is_named(tmp_path):
    folder = save(tmp_path / "model", "olmoe")
    change_tensors(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if ".layers.1.mlp." in name])
    done = spectrace("run", write_job(tmp_path, job_of(folder)))
    assert done.returncode == 1 and "layer 1 has no MLP" in done.stderr


def test_numbers_that_are_not_finite_fail_their_matrix_alone(tmp_path):
    folder = save(tmp_path / "model", "mixtral")
    name = "model.layers.1.block_sparse_moe.experts.1.w3.weight"

    def change(tensors):
        tensors[name][2, 1] = torch.inf

    change_tensors(folder, change)
    with h5py.File(results_of(tmp_path / "run", folder, expect=1)) as file:
        assert file.attrs["status"] == "partial" and name in file["mlp"].attrs["error"]
        norms = file["mlp/spectral_norm"][:]
        assert np.isnan(norms[1, 1, 1]) and np.isnan(norms).sum() == 1
