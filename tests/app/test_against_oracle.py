"""Results files against transformers and numpy: every quantity of every demo model, and of one case of every family."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from expected import MATRICES, ExpectedModel, spectrum
from program import DEMO_MODELS, ROOT, run_job

PROMPTS = [
    {"id": "one token", "input_ids": [7]},
    {"id": "short", "input_ids": [3, 1, 4, 1, 5]},
    {"id": "long", "input_ids": [(7 * i * i + 3 * i + 2) % 41 for i in range(13)]},
]
BETA = {"from": 1e-2, "to": 1e2, "count": 5}
# Relative to each value, or to a thousandth of the largest where a value is smaller. float32: eps times a few hundred
# operations a layer. float64: against an oracle whose steps are in float64 too (`exact`), what rounding of sums leaves.
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}
# Against transformers as it is, whose softmax and norms are in float32: relative to the quantity's largest value.
FLOAT32_STEPS_TOLERANCE = 2e-6
# Counts and shares of entries beyond a threshold: one entry more or less is a jump, not an error of the arithmetic.
JUMPING = {"sparsity", "sparsity_mean_attention", "nullity"}
# Places, which have no statistics.
PLACES = {"max_abs_token", "max_abs_channel"}
# What may come out near zero of numbers that are as large as this: good to the tolerance of those.
CANCELLING = {"boundary_cosine": 1, "attention_write_cosine": 1, "mlp_write_cosine": 1, "anisotropy": 1, "kurtosis": 3}
FAMILY_CASES = sorted(p.parent for p in (ROOT / "tests" / "data" / "model").glob("*/config.json"))
# Of what is made of a forward pass: every family in float64, and one of each kind of norm, position, head and order of a block in
# float32, whose passes test_family_case holds in both types.
FLOAT32_CASES = {"bloom", "cohere", "falcon_7b", "gemma2", "gpt2", "gptj", "granite", "llama", "olmo2", "opt_350m", "phi", "stablelm_parallel"}
TYPED_CASES = [(folder, "float64") for folder in FAMILY_CASES] + [(folder, "float32") for folder in FAMILY_CASES if folder.name in FLOAT32_CASES]


def case_id(part):
    return part if isinstance(part, str) else part.name


def from_levels(name, expected, tolerance, betas):
    """How far a thermodynamic quantity may be off where each level is off by the tolerance times the largest: weights change by
    factors of e^(2 beta error) at most, and means by as much of what they are means of (docs/numerics.md). 0 of others."""
    quantity = name.removeprefix("graph_")
    if quantity not in ("log_partition_nonzero", "internal_energy", "heat_capacity", "thermal_entropy"):
        return 0.0
    prefix = name.removesuffix(quantity)
    error = tolerance * np.stack([found[f"_{prefix}lambda_max" if prefix else "lambda_max"] for found in expected])[..., None]
    capacity = np.stack([found[f"{prefix}heat_capacity"] for found in expected])
    x, spread = error * betas, np.sqrt(np.nan_to_num(capacity))
    return {"log_partition_nonzero": x, "internal_energy": error * (1 + 2 * spread), "heat_capacity": 2 * x * (capacity + spread),
            "thermal_entropy": 2 * x * spread}[quantity]


def assert_close(found, expected, tolerance, what, floor=1e-3, more=0.0):
    """Relative to each value, and where that is below `floor` of the largest, to that; and `more`."""
    found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert found.shape == expected.shape, what
    assert np.array_equal(np.isnan(found), np.isnan(expected)), what
    finite = np.isfinite(expected)
    assert np.array_equal(found[~finite & ~np.isnan(expected)], expected[~finite & ~np.isnan(expected)]), what
    scale = np.abs(expected[finite]).max() if finite.any() else 1.0
    error = np.abs(found[finite] - expected[finite])
    more = np.broadcast_to(more, expected.shape)[finite]
    assert (error <= tolerance * np.maximum(np.abs(expected[finite]), floor * scale) + more + 1e-300).all(), (
        f"{what}: largest error {error.max():.3g} at scale {scale:.3g}"
    )


def check_matrices(group, layers):
    """A group like /weights; layers: of each its matrices by name, in the group's order."""
    names = list(layers[0])
    assert group["matrix"].asstr()[:].tolist() == names
    for layer, matrices in enumerate(layers):
        for m, name in enumerate(names):
            check_matrix(group, (layer, m), matrices[name], f"layer {layer} {name}")


