"""spectrace-report FOLDER [-o DIR]: one page with the studies' tables, figures and tests of a results folder, and overview.png."""

from __future__ import annotations

import argparse
import pathlib
import sys

from spectrace.opening import open_results
from spectrace.results import Results, ResultsError


def write_report(results: Results, folder: pathlib.Path, prompt_sets: list[str] | None = None) -> list[pathlib.Path]:
    """Writes report.html, and overview.png where there is anything to draw, into the folder; returns their paths.

    prompt_sets: those to report on, None: all. Raises ResultsError for a set that is not there, OSError if it can't write.
    """
    from spectrace import studies
    from spectrace.overview import overview
    from spectrace.report.page import html_page

    results.set_aside_damaged()
    context = studies.context_of(results, prompt_sets)
    page = html_page(context, studies.all_studies(context))
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "report.html"]
    written[0].write_text(page, encoding="utf-8")
    picture = overview(context)
    if picture is not None:
        written.append(folder / "overview.png")
        picture.savefig(written[-1])
    return written


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="spectrace-report", description="Writes report.html and overview.png of a results folder.")
    parser.add_argument("folder", metavar="FOLDER", help="a results folder, or one <model>.h5")
    parser.add_argument("-o", "--output", metavar="DIR", type=pathlib.Path, help="where to write (default: FOLDER/report)")
    parser.add_argument("--prompt-set", metavar="NAME", action="append", help="report on this prompt set only; may be given more than once")
    options = parser.parse_args(arguments)
    try:
        with open_results(options.folder) as results:
            for path in write_report(results, options.output or results.folder / "report", options.prompt_set):
                print(path)
    except (ResultsError, OSError) as problem:
        print(f"spectrace-report: {problem}", file=sys.stderr)
        return 3
    return 0
