"""What a study hands to the report: its question, its answer in words, tables, figures and tests, and what is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pandas as pd
import plotly.graph_objects as go

from spectrace import declarations, tables
from spectrace.inference import Outcome
from spectrace.results import Results
from spectrace.studies.drawing import Styles


@dataclass(frozen=True)
class Words:
    """A paragraph. prompt_set: the set that it is about, None where it is about none."""

    text: str
    prompt_set: str | None = None
    kind: str = "text"  # text, answer, missing, warning


@dataclass(frozen=True)
class Shown:
    """A table with those of its columns that the page shows, in this order."""

    title: str
    table: str
    frame: pd.DataFrame
    columns: tuple[str, ...]
    prompt_set: str | None = None
    note: str = ""
    is_folded: bool = False


@dataclass(frozen=True)
class Picture:
    """A figure; description: what it shows in a sentence, for those who do not see it; caption: what lines, bands, rings mean, for those who do."""

    title: str
    figure: go.Figure
    description: str
    prompt_set: str | None = None
    is_wide: bool = False
    caption: str = ""
    fold: str = ""  # pictures in a row with the same word here are folded under it


@dataclass(frozen=True)
class Tested:
    """Outcomes of tests that belong together."""

    title: str
    outcomes: tuple[Outcome, ...]
    prompt_set: str | None = None
    note: str = ""


Block = Words | Shown | Picture | Tested


@dataclass
class Study:
    """A study of the report; blocks in reading order."""

    name: str
    title: str
    question: str
    background: str
    blocks: list[Block] = field(default_factory=list)


@dataclass(frozen=True)
class Context:
    """What every study is made from. prompt_sets: the sets to report on."""

    results: Results
    styles: Styles
    prompt_sets: tuple[str, ...]
    _made: dict[tuple[str, str | None], pd.DataFrame] = field(default_factory=dict)

    def table(self, name: str, prompt_set: str | None = None) -> pd.DataFrame:
        """A table, of one prompt set or of those to report on."""
        if (name, prompt_set) not in self._made:
            frame = tables.make(self.results, name, prompt_set)
            if prompt_set is None and "prompt_set" in frame:
                frame = frame[frame["prompt_set"].isin([*self.prompt_sets, ""])].reset_index(drop=True)
            self._made[name, prompt_set] = frame
        return self._made[name, prompt_set]

    @property
    def units(self) -> dict[str, str]:
        """{model: the first of those that count as one with it in tests over models}."""
        table = self.table("independence")
        return dict(zip(table["model"], table["counts_as"]))


@dataclass(frozen=True)
class Need:
    """Something that a study reads of a model: of which analysis it is, and how to see whether it is there."""

    what: str
    analysis: str
    is_there: Callable[[Results, str], bool]


def needs_group(what: str, group: str) -> Need:
    return Need(what, declarations.datasets(group)[0].analysis, lambda results, model: group in results.groups(model))


def needs_statistic(what: str, name: str) -> Need:
    def is_there(results: Results, model: str) -> bool:
        found = (results.statistics(model, prompt_set) for prompt_set in results.prompt_sets(model))
        return any(statistics is not None and name in statistics for statistics in found)
    return Need(what, declarations.of_prompts(name).analysis, is_there)


def missing_words(results: Results, needs: tuple[Need, ...]) -> list[Words]:
    """A sentence for everything that is not in these files, with the models that lack it and the analysis that would bring it."""
    sentences = []
    for need in needs:
        lacking = [model for model in results if not need.is_there(results, model)]
        if lacking:
            whose = "any file" if len(lacking) == len(results) else "the files of " + ", ".join(lacking)
            sentences.append(Words(f"{need.what}: not in {whose} (analysis “{need.analysis}” was not run, or failed). "
                                   "Everything else is shown.", kind="missing"))
    return sentences
