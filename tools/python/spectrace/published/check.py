"""Holds sweeps against every published number and says of each: reproduced, within rounding, differs and why, or not run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from spectrace import model_names
from spectrace.published import weights
from spectrace.published.measured import Measured, NotRun
from spectrace.published.numbers import ERRORS, SOURCES, Number, numbers
from spectrace.published.rules import Rule, rule_of
from spectrace.published.tolerance import Interval
from spectrace.results import Results

REPRODUCED, WITHIN_ROUNDING, DIFFERS, NOT_RUN = "reproduced", "within rounding", "differs", "not run"
NOT_IN_SWEEP = "not in the sweep"
SIX_DIGITS = 1e-6  # float32 holds seven

COLUMNS = ("source", "file", "model", "quantity", "verdict", "errors", "num_values", "num_reproduced", "num_within_rounding", "num_differs",
           "place", "published", "measured", "low", "high", "slicing", "reason")


@dataclass(frozen=True)
class Finding:
    """What came of one published quantity; the numbers of its worst value (place: which layer or prompt, if there are several)."""

    verdict: str
    reason: str = ""
    errors: tuple[int, ...] = ()
    counts: tuple[int, int, int] = (0, 0, 0)
    place: int | None = None
    published: float = float("nan")
    measured: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    slicing: str = ""


def check(sweeps: Sequence[Results]) -> pd.DataFrame:
    """A row a published quantity, in COLUMNS. Of several sweeps (one of each slicing) the one that agrees best counts."""
    rows = []
    for number in numbers():
        finding = _best([_finding(results, number) for results in sweeps])
        rows.append({"source": number.source, "file": SOURCES[number.source].file, "model": number.model, "quantity": number.quantity,
                     "verdict": finding.verdict, "errors": ", ".join(map(str, finding.errors)), "num_values": len(number.values),
                     "num_reproduced": finding.counts[0], "num_within_rounding": finding.counts[1], "num_differs": finding.counts[2],
                     "place": finding.place, "published": finding.published, "measured": finding.measured, "low": finding.low,
                     "high": finding.high, "slicing": finding.slicing, "reason": finding.reason})
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"place": "Int64"})


def _best(findings: list[Finding]) -> Finding:
    order = {REPRODUCED: 0, WITHIN_ROUNDING: 1, DIFFERS: 2, NOT_RUN: 3}
    return min(findings, key=lambda finding: (order[finding.verdict], not finding.errors))


def _finding(results: Results, number: Number) -> Finding:
    rule = rule_of(number.source, number.quantity)
    if rule.measure is None:
        return Finding(NOT_RUN, rule.absent)
    names = _models_that_are(number.model, results)
    if not names:
        return Finding(NOT_RUN, f"{NOT_IN_SWEEP}; {weights.where(number.model, results)}")
    try:
        measured = Measured(results, names[0], SOURCES[number.source])
        return _compare(number, rule, measured)
    except NotRun as problem:
        return Finding(NOT_RUN, str(problem))


def _models_that_are(published: str, results: Results) -> list[str]:
    """The models of a sweep that are this one; a finished one before a step of its training."""
    canonical = model_names.canonical(published)
    found = [name for name in results if model_names.canonical(model_names.known_as(results, name) or name) == canonical]
    return sorted(found, key=lambda name: results.attributes(name).get("step") is not None)


def _compare(number: Number, rule: Rule, measured: Measured) -> Finding:
    with np.errstate(invalid="ignore", over="ignore"):
        interval = rule.measure(measured)
    if np.shape(interval.value) != np.shape(number.values):
        raise NotRun(f"there are {np.size(interval.value)} values, {len(number.values)} were published: is this the same checkpoint, are these the prompts?")
    if np.isnan(interval.value).any():
        raise NotRun(f"'{measured.model}' has values that are no numbers here")
    verdicts = _verdicts(number.values, interval)
    errors = rule.errors(measured) if (verdicts == DIFFERS).any() else ()
    if np.isnan(number.values).any():
        errors = tuple(dict.fromkeys((*errors, 5)))
    worst = _worst(number.values, interval, verdicts)
    verdict = str(verdicts[worst])
    return Finding(verdict, _reason(number, rule, measured, verdict, errors), errors if verdict == DIFFERS else (),
                   tuple(int(np.count_nonzero(verdicts == kind)) for kind in (REPRODUCED, WITHIN_ROUNDING, DIFFERS)),
                   worst if len(number.values) > 1 else None, *(float(array[worst]) for array in (number.values, *interval)),
                   str(measured.attributes.get("slicing", "")))


def _verdicts(published: np.ndarray, interval: Interval) -> np.ndarray:
    """Of each value. A NaN that was published differs from any number."""
    with np.errstate(invalid="ignore"):
        is_same = np.isfinite(interval.value) & (np.abs(published - interval.value) <= SIX_DIGITS * np.abs(interval.value))
        is_within = (interval.low <= published) & (published <= interval.high)
    return np.where(is_same, REPRODUCED, np.where(is_within, WITHIN_ROUNDING, DIFFERS))


def _worst(published: np.ndarray, interval: Interval, verdicts: np.ndarray) -> int:
    """Where the worst verdict is given to the largest relative difference; NaN is the largest."""
    rank = np.select([verdicts == DIFFERS, verdicts == WITHIN_ROUNDING], [2, 1], 0)
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.abs(published - interval.value) / np.maximum(np.abs(interval.value), np.finfo(float).tiny)
    distance = np.where(np.isnan(distance), np.inf, distance)
    return int(np.lexsort((-distance, -rank))[0])


def _reason(number: Number, rule: Rule, measured: Measured, verdict: str, errors: tuple[int, ...]) -> str:
    parts = []
    if verdict == DIFFERS:
        parts = [f"error {error}: {ERRORS[error]}" for error in errors] or ["none of the known errors explains it"]
        if 1 in errors:
            parts.append("a sweep with \"slicing\": \"as-published\" can be given beside this one")
        if rule.as_published is not None and (_verdicts(number.values, rule.as_published(measured)) != DIFFERS).all():
            parts.append("confirmed: with that error these results give the published number")
    elif verdict == WITHIN_ROUNDING:
        parts = [f"the notebook computed in {'float16' if SOURCES[number.source].unit > 2**-20 else 'float32'}"]
    parts.append(rule.note if isinstance(rule.note, str) else rule.note(number))
    return "; ".join(part for part in parts if part)
