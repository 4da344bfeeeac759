"""/circuits against numpy on whole D×D products, of one case of every family; and heads whose circuits are known."""

import h5py
import numpy as np
import pytest
from expected import EPS, ExpectedModel, eigenvalue_errors, entropy, output_value_eigenvalues, product_spectrum
from models import between_float16, make_llama, stored_in
from program import DEMO_MODELS, run_analysis, run_job
from test_against_oracle import FAMILY_CASES

LEAST_LOG = 37.0  # −ln 2⁻⁵³: the steepest that −p ln p gets


def run_circuits(tmp_path, folder, slicing="correct"):
    return run_analysis(tmp_path, folder, "circuits", slicing=slicing)


def errors_of(values, bound):
    """How far what follows from singular values may be off, where each is off by the bound."""
    s, norm = values["singular_values"], values["frobenius_norm"]
    of_norm = np.sqrt(s.size) * bound
    return {
        "singular_values": bound,
        "spectral_norm": bound,
        "frobenius_norm": of_norm,
        "stable_rank": 2 * values["stable_rank"] * (of_norm / norm + bound / s[0]),
        "effective_rank": values["effective_rank"] * np.expm1(2 * s.size * bound / s.sum() * (LEAST_LOG + np.log(s.size))),
    }


def check_product(group, circuit, place, left, right):
    values = product_spectrum(left, right)
    stored = group[f"{circuit}_singular_value_error"][place]
    # Beyond the worst case over all roundings, m n u a factor (docs/numerics.md), a bound says nothing.
    assert 0 <= stored <= left.size * EPS * np.linalg.norm(left) * np.linalg.norm(right), (circuit, place)
    for name, error in errors_of(values, stored + values.pop("_error")).items():
        measured = group[f"{circuit}_{name}"][place]
        assert np.shape(measured) == np.shape(values[name]), (circuit, place, name)
        off = np.abs(measured - values[name]).max()
        assert off <= error, f"{circuit}_{name} at {place}: {off:.3g} is over {error:.3g}"


def check_eigenvalues(group, place, w_o, w_v):
    eigenvalues, errors = output_value_eigenvalues(w_o, w_v), eigenvalue_errors(w_o, w_v)
    sizes = np.abs(eigenvalues)
    positivity, error = eigenvalues.real.sum() / sizes.sum(), 2 * errors.sum() / sizes.sum()
    assert error < np.sqrt(EPS), f"the eigenvalues at {place} are too badly conditioned to be compared"
    assert abs(group["ov_eigenvalue_positivity"][place] - positivity) <= error, f"ov_eigenvalue_positivity at {place}"
    assert abs(group["ov_spectral_radius"][place] - sizes.max()) <= errors.max(), f"ov_spectral_radius at {place}"


def check_circuits(group, expected):
    layers, heads, d = len(expected.weights), expected.num_heads, expected.head_dim
    for circuit in ("ov", "qk"):
        values = group[f"{circuit}_singular_values"][:]
        assert values.shape == (layers, heads, d) and (np.diff(values) <= 0).all()
        assert np.array_equal(group[f"{circuit}_spectral_norm"][:], values[..., 0])
    for layer in range(layers):
        for head in range(heads):
            factors = expected.circuit_factors(layer, head)
            for circuit, (left, right) in factors.items():
                check_product(group, circuit, (layer, head), left, right)
            check_eigenvalues(group, (layer, head), *factors["ov"])


@pytest.mark.parametrize("folder", FAMILY_CASES + DEMO_MODELS, ids=lambda p: p.name)
def test_circuits_of_every_family(tmp_path, folder):
    expected = ExpectedModel(folder)
    with h5py.File(run_circuits(tmp_path, folder)) as file:
        assert file.attrs["status"] == "ok", file.attrs["error"]
        check_circuits(file["circuits"], expected)


@pytest.mark.parametrize("slicing", ["as-published", "as-published-float16"])
@pytest.mark.parametrize("dtype", ["<f2", "<f4"])
def test_circuits_are_of_what_the_model_uses_whatever_the_slicing(tmp_path, dtype, slicing):
    """GPT-NeoX: the notebooks cut W_Q, W_K and W_V as thirds of what is fused by heads, and may round them to float16."""
    change = between_float16 if dtype == "<f4" else lambda tensor: tensor
    folder = stored_in(tmp_path / "model", next(p for p in FAMILY_CASES if p.name == "gpt_neox"), dtype, change)
    with h5py.File(run_circuits(tmp_path, folder, slicing)) as file:
        assert file.attrs["status"] == "ok", file.attrs["error"]
        assert (file.attrs["slicing"], file["circuits"].attrs["slicing"]) == (slicing, "correct")
        check_circuits(file["circuits"], ExpectedModel(folder))


