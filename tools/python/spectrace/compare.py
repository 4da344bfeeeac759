"""spectrace-compare A B: two sweeps, a base model and its descendant, or the steps of a training run: what changed, and where.

A difference is a change where it is beyond what the two computations may be off together (spectrace.error_bounds). Of a
per-prompt quantity the means over those prompts are compared that both have, with the same token ids.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
from dataclasses import asdict, dataclass, field

import numpy as np
import xarray as xr

from spectrace import declarations, error_bounds
from spectrace.opening import open_results
from spectrace.results import Results, ResultsError
from spectrace.tables.general import series_of

FACTS = ("status", "slicing", "compute_dtype", "storage_dtype", "architecture", "num_layers", "num_heads", "num_kv_heads", "head_dim",
         "hidden_size", "vocab_size", "tied_embeddings", "max_positions", "rope_theta", "rope_type", "lab", "expected", "revision", "step", "source")
SHOWN_LAYERS = 12


class UsageError(Exception):
    """What was asked for does not go together."""


@dataclass
class Change:
    """One quantity of a pair of models: how many values changed, and the one that changed most, in units of the error bound."""

    group: str
    quantity: str
    num_values: int
    num_changed: int
    where: dict = field(default_factory=dict)  # dimension -> coordinate of the largest change
    a: float | None = None
    b: float | None = None
    bound: float | None = None
    times_bound: float | None = None
    layers: dict = field(default_factory=dict)  # layer -> values changed in it
    heads: list = field(default_factory=list)  # [layer, head] of every head in which something changed


@dataclass
class Pair:
    """What became of one model."""

    a: str
    b: str
    facts: dict = field(default_factory=dict)  # attribute -> [in A, in B], where they differ
    tensors: dict = field(default_factory=dict)  # same, changed, only_a, only_b: of the checkpoints' tensors, by digest
    changes: list[Change] = field(default_factory=list)
    not_compared: dict = field(default_factory=dict)  # group or quantity -> reason

    @property
    def has_changed(self) -> bool:
        return any(change.num_changed for change in self.changes)


def compare_models(results_a: Results, a: str, results_b: Results, b: str) -> Pair:
    """Everything that two models both have, value by value."""
    pair = Pair(a, b)
    of_a, of_b = results_a.attributes(a), results_b.attributes(b)
    pair.facts = {name: [of_a.get(name), of_b.get(name)] for name in FACTS if of_a.get(name) != of_b.get(name)}
    pair.tensors = _tensors(results_a.group(a, "checkpoint"), results_b.group(b, "checkpoint"))
    for results, model, attributes in ((results_a, a, of_a), (results_b, b, of_b)):
        if not attributes.get("num_layers") and "no_family" not in attributes:
            pair.not_compared["everything"] = f"{model} of {results.path} failed ({attributes.get('error') or 'no reason noted'})"
            return pair
    known = declarations.weight_groups()
    for group in known:
        datasets = _both(pair, group, results_a.group(a, group), results_b.group(b, group))
        if datasets:
            bounds = [error_bounds.of_spectra(group, dataset, attributes) for dataset, attributes in zip(datasets, (of_a, of_b))]
            _compare_datasets(pair, group, datasets, bounds)
    for group in dict.fromkeys(results_a.groups(a) + results_b.groups(b)):
        if group not in (*known, "checkpoint") and not group.startswith("prompts/"):
            pair.not_compared[group] = "this version of spectrace-compare does not know it"
    sets = dict.fromkeys(results_a.prompt_sets(a) + results_b.prompt_sets(b))
    for name in sets:
        _compare_prompts(pair, name, (results_a, results_b), (a, b))
    return pair


def _both(pair: Pair, group: str, a: xr.Dataset | None, b: xr.Dataset | None) -> tuple[xr.Dataset, xr.Dataset] | None:
    if (a is None) != (b is None):
        pair.not_compared[group] = f"only {'A' if b is None else 'B'} has it"
    return (a, b) if a is not None and b is not None else None


def _tensors(a: xr.Dataset | None, b: xr.Dataset | None) -> dict:
    if a is None or b is None or "digest" not in a or "digest" not in b:
        return {}
    first, second = (dict(zip(map(str, group["tensor"].values), map(str, group["digest"].values))) for group in (a, b))
    common = first.keys() & second.keys()
    same = sum(first[name] == second[name] for name in common)
    return {"same": same, "changed": len(common) - same, "only_a": len(first.keys() - common), "only_b": len(second.keys() - common)}


def _compare_datasets(pair: Pair, group: str, datasets, bounds) -> None:
    """bounds: for each side a function of a quantity's name and values: its error."""
    first, second = datasets
    for name in dict.fromkeys([*first.data_vars, *second.data_vars]):
        if not error_bounds.is_result(name):
            continue
        if name not in first or name not in second:
            pair.not_compared[f"{group}/{name}"] = f"only {'A' if name in first else 'B'} has it"
            continue
        if first[name].dtype.kind not in "fiu":
            continue
        other = _other_form(first[name], second[name])
        if other:
            pair.not_compared[f"{group}/{name}"] = other
            continue
        bound = sum(xr.DataArray(of_side(name, dataset[name])) for of_side, dataset in zip(bounds, datasets))
        pair.changes.append(_change(group, name, first[name], second[name], bound))


