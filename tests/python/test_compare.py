"""spectrace-compare: what is beyond the error bound is found, named by layer and head; what is within is not."""

import json

import h5py
import numpy as np
import pytest
import xarray as xr
from made_results import attributes_of, prompt_groups, write_results

import spectrace
from spectrace import compare, declarations, error_bounds

LAYERS, HEADS, PROMPTS, SIZE = 4, 4, 3, 12
ERROR = 1e-13


def sweep_groups(seed=1):
    rng = np.random.default_rng(seed)
    singular = np.sort(rng.uniform(0.5, 3.0, (LAYERS, 4, SIZE)))[..., ::-1]
    shares = singular / singular.sum(axis=2, keepdims=True)
    frobenius = np.sqrt((singular**2).sum(axis=2))
    weights = {"singular_values": (("layer", "matrix", "index"), singular),
               "singular_value_error": (("layer", "matrix"), np.full((LAYERS, 4), ERROR)),
               "spectral_norm": (("layer", "matrix"), singular[..., 0]), "frobenius_norm": (("layer", "matrix"), frobenius),
               "effective_rank": (("layer", "matrix"), np.exp(-(shares * np.log(shares)).sum(axis=2))),
               "stable_rank": (("layer", "matrix"), (frobenius / singular[..., 0])**2),
               "condition_number": (("layer", "matrix"), singular[..., 0] / singular[..., -1]),
               "numerical_rank": (("layer", "matrix"), np.full((LAYERS, 4), float(SIZE)))}
    heads = {"spectral_norm": (("layer", "matrix", "head"), rng.uniform(1, 2, (LAYERS, 4, HEADS)))}
    quantities = {"trace": (("layer", "head"), rng.uniform(10, 20, (PROMPTS, LAYERS, HEADS))),
                  "sparsity": (("layer", "head"), rng.uniform(0.3, 0.6, (PROMPTS, LAYERS, HEADS))),
                  "last_token_norm": (("boundary",), rng.uniform(1, 2, (PROMPTS, LAYERS + 1))),
                  "gain": (("layer",), rng.uniform(0.9, 1.1, (PROMPTS, LAYERS)))}
    return {"weights": weights, "heads": heads} | prompt_groups("test", quantities, {"l_star_trace": 2.0, "last_gain_mean": 1.0})


def write(folder, name="ant", groups=None, **attributes):
    return write_results(folder / f"{name}.h5", attributes_of(LAYERS, HEADS, 2, 3, SIZE, **attributes), groups or sweep_groups())


def shift(groups, group, name, place, by):
    dims, values = groups[group][name]
    values = np.array(values, dtype=float)
    values[place] += by
    groups[group][name] = (dims, values)
    return groups


SIZES = {"layer": LAYERS, "tensor": 6, "left_out": 2, "expert": 2, "matrix": 4, "head": HEADS, "index": SIZE, "token": 20, "boundary": LAYERS + 1, "beta": 3, "graph_index": 5, "top": 10}


def of_singular_values(values, norm=None):
    """What follows from them; norm: the Frobenius norm where that is from the entries."""
    norm, shares = np.sqrt((values**2).sum(-1)) if norm is None else norm, values / values.sum(-1, keepdims=True)
    return {"singular_values": values, "singular_value_error": np.full(norm.shape, ERROR), "spectral_norm": values[..., 0], "frobenius_norm": norm,
            "effective_rank": np.exp(-(shares * np.log(shares)).sum(-1)), "stable_rank": (norm / values[..., 0])**2,
            "condition_number": values[..., 0] / values[..., -1], "numerical_rank": np.full(norm.shape, float(SIZE)),
            "num_singular_values": np.full(norm.shape, SIZE), "spectral_per_sqrt_vocab": values[..., 0] / np.sqrt(50)}


