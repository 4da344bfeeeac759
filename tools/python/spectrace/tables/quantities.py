"""Tables that the declarations make: of every group of weights, of prompts, and of the statistics over them.

A quantity that an analysis declares stands in one of them without an edit here. What is as long as a spectrum or the vocabulary,
or a text, does not: it is a long table of its own (spectrace-export --dataset).
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Iterator

import numpy as np
import xarray as xr

from spectrace import declarations
from spectrace.results import Results
from spectrace.tables.frame import LAB, MODEL, PROMPT_SET, Column, Table, dataset_column, dimension_column, in_order
from spectrace.tables.general import identity, sets_of

LONG_DIMENSIONS = {"index", "token", "left_out"}
# Headings of pages, in the order of the columns; what is not here follows as declared, under its name.
HEADINGS = {
    "spectral_norm": "σ₁", "frobenius_norm": "‖W‖_F", "effective_rank": "effective rank", "stable_rank": "stable rank", "condition_number": "κ",
    "numerical_rank": "rank", "num_singular_values": "min(m,n)", "row_norm_mean": "row norm", "row_norm_std": "its std",
    "spectral_per_sqrt_vocab": "σ₁/√V", "singular_value_error": "error bound", "entry_mean": "entry mean", "entry_std": "entry std",
    "last_gain_after_norm": "after norm", "final_norm_last_token": "final norm", "final_norm_mean_token": "final norm, all tokens",
    "num_vectors": "N", "rankme": "RankMe", "rankme_covariance": "RankMe of the covariance", "alpha_req": "α-ReQ", "alpha_req_r2": "its R²"}


def columns_of(group: str, names: Iterable[str]) -> tuple[Column, ...]:
    """Columns of these datasets of a group."""
    return tuple(dataset_column(declarations.dataset(group, name), HEADINGS.get(name, "")) for name in names)


def _places(dims: tuple[str, ...]) -> str:
    """A row, in words: "a model, layer and matrix"."""
    words = [dim.replace("_", " ") for dim in dims]
    return "a " + " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _python(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value


# weights --------------------------------------------------------------------------------------------------------------

def _cells(group: xr.Dataset, columns: tuple[Column, ...], dims: tuple[str, ...], front: dict) -> Iterator[dict]:
    """A row for each place in dims, with those of the columns that the group has."""
    dims = tuple(dim for dim in dims if dim in group.dims)  # without one that only some models have: expert
    arrays = {column.name: group[column.name].transpose(*dims).values for column in columns if column.name in group}
    if not arrays:
        return
    coordinates = [group[dim].values for dim in dims]
    for place in itertools.product(*(range(len(values)) for values in coordinates)):
        yield front | {dim: _python(values[i]) for dim, values, i in zip(dims, coordinates, place)} | {
            name: float(array[place]) for name, array in arrays.items()}


def group_rows(path: str, columns: tuple[Column, ...], dims: tuple[str, ...]):
    """Rows of a table of a group of weights."""
    def rows(results: Results, _prompt_set: str | None) -> Iterator[dict]:
        for model in results:
            group = results.group(model, path)
            if group is not None:
                yield from _cells(group, columns, dims, identity(results, model))
    return rows


OF_UNEMBEDDING = (Column("vocab_size", "int", "rows of W_U, V", heading="V"), Column("hidden_size", "int", "columns of W_U, D", heading="D"),
                  Column("tied_embeddings", "bool", "whether it is the input embedding too", heading="tied"))


def _tables_of(group: str) -> Iterator[Table]:
    """The table named as the group, of the dimensions that most of its datasets have; one more for those with other dimensions."""
    names = collections.defaultdict(list)
    for declared in declarations.datasets(group):
        if not LONG_DIMENSIONS.intersection(declared.dims):
            names[declared.dims].append(declared.name)
    most = max(names, key=lambda dims: len(names[dims]))
    for dims in [most, *(dims for dims in names if dims != most)]:
        columns = columns_of(group, in_order(names[dims], HEADINGS))
        front = (MODEL, LAB, *(dimension_column(group, dim) for dim in dims), *(OF_UNEMBEDDING if group == "unembedding" else ()))
        yield Table(group if dims == most else f"{group}_by_{'_'.join(dims) or 'model'}", _places(("model", *dims)), front + columns,
                    group_rows(group, columns, dims))


WEIGHTS = tuple(table for group in declarations.weight_groups() for table in _tables_of(group))


# prompts --------------------------------------------------------------------------------------------------------------

# What no analysis measures has columns of its own, or none.
OF_PROMPTS = columns_of(declarations.PROMPTS, in_order(
    (declared.name for declared in declarations.datasets(declarations.PROMPTS)
     if declared.dims == ("prompt",) and declared.analysis), HEADINGS))


def _prompts(results: Results, prompt_set: str | None) -> Iterator[dict]:
    for model in results:
        for name in sets_of(results, model, prompt_set):
            group = results.group(model, f"prompts/{name}")
            per_prompt = {key: group[key].values for key in ("num_tokens", *(column.name for column in OF_PROMPTS)) if key in group}
            if "gain" in group:
                per_prompt["last_gain"] = group["gain"].isel(layer=-1).values
            if "trace_multihead" in group:
                per_prompt["mean_trace"] = group["trace_multihead"].mean("layer", skipna=False).values
            ids, errors = group["prompt_id"].values, group["prompt_error"].values
            for i in range(len(ids)):
                yield {"model": model, "prompt_set": name, "prompt": ids[i], "error": errors[i]} | {
                    key: float(values[i]) for key, values in per_prompt.items()}


def _prompt_meaning(name: str) -> str:
    return declarations.dataset(declarations.PROMPTS, name).meaning


PROMPTS = Table("prompts", "a model, prompt set and prompt", (
    MODEL, PROMPT_SET,
    Column("prompt", "text", _prompt_meaning("prompt_id"), heading="prompt"),
    Column("error", "text", _prompt_meaning("prompt_error"), heading="error"),
    Column("num_tokens", "int", _prompt_meaning("num_tokens"), heading="tokens"),
    Column("mean_trace", "float", f"{_prompt_meaning('trace_multihead')}; mean over layers", heading="mean trace"),
    Column("last_gain", "float", f"{_prompt_meaning('gain')}; of the last block", heading="last gain"),
    *OF_PROMPTS,
), _prompts)


# sets as wholes -------------------------------------------------------------------------------------------------------

def _set_rows(analysis: str, of_set: tuple[Column, ...], columns: tuple[Column, ...], dims: tuple[str, ...]):
    def rows(results: Results, prompt_set: str | None) -> Iterator[dict]:
        for model in results:
            for name in sets_of(results, model, prompt_set):
                group = results.group(model, f"prompts/{name}/{analysis}")
                if group is not None:
                    front = {column.name: float(group[column.name]) for column in of_set if column.name in group}
                    yield from _cells(group, columns, dims, identity(results, model) | {"prompt_set": name} | front)
    return rows


def _set_table(group: str) -> Table:
    """What an analysis says of a set as a whole, a row a place of the dimension that its datasets have beside long ones."""
    declared = [dataset for dataset in declarations.datasets(group) if not LONG_DIMENSIONS.intersection(dataset.dims)]
    dims = max((dataset.dims for dataset in declared), key=len)
    of_set, columns = (columns_of(group, [dataset.name for dataset in declared if (dataset.dims == dims) == has_dims]) for has_dims in (False, True))
    name = group.rsplit("/", 1)[1]
    return Table(name, _places(("model", "prompt set", *dims)), (MODEL, LAB, PROMPT_SET, *(dimension_column(group, dim) for dim in dims), *of_set, *columns),
                 _set_rows(name, of_set, columns, dims))


SETS = tuple(_set_table(group) for group in declarations.set_groups())


# statistics -----------------------------------------------------------------------------------------------------------

STATISTIC_COLUMNS = (
    Column("quantity", "text", "per-prompt quantity, as in /prompts/<set> (docs/file-format.md)", heading="quantity"),
    Column("unit", "text", "unit of the quantity", heading="unit"),
    Column("count", "int", "prompts with a finite value", heading="count"),
    Column("nonfinite", "int", "prompts without one; they are left out of the other columns", heading="not finite"),
    Column("mean", "float", "mean over the prompts", "of the quantity", "mean"),
    Column("std", "float", "standard deviation over the prompts, unbiased", "of the quantity", "std"),
    Column("min", "float", "least", "of the quantity", "min"),
    Column("max", "float", "greatest", "of the quantity", "max"),
)


def _statistics_rows(dims: tuple[str, ...]):
    def rows(results: Results, prompt_set: str | None) -> Iterator[dict]:
        for model in results:
            for name in sets_of(results, model, prompt_set):
                statistics = results.statistics(model, name)
                for quantity, array in (statistics.data_vars.items() if statistics is not None else ()):
                    if set(array.dims) != {"statistic", *dims}:
                        continue
                    front = {"model": model, "prompt_set": name, "quantity": quantity, "unit": array.attrs.get("units")}
                    values = array.transpose("statistic", *dims).values
                    labels = [str(label) for label in statistics["statistic"].values]
                    coordinates = [statistics[dim].values for dim in dims]
                    for place in itertools.product(*(range(len(c)) for c in coordinates)):
                        yield front | {dim: _python(c[i]) for dim, c, i in zip(dims, coordinates, place)} | {
                            label: float(values[(k, *place)]) for k, label in enumerate(labels)}
    return rows


def _statistics_tables() -> Iterator[Table]:
    """One for each choice of dimensions that quantities have beside the prompt, named by the last: "layer_statistics", …"""
    of_quantities = dict.fromkeys(tuple(dim for dim in declared.dims if dim != "prompt")
                                  for declared in declarations.datasets(declarations.PROMPTS) if declared.has_statistics)
    of_names = collections.Counter(dims[-1:] for dims in of_quantities)
    for dims in of_quantities:
        name = "_".join(dims[-1:] if of_names[dims[-1:]] == 1 else dims) or "set"
        yield Table(f"{name}_statistics", _places(("model", "prompt set", "quantity", *dims)),
                    (MODEL, PROMPT_SET, *(dimension_column(declarations.PROMPTS, dim) for dim in dims), *STATISTIC_COLUMNS), _statistics_rows(dims))


STATISTICS = tuple(_statistics_tables())
