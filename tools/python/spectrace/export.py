"""spectrace-export FOLDER (--notebook NAME | --table NAME | --dataset PATH) [-o FILE]: results in other programs' forms."""

from __future__ import annotations

import argparse
import io
import json
import os
import pathlib
import sys

import pandas as pd

from spectrace import notebooks, tables
from spectrace.opening import open_results
from spectrace.results import Results, ResultsError


class UsageError(Exception):
    """What was asked for does not go together."""


def dataset_table(results: Results, path: str) -> pd.DataFrame:
    """Any dataset of the results files as a long table: model, a column a dimension, value.

    path: as in docs/file-format.md, for instance "weights/singular_values" or "prompts/facts/trace". Raises ResultsError if no
    model has it.
    """
    group, _, name = path.strip("/").rpartition("/")
    parts = []
    for model in results:
        dataset = results.group(model, group)
        if dataset is None or name not in dataset:
            continue
        array = dataset[name]
        part = array.to_series().reset_index() if array.dims else pd.DataFrame({name: [array.item()]})
        parts.append(part.rename(columns={name: "value"}).assign(model=model))
    if not parts:
        groups = list(dict.fromkeys(group for model in results for group in results.groups(model)))
        raise ResultsError(f"{results.path}: no model has a dataset '{path}' (groups: {', '.join(groups) or 'none'}; docs/file-format.md lists their datasets)")
    table = pd.concat(parts, ignore_index=True)
    return table[["model", *(column for column in table if column not in ("model", "value")), "value"]]


def _form_of(output: pathlib.Path | None, asked: str | None, allowed: tuple[str, ...]) -> str:
    """csv, parquet or json: as asked, else by the file's name, else the first allowed."""
    suffix = output.suffix.removeprefix(".").lower() if output is not None else ""
    if suffix not in ("", "csv", "parquet", "json", "h5") and not asked:
        raise UsageError(f"{output.name}: no form of that name can be written (known: {', '.join(f'.{form}' for form in allowed)}; "
                         f"--format {allowed[0]} writes that whatever the file is called)")
    form = asked or (suffix if suffix in ("csv", "parquet", "json") else allowed[0])
    if form not in allowed:
        raise UsageError(f"that cannot be written as {form} (it can as {', '.join(allowed)})")
    if asked and suffix in ("csv", "parquet", "json") and suffix != asked:
        raise UsageError(f"--format {asked} and a file named {output.name} do not go together")
    return form


def _bytes_of(table: pd.DataFrame, form: str) -> bytes:
    if form == "csv":
        return table.to_csv(index=False).encode("utf-8")
    buffer = io.BytesIO()
    try:
        table.to_parquet(buffer, engine="pyarrow", index=False)
    except ImportError as problem:
        raise UsageError("Parquet needs the package pyarrow (it is not installed): pip install 'spectrace[parquet]', or --format csv") from problem
    return buffer.getvalue()


def _write(data: bytes, output: pathlib.Path | None, form: str) -> None:
    if output is None:
        if form == "parquet" and sys.stdout.isatty():
            raise UsageError("Parquet is binary; say where it goes: -o FILE.parquet")
        sys.stdout.buffer.write(data)
        return
    if output.suffix == ".h5":
        raise UsageError(f"{output}: results files are not written over; name it .json, .csv or .parquet")
    part = output.with_name(output.name + ".part")
    try:
        part.write_bytes(data)
        os.replace(part, output)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def _export_notebook(results: Results, options: argparse.Namespace) -> None:
    names = dict(text.split("=", 1) if "=" in text else (text, "") for text in options.name)
    if not all(names.values()):
        raise UsageError("--name takes MODEL=NAME")
    form = _form_of(options.output, options.format, ("json", "csv") if options.notebook == "restriction_map_spectral" else ("json",))
    export = notebooks.make(results, options.notebook, options.prompts, names)
    for model, reason in export.left_out.items():
        print(f"spectrace-export: {model} is left out: {reason}", file=sys.stderr)
    for model, note in export.notes.items():
        print(f"spectrace-export: {model}: {note}", file=sys.stderr)
    text = notebooks.restriction_map_summary(export.document).to_csv(index=False) if form == "csv" else json.dumps(export.document, indent=2) + "\n"
    _write(text.encode("utf-8"), options.output, form)


def _export(results: Results, options: argparse.Namespace) -> None:
    if options.notebook:
        return _export_notebook(results, options)
    form = _form_of(options.output, options.format, ("csv", "parquet"))
    if options.dataset and options.prompts:
        raise UsageError("--prompts does not go with --dataset: the path names the set")
    table = dataset_table(results, options.dataset) if options.dataset else results.table(options.table, options.prompts)
    _write(_bytes_of(table, form), options.output, form)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="spectrace-export", description="Results in the notebooks' JSON, or a table as CSV or Parquet.",
                                     epilog=f"tables: {', '.join(tables.names())}")
    parser.add_argument("folder", metavar="FOLDER", help="a results folder, or one <model>.h5")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--notebook", choices=list(notebooks.NOTEBOOKS), help="the JSON that this notebook saves, for its plotting cells")
    what.add_argument("--table", metavar="NAME", help="a table, see below")
    what.add_argument("--dataset", metavar="PATH", help="a dataset of the files as a long table, e.g. weights/singular_values")
    parser.add_argument("--prompts", metavar="SET", help="this prompt set only; a notebook needs it where there are several")
    parser.add_argument("--name", metavar="MODEL=NAME", action="append", default=[], help="what a notebook is to call a model (may be repeated)")
    parser.add_argument("--format", choices=["json", "csv", "parquet"], help="default: as FILE is named, else JSON of a notebook, CSV of a table")
    parser.add_argument("-o", "--output", metavar="FILE", type=pathlib.Path, help="default: standard output")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Exit codes: 0 written; 2 wrong usage; 3 nothing could be read or written."""
    options = _parser().parse_args(arguments)
    try:
        with open_results(options.folder) as results:
            results.set_aside_damaged()
            for file, problem in results.problems.itertuples(index=False):
                print(f"spectrace-export: {file} {problem}", file=sys.stderr)
            _export(results, options)
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever reads has seen enough
    except UsageError as problem:
        print(f"spectrace-export: {problem}", file=sys.stderr)
        return 2
    except (ResultsError, OSError) as problem:
        print(f"spectrace-export: {problem}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
