"""The page on heads: the right heads by layer and number, with their intervals, from the statistics of the files."""

import numpy as np
import pytest
import scipy
import spectrace
from made_results import attributes_of, prompt_groups, write_results
from spectrace import studies
from spectrace.studies.base import Picture, Words
from spectrace.studies.heads import is_said_twice

LAYERS, HEADS, PROMPTS = 3, 4, 6
TWICE = [[7, 3, 9, 7, 3, 9], [1, 2, 1, 2]] * 3
TEXT = [[7, 3, 9, 4]] * PROMPTS


def scores_of(places, seed=0):
    """Low scores, but for the heads named: {(layer, head): score}. (prompt, layer, head)"""
    rng = np.random.default_rng(seed)
    values = rng.uniform(0.0, 0.1, (PROMPTS, LAYERS, HEADS))
    for place, score in places.items():
        values[(slice(None), *place)] = score + rng.uniform(-0.02, 0.02, PROMPTS)
    return ("layer", "head"), values


def open_folder(folder, tokens=TEXT, **of_quantities):
    folder.mkdir()
    quantities = {"first_token_mass": scores_of({(2, 1): 0.9, (0, 3): 0.7}), "previous_token_mass": scores_of({(0, 2): 0.95}, 1),
                  "induction_score": scores_of({(1, 3): 0.8}, 2), "duplicate_token_score": scores_of({}, 3)} | of_quantities
    write_results(folder / "ant.h5", attributes_of(num_layers=LAYERS, num_heads=HEADS), prompt_groups("test", quantities, tokens=tokens))
    return spectrace.open_results(folder)


def page_of(results):
    return studies.heads.study(studies.context_of(results))


def test_heads_are_ranked_by_layer_and_number(tmp_path):
    with open_folder(tmp_path / "r") as results:
        table = results.table("notable_heads")
        values = scores_of({(2, 1): 0.9, (0, 3): 0.7})[1]
    sinks = table[table["kind"] == "attention sink"]
    assert sinks[["layer", "head"]].head(2).to_numpy().tolist() == [[2, 1], [0, 3]]
    assert sinks["score"].is_monotonic_decreasing and sinks["share_above"].iloc[0] == pytest.approx(2 / (LAYERS * HEADS))
    of_head = values[:, 2, 1]
    low, high = scipy.stats.t.interval(0.95, PROMPTS - 1, of_head.mean(), scipy.stats.sem(of_head))
    assert sinks.iloc[0][["score", "score_low", "score_high"]].to_list() == pytest.approx([of_head.mean(), low, high])
    assert table[table["kind"] == "induction"].iloc[0][["layer", "head"]].to_list() == [1, 3]


def test_answer_names_heads_and_says_where_there_are_none(tmp_path):
    with open_folder(tmp_path / "r") as results:
        words = {text.split(" heads")[0]: text for text in (block.text for block in page_of(results).blocks if isinstance(block, Words) and block.kind == "answer")}
    assert "first 2.1 with 0.9" in words["Attention sink"] and ", 0.3 with 0.7" in words["Attention sink"] and f"n = {PROMPTS}" in words["Attention sink"]
    assert "first 1.3 with 0.8" in words["Induction"]
    assert "0 % of the heads; the most has" in words["Duplicate token"]


def test_ordinary_text_is_warned_of_and_tokens_said_twice_are_not(tmp_path):
    for name, tokens, is_warned in (("text", TEXT, True), ("twice", TWICE, False)):
        with open_folder(tmp_path / name, tokens) as results:
            assert is_said_twice(studies.context_of(results), "test") != is_warned
            assert any("repeated random tokens" in block.text for block in page_of(results).blocks if isinstance(block, Words)) == is_warned


def test_a_score_that_is_no_number_is_no_first_head(tmp_path):
    dims, values = scores_of({(1, 3): 0.8}, 2)
    values[:, 0, 0] = np.nan
    with open_folder(tmp_path / "r", induction_score=(dims, values)) as results:
        induction = results.table("notable_heads").query("kind == 'induction'")
    assert [0, 0] not in induction[["layer", "head"]].to_numpy().tolist() and induction["score"].notna().all()


def test_every_kind_has_a_picture_and_no_second_one(tmp_path):
    with open_folder(tmp_path / "r") as results:
        context = studies.context_of(results)
        assert sum(isinstance(block, Picture) for block in studies.heads.study(context).blocks) == 4
        assert studies.sweep.others(context) is None


def test_files_without_patterns_have_no_page(tmp_path):
    (tmp_path / "r").mkdir()
    write_results(tmp_path / "r" / "ant.h5", attributes_of(), prompt_groups("test", {"gain": (("layer",), np.ones((2, 4)))}))
    with spectrace.open_results(tmp_path / "r") as results:
        assert page_of(results) is None
