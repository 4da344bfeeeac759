"""The page on prediction and depth: every number and sentence from the statistics of the files."""

import numpy as np
import pytest
import scipy
import spectrace
from made_results import attributes_of, prompt_groups, write_results
from spectrace import studies
from spectrace.studies.base import Picture, Shown, Words
from spectrace.tables.prediction import decided_boundary, mean_interval

LAYERS, PROMPTS = 4, 5
RNG = np.random.default_rng(11)
NLL = RNG.uniform(2, 4, PROMPTS)
KL = np.array([9.0, 3.0, 0.5, 1.5, 0.0]) * RNG.uniform(0.9, 1.1, (PROMPTS, 1))  # decided, undecided again, decided
COSINE = np.array([0.9, 0.7, 0.99, 0.8]) + RNG.uniform(-0.005, 0.005, (PROMPTS, 1))
MASSIVE = np.array([5.0, 900.0, 1200.0, 1100.0, 40.0]) * RNG.uniform(0.9, 1.1, (PROMPTS, 1))


def groups_of(shift=0.0, tokens=None):
    return prompt_groups("test", {
        "next_token_nll": ((), NLL + shift), "top1_accuracy": ((), RNG.uniform(0, 1, PROMPTS)), "prediction_entropy": ((), RNG.uniform(2, 3, PROMPTS)),
        "lens_kl": (("boundary",), KL), "lens_rank": (("boundary",), np.floor(KL)), "massive_ratio": (("boundary",), MASSIVE),
        "boundary_cosine": (("layer",), COSINE), "attention_write_norm": (("layer",), COSINE), "mlp_write_norm": (("layer",), COSINE)}, tokens=tokens)


def open_folder(folder, models):
    folder.mkdir()
    for name, groups in models.items():
        write_results(folder / f"{name}.h5", attributes_of(num_layers=LAYERS), groups)
    return spectrace.open_results(folder)


def words_of(study):
    return [block.text for block in study.blocks if isinstance(block, Words) and block.kind == "answer"]


def page_of(results):
    return studies.prediction.study(studies.context_of(results))


def test_table_is_of_the_statistics(tmp_path):
    with open_folder(tmp_path / "r", {"ant": groups_of()}) as results:
        row = results.table("prediction").iloc[0]
    low, high = scipy.stats.t.interval(0.95, PROMPTS - 1, NLL.mean(), scipy.stats.sem(NLL))
    assert row["perplexity"] == pytest.approx(np.exp(NLL.mean())) and row["num_predicted"] == PROMPTS
    assert (row["perplexity_low"], row["perplexity_high"]) == pytest.approx((np.exp(low), np.exp(high)))
    assert row["decided_boundary"] == 4 and row["decided_share"] == 1  # boundary 3 is undecided once more
    assert row["least_influential_layer"] == 2 and row["least_influence"] == pytest.approx(1 - COSINE.mean(0)[2])
    assert row["massive_boundary"] == 2 and row["massive_ratio"] == pytest.approx(MASSIVE.mean(0)[2])


def test_a_depth_is_where_it_stays_decided():
    assert decided_boundary(np.array([0.2, 0.1, 0.0])) == 0
    assert decided_boundary(np.array([5.0, 2.0, 0.0])) == 2
    assert np.isnan(decided_boundary(np.array([5.0, np.nan, 0.0]))) and np.isnan(decided_boundary(None))
    assert np.isnan(mean_interval(1.0, np.nan, 1)[0])


def test_answer_orders_models_and_says_how_sure(tmp_path):
    with open_folder(tmp_path / "r", {"bee": groups_of(1.0), "ant": groups_of()}) as results:
        answers = words_of(page_of(results))
    assert answers[0].index("ant") < answers[0].index("bee") and f"n = {PROMPTS} prompts" in answers[0]
    assert "do not compare" not in answers[0]
    assert "ant 4 of 4" in answers[1]


def test_models_with_other_tokens_are_not_compared(tmp_path):
    other = groups_of(tokens=[[4, 5, 6, 7]] * PROMPTS)
    digests = {"ant": "a" * 64, "bee": "b" * 64}
    with open_folder(tmp_path / "r", {"ant": groups_of(), "bee": other}) as results:
        for name, digest in digests.items():
            results.group(name, "prompts/test").attrs["prompt_sha256"] = digest
        assert "do not compare" in words_of(page_of(results))[0]


def test_every_quantity_is_drawn_and_none_twice(tmp_path):
    with open_folder(tmp_path / "r", {"ant": groups_of()}) as results:
        context = studies.context_of(results)
        page = studies.prediction.study(context)
        titles = [block.title for block in page.blocks if isinstance(block, Picture)]
        others = studies.sweep.others(context)
    assert titles == ["Divergence of the logit lens", "Rank of the finally most probable token", "Massive activations: largest entry over the median",
                      "Block influence", "Norm of what attention adds", "Norm of what the MLP adds"]
    assert any(isinstance(block, Shown) for block in page.blocks)
    assert others is None or not {"boundary cosine", "attention write norm"} & {block.title for block in others.blocks}


GEOMETRY = {"num_vectors": 31.0, "rankme": np.array([5.0, 7.0]), "rankme_covariance": np.array([4.0, 2.5]),
            "stable_rank": np.array([1.5, 1.25]), "alpha_req": np.array([0.75, np.nan]), "alpha_req_r2": np.array([0.9, np.nan])}


def geometry_groups():
    """What a job has that asked for the geometry alone: the set, empty statistics, the set as a whole."""
    groups = prompt_groups("test", {"gain": (("layer",), COSINE)})
    dims = {name: () if np.ndim(values) == 0 else ("boundary",) for name, values in GEOMETRY.items()}
    return groups | {"prompts/test/last_token_geometry": {name: (dims[name], values) for name, values in GEOMETRY.items()}}


def test_geometry_of_last_tokens(tmp_path):
    with open_folder(tmp_path / "r", {"ant": geometry_groups(), "bee": groups_of()}) as results:
        table = results.table("last_token_geometry")
        page = page_of(results)
    assert table["model"].tolist() == ["ant", "ant"] and table["boundary"].tolist() == [0, 1]
    for name in GEOMETRY:
        np.testing.assert_array_equal(table[name].to_numpy(float), np.broadcast_to(GEOMETRY[name], 2), err_msg=name)
    pictures = [block for block in page.blocks if isinstance(block, Picture) and block.title.startswith("Geometry")]
    assert [len(picture.figure.data) for picture in pictures] == [1, 1] and "31 vectors" in pictures[0].caption
    assert [block.table for block in page.blocks if isinstance(block, Shown)][-1] == "last_token_geometry"


def test_a_page_of_the_geometry_alone(tmp_path):
    with open_folder(tmp_path / "r", {"ant": geometry_groups()}) as results:
        assert sum(isinstance(block, Picture) for block in page_of(results).blocks) == 2


def test_files_without_it_have_no_page(tmp_path):
    with open_folder(tmp_path / "r", {"ant": prompt_groups("test", {"gain": (("layer",), COSINE)})}) as results:
        assert page_of(results) is None


def test_what_is_missing_is_said(tmp_path):
    part = {name: value for name, value in groups_of().items()}
    for group in part.values():
        for name in ("massive_ratio", "boundary_cosine", "attention_write_norm", "mlp_write_norm"):
            group.pop(name)
    with open_folder(tmp_path / "r", {"ant": part}) as results:
        missing = [block.text for block in page_of(results).blocks if isinstance(block, Words) and block.kind == "missing"]
    assert len(missing) == 1 and "residual" in missing[0]
