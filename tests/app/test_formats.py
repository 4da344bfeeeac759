"""Checkpoints as people have them: 8-bit floats with scales, left-over keys, wrapped names, folders of something else."""

import json

import h5py
import numpy as np
import pytest
import torch
from models import LLAMA_CONFIG, ids_set, llama_tensors
from program import all_analyses, run_job, spectrace
from safetensors.torch import load_file, save_file
from transformers.integrations.finegrained_fp8 import _dequantize_fp8_weight

BLOCK = [16, 8]  # no side of a matrix but the head dimension is a multiple of both
FP8 = {"quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": BLOCK, "activation_scheme": "dynamic"}}


def write_model(folder, tensors, config):
    folder.mkdir()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(LLAMA_CONFIG | {"torch_dtype": "bfloat16"} | config))
    return folder


def quantized(matrix, scale_dtype):
    """Codes and scales of one matrix, as trainers make them: each block's largest entry becomes 448."""
    rows, columns = matrix.shape
    grid = [-(-rows // BLOCK[0]), -(-columns // BLOCK[1])]
    padded = torch.zeros(grid[0] * BLOCK[0], grid[1] * BLOCK[1])
    padded[:rows, :columns] = matrix
    blocks = padded.reshape(grid[0], BLOCK[0], grid[1], BLOCK[1])
    scales = (blocks.abs().amax((1, 3)) / 448).to(scale_dtype)
    codes = (blocks / scales.float()[:, None, :, None]).clamp(-448, 448).reshape(padded.shape)[:rows, :columns]
    return codes.to(torch.float8_e4m3fn), scales


def make_pair(folder, scale_dtype):
    """A model as 8-bit floats, W_U too, and the same one with each number written out in float64."""
    stored, plain = {}, {}
    for name, values in llama_tensors(np.random.default_rng(4)).items():
        tensor = torch.tensor(values).to(torch.bfloat16)
        if tensor.dim() == 1 or "embed" in name:
            stored[name], plain[name] = tensor, tensor.double()
            continue
        codes, scales = quantized(tensor.float(), scale_dtype)
        stored |= {name: codes, name + "_scale_inv": scales}
        plain[name] = _dequantize_fp8_weight(codes, scales, BLOCK, torch.float64)
    return write_model(folder / "fp8", stored, FP8), write_model(folder / "plain", plain, {})


def datasets(path):
    found = {}

    def take(name, item):
        if isinstance(item, h5py.Dataset) and not name.startswith("checkpoint/"):
            found[name] = item[()].tobytes() if item.dtype.kind != "O" else item.asstr()[()].tolist()

    with h5py.File(path) as file:
        file.visititems(take)
        return found, dict(file.attrs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_float8_has_the_bits_of_what_it_stands_for(tmp_path, dtype):
    fp8, plain = make_pair(tmp_path, torch.float32)
    job = {"name": "pair", "models": [{"name": p.name, "path": str(p)} for p in (fp8, plain)], "prompt_sets": [ids_set()],
           "analyses": all_analyses(), "compute": {"dtype": dtype}}
    results = run_job(tmp_path, job)
    (found, facts), (expected, _) = datasets(results / "fp8.h5"), datasets(results / "plain.h5")
    assert found.keys() == expected.keys() and len(found) > 50
    assert [name for name in found if found[name] != expected[name]] == []
    assert facts["storage_dtype"] == "float8_e4m3"
    assert facts["storage_decoding"] == ("22 tensors are float8_e4m3 times a float32 scale for each block of 16 x 8 "
                                         "(exact in float64, rounded once in float32)")
    assert "num_unused_tensors" not in facts


def test_float8_is_told(tmp_path):
    fp8, _ = make_pair(tmp_path, torch.bfloat16)
    done = spectrace("inspect", fp8, "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["storage_decoding"] == "22 tensors are float8_e4m3 times a bfloat16 scale for each block of 16 x 8 (exact)"
    assert said["unused_tensors"] == [] and said["warnings"] == []
    assert set(said["storage_bytes_by_type"]) == {"float8_e4m3", "bfloat16"}


def test_a_quantization_config_beside_plain_numbers(tmp_path):
    _, plain = make_pair(tmp_path, torch.float32)
    config = json.loads((plain / "config.json").read_text()) | {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    (plain / "config.json").write_text(json.dumps(config))
    job = {"name": "stale", "models": [{"name": "m", "path": str(plain)}], "prompt_sets": [], "analyses": ["weights"]}
    (tmp_path / "job.json").write_text(json.dumps(job))
    for command in ("check", "run"):
        done = spectrace(command, tmp_path / "job.json")
        assert done.returncode == 0, done.stderr
        assert 'quantization_config (quant_method "gptq") is not followed' in done.stdout + done.stderr


def test_a_compiled_model(tmp_path):
    _, plain = make_pair(tmp_path, torch.float32)
    renamed = {"_orig_mod." + name: tensor for name, tensor in load_file(plain / "model.safetensors").items()}
    compiled = write_model(tmp_path / "compiled", renamed, {})
    job = {"name": "pair", "models": [{"name": p.name, "path": str(p)} for p in (compiled, plain)], "prompt_sets": [ids_set(count=3)]}
    results = run_job(tmp_path, job)
    assert datasets(results / "compiled.h5")[0] == datasets(results / "plain.h5")[0]
    done = spectrace("inspect", compiled, "--json")
    assert json.loads(done.stdout)["warnings"] == ["the names of tensors have '_orig_mod.' (torch.compile) in them, which is left out"]


@pytest.mark.parametrize("name, content, said", [
    ("adapter_config.json", '{"base_model_name_or_path": "org/base", "peft_type": "LORA"}', "holds a LORA adapter of org/base, and no model"),
    ("consolidated.safetensors", "", "under their publisher's own names"),
    ("model.Q8_0.gguf", "", "holds GGUF alone: 'model.Q8_0.gguf'"),
])
def test_folders_of_something_else(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    done = spectrace("inspect", tmp_path)
    assert done.returncode != 0 and said in done.stderr and "has no config.json" not in done.stderr
