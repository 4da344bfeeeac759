"""What counts as one model in tests over models: copies, steps of a run, tunings of a base; and what it does to false positives."""

import json

import numpy as np
import pandas as pd
import pytest
import spectrace
from made_results import attributes_of, prompt_groups, write_job, write_results
from spectrace import inference, studies
from spectrace.studies import base
from spectrace.studies.h4_v2_extended import outcomes
from spectrace.tables.independence import base_name, counted_words, once_each, units_of

RNG = np.random.default_rng(7)


def digests(text):
    return {"checkpoint": {"digest": (("tensor",), np.array([text, text + "b"], dtype=object))}}


def folder_of(path, models, job=None):
    """models: {name: (digest, attributes)}"""
    for name, (digest, attributes) in models.items():
        write_results(path / f"{name}.h5", attributes_of(**attributes), digests(digest))
    write_job(path, job or {name: f"models/{name}" for name in models})
    return spectrace.open_results(path)


def meta(**values):
    return {"meta": json.dumps(values)}


@pytest.mark.parametrize(("models", "units", "reason"), [
    ({"a": ("x", {}), "b": ("y", {}), "c": ("x", {})}, {"a": "a", "b": "b", "c": "a"}, "equal weights"),
    ({"run-step1000": ("x", {"step": 1000}), "run-step2000": ("y", {"step": 2000}), "other": ("z", {})},
     {"run-step1000": "run-step1000", "run-step2000": "run-step1000", "other": "other"}, "steps of one run"),
    ({"a": ("x", meta(group="g")), "b": ("y", meta(group="g")), "c": ("z", meta(group="h")), "d": ("w", {})}, {"a": "a", "b": "a", "c": "c", "d": "d"}, "meta.group"),
    ({"Llama-3.1-8B": ("x", {}), "Llama-3.1-8B-Instruct": ("y", {}), "llama-3.2-1b": ("z", {})},
     {"Llama-3.1-8B": "Llama-3.1-8B", "Llama-3.1-8B-Instruct": "Llama-3.1-8B", "llama-3.2-1b": "llama-3.2-1b"}, "tuned from one base"),
    ({"gemma-2-9b": ("x", {}), "gemma-2-9b-it": ("y", {"hidden_size": 24})}, {"gemma-2-9b": "gemma-2-9b", "gemma-2-9b-it": "gemma-2-9b-it"}, None),
    ({"zephyr": ("x", meta(base="mistralai/Mistral-7B-v0.1")), "mistral-7b-v0.1": ("y", {})}, {"zephyr": "zephyr", "mistral-7b-v0.1": "zephyr"}, "tuned from one base"),
    # b is one with a, and c with b: so all are.
    ({"a": ("x", {}), "b": ("x", meta(group="g")), "c": ("y", meta(group="g"))}, {"a": "a", "b": "a", "c": "a"}, "equal weights"),
])
def test_models_that_are_one(tmp_path, models, units, reason):
    with folder_of(tmp_path / "r", models) as results:
        assert units_of(results) == units
        table = results.table("independence").set_index("model")
    for model, unit in units.items():
        is_alone = list(units.values()).count(unit) == 1
        assert pd.isna(table.loc[model, "reasons"]) == is_alone
    assert reason is None or reason in table.loc[next(iter(units)), "reasons"] or any(reason in str(why) for why in table["reasons"])


def test_names_of_tunings():
    for name in ("Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B", "llama-3.1-8b-hf", "Llama-3.1-8B@main"):
        assert base_name(name) == "llama-3.1-8b"
    assert base_name("mistral-7b-instruct-v0.1") == base_name("mistralai/Mistral-7B-v0.1")
    assert len({base_name(name) for name in ("gpt2", "gpt2-medium", "pythia-70m", "pythia-70m-deduped", "opt-125m")}) == 5


def test_models_that_are_one_are_their_mean():
    frame = pd.DataFrame({"model": ["a", "b", "c", "d"], "expected": ["x", "y", "x", "x"], "value": [1.0, 5.0, 3.0, np.nan],
                          "layers": pd.array([2, 4, 2, 2], dtype="Int64")})
    units = {"a": "a", "b": "b", "c": "a", "d": "a"}
    once = once_each(frame, units)
    assert once["model"].tolist() == ["a", "b"] and once["value"].tolist() == [2, 5] and once["layers"].tolist() == [2, 4]
    apart = once_each(frame.assign(expected=["x", "y", "y", "x"]), units, pd.Series(["x", "y", "y", "x"]))
    assert apart["model"].tolist() == ["a", "b", "c"] and apart["value"].tolist() == [1, 5, 3]
    assert list(once.columns) == list(frame.columns)
    pd.testing.assert_frame_equal(once_each(frame, {name: name for name in frame["model"]}), frame, check_dtype=False)


def sweep_of(rng, num_models=8, most_copies=6):
    """Models of one distribution, with copies and steps of them: the table h4_v2_extended has, and what is one."""
    rows, units = [], {}
    for i in range(num_models):
        trace, size, ratio = rng.lognormal(), rng.integers(50, 500), rng.normal(0.5, 0.1)
        for copy in range(rng.integers(1, most_copies + 1)):
            near = 1 + 1e-3 * rng.normal() if copy else 1
            rows.append({"model": f"{i}-{copy}", "expected": "DAMPEN" if i % 2 else "EXPAND", "mean_trace_per_token": trace * near,
                         "layers_times_heads": size, "l_star_ratio": ratio * near})
            units[f"{i}-{copy}"] = f"{i}-0"
    return pd.DataFrame(rows), units


