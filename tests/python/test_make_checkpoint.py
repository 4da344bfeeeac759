"""tools/make_checkpoint: checkpoints of random weights with published geometries."""

import hashlib
import json
import math
import os
import struct
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools" / "lib"))
import geometries  # noqa: E402
import made_checkpoints  # noqa: E402

PROGRAM = Path(os.environ.get("SPECTRACE_PROGRAM", ROOT / "build" / "release" / "spectrace"))
# Unit roundoff, and the largest error among numbers too small for it: half of the smallest subnormal.
ROUNDOFF = {"bfloat16": (2**-8, 0.0), "float16": (2**-11, 2**-25), "float32": (2**-24, 0.0), "float64": (2**-53, 0.0)}


def make(folder, *options, expect=0):
    run = subprocess.run([sys.executable, ROOT / "tools" / "make_checkpoint", *options, folder], capture_output=True, text=True)
    assert run.returncode == expect, run.stderr
    return run


def spectrace(*words):
    environment = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    run = subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def job_of(folder, vocab, **more):
    job = {"name": "job", "models": [{"name": "m", "path": str(folder)}], "prompt_sets": [made_checkpoints.make_set(3, (2, 9), vocab)]} | more
    path = folder.parent / f"{folder.name}.json"
    path.write_text(json.dumps(job | {"output": str(folder.parent / f"{folder.name}-results")}))
    return path