def check_matrix(group, place, matrix, where):
    values = spectrum(matrix)
    s = values.pop("singular_values")
    count = int(group["num_singular_values"][place])
    measured = group["singular_values"][place]
    assert count == s.size and np.isnan(measured[count:]).all(), where
    # Singular values to the stored bound, plus numpy's own error.
    bound = group["singular_value_error"][place] + max(matrix.shape) * 2.0**-52 * s[0]
    assert np.abs(measured[:count] - s).max() <= bound, where
    for name, value in values.items():
        if name == "condition_number":
            assert abs(group["condition_number"][place] / value - 1) <= 2 * bound / s[-1] + 1e-12, where
        else:
            assert_close(group[name][place], value, 1e-11, f"{name} {where}")


def check_weights(file, expected):
    check_matrices(file["weights"], expected.weights)
    for layer, row in enumerate(expected.heads()):
        for m, heads in enumerate(row):
            for h, values in enumerate(heads):
                where = f"layer {layer} {MATRICES[m]} head {h}"
                s = values["singular_values"]
                found = file["heads/singular_values"][layer, m, h]
                assert_close(found[: s.size], s, 1e-11, where)
                assert np.isnan(found[s.size :]).all(), where
                for name in ("spectral_norm", "frobenius_norm", "effective_rank", "stable_rank"):
                    assert_close(file["heads"][name][layer, m, h], values[name], 1e-11, f"{name} {where}")


def check_unembedding(file, expected):
    w = expected.unembedding
    norms = np.linalg.norm(w, axis=1)
    s = np.linalg.svd(w, compute_uv=False)
    group = file["unembedding"]
    assert np.abs(group["singular_values"][:] - s).max() <= group["singular_value_error"][()] + max(w.shape) * 2.0**-52 * s[0]
    assert_close(group["row_norm"][:], norms, 1e-12, "row_norm")
    assert_close(group["row_norm_mean"][()], norms.mean(), 1e-12, "row_norm_mean")
    assert_close(group["row_norm_std"][()], norms.std(ddof=1), 1e-10, "row_norm_std")
    assert_close(group["spectral_per_sqrt_vocab"][()], s[0] / np.sqrt(w.shape[0]), 1e-12, "spectral_per_sqrt_vocab")
    assert_close(group["frobenius_norm"][()], np.linalg.norm(w), 1e-12, "frobenius_norm")


def check_prompts(file, expected, name, tolerance, exact, floor=1e-3):
    group = file["prompts"][name]
    betas = group["beta"][:]
    starts, counts = group["row_start"][:], group["num_tokens"][:]
    prompts = [group["token_ids"][s : s + c].tolist() for s, c in zip(starts, counts)]
    per_prompt = [expected.prompt(ids, betas, exact) for ids in prompts]
    for quantity in (name for name in per_prompt[0] if not name.startswith("_")):
        values = np.stack([found[quantity] for found in per_prompt])
        # Not stored for each prompt: it follows from another one.
        found = -group["log_partition"][:] / betas if quantity == "free_energy" else group[quantity][:]
        if quantity in PLACES:
            assert np.array_equal(found, values) and quantity not in group["statistics"], quantity
            continue
        if quantity in JUMPING:
            n = np.array([len(ids) for ids in prompts]).reshape((-1,) + (1,) * (values.ndim - 1))
            allowed = expected.hidden * 2 * n if quantity == "nullity" else 2 / n**2
            assert (np.abs(found - values) <= allowed).all(), quantity
            assert np.mean(found != values) <= 0.02, quantity
            continue
        more = from_levels(quantity, per_prompt, tolerance, betas) + tolerance * CANCELLING.get(quantity, 0)
        assert_close(found, values, tolerance, quantity, floor, more)
        check_statistics(group["statistics"], quantity, found)
    check_scalars(file, group, per_prompt)