def _other_form(a: xr.DataArray, b: xr.DataArray) -> str:
    """Why two datasets can't be held against each other value by value; empty if they can."""
    if a.dims != b.dims:
        return f"A has the dimensions {', '.join(map(str, a.dims))}, B {', '.join(map(str, b.dims))}"
    sizes = [dim for dim in a.dims if a.sizes[dim] != b.sizes[dim]]
    if sizes:
        return " and ".join(f"{a.sizes[dim]} against {b.sizes[dim]} of {dim}" for dim in sizes)
    scales = [str(dim) for dim in a.dims if dim in a.coords and dim in b.coords and not np.array_equal(a[dim].values, b[dim].values)]
    return f"other values of {', '.join(scales)}" if scales else ""


def _change(group: str, name: str, a: xr.DataArray, b: xr.DataArray, bound: xr.DataArray) -> Change:
    first, second = (np.asarray(array.values, dtype=float) for array in (a, b))
    bound = np.asarray(bound.broadcast_like(a).transpose(*a.dims).values, dtype=float)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        is_same = (first == second) | (np.isnan(first) & np.isnan(second))
        # A number beside none is a change; so is infinity beside a number, unless nothing bounds the number.
        is_changed = ~is_same & ~(np.abs(first - second) <= bound) & ~(np.isinf(bound) & ~np.isnan(first) & ~np.isnan(second))
        times = np.where(is_same, 0.0, np.abs(first - second) / bound)
    times = np.where(np.isnan(times) & ~is_same, np.inf, times)
    change = Change(group, name, int(np.count_nonzero(~(np.isnan(first) & np.isnan(second)))), int(np.count_nonzero(is_changed)))
    if not change.num_changed:
        return change
    worst = np.unravel_index(int(np.argmax(np.where(is_changed, np.where(np.isnan(times), np.inf, times), -1.0))), first.shape) if first.shape else ()
    change.where = {str(dim): _coordinate(a, dim, place) for dim, place in zip(a.dims, worst)}
    change.a, change.b, change.bound, change.times_bound = (float(array[worst]) for array in (first, second, bound, times))
    if "layer" in a.dims:
        by_layer = np.moveaxis(is_changed, a.dims.index("layer"), 0).reshape(a.sizes["layer"], -1).sum(axis=1)
        change.layers = {int(a["layer"].values[place]): int(count) for place, count in enumerate(by_layer) if count}
        if "head" in a.dims:
            others = tuple(axis for axis, dim in enumerate(a.dims) if dim not in ("layer", "head"))
            by_head = xr.DataArray(is_changed.any(axis=others), dims=[dim for dim in a.dims if dim in ("layer", "head")]).transpose("layer", "head")
            change.heads = [[int(a["layer"].values[layer]), int(a["head"].values[head])] for layer, head in np.argwhere(by_head.values)]
    return change


def _coordinate(array: xr.DataArray, dim: str, place: int):
    value = array[dim].values[place] if dim in array.coords else place
    return value.item() if isinstance(value, np.generic) else value


# Prompts --------------------------------------------------------------------------------------------------------------


def _compare_prompts(pair: Pair, name: str, results: tuple[Results, Results], models: tuple[str, str]) -> None:
    group = f"prompts/{name}"
    datasets = _both(pair, group, *(sweep.group(model, group) for sweep, model in zip(results, models)))
    if not datasets:
        return
    common, reason = _common_prompts(*datasets)
    if reason:
        pair.not_compared[f"some prompts of {group.removeprefix('prompts/')}"] = reason
    statistics = [sweep.statistics(model, name) for sweep, model in zip(results, models)]
    attributes = [sweep.attributes(model) for sweep, model in zip(results, models)]
    if not common:
        return
    bounds = [error_bounds.of_prompts(dataset, of_model) for dataset, of_model in zip(datasets, attributes)]
    means = []
    for side, (dataset, of_set) in enumerate(zip(datasets, statistics)):
        with results[side].reading(models[side], group):
            means.append(_prompt_means(dataset, of_set, [places[side] for places in common], not reason).load())
    _compare_datasets(pair, group, means, bounds)