@pytest.mark.parametrize("case", ["llama", "qwen2", "falcon_40b"])
def test_wrong_grouping_of_heads_is_noticed(tmp_path, case):
    """Query head h has the key/value head ⌊h K/H⌋; h mod K has the same shapes, and is another one."""
    expected = ExpectedModel(next(p for p in FAMILY_CASES if p.name == case))
    assert 1 < expected.num_kv_heads < expected.num_heads
    expected.group_of = lambda head: head % expected.num_kv_heads
    with h5py.File(run_circuits(tmp_path, expected.folder)) as file, pytest.raises(AssertionError, match=r"ov_singular_values at \(0, 1\)"):
        check_circuits(file["circuits"], expected)


# Circuits that are known: a Llama of one key/value head for two query heads, with W_O and W_Q chosen to go with W_V and W_K.
D, HEAD_DIM = 24, 8
PREFIX = "model.layers.0.self_attn."


def run_with(tmp_path, change):
    return run_circuits(tmp_path, make_llama(tmp_path / "model", layers=1, hidden=D, change=change))


def hadamard(n):
    return np.ones((1, 1)) if n == 1 else np.kron([[1, 1], [1, -1]], hadamard(n // 2))


def test_copying_heads_are_told_by_their_eigenvalues(tmp_path):
    """W_O = ±W_Vᵀ copies a token, or suppresses it: all eigenvalues are the σ² of W_V, or minus them. A quarter turn of what was
    read does neither, and a head that writes nothing has no sign."""
    turn = np.kron(np.eye(HEAD_DIM // 2), [[0, -1], [1, 0]])
    w_v = {}

    def change(tensors):
        w_v[0] = np.float32(tensors[PREFIX + "v_proj.weight"][:HEAD_DIM]).astype(float)
        w_v[1] = np.eye(HEAD_DIM, D)
        tensors[PREFIX + "v_proj.weight"][:] = np.vstack([w_v[0], w_v[1]])
        tensors[PREFIX + "o_proj.weight"][:] = np.hstack([w_v[0].T, -w_v[0].T, w_v[1].T @ turn, 0 * w_v[1].T])

    with h5py.File(run_with(tmp_path, change)) as file:
        group = file["circuits"]
        positivity, radius, norm = (group[name][0] for name in ("ov_eigenvalue_positivity", "ov_spectral_radius", "ov_spectral_norm"))
        errors = [eigenvalue_errors(w_v[0].T, w_v[0]), eigenvalue_errors(w_v[1].T @ turn, w_v[1])]
        largest = np.linalg.norm(w_v[0], 2) ** 2
        np.testing.assert_allclose(positivity[:2], [1, -1], rtol=0, atol=2 * errors[0].sum() / (w_v[0] ** 2).sum())
        np.testing.assert_allclose(radius[:2], largest, rtol=0, atol=errors[0].max())
        np.testing.assert_allclose(norm[:2], largest, rtol=0, atol=group["ov_singular_value_error"][0, 0] + errors[0].max())
        np.testing.assert_allclose([positivity[2], radius[2] - 1], 0, atol=2 * errors[1].max())
        assert norm[3] == radius[3] == group["ov_frobenius_norm"][0, 3] == 0
        assert np.isnan([positivity[3], group["ov_effective_rank"][0, 3], group["ov_stable_rank"][0, 3]]).all()
        assert not np.isnan(group["qk_effective_rank"][:]).any()


@pytest.mark.parametrize("scale, where", [(1e200, "beyond"), (1e-200, "below")])
def test_products_that_float64_cannot_hold_are_named(tmp_path, scale, where):
    """Their factors it can; the other layer is measured."""
    def change(tensors):
        tensors["model.layers.1.self_attn.v_proj.weight"][:HEAD_DIM] *= scale
        tensors["model.layers.1.self_attn.o_proj.weight"][:, HEAD_DIM : 2 * HEAD_DIM] *= scale

    folder = make_llama(tmp_path / "model", layers=2, hidden=D, change=change, dtype="<f8")
    job = {"name": "circuits", "models": [{"name": "model", "path": str(folder)}], "prompt_sets": [], "analyses": ["circuits"]}
    with h5py.File(run_job(tmp_path, job, expect=1) / "model.h5") as file:
        assert file.attrs["error"] == (f"layer 1: output-value map of head 1: the norm of a product is {where} the range of float64, "
                                       "though its factors are in it")
        norms = file["circuits/ov_spectral_norm"][:]
        assert np.isfinite(norms[0]).all() and np.isnan(norms[1]).all()


def test_backward_errors_say_how_far_eigenvalues_of_normal_maps_are_off(tmp_path):
    """There an eigenvalue moves by no more than the matrix does. All bounds are below the worst case over all roundings."""
    def change(tensors):
        w_v = tensors[PREFIX + "v_proj.weight"][:HEAD_DIM].astype(np.float32)
        tensors[PREFIX + "v_proj.weight"][:] = np.vstack([w_v, w_v])
        tensors[PREFIX + "o_proj.weight"][:] = np.hstack([w_v.T, -w_v.T, w_v.T, -w_v.T])
        values["w_v"] = w_v.astype(float)

    values = {}
    with h5py.File(run_with(tmp_path, change)) as file:
        error, w_v = file["circuits/ov_eigenvalue_backward_error"][0], values["w_v"]
        exact, of_oracle = np.linalg.norm(w_v, 2) ** 2, 4 * HEAD_DIM * EPS * np.linalg.norm(w_v, 2) ** 2
        assert (np.abs(file["circuits/ov_spectral_radius"][0] - exact) <= error + of_oracle).all()
        assert (error > 0).all() and (error <= D * HEAD_DIM * EPS * np.linalg.norm(w_v) ** 2).all()


def test_singular_values_that_are_known_are_within_the_bound(tmp_path):
    """Powers of two between Hadamard matrices: every number is exact in float32, and σ falls to 2⁻²¹ of the largest. Both heads of a
    group have another W_O and W_Q; in the second every second eigenvalue is negative."""
    rotation = np.kron(np.eye(HEAD_DIM // 4), hadamard(4) / 2)
    basis = np.zeros((D, HEAD_DIM))
    basis[:16] = hadamard(16)[:, 1 : 1 + HEAD_DIM] / 4
    read, written = 2.0 ** -np.arange(HEAD_DIM), 2.0 ** -(2 * np.arange(HEAD_DIM))
    signs = np.where(np.arange(HEAD_DIM) % 2, -1, 1)

    def change(tensors):
        reads = rotation @ np.diag(read) @ basis.T
        writes = [basis @ np.diag(written * s) @ rotation.T for s in (1, signs)]
        for name, heads in {"v_proj": [reads] * 2, "k_proj": [reads] * 2, "q_proj": [w.T for w in writes * 2]}.items():
            tensors[f"{PREFIX}{name}.weight"][:] = np.vstack(heads)
        tensors[PREFIX + "o_proj.weight"][:] = np.hstack(writes * 2)
        for matrix in (tensors[f"{PREFIX}{name}_proj.weight"] for name in "qkvo"):
            assert np.array_equal(np.float32(matrix), matrix)

    exact = read * written
    with h5py.File(run_with(tmp_path, change)) as file:
        group = file["circuits"]
        for circuit in ("ov", "qk"):
            measured, bound = group[f"{circuit}_singular_values"][0], group[f"{circuit}_singular_value_error"][0]
            assert (np.abs(measured - exact).max(-1) <= bound).all(), circuit
            assert (bound <= D * HEAD_DIM * EPS * np.linalg.norm(read) * np.linalg.norm(written)).all(), circuit
            np.testing.assert_allclose(group[f"{circuit}_frobenius_norm"][0], np.linalg.norm(exact), rtol=0, atol=np.sqrt(HEAD_DIM) * bound.max())
            np.testing.assert_allclose(group[f"{circuit}_effective_rank"][0], np.exp(entropy(exact / exact.sum())),
                                       rtol=4 * HEAD_DIM * LEAST_LOG * bound.max() / exact.sum())
        error = 2 * HEAD_DIM * D * EPS * np.linalg.norm(read) * np.linalg.norm(written) / exact.sum()
        np.testing.assert_allclose(group["ov_eigenvalue_positivity"][0], [1, (exact * signs).sum() / exact.sum()] * 2, rtol=0, atol=error)
        np.testing.assert_allclose(group["ov_spectral_radius"][0], exact[0], rtol=0, atol=error)
