"""Tables of a results folder as pandas: every column typed and documented.

>>> results.table("opt_anomaly")                  # or spectrace.tables.make(results, "opt_anomaly")
>>> spectrace.tables.names()                      # all there are
>>> spectrace.tables.describe("opt_anomaly")      # its columns: type, unit, meaning

Types are pandas' own that know "no value": string, Int64, float64 (NaN), boolean. A model without what a table needs has
no row in it, or a row with missing values; nothing is averaged over values that are not finite in silence.
"""

from __future__ import annotations

import pandas as pd

from spectrace.results import Results, ResultsError
from spectrace.tables import general, h4_v2_extended, heavy_tails, independence, lineage, llama31_anomaly, lstar, notable_heads, opt_anomaly, prediction, quantities, restriction_maps
from spectrace.tables.frame import Column, Table

_ALL: tuple[Table, ...] = (
    general.MODELS, general.SUMMARY, *quantities.WEIGHTS, quantities.PROMPTS, *quantities.SETS, *quantities.STATISTICS, general.NONFINITE, general.DUPLICATES, independence.INDEPENDENCE,
    opt_anomaly.OPT_ANOMALY, opt_anomaly.OPT_ANOMALY_LAYERS, llama31_anomaly.LLAMA31_ANOMALY,
    restriction_maps.RESTRICTION_MAPS, restriction_maps.RESTRICTION_MAPS_LAYERS, restriction_maps.RESTRICTION_MAPS_LABS,
    lstar.LSTAR, lstar.LSTAR_LAYERS, lstar.LSTAR_FIT, lstar.LSTAR_PREDICTIONS, lstar.LSTAR_CORRELATIONS,
    h4_v2_extended.H4_V2_EXTENDED, h4_v2_extended.H4_V2_EXTENDED_LAYERS, h4_v2_extended.THERMODYNAMICS, heavy_tails.HEAVY_TAILS,
    prediction.PREDICTION, lineage.LINEAGE, notable_heads.NOTABLE_HEADS,
)
TABLES: dict[str, Table] = {table.name: table for table in _ALL}

__all__ = ["Column", "Table", "TABLES", "describe", "find", "make", "names"]


def names() -> list[str]:
    """Names of all tables."""
    return list(TABLES)


def find(name: str) -> Table:
    """The table of that name. Raises ResultsError, with the names there are, if there is none."""
    if name not in TABLES:
        raise ResultsError(f"no table '{name}' (there are {', '.join(TABLES)})")
    return TABLES[name]


def make(results: Results, name: str, prompt_set: str | None = None) -> pd.DataFrame:
    """A table of the results; prompt_set: rows of this set only. Raises ResultsError if there is no such table or set."""
    table = find(name)
    if prompt_set is not None and prompt_set not in results.prompt_sets():
        raise ResultsError(f"{results.path}: no prompt set '{prompt_set}' (there are {', '.join(results.prompt_sets()) or 'none'})")
    return table.make(results, prompt_set)


def describe(name: str) -> pd.DataFrame:
    """A table's columns: column, type, unit, meaning."""
    table = find(name)
    return pd.DataFrame([{"column": column.name, "type": column.kind, "unit": column.unit, "meaning": column.meaning}
                         for column in table.columns], dtype="string")
