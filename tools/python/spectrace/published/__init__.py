"""spectrace-published FOLDER...: do the published numbers stand? Every one of them, held against sweeps of one's own.

jobs/published names the models and prompts. A number is *reproduced* where its first six digits are measured here too, *within
rounding* where the rounding of the notebook's float16 or float32 can have made the rest (spectrace.published.tolerance),
*differs* with the number of the error that is known to be in it (docs/quantities.md), or *not run*, with what is missing.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
import sys

import pandas as pd

from spectrace.opening import open_results
from spectrace.published.check import DIFFERS, NOT_IN_SWEEP, NOT_RUN, REPRODUCED, WITHIN_ROUNDING, check
from spectrace.published.numbers import ERRORS, SOURCES, Number, Source, models, numbers
from spectrace.results import ResultsError

__all__ = ["DIFFERS", "ERRORS", "NOT_RUN", "REPRODUCED", "SOURCES", "WITHIN_ROUNDING", "Number", "Source", "check", "models", "numbers"]


def verdict_of(row: pd.Series) -> str:
    """In words: "differs because of error 1"."""
    if row["verdict"] != DIFFERS:
        return row["verdict"]
    numbers_of = row["errors"].split(", ") if row["errors"] else []
    return f"differs because of error{'s' if len(numbers_of) > 1 else ''} {', '.join(numbers_of)}" if numbers_of else "differs, unexplained"


def _value(value: float) -> str:
    return f"{value:.7g}" if value == value else "NaN"


def _line(row: pd.Series) -> str:
    is_array = row["place"] is not pd.NA
    place = f"[{row['place']}]" if is_array else ""
    count = (f" ({row['num_reproduced']} reproduced, {row['num_within_rounding']} within rounding, {row['num_differs']} differ of "
             f"{row['num_values']}; the worst:)") if is_array else ""
    text = f"    {row['quantity'] + place:<26} {verdict_of(row)}{count}: published {_value(row['published'])}, measured {_value(row['measured'])}"
    if row["verdict"] == WITHIN_ROUNDING:
        text += f" (rounding: {_value(row['low'])} to {_value(row['high'])})"
    notes = [part for part in row["reason"].split("; ") if not part.startswith("error ")] if row["verdict"] == DIFFERS else []
    return "; ".join([text, *notes] + [f"{row['slicing']} slicing"] * row["slicing"].startswith("as-published"))


def _source_lines(source: str, table: pd.DataFrame) -> list[str]:
    lines = [f"{SOURCES[source].file}: {SOURCES[source].about}"]
    is_missing = table["reason"].str.startswith(NOT_IN_SWEEP)
    for model, rows in table[~is_missing].groupby("model", sort=False):
        compared = rows[rows["verdict"] != NOT_RUN]
        if len(compared):
            lines += [f"  {model}", *(_line(row) for _, row in compared.iterrows())]
    not_run = table[(table["verdict"] == NOT_RUN) & ~is_missing]
    for reason, rows in not_run.groupby("reason", sort=False):
        lines.append(f"  not run: {', '.join(dict.fromkeys(rows['quantity']))} ({', '.join(model or 'the whole study' for model in dict.fromkeys(rows['model']))}): {reason}")
    if is_missing.any():
        lines.append(f"  {NOT_IN_SWEEP}: {', '.join(dict.fromkeys(table[is_missing]['model']))}")
    return lines


def _text(table: pd.DataFrame) -> str:
    """For people: by file and model, what was compared; what was not, by reason; where weights were looked for; the errors met."""
    lines = []
    for source in SOURCES:
        lines += [*_source_lines(source, table[table["source"] == source]), ""]
    missing = table[table["reason"].str.startswith(NOT_IN_SWEEP)]
    if len(missing):
        lines += [f"{NOT_IN_SWEEP} (jobs/published has them all):"]
        lines += [f"  {reason.removeprefix(NOT_IN_SWEEP + '; ')}" for reason in dict.fromkeys(missing["reason"])] + [""]
    met = sorted({int(error) for errors in table["errors"] for error in errors.split(", ") if error})
    lines += [f"error {error}: {ERRORS[error]}" for error in met] + [""] * bool(met)
    counts = table["verdict"].value_counts()
    unexplained = int(((table["verdict"] == DIFFERS) & (table["errors"] == "")).sum())
    lines.append(f"{len(table)} published quantities, {int(table['num_values'].sum())} numbers: {counts.get(REPRODUCED, 0)} reproduced, "
                 f"{counts.get(WITHIN_ROUNDING, 0)} within rounding, {counts.get(DIFFERS, 0)} differ ({unexplained} unexplained), {counts.get(NOT_RUN, 0)} not run")
    return "\n".join(lines) + "\n"


def _json(table: pd.DataFrame) -> str:
    rows = [{key: None if value is pd.NA or (isinstance(value, float) and not math.isfinite(value)) else value for key, value in row.items()}
            | {"verdict_in_words": verdict_of(pd.Series(row))} for row in table.astype(object).to_dict("records")]
    return json.dumps({"errors": ERRORS, "numbers": rows}, indent=2, allow_nan=False) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0 held against each other, whatever the verdicts; 2 wrong usage; 3 nothing could be read."""
    parser = argparse.ArgumentParser(prog="spectrace-published", description="Holds results against every published number.")
    parser.add_argument("folders", metavar="FOLDER", nargs="+", help="results folders; of several the one that agrees best counts, "
                        "so that sweeps with the slicings \"as-published\" and \"as-published-float16\" can stand beside a correct one")
    parser.add_argument("--json", metavar="FILE", type=pathlib.Path, help="write the table there as JSON too")
    options = parser.parse_args(arguments)
    sweeps = []
    try:
        for folder in options.folders:
            sweeps.append(open_results(folder))
            sweeps[-1].set_aside_damaged()
            for file, problem in sweeps[-1].problems.itertuples(index=False):
                print(f"spectrace-published: {file} {problem}", file=sys.stderr)
        table = check(sweeps)
        if options.json:
            options.json.write_text(_json(table), encoding="utf-8")
        print(_text(table), end="")
    except (ResultsError, OSError) as problem:
        print(f"spectrace-published: {problem}", file=sys.stderr)
        return 3
    finally:
        for sweep in sweeps:
            sweep.close()
    return 0
