"""Prediction and depth: how well the models predict, where that is decided, and what the blocks on the way do."""

from __future__ import annotations

import pandas as pd

from spectrace.inference import first_of, number
from spectrace.studies.base import Context, Picture, Shown, Study, Words, missing_words, needs_statistic
from spectrace.studies.drawing import MOST_BANDS, lines
from spectrace.tables.prediction import DECIDED_NAT

BANDS = f"Mean over the prompts. Bands (up to {MOST_BANDS} models): one standard deviation."
NEEDS = (needs_statistic("Likelihood and logit lens", "next_token_nll"),
         needs_statistic("Block influence and massive activations", "massive_ratio"))
# quantity, title, label, level
OF_BOUNDARIES = (("lens_kl", "Divergence of the logit lens", "nat", DECIDED_NAT), ("lens_rank", "Rank of the finally most probable token", "rank", None),
                 ("massive_ratio", "Massive activations: largest entry over the median", "ratio", None),
                 ("matrix_entropy", "Matrix entropy of the tokens' vectors", "nat", None), ("anisotropy", "Mean cosine between tokens", "cosine", None))
OF_SETS = (("rankme_covariance", "Geometry of last tokens: RankMe of the covariance", "RankMe"), ("alpha_req", "Geometry of last tokens: exponent of the eigenvalues", "α-ReQ"))
OF_LAYERS = (("attention_write_norm", "Norm of what attention adds", "norm"), ("mlp_write_norm", "Norm of what the MLP adds", "norm"))
DRAWN = {"boundary_cosine", *(quantity for quantity, _, _ in OF_LAYERS)}


def _same_tokens(context: Context, models: list[str], prompt_set: str) -> bool:
    """Whether all had the same token ids of all prompts."""
    digests = {str(context.results.attributes(model).get("vocab_size")) + str(context.results.group(model, f"prompts/{prompt_set}").attrs.get("prompt_sha256"))
               for model in models}
    return len(digests) == 1


def _perplexity_words(context: Context, rows: pd.DataFrame, prompt_set: str) -> list[Words]:
    rows = rows.dropna(subset=["perplexity"]).sort_values("perplexity")
    if rows.empty:
        return []
    def of_model(row) -> str:
        interval = f" ({number(row['perplexity_low'])} to {number(row['perplexity_high'])})" if row["perplexity_low"] == row["perplexity_low"] else ""
        return f"{row['model']} {number(row['perplexity'])}{interval}"
    counts = rows["num_predicted"].dropna().astype(int)
    n = str(counts.min()) if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"
    words = f"Perplexity, with a 95 % interval over prompts: {first_of([of_model(row) for _, row in rows.iterrows()], 'models', ', ')}; n = {n} prompts."
    if len(rows) > 1 and not _same_tokens(context, list(rows["model"]), prompt_set):
        words += " The models cut these prompts into other tokens, or have other vocabularies: their perplexities do not compare."
    return [Words(words, prompt_set, "answer")]


def _depth_words(rows: pd.DataFrame, prompt_set: str) -> list[Words]:
    rows = rows.dropna(subset=["decided_boundary"])
    if rows.empty:
        return []
    depths = [f"{row['model']} {int(row['decided_boundary'])} of {int(row['num_layers'])}" for _, row in rows.iterrows()]
    return [Words(f"From this boundary on the logit lens stays within {DECIDED_NAT:g} nat of the final distribution, in the mean over prompts: {first_of(depths, 'models', ', ')}.",
                  prompt_set, "answer")]


def _geometry(context: Context, prompt_set: str) -> list[Picture | Shown]:
    table = context.table("last_token_geometry", prompt_set)
    if table.empty:
        return []
    counts = table["num_vectors"].astype(int)
    n = str(counts.min()) if counts.min() == counts.max() else f"{counts.min()} to {counts.max()}"
    blocks = []
    for quantity, title, label in OF_SETS:
        figure = lines(table, context.styles, "boundary", quantity, "boundary (0: entering block 0)", label, may_log_y=False)
        if figure is not None:
            blocks.append(Picture(title, figure, f"{title}, over the last tokens of the prompts of “{prompt_set}”, at some boundaries, a line a model.", prompt_set,
                                  caption=f"Of the set as a whole: {n} vectors less their mean. Sets of other sizes have other ranks."))
    return [*blocks, Shown("Geometry of last tokens", "last_token_geometry", table, (
        "model", "boundary", "num_vectors", "rankme", "rankme_covariance", "stable_rank", "alpha_req", "alpha_req_r2"), prompt_set, is_folded=True)]


def study(context: Context) -> Study | None:
    """None where no file has anything of it."""
    if not any(need.is_there(context.results, model) for need in NEEDS for model in context.results) and context.table("last_token_geometry").empty:
        return None
    out = Study("prediction", "Prediction and depth", "How well do the models predict these prompts, and at which depth is it decided?",
                "Likelihood is of the prompts' own tokens. The logit lens puts the last token's vector at a boundary through the final norm and the "
                "unembedding, as if no further block came; its divergence from the final distribution says what is still open there. "
                "Block influence is 1 − the cosine of what enters and what leaves a block.")
    out.blocks += missing_words(context.results, NEEDS)
    for prompt_set in context.prompt_sets:
        table = context.table("prediction", prompt_set)
        out.blocks += [*_perplexity_words(context, table, prompt_set), *_depth_words(table, prompt_set)]
        out.blocks.append(Shown("Prediction and depth", "prediction", table, (
            "model", "num_predicted", "next_token_nll", "perplexity", "perplexity_low", "perplexity_high", "top1_accuracy", "prediction_entropy",
            "decided_boundary", "decided_share", "least_influential_layer", "least_influence", "massive_boundary", "massive_ratio"), prompt_set))
        boundaries = context.table("boundary_statistics", prompt_set)
        for quantity, title, label, level in OF_BOUNDARIES:
            rows = boundaries[boundaries["quantity"] == quantity]
            figure = lines(rows, context.styles, "boundary", "mean", "boundary (0: entering block 0)", label, "std", level=level, may_log_y=quantity != "anisotropy")
            if figure is not None:
                dashed = f" Dashed: {level:g} nat, decided." if level is not None else ""
                out.blocks.append(Picture(title, figure, f"{title} at each boundary, mean over the prompts of “{prompt_set}”, a line a model.", prompt_set, caption=BANDS + dashed))
        layers = context.table("layer_statistics", prompt_set)
        influence = layers[layers["quantity"] == "boundary_cosine"].assign(mean=lambda frame: 1 - frame["mean"])
        figure = lines(influence, context.styles, "layer", "mean", "layer", "1 − cosine", "std")
        if figure is not None:
            out.blocks.append(Picture("Block influence", figure, f"Block influence by layer, mean over the prompts of “{prompt_set}”, a line a model.", prompt_set, caption=BANDS))
        for quantity, title, label in OF_LAYERS:
            figure = lines(layers[layers["quantity"] == quantity], context.styles, "layer", "mean", "layer", label, "std")
            if figure is not None:
                out.blocks.append(Picture(title, figure, f"{title}, by layer, mean over tokens and prompts of “{prompt_set}”, a line a model.", prompt_set, caption=BANDS))
        out.blocks += _geometry(context, prompt_set)
    return out
