"""What models predict, and at which depth: a row a model and prompt set, from the statistics of the analyses prediction and residual."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy

from spectrace.inference import CONFIDENCE
from spectrace.results import Results
from spectrace.tables.frame import LAB, MODEL, NUM_LAYERS, NUM_PROMPTS, PROMPT_SET, Column, Table
from spectrace.tables.general import NAN, by_layer, identity, mean, prompt_counts, prompt_mean, sets_of

DECIDED_NAT = 1.0  # a lens that is as near to the final distribution has decided


def statistic(results: Results, model: str, prompt_set: str, quantity: str, name: str) -> float:
    """Of a quantity that a prompt has one value of; NaN where it is not there."""
    return mean(by_layer(results.statistics(model, prompt_set), quantity, statistic=name))


def mean_interval(middle: float, std: float, count: float) -> tuple[float, float]:
    """Of a mean over prompts, by Student's t; NaN of fewer than two."""
    if not count >= 2 or std != std:
        return NAN, NAN
    half = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, count - 1) * std / np.sqrt(count)
    return middle - half, middle + half


def decided_boundary(divergence: np.ndarray | None) -> float:
    """The first boundary from which the mean divergence stays below DECIDED_NAT; NaN where there is none."""
    if divergence is None or not np.isfinite(divergence).all():
        return NAN
    open_ = np.flatnonzero(divergence >= DECIDED_NAT)
    return float(open_[-1] + 1) if open_.size else 0.0


def _place_and_value(values: np.ndarray | None, pick) -> tuple[float, float]:
    if values is None or not np.isfinite(values).any():
        return NAN, NAN
    place = int(pick(values))
    return float(place), float(values[place])


def _rows(results: Results, prompt_set: str | None) -> Iterator[dict]:
    for model in results:
        for name in sets_of(results, model, prompt_set):
            nll = {key: statistic(results, model, name, "next_token_nll", key) for key in ("count", "mean", "std")}
            low, high = mean_interval(nll["mean"], nll["std"], nll["count"])
            boundary = decided_boundary(prompt_mean(results, model, name, "lens_kl"))
            cosine = prompt_mean(results, model, name, "boundary_cosine")
            layer, influence = _place_and_value(None if cosine is None else 1 - cosine, np.nanargmin)
            massive_at, massive = _place_and_value(prompt_mean(results, model, name, "massive_ratio"), np.nanargmax)
            front = identity(results, model)
            yield front | {"prompt_set": name} | prompt_counts(results, model, name) | {
                "num_predicted": nll["count"], "next_token_nll": nll["mean"], "perplexity": np.exp(nll["mean"]),
                "perplexity_low": np.exp(low), "perplexity_high": np.exp(high),
                "top1_accuracy": statistic(results, model, name, "top1_accuracy", "mean"),
                "prediction_entropy": statistic(results, model, name, "prediction_entropy", "mean"),
                "decided_boundary": boundary, "decided_share": boundary / front["num_layers"] if front["num_layers"] else NAN,
                "least_influential_layer": layer, "least_influence": influence,
                "massive_boundary": massive_at, "massive_ratio": massive}


PREDICTION = Table("prediction", "a model and prompt set", (
    MODEL, LAB, PROMPT_SET, NUM_LAYERS, NUM_PROMPTS,
    Column("num_predicted", "int", "prompts of two tokens and more that ran, over which the next token's likelihood is averaged", heading="predicted"),
    Column("next_token_nll", "float", "negative log-likelihood of the next token, mean over tokens, then over prompts", "nat", "NLL"),
    Column("perplexity", "float", "exp of next_token_nll", heading="perplexity"),
    Column("perplexity_low", "float", "exp of the lower end of the 95 % interval of next_token_nll over prompts (Student's t)", heading="from"),
    Column("perplexity_high", "float", "exp of its upper end", heading="to"),
    Column("top1_accuracy", "float", "share of tokens whose most probable next token is the one that follows, mean over prompts", heading="top 1"),
    Column("prediction_entropy", "float", "entropy of the distribution over the next token, mean over prompts", "nat", "entropy"),
    Column("decided_boundary", "int", f"first boundary from which the logit lens stays within {DECIDED_NAT:g} nat of the final distribution, in the mean over prompts", heading="decided at"),
    Column("decided_share", "float", "the same over the number of blocks", heading="of depth"),
    Column("least_influential_layer", "int", "block that turns the residual stream least", heading="least block"),
    Column("least_influence", "float", "its block influence, 1 − boundary_cosine, mean over prompts", heading="its influence"),
    Column("massive_boundary", "int", "boundary with the largest massive_ratio in the mean over prompts", heading="massive at"),
    Column("massive_ratio", "float", "largest absolute entry over the median there, mean over prompts", heading="over median"),
), _rows)
