"""The analysis prediction against the model's own head: every boundary put in the place of the last block's output."""

import json

import h5py
import numpy as np
import pytest
from expected import ExpectedModel, predictions
from program import ROOT, run_analysis, spectrace, write_job
from safetensors.numpy import load_file, save_file
from test_against_oracle import FAMILY_CASES, FLOAT32_CASES, PROMPTS, TOLERANCE, assert_close, case_id, check_statistics

IDS = {prompt["id"]: prompt["input_ids"] for prompt in PROMPTS}
SETS = [{"name": "ids", "prompts": PROMPTS}]


def run_prediction(tmp_path, folder, dtype="float64", **job):
    return run_analysis(tmp_path, folder, "prediction", **{"prompt_sets": SETS, "compute": {"dtype": dtype, "tokens_per_batch": 20}, **job})


def check_predictions(group, per_prompt, dtype):
    for quantity in per_prompt[0]:
        values = np.stack([found[quantity] for found in per_prompt])
        measured = group[quantity][:]
        if quantity in ("lens_rank", "top1_accuracy") and dtype == "float32":
            assert np.array_equal(np.isnan(measured), np.isnan(values)), quantity
            away = np.abs(measured - values)[~np.isnan(values)]  # of two tokens that are as likely but for rounding
            assert np.mean(away > 0) <= 0.1 and away.max() <= 1, quantity
        else:
            # Likelihoods and divergences are differences of scores: as good as these are, absolutely.
            assert_close(measured, values, TOLERANCE[dtype], quantity, more=TOLERANCE[dtype])
        check_statistics(group["statistics"], quantity, measured)
    mean = group["statistics/next_token_nll_mean"][()]
    assert mean == group["statistics/next_token_nll"][2]
    assert group["statistics/perplexity_of_mean"][()] == pytest.approx(np.exp(mean), rel=1e-15)


# test_differential holds predictions and the lens of every family; here one of each kind, through the program and its files.
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("folder", [folder for folder in FAMILY_CASES if folder.name in FLOAT32_CASES], ids=case_id)
def test_predictions_of_families(tmp_path, folder, dtype):
    expected = ExpectedModel(folder)
    with h5py.File(run_prediction(tmp_path, folder, dtype)) as file:
        assert file.attrs["status"] == "ok", file.attrs["error"]
        check_predictions(file["prompts/ids"], [expected.predictions(ids, exact=dtype == "float64") for ids in IDS.values()], dtype)


def test_definitions_by_hand():
    """Two tokens of three that are likely as 1/2, 1/4, 1/4 and 1/4, 1/2, 1/4."""
    p = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]])
    values = predictions(np.log(p), np.log(np.array([[0.25, 0.25, 0.5], p[1]])), [2, 0])
    even = 1.5 * np.log(2)
    expected = {"next_token_nll": np.log(2), "perplexity": 2.0, "top1_accuracy": 1.0, "prediction_entropy": even,
                "lens_kl": [0.5 * np.log(2) - 0.25 * np.log(2), 0], "lens_entropy": [even, even], "lens_rank": [1, 0]}
    for name, value in expected.items():
        np.testing.assert_allclose(values[name].astype(float) if hasattr(values[name], "astype") else values[name], value, atol=1e-15, err_msg=name)


@pytest.mark.parametrize("shift", [-1, 1])
def test_another_next_token_is_noticed(tmp_path, shift):
    """The model runs over the prompt, and the oracle is asked for the token beside the next one."""
    folder = next(p for p in FAMILY_CASES if p.name == "llama")
    ids = IDS["long"]
    expected = ExpectedModel(folder)
    right = expected.predictions(ids, exact=True)
    forward = expected.predictions([*ids[:1], *np.roll(ids[1:], shift)], exact=True)
    with h5py.File(run_prediction(tmp_path, folder)) as file:
        measured = file["prompts/ids/next_token_nll"][2]
    assert measured == pytest.approx(right["next_token_nll"], rel=1e-9)
    assert abs(measured - forward["next_token_nll"]) > 1e-3


def test_one_token_has_no_next_one(tmp_path):
    folder = next(p for p in FAMILY_CASES if p.name == "gpt2")
    with h5py.File(run_prediction(tmp_path, folder)) as file:
        group = file["prompts/ids"]
        for quantity in ("next_token_nll", "top1_accuracy"):
            assert np.isnan(group[quantity][0]) and np.isfinite(group[quantity][1:]).all()
            assert group["statistics"][quantity][1] == 1  # counted
        assert np.isfinite(group["prediction_entropy"][:]).all() and np.isfinite(group["lens_kl"][:]).all()
        assert (group["lens_kl"][:, -1] == 0).all() and (group["lens_rank"][:, -1] == 0).all()


def test_a_model_without_a_head_has_the_rest(tmp_path):
    folder = ROOT / "tests" / "data" / "model" / "llama"
    bare = tmp_path / "bare"
    bare.mkdir()
    tensors = {name: tensor for path in folder.glob("model*.safetensors") for name, tensor in load_file(path).items() if name != "lm_head.weight"}
    save_file(tensors, bare / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (bare / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    path = run_analysis(tmp_path, bare, "residual", analyses=["residual", "prediction"], prompt_sets=SETS)
    with h5py.File(path) as file:
        assert "last_token_norm" in file["prompts/ids"] and "next_token_nll" not in file["prompts/ids"]
        assert "prediction" in file.attrs["impossible_analyses"] and "unembedding" in file.attrs["impossible_analyses"]


def test_the_summary_shows_perplexity(tmp_path):
    folder = next(p for p in FAMILY_CASES if p.name == "gpt2")
    job = write_job(tmp_path, {"name": "j", "models": [{"name": "m", "path": str(folder)}], "prompt_sets": SETS, "analyses": ["prediction"]})
    done = spectrace("run", job, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "perplexity" in done.stdout + done.stderr