def declared_weights(group, off_by=0.0):
    """Every number that is declared of the group, singular values off by so many times their bound and what follows from them."""
    rng = np.random.default_rng(1)
    declared = {dataset.name: dataset.dims for dataset in declarations.datasets(group)}
    are_from_entries = any(dataset.name == "frobenius_norm" and "from the entries" in dataset.meaning for dataset in declarations.datasets(group))
    values = {name: rng.uniform(1, 2, [SIZES[dim] for dim in dims]) for name, dims in declared.items()}
    values |= {name: np.full_like(values[name], ERROR) for name in values if name.endswith("_error")}
    for prefix in [name.removesuffix("singular_values") for name in declared if name.endswith("singular_values") and "index" in declared[name]]:
        exact = np.sort(rng.uniform(0.5, 3.0, values[f"{prefix}singular_values"].shape))[..., ::-1]
        shifts = np.random.default_rng(2).choice([-1, 1], exact.shape) * off_by * ERROR
        follows = of_singular_values(exact + shifts, of_singular_values(exact)["frobenius_norm"] if are_from_entries else None)
        values |= {prefix + name: array for name, array in follows.items() if prefix + name in declared}
    return {group: {name: (declared[name], array) for name, array in values.items()}}


def declared_prompts():
    """Every quantity of prompts with its statistics, and every scalar."""
    rng = np.random.default_rng(3)
    dims = {dataset.name: dataset.dims[1:] for dataset in declarations.datasets(declarations.PROMPTS) if dataset.has_statistics}
    quantities = {name: (of_name, rng.uniform(1, 2, (PROMPTS, *(SIZES[dim] for dim in of_name)))) for name, of_name in dims.items()}
    return prompt_groups("test", quantities, {dataset.name: 2.0 for dataset in declarations.datasets(declarations.STATISTICS)})


def bounds_of(results, group):
    """Every number of the group, and how far it may be off in one file."""
    dataset, attributes = results.group("ant", group), results.attributes("ant")
    if group.startswith("prompts/"):
        of_one = error_bounds.of_prompts(results.group("ant", "prompts/test"), attributes)
        dataset = xr.Dataset({name: array.sel(statistic="mean") if "statistic" in array.dims else array for name, array in dataset.data_vars.items()})
    else:
        of_one = error_bounds.of_spectra(group, dataset, attributes)
    return {name: float(xr.DataArray(of_one(name, array)).broadcast_like(array).transpose(*array.dims).values.flat[-1])
            for name, array in dataset.data_vars.items() if error_bounds.is_result(name)}


def moved(groups, group, bounds, times):
    """The last number of each dataset, less so many times both sides' bound; where there is none, less by one if any."""
    for name, bound in bounds.items():
        dims, values = groups[group][name]
        place = (2, *(-1 for _ in dims[1:])) if dims[:1] == ("statistic",) else (-1,) * len(dims)  # the mean
        shift(groups, group, name, place, -(times * 2 * bound if bound else float(times > 1)))
    return groups


DECLARED = [*declarations.weight_groups(), "prompts/test/statistics"]


@pytest.mark.parametrize("group", DECLARED)
def test_every_declared_quantity_is_compared_by_its_bound(tmp_path, group):
    def groups():
        return declared_prompts() if group.startswith("prompts/") else declared_weights(group)

    write(tmp_path / "a", groups=groups())
    bounds = bounds_of(spectrace.open_results(tmp_path / "a"), group)
    for times, is_changed in ((0.5, False), (2, True)):
        write(tmp_path / f"{times}", groups=moved(groups(), group, bounds, times))
        pair, = compared(tmp_path / "a", tmp_path / f"{times}")
        assert {change.quantity for change in pair.changes} == set(bounds)
        assert {change.quantity: change.num_changed for change in pair.changes if change.num_changed} == {name: 1 for name in bounds if is_changed}
        assert pair.not_compared == {}


@pytest.mark.parametrize("group", [group for group in declarations.weight_groups()
                                   if any(dataset.name.endswith(error_bounds.STORED_ERROR) for dataset in declarations.datasets(group))])
