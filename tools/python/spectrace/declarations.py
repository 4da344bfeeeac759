"""What the program declares of its results: datasets by group, their dimensions, the columns of the summary.

quantities.json is made from the declarations of the analyses by tools/update_docs (`spectrace describe` prints the same), so that a
new quantity is known here without an edit.
"""

from __future__ import annotations

import difflib
import functools
import json
import pathlib
from dataclasses import dataclass

PATH = pathlib.Path(__file__).with_name("quantities.json")
PROMPTS = "prompts/<set>"
STATISTICS = "prompts/<set>/statistics"


class DeclarationsError(Exception):
    """The package lacks what it knows of datasets, or was asked for one that nobody declares."""


@dataclass(frozen=True)
class Dataset:
    """A dataset of the results; dims: () of a scalar; has_statistics: over the prompts, of those of prompts; analysis: what a job
    has to name for it."""

    name: str
    dims: tuple[str, ...]
    units: str
    meaning: str
    formula: str = ""
    source: str = ""
    has_statistics: bool = False
    analysis: str = ""


@dataclass(frozen=True)
class Dimension:
    """A dimension of datasets."""

    name: str
    units: str
    meaning: str


def weight_groups() -> list[str]:
    """Groups that analyses of weights write, in the order of files: "weights", "heads", …"""
    return [group for group in _groups() if group != PROMPTS and not group.startswith(f"{PROMPTS}/")]


def set_groups() -> list[str]:
    """Groups of what analyses say of a set as a whole: "prompts/<set>/last_token_geometry", …"""
    return [group for group in _groups() if group.startswith(f"{PROMPTS}/") and group != STATISTICS]


def datasets(group: str) -> list[Dataset]:
    """What a group may hold, in the order of files; group: as weight_groups() and set_groups(), PROMPTS or STATISTICS (its scalars)."""
    return [Dataset(name, **(facts | {"dims": tuple(facts["dims"])})) for name, facts in _declared("group", group, _groups()).items()]


def dataset(group: str, name: str) -> Dataset:
    """One of them. Raises DeclarationsError if there is none of the name."""
    return _declared("dataset", name, {declared.name: declared for declared in datasets(group)}, f" of {group}")


def of_prompts(name: str) -> Dataset:
    """A quantity of prompts, or a scalar that is made of their statistics. Raises DeclarationsError if there is none of the name."""
    return _declared("quantity", name, {declared.name: declared for group in (STATISTICS, PROMPTS) for declared in datasets(group)}, " of prompts")


def dimension(group: str, name: str) -> Dimension:
    """A dimension of the group's datasets: the group's own one of that name, else the one that all have."""
    everything = _everything()
    own = everything["own_dimensions"].get(f"/{group}", {})
    return Dimension(name, **_declared("dimension", name, everything["dimensions"] | own, f" of {group}"))


def summary() -> dict[str, str]:
    """Columns of numbers of summary.h5 and their meanings."""
    return _everything()["summary"]


def _declared(kind: str, name: str, known: dict, where: str = ""):
    """What is known by the name; raises DeclarationsError with the nearest ones."""
    if name not in known:
        nearest = " or ".join(map(repr, difflib.get_close_matches(name, known)))
        suggestion = f"did you mean {nearest}?" if nearest else "tools/update_docs brings the declarations up to date"
        raise DeclarationsError(f"no {kind} '{name}' is declared{where} ({suggestion})")
    return known[name]


def _groups() -> dict[str, dict]:
    return {path.removeprefix("/"): declared for path, declared in _everything()["groups"].items()}


@functools.cache
def _everything() -> dict:
    try:
        return json.loads(PATH.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise DeclarationsError(f"{PATH}: cannot be read ({problem}). It comes with the package: install that again, or in a checkout "
                                "run tools/update_docs") from problem