def _common_prompts(a: xr.Dataset, b: xr.Dataset) -> tuple[list[tuple[int, int]], str]:
    """Places of the prompts that both have, with equal token ids and without an error; and what is with the others."""
    rows = [_rows_of_tokens(dataset) for dataset in (a, b)]
    common = [(place, rows[1][prompt][0]) for prompt, (place, tokens, error) in rows[0].items()
              if prompt in rows[1] and rows[1][prompt][1] == tokens and not error and not rows[1][prompt][2]]
    if len(common) == len(rows[0]) == len(rows[1]):
        return common, ""
    other_tokens = sum(prompt in rows[1] and rows[1][prompt][1] != tokens for prompt, (_, tokens, _error) in rows[0].items())
    failed = sum(prompt in rows[1] and rows[1][prompt][1] == tokens and bool(error or rows[1][prompt][2]) for prompt, (_, tokens, error) in rows[0].items())
    alone = [len(rows[0].keys() - rows[1].keys()), len(rows[1].keys() - rows[0].keys())]
    parts = [f"{other_tokens} are other tokens" * bool(other_tokens), f"{failed} failed" * bool(failed), f"{alone[0]} only in A" * bool(alone[0]),
             f"{alone[1]} only in B" * bool(alone[1])]
    return common, f"{len(common)} are compared; " + ", ".join(part for part in parts if part)


def _rows_of_tokens(dataset: xr.Dataset) -> dict[str, tuple[int, tuple[int, ...], str]]:
    tokens, starts, counts = (dataset[name].values for name in ("token_ids", "row_start", "num_tokens"))
    return {str(prompt): (place, tuple(int(token) for token in tokens[int(starts[place]):int(starts[place]) + int(counts[place])]), str(error))
            for place, (prompt, error) in enumerate(zip(dataset["prompt_id"].values, dataset["prompt_error"].values))}


def _prompt_means(dataset: xr.Dataset, statistics: xr.Dataset | None, places: list[int], are_all: bool) -> xr.Dataset:
    """Means over these prompts: from the statistics where these are all prompts, else from the prompts' own values; and scalars."""
    if are_all and statistics is not None:
        means = {name: array.sel(statistic="mean", drop=True) if "statistic" in array.dims else array for name, array in statistics.data_vars.items()}
        return xr.Dataset(means)
    quantities = [name for name, array in dataset.data_vars.items() if "prompt" in array.dims and array.dtype.kind == "f" and name not in ("row_start", "num_tokens")]
    return xr.Dataset({name: dataset[name].isel(prompt=places).mean("prompt", skipna=False) for name in quantities})


# The command ----------------------------------------------------------------------------------------------------------


def pairs_of(results_a: Results, results_b: Results, named: dict[str, str]) -> tuple[list[tuple[str, str]], list[str], list[str]]:
    """Which models belong together: as named, else one and one, else those of one name; and those that are left in A and in B."""
    for model, results in [(name, results_a) for name in named] + [(name, results_b) for name in named.values()]:
        if model not in results:
            raise ResultsError(f"{results.path}: no model '{model}' (there are {', '.join(results)})")
    if named:
        pairs = list(named.items())
    elif len(results_a) == len(results_b) == 1:
        pairs = [(next(iter(results_a)), next(iter(results_b)))]
    else:
        pairs = [(model, model) for model in results_a if model in results_b]
    if not pairs:
        raise ResultsError(f"{results_a.path} and {results_b.path} have no model of the same name (A: {', '.join(results_a)}; B: {', '.join(results_b)}). "
                           "Say which belong together: --pair BASE=OTHER")
    if named:
        return pairs, [], []
    taken_a, taken_b = {a for a, _ in pairs}, {b for _, b in pairs}
    return pairs, [model for model in results_a if model not in taken_a], [model for model in results_b if model not in taken_b]


def steps_of(results: Results) -> list[tuple[str, str]]:
    """Each training step of a sweep beside the next one of its series."""
    series: dict[str, list[tuple[int, str]]] = {}
    for model in results:
        step = results.attributes(model).get("step")
        if step is not None:
            series.setdefault(series_of(results, model), []).append((int(step), model))
    ordered = [[model for _, model in sorted(steps)] for steps in series.values()]
    pairs = [pair for models in ordered for pair in zip(models, models[1:])]
    if not pairs:
        raise ResultsError(f"{results.path}: no two models are steps of one training run (the job says it: \"step\"). "
                           "To compare two sweeps, name both; two models of one, name it twice and --pair BASE=OTHER")
    return pairs


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.6g}"


def _place(change: Change) -> str:
    return ", ".join(f"{value}" if dim == "matrix" else f"{dim} {value:.4g}" if isinstance(value, float) else f"{dim} {value}"
                     for dim, value in change.where.items()) or "one value"