def test_what_follows_from_singular_values_within_their_bound_is_equal(tmp_path, group):
    write(tmp_path / "a", groups=declared_weights(group))
    for times, is_changed in ((1, False), (1e4, True)):
        write(tmp_path / f"{times}", groups=declared_weights(group, off_by=times))
        pair, = compared(tmp_path / "a", tmp_path / f"{times}")
        found = {change.quantity for change in pair.changes if change.num_changed}
        follows = {change.quantity for change in pair.changes if change.quantity.endswith(("spectral_norm", "stable_rank", "effective_rank"))}
        assert follows and (follows <= found if is_changed else not found)


def test_eigenvalues_are_equal_where_the_matrix_is_within_the_backward_error():
    """Of random products, which are not normal; the bound is below what a fine-tuning does to them."""
    rng, size = np.random.default_rng(4), 32

    def values_of(matrix):
        eigenvalues = np.linalg.eigvals(matrix)
        return abs(eigenvalues).max(), eigenvalues.real.sum() / abs(eigenvalues).sum()

    for _ in range(20):
        matrix, noise = rng.normal(size=(size, 64)) @ rng.normal(size=(64, size)), rng.normal(size=(size, size))
        norm, backward = np.linalg.norm(matrix, 2), 1e-12
        (radius, positivity), (other_radius, other_positivity) = values_of(matrix), values_of(matrix + noise * backward / np.linalg.norm(noise, 2))
        dataset = xr.Dataset({"ov_singular_value_error": 1e-13, "ov_eigenvalue_backward_error": backward, "ov_spectral_norm": norm, "ov_spectral_radius": radius})
        bound = error_bounds.of_spectra("circuits", dataset, {})
        for name, first, second in (("ov_spectral_radius", radius, other_radius), ("ov_eigenvalue_positivity", positivity, other_positivity)):
            assert abs(first - second) <= float(bound(name, xr.DataArray(first))) < 1e-4 * norm


def test_a_rank_on_the_edge_of_its_threshold_may_be_off_by_one(tmp_path):
    """Of matrices longer than the hidden size: the threshold is that of their longer side, 3 D here."""
    long_side, short = 3 * SIZE, np.sort(np.random.default_rng(5).uniform(0.5, 3.0, (LAYERS, 4, SIZE)))[..., ::-1].copy()
    short[1, 2, -1] = short[1, 2, 0] * long_side * error_bounds.RANK_TOLERANCE
    groups = declared_weights("mlp")
    values = of_singular_values(short) | {"entry_mean": np.zeros((LAYERS, 4))}
    values["entry_std"] = values["frobenius_norm"] / np.sqrt(long_side * SIZE - 1)
    groups["mlp"] = {name: (tuple(dim for dim in groups["mlp"][name][0] if dim != "expert"), array) for name, array in values.items() if name in groups["mlp"]}
    write(tmp_path / "a", groups=groups)
    for place, is_changed in (((1, 2), False), ((1, 3), True)):
        name = f"{is_changed}"
        ranks = groups["mlp"]["numerical_rank"][1].copy()
        ranks[place] -= 1
        write(tmp_path / name, groups={"mlp": groups["mlp"] | {"numerical_rank": (("layer", "matrix"), ranks)}})
        assert list(changes(compared(tmp_path / "a", tmp_path / name)[0])) == ["mlp/numerical_rank"] * is_changed


def test_what_one_side_or_nobody_knows_is_named(a, tmp_path):
    groups = sweep_groups()
    del groups["weights"]["stable_rank"]
    write(tmp_path / "b", groups=groups | {"of_tomorrow": {"x": (("layer",), np.ones(LAYERS))}})
    assert compared(a, tmp_path / "b")[0].not_compared == {"weights/stable_rank": "only A has it",
                                                          "of_tomorrow": "this version of spectrace-compare does not know it"}


def compared(a, b, **options):
    pairs = compare.pairs_of(spectrace.open_results(a), spectrace.open_results(b), options.get("named", {}))[0]
    return [compare.compare_models(spectrace.open_results(a), first, spectrace.open_results(b), second) for first, second in pairs]


def changes(pair):
    return {f"{change.group}/{change.quantity}": change for change in pair.changes if change.num_changed}


