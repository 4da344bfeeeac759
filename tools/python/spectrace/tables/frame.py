"""What a table is: a function of results, and for each of its columns a type, a unit and a meaning."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pandas as pd

from spectrace import declarations
from spectrace.results import Results

# A type that can say "no value" for each kind of column. A label is text, or a number where all of its column are.
DTYPES = {"text": "string", "int": "Int64", "float": "float64", "bool": "boolean", "label": "string"}


@dataclass(frozen=True)
class Column:
    """A column's name, kind (text, int, float, bool, label), meaning, unit, and the short heading that pages show."""

    name: str
    kind: str
    meaning: str
    unit: str = "1"
    heading: str = ""


@dataclass(frozen=True)
class Table:
    """A table by name: what a row is, its columns, and the function that makes its rows of results and a prompt set (None: all)."""

    name: str
    rows_are: str
    columns: tuple[Column, ...]
    rows: Callable[[Results, str | None], Iterable[dict]]
    is_open: bool = False  # further columns "meta_<key>" for what the job says of its models

    def make(self, results: Results, prompt_set: str | None = None) -> pd.DataFrame:
        """The table, every documented column there and of its type, whether any row has a value for it or not."""
        rows = list(self.rows(results, prompt_set))
        frame = pd.DataFrame(rows)
        columns = {column.name: _typed(frame.get(column.name), column.kind, len(rows)) for column in self.columns}
        if self.is_open:
            columns |= {name: frame[name].convert_dtypes() if _is_one_kind(frame[name]) else frame[name].map(_text).astype("string")
                        for name in frame if name.startswith("meta_")}
        return pd.DataFrame(columns, index=pd.RangeIndex(len(rows)))


def _typed(values: pd.Series | None, kind: str, count: int) -> pd.Series:
    if values is None:
        values = pd.Series([None] * count, dtype=object)
    if kind == "int":
        return pd.to_numeric(values, errors="coerce").astype("Float64").round().astype("Int64")
    if kind == "float":
        return pd.to_numeric(values, errors="coerce").astype("float64")
    if kind == "label":
        kind = _kind_of_labels(values)
        return _typed(values, kind, count)
    if kind == "text":
        return values.map(_text).astype("string")
    return values.astype("boolean")


def _text(value: object) -> str | None:
    return None if value is None or (isinstance(value, float) and value != value) else str(value)


def _kind_of_labels(values: pd.Series) -> str:
    labels = [value for value in values if value is not None and value == value]
    if not labels or not all(isinstance(label, (int, float)) for label in labels):
        return "text"
    return "int" if all(isinstance(label, int) for label in labels) else "float"


def _is_one_kind(values: pd.Series) -> bool:
    kinds = {"number" if isinstance(value, (int, float)) and not isinstance(value, bool) else type(value).__name__
             for value in values if value is not None and value == value}
    return len(kinds) <= 1


# What lies along the dimensions that tables of studies have; labels of others are what the files say.
_KINDS_OF_DIMENSIONS = {"layer": "int", "head": "int", "boundary": "int", "top": "int", "matrix": "text", "tensor": "text", "expert": "text",
                        "left_out": "text"}


def dimension_column(group: str, name: str) -> Column:
    """Places along a dimension of a group's datasets, as declared."""
    declared = declarations.dimension(group, name)
    return Column(name, _KINDS_OF_DIMENSIONS.get(name, "label"), declared.meaning, declared.units, name.replace("_", " "))


def dataset_column(declared: declarations.Dataset, heading: str = "") -> Column:
    """A dataset's numbers, as declared; heading: if it is not its name."""
    return Column(declared.name, "float", declared.meaning, declared.units, heading or declared.name.replace("_", " "))


def in_order(names: Iterable[str], first: Iterable[str]) -> list[str]:
    """The names, those of `first` in its order before the others."""
    names = list(dict.fromkeys(names))
    return [name for name in first if name in names] + [name for name in names if name not in set(first)]


MODEL = Column("model", "text", "name of the model in the job", heading="model")
LAB = Column("lab", "text", "who made the model, as the job says", heading="lab")
EXPECTED = Column("expected", "text", "what the hypothesis expects of the model, as the job says", heading="expected")
PROMPT_SET = Column("prompt_set", "text", "prompt set; empty where the row needs no prompts", heading="prompt set")
LAYER = dimension_column("weights", "layer")
MATRIX = dimension_column("weights", "matrix")
NUM_LAYERS = Column("num_layers", "int", "number of blocks, L", heading="L")
NUM_HEADS = Column("num_heads", "int", "query heads a layer, H", heading="H")
NUM_PROMPTS = Column("num_prompts", "int", "prompts of the set", heading="prompts")
NUM_FAILED = Column("num_failed_prompts", "int", "prompts that could not run; they are left out of every number", heading="failed")
MEAN_TOKENS = Column("mean_tokens", "float", "tokens a prompt, mean over the prompts that ran", "token", "tokens")