def _layers(change: Change) -> str:
    if not change.layers:
        return ""
    shown = sorted(change.layers)
    text = ", ".join(map(str, shown[:SHOWN_LAYERS])) + (f", … ({len(shown)})" if len(shown) > SHOWN_LAYERS else "")
    return f"layers {text}" + (f"; {len(change.heads)} heads" if change.heads else "")


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def text_of(pair: Pair) -> str:
    """For people: facts that differ, then the quantities that changed, the largest change in units of the bound first."""
    lines = [pair.a if pair.a == pair.b else f"{pair.a} -> {pair.b}"]
    if pair.facts:
        lines.append("  " + "; ".join(f"{name}: {first} -> {second}" for name, (first, second) in pair.facts.items()))
    if pair.tensors:
        parts = [f"{pair.tensors[key]} {words}" for key, words in (("same", "the same"), ("changed", "changed"), ("only_a", "only in A"), ("only_b", "only in B")) if pair.tensors[key]]
        lines.append(f"  tensors of the checkpoint: {', '.join(parts)}")
    changed = sorted((change for change in pair.changes if change.num_changed), key=lambda change: -(change.times_bound or 0))
    if changed:
        rows = [("quantity", "changed", "A", "B", "times the bound", "largest at", "where")]
        rows += [(f"{change.group}/{change.quantity}", f"{change.num_changed} of {change.num_values}", _number(change.a), _number(change.b),
                  f"{change.times_bound:.3g}", _place(change), _layers(change)) for change in changed]
        lines += _table(rows)
    same = len(pair.changes) - len(changed)
    lines.append(f"  {same} of {len(pair.changes)} quantities are the same within their error bounds")
    reasons: dict[str, list[str]] = {}
    for what, reason in pair.not_compared.items():
        reasons.setdefault(reason, []).append(what)
    lines += [f"  not compared: {', '.join(what)} ({reason})" for reason, what in reasons.items()]
    return "\n".join(lines) + "\n"


def _finite(value):
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not np.isfinite(value) else value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="spectrace-compare", description="What changed between two sweeps, models or training steps, beyond the error bounds.",
                                     epilog="exit code: 0 nothing changed, 1 something did, 2 wrong usage, 3 something could not be read")
    parser.add_argument("a", metavar="A", help="a results folder, or one <model>.h5")
    parser.add_argument("b", metavar="B", nargs="?", help="another one; without it, the steps of each training run in A, one after the other")
    parser.add_argument("--pair", metavar="BASE=OTHER", action="append", default=[], help="model of A and model of B (may be repeated); default: equal names")
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="write everything there as JSON too, with every layer and head")
    return parser


def _compare(options: argparse.Namespace, a: Results, b: Results | None) -> tuple[list[Pair], list[str]]:
    notes = [f"{results.path}: {file} {problem}" for results in (a, b) if results is not None for file, problem in results.problems.itertuples(index=False)]
    named = dict(text.split("=", 1) if "=" in text else (text, "") for text in options.pair)
    if not all(named) or not all(named.values()):
        raise UsageError("--pair takes BASE=OTHER")
    if b is None:
        if named:
            raise UsageError("--pair needs A and B (the same folder may be named twice)")
        return [compare_models(a, first, a, second) for first, second in steps_of(a)], notes
    pairs, only_a, only_b = pairs_of(a, b, named)
    notes += [f"only in A: {', '.join(only_a)}"] * bool(only_a) + [f"only in B: {', '.join(only_b)}"] * bool(only_b)
    return [compare_models(a, first, b, second) for first, second in pairs], notes


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0 nothing changed; 1 something did; 2 wrong usage; 3 something could not be read."""
    options = _parser().parse_args(arguments)
    opened: list[Results] = []
    try:
        for path in (options.a, options.b):
            if path is not None:
                opened.append(open_results(path))
                opened[-1].set_aside_damaged()
        pairs, notes = _compare(options, opened[0], opened[1] if len(opened) > 1 else None)
        if options.json:
            document = {"a": options.a, "b": options.b, "notes": notes, "pairs": [asdict(pair) for pair in pairs]}
            options.json.write_text(json.dumps(_finite(document), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except UsageError as problem:
        print(f"spectrace-compare: {problem}", file=sys.stderr)
        return 2
    except (ResultsError, OSError) as problem:
        print(f"spectrace-compare: {problem}", file=sys.stderr)
        return 3
    finally:
        for results in opened:
            results.close()
    print("\n".join([*map(text_of, pairs), *notes]))
    return 1 if any(pair.has_changed for pair in pairs) else 0


if __name__ == "__main__":
    sys.exit(main())