@pytest.fixture
def a(tmp_path):
    write(tmp_path / "a")
    return tmp_path / "a"


def test_equal_sweeps_have_no_changes(a, tmp_path, capsys):
    write(tmp_path / "b")
    assert compare.main([str(a), str(tmp_path / "b")]) == 0
    count = len(compared(a, tmp_path / "b")[0].changes)
    assert count > 10 and f"{count} of {count} quantities are the same within their error bounds" in capsys.readouterr().out
    assert not changes(compared(a, tmp_path / "b")[0])


@pytest.mark.parametrize("group, name, place, bound", [
    ("weights", "singular_values", (2, 1, 5), 2 * ERROR),
    ("weights", "spectral_norm", (3, 0), 2 * ERROR),
    ("weights", "condition_number", (1, 2), None),
    ("weights", "frobenius_norm", (0, 3), None),
    ("weights", "effective_rank", (0, 3), None),
    ("heads", "spectral_norm", (2, 1, 3), None),
])
def test_spectra_change_beyond_their_bound_and_not_within(a, tmp_path, group, name, place, bound):
    results = spectrace.open_results(a)
    dataset = results.group("ant", group)
    of_one = error_bounds.of_spectra(group, dataset, results.attributes("ant"))(name, dataset[name])
    limit = 2 * float(np.broadcast_to(np.asarray(of_one).reshape(np.shape(of_one) + (1,) * (len(place) - np.ndim(of_one))), dataset[name].shape)[place])
    if bound is not None:
        assert limit == pytest.approx(bound, rel=1e-12)
    assert 0 < limit < 1e-8 * float(dataset[name].values[place])
    # The smaller side: κ's bound grows with κ
    write(tmp_path / "within", groups=shift(sweep_groups(), group, name, place, -0.5 * limit))
    assert not changes(compared(a, tmp_path / "within")[0])
    write(tmp_path / "beyond", groups=shift(sweep_groups(), group, name, place, -2 * limit))
    found = changes(compared(a, tmp_path / "beyond")[0])
    assert list(found) == [f"{group}/{name}"]
    change = found[f"{group}/{name}"]
    assert change.num_changed == 1 and change.layers == {place[0]: 1}
    assert change.where["layer"] == place[0] and change.where["matrix"] == ["W_Q", "W_K", "W_V", "W_O"][place[1]]
    assert change.times_bound == pytest.approx(2, rel=0.1)
    assert change.heads == ([[place[0], place[2]]] if group == "heads" else [])


@pytest.mark.parametrize("dtype, relative", [("float32", 5e-5), ("float64", 1e-10)])
def test_prompt_means_are_held_to_the_tolerance_of_the_forward_pass(tmp_path, dtype, relative):
    write(tmp_path / "a", compute_dtype=dtype)
    scale = sweep_groups()["prompts/test"]["trace"][1].mean(axis=0)[2].max()
    for factor, expected in ((0.5, False), (3.0, True)):
        groups = sweep_groups()
        # Per-prompt values and their mean, as a run would have them
        shift(groups, "prompts/test", "trace", (slice(None), 2, 1), 2 * relative * scale * factor)
        shift(groups, "prompts/test/statistics", "trace", (2, 2, 1), 2 * relative * scale * factor)
        write(tmp_path / f"b{factor}", groups=groups, compute_dtype=dtype)
        found = changes(compared(tmp_path / "a", tmp_path / f"b{factor}")[0])
        assert bool(found) == expected
        if expected:
            assert found["prompts/test/trace"].heads == [[2, 1]] and found["prompts/test/trace"].layers == {2: 1}


def test_l_star_changes_by_any_layer(a, tmp_path):
    groups = sweep_groups()
    groups["prompts/test/statistics"]["l_star_trace"] = ((), 3.0)
    write(tmp_path / "b", groups=groups)
    change = changes(compared(a, tmp_path / "b")[0])["prompts/test/l_star_trace"]
    assert (change.a, change.b, change.num_values) == (2.0, 3.0, 1)


