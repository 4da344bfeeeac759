"""Ancestry of weights: what is said of made pairs whose origin is known, and how often chance is taken for kinship."""

import numpy as np
import pytest
import scipy
import spectrace
from made_results import attributes_of, write_results
from spectrace import studies
from spectrace.studies.base import Words
from spectrace.tables.lineage import LEAST_LAYERS, MATRICES, chance_of, mean_correlation, on_depth, roughness

SIZE = 24


def course(rng, layers, roughness_size=0.05):
    """ln of a standard deviation over depth: a smooth course that all models have alike, and a roughness of its own."""
    depth = np.linspace(0, 1, layers)
    return np.stack([-3 + slope * depth + 0.5 * depth**2 + roughness_size * rng.standard_normal(layers) for slope in (0.5, 0.4, -0.3, 0.8)])


def groups_of(curves, rng):
    matrices, layers = curves.shape
    values = -np.sort(-rng.uniform(0.1, 1, (layers, matrices, SIZE)), axis=-1)
    return {"weights": {"entry_std": (("layer", "matrix"), np.exp(curves).T), "singular_values": (("layer", "matrix", "index"), values * np.exp(curves).T[..., None])}}


def open_models(folder, curves, meta=None):
    folder.mkdir()
    for number, (name, of_model) in enumerate(curves.items()):
        attributes = attributes_of(num_layers=of_model.shape[1]) | ({"meta": f'{{"ancestry": "{meta[name]}"}}'} if meta else {})
        write_results(folder / f"{name}.h5", attributes, groups_of(of_model, np.random.default_rng(number)))
    return spectrace.open_results(folder)


def row_of(results, *pair):
    table = results.table("lineage")
    return next(row for _, row in table.iterrows() if {row["model"], row["other"]} == set(pair))


def models_of(seed=0, layers=32):
    rng = np.random.default_rng(seed)
    base = course(rng, layers)
    return {"base": base, "tuned": base + 0.01 * rng.standard_normal(base.shape), "other": course(rng, layers), "third": course(rng, layers)}


def test_a_model_that_was_trained_on_is_told_from_others(tmp_path):
    with open_models(tmp_path / "r", models_of()) as results:
        related, unrelated = row_of(results, "base", "tuned"), row_of(results, "base", "other")
        assert related["verdict"] == "shared" and related["roughness_correlation"] > 0.9 and related["p_holm"] < 0.05
        assert unrelated["verdict"] == "none" and unrelated["std_correlation"] > 0.8  # the trap: all go the same way over depth
        answers = [block.text for block in studies.lineage.study(studies.context_of(results)).blocks if isinstance(block, Words)]
    assert "base and tuned (r = " in answers[0] and "other" not in answers[0]
    assert any("No sign of a shared origin in 5 pairs" in text for text in answers)


def test_depth_may_differ(tmp_path):
    """Every second layer of a model, as a pruned one has them."""
    models = models_of(layers=47)
    with open_models(tmp_path / "r", {"base": models["base"], "half": models["base"][:, ::2]}) as results:
        row = row_of(results, "base", "half")
    assert row["num_layers_compared"] == 24 and row["verdict"] == "shared"
    assert np.array_equal(on_depth(models["base"], 24), models["base"][:, ::2])


def test_few_layers_say_nothing(tmp_path):
    models = models_of(layers=LEAST_LAYERS - 1)
    with open_models(tmp_path / "r", models) as results:
        assert set(results.table("lineage")["verdict"]) == {"open"}
        answers = [block.text for block in studies.lineage.study(studies.context_of(results)).blocks if isinstance(block, Words)]
    assert "can't be told from chance" in answers[0]


def test_a_pair_has_to_be_more_alike_than_those_known_to_be_unrelated(tmp_path):
    models = models_of()
    models["copycat"] = models["tuned"] * 1.0
    meta = {"base": "a", "tuned": "a", "other": "b", "third": "c", "copycat": "b"}  # the job calls kin unrelated
    with open_models(tmp_path / "r", models, meta) as results:
        row = row_of(results, "base", "tuned")
        assert row["num_reference_pairs"] == 8 and row["verdict"] == "none"
        assert bool(row_of(results, "base", "copycat")["is_known_unrelated"])


def test_numbers_are_those_of_the_definitions(tmp_path):
    models = models_of()
    with open_models(tmp_path / "r", {name: models[name] for name in ("base", "other")}) as results:
        row = row_of(results, "base", "other")
        spectra = [np.asarray(results.group(name, "weights")["singular_values"].values) for name in ("base", "other")]
    a, b = models["base"], models["other"]
    assert row["std_correlation"] == pytest.approx(np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(a, b)]))
    assert row["std_difference"] == pytest.approx(np.abs(a - b).mean())
    rest = [[values - np.polyval(np.polyfit(np.arange(32), values, 3), np.arange(32)) for values in curves] for curves in (a, b)]
    assert row["roughness_correlation"] == pytest.approx(np.mean([x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(*rest)]))
    scaled = [values / values.mean(-1, keepdims=True) for values in spectra]
    distances = [scipy.stats.wasserstein_distance(x, y) for x, y in zip(scaled[0].reshape(-1, SIZE), scaled[1].reshape(-1, SIZE))]
    assert row["wasserstein"] == pytest.approx(np.mean(distances), rel=0.05)  # 256 quantiles between them


@pytest.mark.parametrize("layers", [12, 32])
def test_chance_is_seldom_taken_for_kinship(layers, monkeypatch):
    """Of 1000 unrelated pairs 5 % have p < 0.05, but for what 1000 draws leave open (0.7 % a standard deviation)."""
    monkeypatch.setattr("spectrace.tables.lineage.PERMUTATIONS", 999)
    rng = np.random.default_rng(7)
    found = [chance_of(roughness(course(rng, layers)), roughness(course(rng, layers))) for _ in range(1000)]
    assert np.mean(np.array(found) < 0.05) < 0.07
    assert 0.45 < np.mean(found) < 0.55
    constant = roughness(np.ones((4, layers)))  # no roughness
    assert not constant.any() and chance_of(constant, roughness(course(rng, layers))) == 1
    assert np.isnan(mean_correlation(np.ones((4, layers)), course(rng, layers)))
