"""Heads that do one thing: a row a model, prompt set, kind and place in its ranking, from the statistics of the analysis patterns."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from spectrace.results import Results
from spectrace.tables.frame import LAB, MODEL, NUM_HEADS, NUM_LAYERS, PROMPT_SET, Column, Table
from spectrace.tables.general import by_layer, identity, sets_of
from spectrace.tables.prediction import mean_interval

# quantity -> what a head is called that has much of it
KINDS = {"first_token_mass": "attention sink", "previous_token_mass": "previous token", "induction_score": "induction",
         "duplicate_token_score": "duplicate token"}
MUCH = 0.5     # of a row's attention
MOST_RANKED = 10


def _rows(results: Results, prompt_set: str | None) -> Iterator[dict]:
    for model in results:
        for name in sets_of(results, model, prompt_set):
            for quantity, kind in KINDS.items():
                found = {key: by_layer(results.statistics(model, name), quantity, statistic=key) for key in ("count", "mean", "std")}
                if found["mean"] is None or not np.isfinite(found["mean"]).any():
                    continue
                means = np.where(np.isfinite(found["mean"]), found["mean"], -np.inf)
                order = np.argsort(-means, axis=None, kind="stable")[: min(MOST_RANKED, int(np.isfinite(found["mean"]).sum()))]
                for rank, flat in enumerate(order):
                    layer, head = (int(place) for place in np.unravel_index(flat, means.shape))
                    low, high = mean_interval(*(found[key][layer, head] for key in ("mean", "std", "count")))
                    yield identity(results, model) | {
                        "prompt_set": name, "kind": kind, "rank": rank + 1, "layer": layer, "head": head, "score": means[layer, head],
                        "score_low": low, "score_high": high, "num_prompts": found["count"][layer, head],
                        "share_above": float(np.mean(means > MUCH))}


NOTABLE_HEADS = Table("notable_heads", "a model, prompt set, kind of head and place in its ranking", (
    MODEL, LAB, PROMPT_SET, NUM_LAYERS, NUM_HEADS,
    Column("kind", "text", "what the head does: " + "; ".join(f"{kind}: {quantity}" for quantity, kind in KINDS.items()), heading="kind"),
    Column("rank", "int", "place by score, from 1", heading="rank"),
    Column("layer", "int", "layer of the head", heading="layer"),
    Column("head", "int", "number of the head in its layer", heading="head"),
    Column("score", "float", "share of the attention that goes there, mean over rows, then over prompts", heading="score"),
    Column("score_low", "float", "lower end of its 95 % interval over prompts (Student's t)", heading="from"),
    Column("score_high", "float", "upper end", heading="to"),
    Column("num_prompts", "int", "prompts with such rows", heading="prompts"),
    Column("share_above", "float", f"share of the model's heads with a score above {MUCH:g}", heading=f"heads above {MUCH:g}"),
), _rows)