def bytes_of(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def tensors_in(folder, dtype):
    """name -> float64, read by the format's definition."""
    found = {}
    for path in folder.glob("*.safetensors"):
        data = path.read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        for name, entry in json.loads(data[8 : 8 + length]).items():
            if name == "__metadata__":
                continue
            assert entry["dtype"] == made_checkpoints.STORAGE[dtype]
            begin, end = entry["data_offsets"]
            raw = np.frombuffer(data[8 + length + begin : 8 + length + end], made_checkpoints.stored_type(dtype))
            values = (raw.astype(np.uint32) << 16).view(np.float32) if dtype == "bfloat16" else raw
            found[name] = values.astype(np.float64).reshape(entry["shape"])
    return found


def rounding_bound(spectrum, rows, columns, dtype):
    """How far singular values may be from the noted ones: |E|_F of the file's rounding, by Weyl's inequality.

    Beside it the products' own rounding: each number is a sum of p + q terms, twice over, in a type of roundoff `work`.
    """
    roundoff, smallest = ROUNDOFF[dtype]
    frobenius, n = np.linalg.norm(spectrum), min(rows, columns)
    work = 2**-24 if made_checkpoints.WIDTH[dtype] == 2 else 2**-53
    products = 2 * (sum(made_checkpoints.factors_of(n)) + 64) * work * math.sqrt(n)
    return (roundoff + products) * frobenius + smallest * math.sqrt(rows * columns)


@pytest.mark.parametrize("model", geometries.CONFIGS)
def test_every_geometry_is_complete_for_the_program(tmp_path, model):
    config = geometries.CONFIGS[model]
    made_checkpoints.make_checkpoint(tmp_path / "m", config, sparse=True)
    found = json.loads(spectrace("inspect", tmp_path / "m", "--json"))
    assert found["missing_tensors"] == [] and found["unused_tensors"] == []
    assert sum(path.stat().st_blocks * 512 for path in (tmp_path / "m").iterdir()) < 1e6  # nothing but headers was written


@pytest.mark.parametrize("model", ["llama-3.1-8b", "llama-3.2-1b", "mistral-7b", "qwen2.5-7b", "gemma-2-9b", "pythia-6.9b", "gpt2", "opt-6.7b"])
def test_every_family_is_read_whole_and_runs(tmp_path, model):
    folder = tmp_path / "m"
    make(folder, "--like", model, "--scale", "tiny", "--spectrum", "decaying")
    config = json.loads((folder / "config.json").read_text())
    found = json.loads(spectrace("inspect", folder, "--json"))
    assert found["missing_tensors"] == [] and found["unused_tensors"] == []
    job = job_of(folder, config["vocab_size"])
    spectrace("check", job)
    spectrace("run", job)
    noted = json.loads((folder / "spectra.json").read_text())
    dtype, spectra = noted["dtype"], noted["singular_values"]
    hidden, vocab = geometries.size_of(config, "hidden"), config["vocab_size"]
    with h5py.File(tmp_path / "m-results" / "m.h5") as file:
        measured, counts = file["weights/singular_values"][:], file["weights/num_singular_values"][:].astype(int)
        assert len(spectra) == measured.shape[0] * 4 + 1
        for layer in range(measured.shape[0]):
            for place, matrix in enumerate(("W_Q", "W_K", "W_V", "W_O")):
                known = np.array(spectra[f"layers.{layer}.{matrix}"])
                assert len(known) == counts[layer, place]
                bound = rounding_bound(known, hidden, hidden, dtype)
                assert np.abs(measured[layer, place, : len(known)] - known).max() <= bound
        known = np.array(spectra["W_U"])
        assert np.abs(file["unembedding/singular_values"][:] - known).max() <= rounding_bound(known, vocab, hidden, dtype)
        assert file.attrs["status"] == "ok"  # no prompt failed: all is finite


def test_geometries_are_the_published_ones():
    # Parameters as the models' cards and papers count them, tied embeddings once.
    published = {"llama-3.1-8b": 8_030_261_248, "llama-3.2-1b": 1_235_814_400, "llama-2-7b": 6_738_415_616, "mistral-7b": 7_241_732_096,
                 "qwen2.5-7b": 7_615_616_512, "gemma-2-2b": 2_614_341_888, "gemma-2-9b": 9_241_705_984, "pythia-160m": 162_322_944,
                 "pythia-1b": 1_011_781_632, "pythia-6.9b": 6_857_302_016, "gpt2": 124_439_808, "gpt2-medium": 354_823_168,
                 "gpt2-large": 774_030_080, "gpt2-xl": 1_557_611_200, "opt-125m": 125_239_296, "opt-6.7b": 6_658_473_984}  # fmt: skip
    counted = {name: sum(math.prod(t.shape) for t in geometries.tensors_of(config).values()) for name, config in geometries.CONFIGS.items()}
    assert counted == published


def test_resizing_leaves_the_geometry_alone_and_the_config_consistent():
    before = json.dumps(geometries.CONFIGS)
    config = geometries.like("llama-3.1-8b", hidden=64, heads=4, vocab=300, head_dim=20)
    assert (config["hidden_size"], config["head_dim"], config["num_hidden_layers"]) == (64, 20, 32)
    assert config["bos_token_id"] == config["eos_token_id"] == 299
    assert geometries.like("opt-125m", hidden=64)["word_embed_proj_dim"] == 64
    assert json.dumps(geometries.CONFIGS) == before


@pytest.mark.parametrize("dtype", made_checkpoints.STORAGE)
@pytest.mark.parametrize("model", ["llama-3.1-8b", "gpt2", "pythia-6.9b"])
def test_noted_spectra_are_those_of_the_file(tmp_path, dtype, model):
    folder = tmp_path / "m"
    make(folder, "--like", model, "--scale", "tiny", "--spectrum", "decaying", "--dtype", dtype)
    config = json.loads((folder / "config.json").read_text())
    noted = json.loads((folder / "spectra.json").read_text())["singular_values"]
    tensors = tensors_in(folder, dtype)
    for name, tensor in geometries.tensors_of(config).items():
        for matrix in tensor.matrices:
            values = tensors[name].reshape(matrix.view)[matrix.index]
            values = values.reshape(-1, values.shape[-1])
            known = np.array(noted[matrix.name])
            found = np.linalg.svd(values, compute_uv=False)
            assert np.abs(found - known).max() <= rounding_bound(known, *values.shape, dtype)
            assert 1e3 <= known[0] / known[-1] <= 1e6 * (1 + 1e-9) and known[0] > 3 * known[1]


@pytest.mark.parametrize("rows, columns", [(64, 64), (301, 64), (127, 64), (65, 64), (128, 64), (300, 1), (53, 53), (97, 53), (64 * 3 + 63, 64)])
def test_known_spectrum_of_any_tall_shape(rows, columns):
    generator = np.random.default_rng(1)
    spectrum = made_checkpoints.decaying_spectrum(rows, columns, 0.02, generator)
    made = np.concatenate(list(made_checkpoints.KnownSpectrum(rows, columns, spectrum, generator, np.float64)))
    assert made.shape == (rows, columns)
    found = np.linalg.svd(made, compute_uv=False)
    assert np.abs(found - spectrum).max() <= rounding_bound(spectrum, rows, columns, "float64")
    norms = np.linalg.norm(made, axis=1)
    assert norms.min() > 0
    if columns > 1 and rows % columns != 1:  # one row that is left over has nothing to mix with, and is parallel to another
        cosines = np.abs((made / norms[:, None]) @ (made / norms[:, None]).T - np.eye(rows))
        assert cosines.max() < 1 - 1e-6


def test_noise_has_the_asked_deviation_and_no_two_tensors_agree(tmp_path):
    folder = tmp_path / "m"
    make(folder, "--like", "llama-3.1-8b", "--scale", "tiny", "--dtype", "float32")
    assert not (folder / "spectra.json").exists()
    tensors = {name: values for name, values in tensors_in(folder, "float32").items() if values.ndim == 2}
    numbers = np.concatenate([values.ravel() for values in tensors.values()])
    # The standard deviation of an estimate from n normals is std / sqrt(2 n), of their mean std / sqrt(n): six of them.
    assert abs(numbers.std() - 0.02) < 6 * 0.02 / math.sqrt(2 * len(numbers))
    assert abs(numbers.mean()) < 6 * 0.02 / math.sqrt(len(numbers))
    firsts = [values.ravel()[:64].tobytes() for values in tensors.values()]
    assert len(set(firsts)) == len(firsts)


def test_bfloat16_is_rounded_to_nearest_ties_to_even():
    values = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1.0 - 2**-9, 3.4e38, 0.0], np.float32)
    found = (made_checkpoints.stored(values, "bfloat16").astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(found[:5], np.array([1.0, 1.0, 1 + 2**-6, 1 + 2**-7, -1.0], np.float32))
    assert np.isinf(found[5]) or found[5] > 3.3e38
    assert found[6] == 0


@pytest.mark.parametrize("spectrum", ["flat", "decaying"])
def test_a_seed_gives_the_same_bytes_in_any_number_of_threads_and_layers(tmp_path, spectrum):
    config = geometries.tiny(geometries.CONFIGS["llama-3.1-8b"])
    sums = []
    for i, (seed, threads) in enumerate([(7, 1), (7, 4), (8, 4)]):
        made_checkpoints.make_checkpoint(tmp_path / str(i), config, "bfloat16", spectrum, seed, threads=threads)
        sums.append(bytes_of(tmp_path / str(i)))
    assert sums[0] == sums[1] and sums[0]["model.safetensors"] != sums[2]["model.safetensors"]
    made_checkpoints.make_checkpoint(tmp_path / "short", geometries.resized(config, layers=1), "bfloat16", spectrum, 7)
    whole, short = tensors_in(tmp_path / "0", "bfloat16"), tensors_in(tmp_path / "short", "bfloat16")
    assert len(short) < len(whole)
    for name, values in short.items():
        np.testing.assert_array_equal(values, whole[name])


def test_shards_hold_what_one_file_holds(tmp_path):
    make(tmp_path / "one", "--like", "llama-3.1-8b", "--scale", "tiny")
    make(tmp_path / "many", "--like", "llama-3.1-8b", "--scale", "tiny", "--shard-gb", "5e-5")
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert len(files) > 2 and files == sorted(p.name for p in (tmp_path / "many").glob("*.safetensors"))
    assert files[0] == f"model-00001-of-{len(files):05}.safetensors"
    one, many = tensors_in(tmp_path / "one", "bfloat16"), tensors_in(tmp_path / "many", "bfloat16")
    assert one.keys() == many.keys() == index["weight_map"].keys()
    assert index["metadata"]["total_size"] == 2 * sum(values.size for values in one.values())
    for name, values in one.items():
        np.testing.assert_array_equal(many[name], values)
    assert json.loads(spectrace("inspect", tmp_path / "many", "--json"))["missing_tensors"] == []


def test_wrong_usage_is_said(tmp_path):
    (tmp_path / "there").mkdir()
    assert "there" in make(tmp_path / "there", "--like", "gpt2", "--scale", "tiny", expect=1).stderr
    assert "--layers" in make(tmp_path / "m", "--like", "gpt2", "--layers", "0", expect=2).stderr
    assert "invalid choice" in make(tmp_path / "m", "--like", "gpt5", expect=2).stderr
    assert not (tmp_path / "m").exists()