def test_a_number_beside_none_is_a_change(a, tmp_path):
    write(tmp_path / "b", groups=shift(sweep_groups(), "weights", "frobenius_norm", (1, 1), np.nan))
    change = changes(compared(a, tmp_path / "b")[0])["weights/frobenius_norm"]
    assert change.times_bound == np.inf and np.isnan(change.b)


def test_condition_number_that_rounding_makes_infinite_is_no_change(tmp_path):
    def with_kappa(kappa):
        groups = sweep_groups()
        dims, values = groups["weights"]["condition_number"]
        values[0, 2] = kappa
        return groups
    # σ_min is below the error bound: κ may be anything from there on
    write(tmp_path / "a", groups=with_kappa(1e15))
    write(tmp_path / "b", groups=with_kappa(np.inf))
    assert not changes(compared(tmp_path / "a", tmp_path / "b")[0])
    write(tmp_path / "c", groups=with_kappa(1e3))
    write(tmp_path / "d", groups=with_kappa(2e3))
    assert changes(compared(tmp_path / "c", tmp_path / "d")[0])["weights/condition_number"].where == {"layer": 0, "matrix": "W_V"}


def test_only_prompts_with_equal_tokens_are_compared(a, tmp_path):
    groups = sweep_groups()
    other = prompt_groups("test", {name: (dims[1:], values) for name, (dims, values) in groups["prompts/test"].items() if "prompt" in dims and name in ("trace", "gain")},
                          {"l_star_trace": 0.0}, tokens=[[1, 2, 3], [1, 2, 9], [1, 2, 3]])
    dims, values = other["prompts/test"]["trace"]
    other["prompts/test"]["trace"] = (dims, np.where(np.arange(PROMPTS)[:, None, None] == 1, 100.0, values))
    groups.update(other)
    write(tmp_path / "b", groups=groups)
    pair = compared(a, tmp_path / "b")[0]
    assert not changes(pair)  # the prompt that changed is another text, and so is no L* of all of them
    assert pair.not_compared["some prompts of test"] == "2 are compared; 1 are other tokens"


def test_prompts_of_one_side_only_and_failed_ones_are_counted(a, tmp_path):
    groups = sweep_groups()
    groups["prompts/test"]["prompt_id"] = (("prompt",), np.array(["0", "1", "new"], dtype=object))
    groups["prompts/test"]["prompt_error"] = (("prompt",), np.array(["", "failed", ""], dtype=object))
    write(tmp_path / "b", groups=groups)
    assert compared(a, tmp_path / "b")[0].not_compared["some prompts of test"] == "1 are compared; 1 failed, 1 only in A, 1 only in B"


def test_facts_and_tensors_are_told(tmp_path):
    digests = {"tensor": np.array(["q", "k", "v"], dtype=object)}
    for name, values, more in (("a", ["1", "2", "3"], {"lab": "x"}), ("b", ["1", "2", "9"], {"lab": "y", "slicing": "as-published"})):
        write(tmp_path / name, groups=sweep_groups(), **more)
        with h5py.File(tmp_path / name / "ant.h5", "a") as file:
            group = file.create_group("checkpoint")
            scale = group.create_dataset("tensor", data=digests["tensor"], dtype=h5py.string_dtype())
            scale.make_scale("tensor")
            digest = group.create_dataset("digest", data=np.array(values, dtype=object), dtype=h5py.string_dtype())
            digest.dims[0].attach_scale(scale)
    pair = compared(tmp_path / "a", tmp_path / "b")[0]
    assert pair.facts == {"lab": ["x", "y"], "slicing": ["correct", "as-published"]}
    assert pair.tensors == {"same": 2, "changed": 1, "only_a": 0, "only_b": 0}
    assert "tensors of the checkpoint: 2 the same, 1 changed" in compare.text_of(pair)


