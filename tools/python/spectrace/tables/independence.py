"""Which models of a sweep are one, where a test counts models.

Copies, training steps of one run and models that were tuned from one base are not drawn independently of each other: a test over
models that took each for itself would find what it looks for in the number of copies.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import pandas as pd

from spectrace.inference import count
from spectrace.model_names import canonical, job_path
from spectrace.results import Results
from spectrace.tables.frame import MODEL, Column, Table
from spectrace.tables.general import DUPLICATES, series_of

# What is added to a base model's name for one that was tuned from it.
TUNINGS = {"base", "chat", "dpo", "hf", "instruct", "it", "orpo", "pt", "rlhf", "rm", "sft"}
SIZES = ("num_layers", "num_heads", "hidden_size")
EQUAL, STEPS, GROUP, BASE = "equal weights", "steps of one run", "meta.group", "tuned from one base"


def base_name(name: str) -> str:
    """A model's name without what says how it was tuned: "llama-3.1-8b" of "Llama-3.1-8B-Instruct"."""
    return "-".join(part for part in re.split(r"[-_]", canonical(name)) if part not in TUNINGS)


def _bases(results: Results, model: str) -> set[tuple]:
    """What tells the base of a model: its name and its path's, each with its sizes."""
    attributes = results.attributes(model)
    sizes = tuple(attributes.get(size) for size in SIZES)
    names = {base_name(model), base_name(job_path(results, model))} - {""}
    base = results.meta(model).get("base")
    return {(name, *sizes) for name in names | ({base_name(str(base))} if base else set())} if None not in sizes else set()


def _links(results: Results) -> Iterator[tuple[str, str, str]]:
    """Two models that are one, and why."""
    for _, row in DUPLICATES.make(results).iterrows():
        yield row["model"], row["same_as"], EQUAL
    groups = {model: results.meta(model).get("group") for model in results}
    series = {model: series_of(results, model) for model in results}
    bases = {model: _bases(results, model) for model in results}
    for first, second in itertools.combinations(results, 2):
        if series[first] == series[second]:
            yield first, second, STEPS
        if groups[first] not in (None, "") and groups[first] == groups[second]:
            yield first, second, GROUP
        if bases[first] & bases[second]:
            yield first, second, BASE


def _rows(results: Results, _prompt_set: str | None) -> Iterator[dict]:
    first_of = {model: model for model in results}
    reasons: dict[str, dict[str, None]] = {model: {} for model in results}
    place = {model: i for i, model in enumerate(results)}
    for first, second, why in _links(results):
        for model in (first, second):
            reasons[model][why] = None
        one, other = sorted((first_of[first], first_of[second]), key=place.get)
        first_of = {model: one if unit == other else unit for model, unit in first_of.items()}
    for model, unit in first_of.items():
        yield {"model": model, "counts_as": unit, "reasons": ", ".join(reasons[model]) or None}


INDEPENDENCE = Table("independence", "a model", (
    MODEL,
    Column("counts_as", "text", "first model of those that count as one with it in tests over models", heading="counts as"),
    Column("reasons", "text", "why: equal weights, steps of one run, meta.group of the job, tuned from one base (by name and sizes, or meta.base)", heading="because of"),
), _rows)


def units_of(results: Results) -> dict[str, str]:
    """{model: the first of those that are one with it}."""
    table = INDEPENDENCE.make(results)
    return dict(zip(table["model"], table["counts_as"]))


def once_each(frame: pd.DataFrame, units: dict[str, str], apart: pd.Series | None = None) -> pd.DataFrame:
    """A table of models with one row for those that are one: numbers by their mean over what is there, all else the first one's.

    apart: a value a row; rows of other values stay apart, whatever they are of.
    """
    keys = [frame["model"].map(units)] + ([apart] if apart is not None else [])
    groups = frame.groupby([key.to_numpy() for key in keys], sort=False, dropna=False)
    once = groups.first()
    numbers = list(frame.select_dtypes("number").columns)
    once[numbers] = groups[numbers].mean().astype("float64")
    return once.reset_index(drop=True)[list(frame.columns)]


def counted_words(units: dict[str, str]) -> str:
    """Said beside tests over models; empty where each counts for itself."""
    there = len(set(units.values()))
    if there == len(units):
        return ""
    return (f"{count(len(units), 'models')} count as {there}: copies, steps of one run and models tuned from one base are one, by their mean "
            "(table “independence”).")
