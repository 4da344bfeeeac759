"""Ancestry: which models have weights that one training run began."""

from __future__ import annotations

import numpy as np
import pandas as pd

from spectrace.inference import count, first_of, number, p_text
from spectrace.studies.base import Context, Picture, Shown, Study, Words
from spectrace.studies.drawing import lines
from spectrace.tables.lineage import ANCESTRY, LEAST_LAYERS, MATRICES, curves_of, roughness


def _names(rows: pd.DataFrame) -> str:
    return first_of([f"{row['model']} and {row['other']}" for _, row in rows.iterrows()], "pairs")


def _shared_words(rows: pd.DataFrame) -> str:
    def of_pair(row) -> str:
        reference = f", where the most alike of {row['num_reference_pairs']} unrelated pairs has {number(row['reference_correlation'])}" if row["num_reference_pairs"] else ""
        return f"{row['model']} and {row['other']} (r = {number(row['roughness_correlation'])} over {row['num_layers_compared']} layers, {p_text(row['p_holm'])} by Holm{reference})"
    return first_of([of_pair(row) for _, row in rows.iterrows()], "pairs")


def _answers(table: pd.DataFrame) -> list[Words]:
    of = {verdict: rows.sort_values("roughness_correlation", ascending=False) for verdict, rows in table.groupby("verdict")}
    answers = []
    if "same" in of:
        answers.append(f"The same weights, byte for byte: {_names(of['same'])}.")
    if "shared" in of:
        answers.append(f"Of one origin, as far as the roughness of their weights over depth can say: {_shared_words(of['shared'])}.")
    if "none" in of:
        answers.append(f"No sign of a shared origin in {count(len(of['none']), 'pairs')}; that is no proof of none: a model that was pruned, merged or trained on for long keeps little of it.")
    if "open" in of:
        answers.append(f"{count(len(of['open']), 'pairs')} can't be told from chance: fewer than {LEAST_LAYERS} layers to compare.")
    return [Words(words, kind="answer") for words in answers]


def _roughness_table(context: Context, matrix: str) -> pd.DataFrame:
    rows = []
    for model in context.results:
        curves = curves_of(context.results, model)
        if curves is None or curves.shape[-1] < LEAST_LAYERS:
            continue
        values = roughness(curves)[MATRICES.index(matrix)]
        rows += [{"model": model, "depth": depth, "roughness": value} for depth, value in zip(np.linspace(0, 1, len(values)), values)]
    return pd.DataFrame(rows, columns=["model", "depth", "roughness"])


def study(context: Context) -> Study | None:
    """None where no two models have the four matrices."""
    table = context.table("lineage")
    if table.empty:
        return None
    out = Study("lineage", "Ancestry", "Which models share the ancestry of their weights, and how sure is that?",
                "How the standard deviation of the entries of W_Q, W_K, W_V and W_O goes over depth has a roughness that training on hardly changes. The smooth "
                f"course is taken off, since models of a kind have it in common. A pair counts as of one origin where what is left goes together more than in "
                f"all but few orders of the layers (Holm over all pairs), by r > 0.5, and more than in every pair that is known to be unrelated (other values of “{ANCESTRY}” in the job's meta).")
    out.blocks += _answers(table)
    if not table["num_reference_pairs"].fillna(0).gt(0).any():
        out.blocks.append(Words(f"No two models are known to be unrelated: with “{ANCESTRY}” in the meta of the job's models, chance would be read off these too.", kind="missing"))
    out.blocks.append(Shown("Pairs", "lineage", table.sort_values("roughness_correlation", ascending=False), (
        "model", "other", "verdict", "num_layers_compared", "num_equal_tensors", "num_common_tensors", "roughness_correlation", "p", "p_holm", "reference_correlation",
        "std_correlation", "std_difference", "spectral_distance", "wasserstein"), note="std_correlation is high between unrelated models too: both fall or rise over depth."))
    for matrix in ("W_V", "W_Q"):
        rows = _roughness_table(context, matrix)
        figure = lines(rows, context.styles, "depth", "roughness", "relative depth", "scaled to norm 1", may_log_y=False) if len(rows) else None
        if figure is not None:
            out.blocks.append(Picture(f"Roughness of {matrix} over depth", figure, f"What the smooth course leaves of ln of the standard deviation of {matrix}'s entries, a line a model."))
    return out
