"""The analysis graph against numpy on transformers' attention and hidden states, of one case of every family."""

import h5py
import numpy as np
import pytest
from expected import ExpectedModel, spacing, token_graph
from program import run_analysis
from test_against_oracle import FAMILY_CASES, PROMPTS, TOLERANCE, TYPED_CASES, assert_close, case_id, check_statistics

SETS = [{"name": "ids", "prompts": PROMPTS}]
# Levels of the sheaf's many products lie close: an error of the levels is a larger one of their gaps.
RATIOS, COUNTS = ("graph_spacing_ratio", "sheaf_spacing_ratio"), ("graph_num_levels", "sheaf_num_levels")


def run_graph(tmp_path, folder, dtype="float64"):
    return run_analysis(tmp_path, folder, "graph", prompt_sets=SETS, keep="all", compute={"dtype": dtype, "tokens_per_batch": 20})


@pytest.mark.parametrize(("folder", "dtype"), TYPED_CASES, ids=case_id)
def test_token_graphs_of_every_family(tmp_path, folder, dtype):
    expected = ExpectedModel(folder)
    per_prompt = [expected.graphs(prompt["input_ids"], exact=dtype == "float64") for prompt in PROMPTS]
    with h5py.File(run_graph(tmp_path, folder, dtype)) as file:
        assert file.attrs["status"] == "ok", file.attrs["error"]
        group = file["prompts/ids"]
        for quantity in per_prompt[0]:
            values, measured = np.stack([found[quantity] for found in per_prompt]), group[quantity][:]
            check_statistics(group["statistics"], quantity, measured)
            if quantity in COUNTS:
                assert np.mean(measured != values) <= (0.02 if dtype == "float64" else 0.1), quantity
            elif quantity in RATIOS:
                assert np.array_equal(np.isnan(measured), np.isnan(values)), quantity
                same = (group[quantity.replace("spacing_ratio", "num_levels")][:] == np.stack([found[quantity.replace("spacing_ratio", "num_levels")] for found in per_prompt])) & ~np.isnan(values)
                assert np.abs(measured - values)[same].max() <= (1e-6 if dtype == "float64" else 2e-2), quantity
            else:
                assert_close(measured, values, TOLERANCE[dtype], quantity, more=TOLERANCE[dtype] * (quantity.startswith("directed")))


def test_heads_in_another_order_are_noticed(tmp_path):
    folder = next(p for p in FAMILY_CASES if p.name == "llama")
    expected = ExpectedModel(folder).graphs(PROMPTS[2]["input_ids"], exact=True)
    with h5py.File(run_graph(tmp_path, folder)) as file:
        for quantity in ("dirichlet_energy", "attention_effective_rank", "directed_laplacian_max"):
            measured = file["prompts/ids"][quantity][2]
            assert_close(measured, expected[quantity], 1e-9, quantity)
            for wrong in (expected[quantity][:, ::-1], expected[quantity][::-1]):
                with pytest.raises(AssertionError):
                    assert_close(measured, wrong, 1e-9, quantity)


def test_definitions_by_hand():
    """Three tokens; the second sees both alike, the third the first two alone."""
    a = np.array([[1, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0]])
    h = np.array([[1.0, 0], [0, 1], [1, 0]])
    values = token_graph(a, h, np.eye(2), 2)
    directed = [2 / 3 - 1, 1 / 2 - 1 / 2, 0]
    assert values["directed_laplacian_mean"] == pytest.approx(np.mean(directed)) and values["directed_laplacian_max"] == 0
    np.testing.assert_allclose(values["directed_laplacian_top"][:3], sorted(directed, reverse=True), atol=1e-16)
    # w of pairs (1, 0), (2, 0), (2, 1): 1/4 each; apart are tokens 0 and 1, and 1 and 2: 2 each.
    assert values["dirichlet_energy"] == pytest.approx((0.25 * 2 + 0.25 * 2) / 3)
    assert values["graph_num_levels"] == 1  # a triangle of equal weights: 3/4 twice
    assert spacing(np.array([0, 1, 3, 4, 8.0]), 0)[0] == pytest.approx((0.5 + 0.5 + 0.25) / 3)