def test_other_sizes_and_missing_analyses_are_named(a, tmp_path):
    groups = sweep_groups()
    del groups["heads"]
    groups["weights"]["spectral_norm"] = (("layer", "matrix"), groups["weights"]["spectral_norm"][1])
    write(tmp_path / "b", groups=groups)
    assert compared(a, tmp_path / "b")[0].not_compared == {"heads": "only A has it"}
    smaller = {"weights": {"frobenius_norm": (("layer", "matrix"), np.ones((3, 4)))}}
    write_results(tmp_path / "c" / "ant.h5", attributes_of(3), smaller)
    pair = compared(a, tmp_path / "c")[0]
    assert pair.not_compared["weights/frobenius_norm"] == "4 against 3 of layer"
    assert pair.facts["num_layers"] == [4, 3]


def test_base_and_instruct_are_paired_by_name_or_alone(a, tmp_path):
    write(tmp_path / "other", "bee", shift(sweep_groups(), "weights", "spectral_norm", (0, 0), 1.0))
    assert [(pair.a, pair.b) for pair in compared(a, tmp_path / "other")] == [("ant", "bee")]  # one and one
    write(tmp_path / "other", "cat")
    with pytest.raises(spectrace.ResultsError, match="no model of the same name .*--pair BASE=OTHER"):
        compared(a, tmp_path / "other")
    pair, = compared(a, tmp_path / "other", named={"ant": "bee"})
    assert changes(pair)["weights/spectral_norm"].where == {"layer": 0, "matrix": "W_Q"}
    with pytest.raises(spectrace.ResultsError, match="no model 'dog' \\(there are bee, cat\\)"):
        compared(a, tmp_path / "other", named={"ant": "dog"})


def test_steps_of_a_training_run_are_compared_one_after_the_other(tmp_path, capsys):
    for step in (1000, 10, 100):
        write(tmp_path / "s", f"run-step{step}", shift(sweep_groups(), "weights", "spectral_norm", (1, 3), step * 1.0), step=step)
    write(tmp_path / "s", "alone")
    assert compare.steps_of(spectrace.open_results(tmp_path / "s")) == [("run-step10", "run-step100"), ("run-step100", "run-step1000")]
    assert compare.main([str(tmp_path / "s"), "--json", str(tmp_path / "c.json")]) == 1
    text = capsys.readouterr().out
    assert "run-step10 -> run-step100" in text and "step: 100 -> 1000" in text and "layer 1, W_O" in text
    document = json.loads((tmp_path / "c.json").read_text())
    assert [pair["b"] for pair in document["pairs"]] == ["run-step100", "run-step1000"]
    changed = [change for change in document["pairs"][0]["changes"] if change["num_changed"]]
    assert [change["quantity"] for change in changed] == ["spectral_norm"] and changed[0]["layers"] == {"1": 1}


def test_models_of_one_side_only_are_named(a, tmp_path, capsys):
    for name in ("ant", "bee"):
        write(tmp_path / "b", name)
    assert compare.main([str(a), str(tmp_path / "b")]) == 0
    assert "only in B: bee" in capsys.readouterr().out


def test_a_failed_model_says_why(a, tmp_path, capsys):
    write_results(tmp_path / "b" / "ant.h5", {"status": "failed", "error": "config.json is missing"}, {})
    assert compare.main([str(a), str(tmp_path / "b")]) == 0
    assert f"not compared: everything (ant of {tmp_path / 'b'} failed (config.json is missing))" in capsys.readouterr().out


@pytest.mark.parametrize("arguments, code, problem", [
    (["nope"], 3, "no such file or folder"),
    (["A", "nope"], 3, "no such file or folder"),
    (["A"], 3, "no two models are steps of one training run"),
    (["A", "A", "--pair", "ant"], 2, "--pair takes BASE=OTHER"),
    (["A", "--pair", "ant=ant"], 2, "--pair needs A and B"),
    (["A", "A", "--json", "no/such/folder.json"], 3, "No such file or directory"),
])
def test_bad_input_is_said(a, capsys, arguments, code, problem):
    assert compare.main([str(a) if word == "A" else word for word in arguments]) == code
    assert problem in capsys.readouterr().err
