"""Where results and tables meet: what is opened here can make every table of spectrace.tables."""

from __future__ import annotations

import pathlib

from spectrace import tables
from spectrace.results import Results


def open_results(path: str | pathlib.Path) -> Results:
    """Opens a results folder, or a single <model>.h5.

    Raises ResultsError if there is nothing to read; the message says what was found instead.
    """
    return Results(path, tables.make)
