"""/mlp against numpy on the matrices that transformers' modules hold, of one case of every family."""

import h5py
import numpy as np
import pytest
from expected import ExpectedModel
from models import between_float16, make_llama, stored_in
from program import DEMO_MODELS, run_analysis
from test_against_oracle import FAMILY_CASES, check_matrices


def run_mlp(tmp_path, folder, slicing="correct"):
    return run_analysis(tmp_path, folder, "mlp", slicing=slicing)


@pytest.mark.parametrize("folder", FAMILY_CASES + DEMO_MODELS, ids=lambda p: p.name)
def test_matrices_of_every_family(tmp_path, folder):
    expected = ExpectedModel(folder)
    with h5py.File(run_mlp(tmp_path, folder)) as file:
        assert file.attrs["status"] == "ok", file.attrs["error"]
        assert file["mlp/singular_values"].shape == (len(expected.mlp), len(expected.mlp[0]), min(expected.mlp[0]["W_up"].shape))
        check_matrices(file["mlp"], expected.mlp)


@pytest.mark.parametrize("slicing", ["as-published", "as-published-float16"])
@pytest.mark.parametrize("dtype", ["<f2", "<f4"])
def test_matrices_are_those_of_the_model_whatever_the_slicing(tmp_path, dtype, slicing):
    """GPT-NeoX, which the notebooks cut otherwise. Rounded to float16, what lies between would have other singular values."""
    change = between_float16 if dtype == "<f4" else lambda tensor: tensor
    folder = stored_in(tmp_path / "model", next(p for p in FAMILY_CASES if p.name == "gpt_neox"), dtype, change)
    with h5py.File(run_mlp(tmp_path, folder, slicing)) as file:
        assert file.attrs["status"] == "ok", file.attrs["error"]
        assert (file.attrs["slicing"], file["mlp"].attrs["slicing"]) == (slicing, "correct")
        check_matrices(file["mlp"], ExpectedModel(folder).mlp)


@pytest.mark.parametrize("case", ["llama", "phi3"])
def test_gate_in_the_place_of_up_is_noticed(tmp_path, case):
    """Both have one shape; phi3 holds them in one matrix."""
    folder = next(p for p in FAMILY_CASES if p.name == case)
    swapped = [layer | {"W_gate": layer["W_up"], "W_up": layer["W_gate"]} for layer in ExpectedModel(folder).mlp]
    with h5py.File(run_mlp(tmp_path, folder)) as file, pytest.raises(AssertionError, match="layer 0 W_gate"):
        check_matrices(file["mlp"], swapped)


def test_one_matrix_of_a_layer(tmp_path):
    """Its values stand in its own place: of the others nothing changes."""
    def change(tensors):
        tensors["model.layers.1.mlp.up_proj.weight"] *= 2.0

    files = [h5py.File(run_mlp(tmp_path / name, make_llama(tmp_path / name / "model", change=how)))
             for name, how in (("plain", None), ("changed", change))]
    plain, changed = (file["mlp/singular_values"][:] for file in files)
    factor = np.ones_like(plain)
    factor[1, 1] = 2.0
    np.testing.assert_array_equal(changed, plain * factor)
