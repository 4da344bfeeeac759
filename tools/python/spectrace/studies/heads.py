"""Heads: which ones are attention sinks, look at the token before, or do induction, by layer and head, over models."""

from __future__ import annotations

import numpy as np
import pandas as pd

from spectrace.inference import number
from spectrace.studies.base import Context, Picture, Shown, Study, Words, missing_words, needs_statistic
from spectrace.studies.drawing import lines
from spectrace.tables.notable_heads import KINDS, MUCH

NEEDS = (needs_statistic("Where heads look", "first_token_mass"),)
MOST_NAMED = 3  # heads a model and kind that the answer names


def is_said_twice(context: Context, prompt_set: str) -> bool:
    """Whether every prompt of the set is something said twice, as repeated random tokens are, so that what comes twice is no punctuation."""
    for model in context.results:
        group = context.results.group(model, f"prompts/{prompt_set}")
        if group is None or "token_ids" not in group:
            continue
        tokens = np.asarray(group["token_ids"].values)
        prompts = [tokens[start : start + count] for start, count in zip(group["row_start"].values, group["num_tokens"].values)]
        return all(len(ids) >= 4 and len(ids) % 2 == 0 and np.array_equal(ids[: len(ids) // 2], ids[len(ids) // 2 :]) for ids in prompts)
    return False


def _named(rows: pd.DataFrame) -> str:
    def of_head(row) -> str:
        interval = f" ({number(row['score_low'])} to {number(row['score_high'])})" if row["score_low"] == row["score_low"] else ""
        return f"{int(row['layer'])}.{int(row['head'])} with {number(row['score'])}{interval}"
    return ", ".join(of_head(row) for _, row in rows.head(MOST_NAMED).iterrows())


def _answers(context: Context, table: pd.DataFrame, prompt_set: str) -> list[Words]:
    words = []
    for kind in dict.fromkeys(table["kind"]):
        sentences = []
        for model, rows in table[table["kind"] == kind].groupby("model", sort=False):
            above = rows[rows["score"] > MUCH]
            share = number(100 * float(rows["share_above"].iloc[0]))
            n = int(rows["num_prompts"].iloc[0])
            sentences.append(f"{model}: {share} % of the heads" + (f", first {_named(above)}" if len(above) else f"; the most has {_named(rows.head(1))}") + f", n = {n}")
        words.append(Words(f"{kind[0].upper()}{kind[1:]} heads (score above {MUCH:g}; layer.head, 95 % interval over prompts). " + "; ".join(sentences) + ".", prompt_set, "answer"))
    if "induction" in set(table["kind"]) and not is_said_twice(context, prompt_set):
        words.append(Words("In ordinary text most of what comes twice is punctuation and line ends: induction and duplicate-token scores say more on a set of "
                           "repeated random tokens (\"repeated_random_tokens\" in the job).", prompt_set, "text"))
    return words


def study(context: Context) -> Study | None:
    """None where no file has patterns."""
    if not any(need.is_there(context.results, model) for need in NEEDS for model in context.results):
        return None
    out = Study("heads", "Heads", "Which heads are attention sinks, look at the token before, or do induction?",
                "Shares of a row's attention, mean over rows, then over prompts: to the first token (sink), to the token before, to what followed an earlier equal token "
                "(induction), to earlier equal tokens. Attention that is the same for all keys has 1/(i + 1) on any of them in row i.")
    out.blocks += missing_words(context.results, NEEDS)
    for prompt_set in context.prompt_sets:
        table = context.table("notable_heads", prompt_set)
        if table.empty:
            continue
        out.blocks += _answers(context, table, prompt_set)
        out.blocks.append(Shown("Heads by score", "notable_heads", table, ("model", "kind", "rank", "layer", "head", "score", "score_low", "score_high", "num_prompts", "share_above"),
                                prompt_set, is_folded=True))
        statistics = context.table("head_statistics", prompt_set)
        for quantity, kind in KINDS.items():
            rows = statistics[statistics["quantity"] == quantity].dropna(subset=["mean"])
            largest = rows.groupby(["model", "layer"], sort=False)["mean"].max().reset_index()
            figure = lines(largest, context.styles, "layer", "mean", "layer", "score", level=MUCH, may_log_y=False) if len(largest) else None
            if figure is not None:
                out.blocks.append(Picture(f"{kind[0].upper()}{kind[1:]}: the layer's highest head", figure,
                                          f"Largest {quantity.replace('_', ' ')} of a head, by layer, mean over the prompts of “{prompt_set}”, a line a model.", prompt_set,
                                          caption=f"Mean over the prompts. Dashed: {MUCH:g}."))
    return out