def check_statistics(group, quantity, values):
    """Of a quantity whose values by prompt are `values`."""
    statistics = group[quantity][:]
    finite = np.where(np.isfinite(values), values, np.nan)
    count = np.isfinite(values).sum(0)
    with np.errstate(all="ignore"):
        assert np.array_equal(statistics[0], count), quantity
        assert np.array_equal(statistics[1], len(values) - count), quantity
        some = count > 0
        assert_close(np.where(some, statistics[2], np.nan), np.where(some, np.nansum(finite, 0) / count, np.nan), 1e-12, quantity)
        if (count > 1).all():
            reference = np.nanstd(finite, axis=0, ddof=1)
            scale = np.nanmax(np.abs(finite), axis=0)
            assert (np.abs(statistics[3] - reference) <= 1e-7 * scale + 1e-300).all(), quantity
            assert np.array_equal(statistics[4], np.nanmin(finite, 0)) and np.array_equal(statistics[5], np.nanmax(finite, 0))


def check_scalars(file, group, per_prompt):
    statistics = group["statistics"]
    gain = np.mean([found["gain"][-1] for found in per_prompt])
    assert_close(statistics["last_gain_mean"][()], gain, 1e-4, "last_gain_mean")
    amplification = file["unembedding/spectral_norm"][()] * statistics["last_gain_mean"][()]
    assert_close(statistics["effective_amplification"][()], amplification, 1e-15, "effective_amplification")
    trace = group["trace_multihead"][:].mean(0)
    assert statistics["l_star_trace"][()] == np.argmax(np.abs(np.gradient(trace)))
    entropy = group["flat_entropy_mean_attention"][:].mean(0)
    middle = (entropy[0] + entropy[-1]) / 2
    reached = entropy >= middle if entropy[-1] > entropy[0] else entropy <= middle
    assert statistics["l_star_entropy"][()] == (np.argmax(reached) if reached.any() else len(entropy) // 2)
    turns = [l for l in range(1, len(trace) - 1) if trace[l] > trace[l - 1] and trace[l + 1] < trace[l]]
    found = statistics["l_star_sign_change"][()]
    assert found == turns[0] if turns else np.isnan(found)


def check_model(tmp_path, folder, dtype, prompt_sets):
    job = {
        "name": "oracle",
        "models": [{"name": "model", "path": str(folder)}],
        "prompt_sets": prompt_sets,
        "sheaf": {"beta": BETA},
        "keep": "all",
        "compute": {"dtype": dtype, "tokens_per_batch": 20},
    }
    results = run_job(tmp_path, job)
    with h5py.File(results / "model.h5") as file:
        assert file.attrs["status"] == "ok", file.attrs["error"]
        expected = ExpectedModel(folder)
        assert (file.attrs["num_heads"], file.attrs["num_kv_heads"]) == (expected.num_heads, expected.num_kv_heads)
        check_weights(file, expected)
        check_unembedding(file, expected)
        for prompt_set in prompt_sets:
            check_prompts(file, expected, prompt_set["name"], TOLERANCE[dtype], exact=dtype == "float64")
            if dtype == "float64":
                check_prompts(file, expected, prompt_set["name"], FLOAT32_STEPS_TOLERANCE, exact=False, floor=1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("folder", FAMILY_CASES, ids=lambda p: p.name)
def test_family_case(tmp_path, folder, dtype):
    check_model(tmp_path, folder, dtype, [{"name": "ids", "prompts": PROMPTS}])


# Trained weights and texts; the families' cases hold both types of each of these.
@pytest.mark.parametrize(("folder", "dtype"), [*((folder, "float64") for folder in DEMO_MODELS), (DEMO_MODELS[0], "float32")], ids=case_id)
def test_demo_model(tmp_path, folder, dtype):
    demo = json.loads((ROOT / "jobs" / "demo" / "demo.json").read_text())
    texts = [p for p in demo["prompt_sets"][0]["prompts"]][:3]
    check_model(tmp_path, folder, dtype, [{"name": "code", "prompts": texts}, {"name": "ids", "prompts": PROMPTS}])