def rates(units_are_known, sweeps=400):
    yes = np.zeros(3)
    for seed in range(sweeps):
        table, units = sweep_of(np.random.default_rng(seed))
        found = outcomes(table, units if units_are_known else {model: model for model in units})
        yes += [outcome.verdict == "yes" for outcome in found]
    return yes / sweeps


def test_copies_and_steps_make_no_findings():
    """At 5 %, of models of one distribution. That copies are told apart matters: taken for models, they find what is not there."""
    assert (rates(True) <= 0.07).all()
    assert (rates(False) > 0.15).all()


@pytest.mark.parametrize("kind", ["pearson", "paired"])
def test_other_tests_over_models_make_no_findings(kind):
    yes, sweeps = 0, 400 if kind == "pearson" else 100
    for seed in range(sweeps):
        table, units = sweep_of(np.random.default_rng(seed + 1000), num_models=10)
        once = once_each(table, units)
        if kind == "pearson":
            found = inference.pearson("", once["mean_trace_per_token"], once["l_star_ratio"], ("x", "y"))
            yes += found.verdict == "yes"
        else:
            found = inference.paired_difference("", once["l_star_ratio"], 1 - once["l_star_ratio"], ("x", "y"))
            yes += found.p < 0.05
    assert yes <= 0.07 * sweeps


def test_twenty_copies_of_four_models_say_what_the_four_say(tmp_path):
    def groups(i, digest):
        trace = 10.0 * (i + 1) * np.ones((5, 4)) + np.arange(4)
        return prompt_groups("test", {"trace_multihead": (("layer",), trace)}, {"l_star_trace": float(i % 4)}) | digests(digest)

    found = {}
    for copies in (1, 5):
        path = tmp_path / str(copies)
        for i in range(4):
            for copy in range(copies):
                write_results(path / f"m{i}c{copy}.h5", attributes_of(expected="DAMPEN" if i % 2 else "EXPAND"), groups(i, f"w{i}"))
        with spectrace.open_results(path) as results:
            context = studies.context_of(results)
            study = studies.h4_v2_extended.study(context)
            found[copies] = [outcome for block in study.blocks if isinstance(block, base.Tested) for outcome in block.outcomes]
            notes = [block.note for block in study.blocks if isinstance(block, base.Tested)]
            said = [block.text for block in studies.sweep.overview(context).blocks if isinstance(block, base.Words)]
        assert any("20 models count as 4" in note for note in notes) == (copies == 5)
        assert any("20 models count as 4" in text for text in said) == (copies == 5)
    for one, many in zip(found[1], found[5], strict=True):
        assert (one.n, one.verdict) == (many.n, many.verdict)
        np.testing.assert_equal((one.effect, one.p), (many.effect, many.p))


def lengths_sweep(folder, lengths):
    """Two models whose tokenizers make so many tokens of each prompt; the first has the smaller trace and the larger one a token."""
    for (name, tokens), per_token in zip(lengths.items(), (16.2, 14.1)):
        trace = per_token * np.array(tokens, dtype=float)[:, None] * np.ones((1, 4))
        write_results(folder / f"{name}.h5", attributes_of(), prompt_groups(
            "test", {"trace_multihead": (("layer",), trace)}, {"l_star_trace": 1.0}, tokens=[[1] * count for count in tokens]) | digests(name))
    return spectrace.open_results(folder)


def test_traces_of_other_lengths_compare_by_the_token(tmp_path):
    with lengths_sweep(tmp_path / "r", {"ant": [58, 56, 60], "bee": [75, 74, 77]}) as results:
        table = results.table("h4_v2_extended").set_index("model")
        summary = results.table("summary").set_index("model")
        said = [block.text for block in studies.h4_v2_extended.study(studies.context_of(results)).blocks if isinstance(block, base.Words)]
    assert table.loc["ant", "mean_trace"] < table.loc["bee", "mean_trace"]
    np.testing.assert_allclose(table["mean_trace_per_token"], [16.2, 14.1], rtol=1e-14)
    np.testing.assert_allclose(table["mean_tokens"], [58, 226 / 3], rtol=1e-15)
    assert summary["mean_tokens"].tolist() == table["mean_tokens"].tolist() and summary["mean_trace_per_token"].tolist() == table["mean_trace_per_token"].tolist()
    words = next(text for text in said if "other numbers of tokens" in text)
    assert "ant 58.0, bee 75.3" in words and "from 14.1 (bee) to 16.2 (ant)" in words


def test_nothing_is_said_of_lengths_that_are_the_same(tmp_path):
    with lengths_sweep(tmp_path / "r", {"ant": [58, 56, 60], "bee": [58, 56, 60]}) as results:
        said = [block.text for block in studies.h4_v2_extended.study(studies.context_of(results)).blocks if isinstance(block, base.Words)]
    assert not any("numbers of tokens" in text for text in said)


def test_nothing_is_said_where_each_counts():
    assert counted_words({"a": "a", "b": "b"}) == ""
