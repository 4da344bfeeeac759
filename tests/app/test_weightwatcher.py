"""Heavy tails of stored singular values (the table heavy_tails) against WeightWatcher 0.7.7 on the weights themselves."""

import json
import logging
import sys

import numpy as np
import pytest
from program import DEMO_MODELS, ROOT, run_job

sys.path.insert(0, str(ROOT / "tools" / "python"))
weightwatcher = pytest.importorskip("weightwatcher", reason="weightwatcher is not installed (tools/setup --oracle)")
torch = pytest.importorskip("torch", reason="torch is not installed (tools/setup --oracle)")
from safetensors.torch import load_file  # noqa: E402

import spectrace  # noqa: E402
from spectrace import heavy_tails  # noqa: E402

BULK = ["num_spikes", "sigma_mp", "mp_softrank", "bulk_min", "bulk_max"]
COLUMNS = ["N", "M", "Q", "num_evals", "alpha", "alpha_weighted", "D", "sigma", "xmin", "xmax", "num_pl_spikes", "W_scale",
           "lambda_max", "sv_max", "sv_min", "norm", "log_norm", "spectral_norm", "log_spectral_norm", "log_alpha_norm",
           "stable_rank", "matrix_rank", "rank_loss", "weak_rank_loss", "entropy", "status", "warning"]


def weightwatcher_on(matrices):
    """WeightWatcher's table, a row a matrix in their order; it takes float32 weights, and LAPACK in float64 for the spectra."""
    logging.getLogger("weightwatcher").setLevel(logging.ERROR)
    layers = [torch.nn.Linear(w.shape[1], w.shape[0], bias=False) for w in matrices]
    for layer, w in zip(layers, matrices):
        layer.weight.data = torch.as_tensor(w, dtype=torch.float32)
    details = weightwatcher.WeightWatcher(model=torch.nn.Sequential(*layers)).analyze(mp_fit=True)
    assert len(details) == len(matrices)
    return details.sort_values("layer_id").reset_index(drop=True)


def has_stable_bulk(theirs, values):
    """Whether WeightWatcher finds the same bulk when its eigenvalues change in their last bits. It need not: its search starts
    anew from where the estimated density is highest, which on a flat top only rounding decides."""
    rng = np.random.default_rng(0)
    for _ in range(4):
        shaken = np.sort(values) ** 2 * (1 + rng.uniform(-8, 8, len(values)) * np.finfo(float).eps)
        found = weightwatcher.WeightWatcher().mp_fit(np.sort(shaken), theirs["N"], theirs["M"], 1, "", 0, 0, False, False, "", "", 1.0, True, shaken)
        if found[0] != theirs["num_spikes"] or abs(found[1] - theirs["sigma_mp"]) > 1e-9:
            return False
    return True


def expect_equal(ours, theirs, where, values):
    """Counts and words equal, numbers to what two float64 decompositions may differ by: some 1e-14 σ₁ in each singular value.
    The smallest eigenvalue that has a part in a fit is above 1e-5: relatively that is 2e-14 σ₁/√1e-5."""
    tolerance = 1e-13 * max(1.0, theirs["sv_max"] / max(theirs["sv_min"], np.sqrt(heavy_tails.LEAST_EIGENVALUE)))
    is_stable = has_stable_bulk(theirs, values)
    for column in COLUMNS + (BULK if is_stable else []):
        a, b = ours[column], theirs[column]
        if isinstance(b, str):
            assert a == b, (where, column)
        elif column == "sv_min":
            assert abs(a - b) <= 1e-13 * theirs["sv_max"], where
        else:
            assert float(a) == pytest.approx(float(b), rel=tolerance, abs=tolerance), (where, column)
    return is_stable


def test_every_matrix_of_a_model_is_as_weightwatcher_has_it(tmp_path):
    demo = next(path for path in DEMO_MODELS if path.name == "llama-tiny")
    folder = run_job(tmp_path, {"name": "ww", "models": [{"name": "llama", "path": str(demo)}], "prompt_sets": [],
                                "analyses": ["weights", "unembedding"]})
    table = spectrace.open_results(folder).table("heavy_tails")
    index = json.loads((demo / "model.safetensors.index.json").read_text())["weight_map"]
    tensors = {name: tensor for file in sorted(set(index.values())) for name, tensor in load_file(demo / file).items()}
    names = {"W_Q": "model.layers.{}.self_attn.q_proj.weight", "W_K": "model.layers.{}.self_attn.k_proj.weight",
             "W_V": "model.layers.{}.self_attn.v_proj.weight", "W_O": "model.layers.{}.self_attn.o_proj.weight", "W_U": "lm_head.weight"}
    matrices = [tensors[names[row.matrix].format(row.layer)].float().numpy() for row in table.itertuples()]
    theirs = weightwatcher_on(matrices)
    stable = [expect_equal(row, theirs.iloc[i], f"{row['matrix']} of layer {row['layer']}", np.linalg.svd(matrices[i].astype(float), compute_uv=False))
              for i, row in table.iterrows()]
    assert np.mean(stable) > 0.75, "WeightWatcher's Marchenko-Pastur fits were compared for too few matrices"


@pytest.mark.parametrize("shape", [(96, 96), (24, 96), (300, 100), (12, 40), (9, 200)], ids=str)
@pytest.mark.parametrize("is_heavy", [False, True])
def test_matrices_of_every_shape_are_as_weightwatcher_has_them(shape, is_heavy):
    rng = np.random.default_rng(shape[0])
    w = rng.standard_normal(shape) / np.sqrt(shape[1])
    if is_heavy:
        w = w * np.arange(1, shape[1] + 1) ** -0.7
    w = w.astype(np.float32)
    values = np.linalg.svd(w.astype(float), compute_uv=False)
    expect_equal(heavy_tails.metrics(values, *shape), weightwatcher_on([w]).iloc[0], str(shape), values)
