"""L* formula: can the layer of transition be told from depth, entropy gradient and conditioning?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from spectrace import inference, lstar_formula
from spectrace.inference import number
from spectrace.studies.base import (Context, Picture, Shown, Study, Tested, Words, missing_words, needs_group,
                                    needs_statistic)
from spectrace.studies.drawing import GREY, MOST_UPRIGHT, Styles, figure_of, lay_down, lines, scatter
from spectrace.tables.independence import counted_words, once_each

NEEDS = (needs_statistic("Flat entropy of the mean attention Ā, and so the empirical L*", "flat_entropy_mean_attention"),
         needs_group("Condition number and Frobenius norm of W_V", "weights"))
REGRESSIONS = (("num_layers", "number of layers"), ("entropy_mean", "mean entropy"), ("condition_capped", "κ of the first W_V (capped)"),
               ("entropy_gradient", "entropy gradient"))
FEW_FOR_A_FIT = 10
FIGURE_COLORS = {"v1": "#C2500A", "v2": "#0072B2", "v2_uncapped": "#00805C", "v2_unseen": "#7A6100"}


def _fit_words(table: pd.DataFrame, predictions: pd.DataFrame, prompt_set: str) -> list[Words]:
    words = []
    for _, row in table.iterrows():
        how = "κ capped at 1000" if row["is_capped"] else "κ as it is"
        if pd.notna(row["reason"]):
            words.append(Words(f"v2 with {how}: no fit, {row['reason']}.", prompt_set, "answer"))
            continue
        suffix = "v2" if row["is_capped"] else "v2_uncapped"
        fitted = predictions[f"error_{suffix}_percent"].notna()
        v1, v2 = (predictions.loc[fitted, f"error_{key}_percent"].mean() for key in ("v1", suffix))
        bound = f" At a bound of its range: {row['at_bound']}." if pd.notna(row["at_bound"]) else ""
        words.append(Words(f"v2 with {how}: L* = (L/2) · (1 + {number(row['alpha'])}·tanh({number(row['beta'])}·∇H)) · clip(1 − {number(row['gamma'])}·ln(κ+1)/10, 0.5, 1.5). "
                           f"Mean error {v2:.1f} % of the depth, L/2 has {v1:.1f} %, for the {row['num_models']} models of the fit.{bound}", prompt_set, "answer"))
    fits = table[table["reason"].isna()]
    if len(fits) and fits["num_models"].max() < FEW_FOR_A_FIT:
        unseen = predictions["error_v2_unseen_percent"].dropna()
        told = (f" For a model that the fit has not seen the mean error is {unseen.mean():.1f} % ({len(unseen)} models)." if len(unseen)
                else " What it is worth for a model that it has not seen can't be said: leaving one out leaves too few.")
        words.append(Words(f"Three parameters were fitted to {fits['num_models'].max()} models: a small error says little.{told}", prompt_set, "warning"))
    return words


def _prediction_figure(predictions: pd.DataFrame):
    figure = figure_of("L* empirical", "L* predicted")
    ends = [0, float(np.nanmax(predictions[["l_star_entropy", "l_star_v1", "l_star_v2", "l_star_v2_uncapped"]].to_numpy(dtype=float)))]
    figure.add_scatter(x=ends, y=ends, mode="lines", line={"color": GREY, "dash": "dash", "width": 1.5}, hoverinfo="skip")
    for key, label, symbol in (("v1", "v1 (L/2)", "square"), ("v2", "v2, κ capped", "circle"), ("v2_uncapped", "v2, κ as it is", "diamond-open")):
        for _, row in predictions.dropna(subset=[f"l_star_{key}", "l_star_entropy"]).iterrows():
            figure.add_scatter(x=[row["l_star_entropy"]], y=[row[f"l_star_{key}"]], mode="markers", meta=row["model"], name=f"{label}: {row['model']}",
                               marker={"color": FIGURE_COLORS[key], "symbol": symbol, "size": 10},
                               hovertemplate=f"{row['model']}<br>{label}: %{{y:.3~g}}, empirical %{{x:.3~g}}<extra></extra>")
    return figure


def _error_figure(predictions: pd.DataFrame, styles: Styles):
    figure = figure_of("", "error, % of L")
    shown = [(key, label) for key, label in (("v1", "v1 (L/2)"), ("v2", "v2, κ capped"), ("v2_uncapped", "v2, κ as it is"), ("v2_unseen", "v2, model not seen"))
             if predictions[f"error_{key}_percent"].notna().any()]
    for key, label in shown:
        for position, (_, row) in enumerate(predictions.iterrows()):
            figure.add_bar(x=[styles.short[row["model"]]], y=[row[f"error_{key}_percent"]], marker_color=FIGURE_COLORS[key], meta=row["model"], name=label,
                           offsetgroup=key, legendgroup=key, showlegend=position == 0,
                           hovertemplate=f"{row['model']}<br>{label}: %{{y:.3~g}} %<extra></extra>")
    figure.update_layout(barmode="group", showlegend=True)
    return lay_down(figure, 2 * len(predictions)) if len(predictions) > MOST_UPRIGHT else figure


def _of_set(context: Context, out: Study, prompt_set: str) -> None:
    styles, results = context.styles, context.results
    table = context.table("lstar", prompt_set)
    target = table["l_star_entropy"].to_numpy()
    predictions, fits = context.table("lstar_predictions", prompt_set), context.table("lstar_fit", prompt_set)
    can_predict = bool(np.isfinite(target).any())
    if can_predict:
        found = table[np.isfinite(target)]
        stars = inference.listed({row["model"]: row["l_star_entropy"] / row["num_layers"] for _, row in found.iterrows()}, ".2f")
        out.blocks.append(Words(f"Empirical L*, as a share of the depth: {stars}. L/2 is off by {number(predictions['error_v1_percent'].mean())} % of the depth on average.", prompt_set, "answer"))
        out.blocks += _fit_words(fits, predictions, prompt_set)
    out.blocks.append(Shown("Features", "lstar", table, (
        "model", "lab", "num_layers", "hidden_size", "num_heads", "head_dim", "vocab_size", "G", "l_star_v1", "entropy_mean", "entropy_std",
        "entropy_first", "entropy_last", "entropy_gradient", "condition_first", "condition_capped", "condition_last", "condition_ratio",
        "frobenius_first", "frobenius_last", "frobenius_ratio", "l_star_entropy", "l_star_trace", "l_star_sign_change"), prompt_set,
        "v1 is (L/2)(1 + tanh(5(G−1))); G, the growth of the width, is 1 for all these models, so v1 is L/2."))
    marks = {row["model"]: row["l_star_entropy"] for _, row in table.iterrows()}
    figure = lines(context.table("lstar_layers", prompt_set), styles, "layer", "flat_entropy", "layer", "entropy / ln(entries)", marks=marks)
    if figure is not None:
        out.blocks.append(Picture("Flat entropy of the mean attention by layer", figure, "Normalised entropy of Ā, mean over the prompts, a line a model; rings: the empirical L*.", prompt_set,
                                  is_wide=True, caption="Mean over the prompts. Rings: the empirical L*."))
    if not can_predict:
        return
    out.blocks.append(Shown("Fit", "lstar_fit", fits, ("is_capped", "alpha", "beta", "gamma", "mae", "num_models", "at_bound", "reason"), prompt_set,
                            "Mean absolute error as objective, L-BFGS-B from (0.5, 10, 0.1) within 0…2, 1…50, 0…0.5; as in the notebook, and without its cap of κ."))
    out.blocks.append(Shown("Errors of v1 and v2", "lstar_predictions", predictions, (
        "model", "num_layers", "l_star_entropy", "l_star_v1", "l_star_v2", "l_star_v2_uncapped", "l_star_v2_unseen", "error_v1", "error_v2",
        "error_v2_uncapped", "error_v2_unseen", "error_v1_percent", "error_v2_percent", "error_v2_uncapped_percent", "error_v2_unseen_percent"), prompt_set))
    once, counted = once_each(table, context.units), counted_words(context.units)
    errors = once_each(predictions, context.units)
    outcomes = [inference.paired_difference(f"Is {label} nearer than L/2 (error in % of the depth)?", errors["error_v1_percent"], errors[f"error_{key}_percent"],
                                            ("error of L/2", f"error of {label}"))
                for key, label in (("v2", "v2"), ("v2_uncapped", "v2 without cap"), ("v2_unseen", "v2 for unseen models"))]
    regressions = [inference.regression(f"Does L* depend on the {label}?", once[name].to_numpy(dtype=float, na_value=np.nan), once["l_star_entropy"], (label, "L*"))
                   for name, label in REGRESSIONS]
    out.blocks.append(Tested("v2 against L/2", tuple(outcomes), prompt_set, ("v2's errors are of the models that it was fitted to, but for the last line. " + counted).strip()))
    out.blocks.append(Picture("L* predicted", _prediction_figure(predictions), "Predicted over empirical L*: squares v1, circles v2, diamonds v2 without cap; dashed: perfect.", prompt_set,
                              caption="Squares: v1 (L/2). Circles: v2, κ capped. Diamonds: v2, κ as it is. Dashed: perfect."))
    out.blocks.append(Picture("Error by model", _error_figure(predictions, styles), "Absolute error in per cent of the depth for v1 and v2, bars by model.", prompt_set))
    out.blocks.append(Tested("The four regressions", tuple(regressions), prompt_set, counted))
    for (name, label), outcome in zip(REGRESSIONS, regressions):
        x, y = (once[column].to_numpy(dtype=float, na_value=np.nan) for column in (name, "l_star_entropy"))
        good = np.isfinite(x) & np.isfinite(y)
        intercept = float(np.mean(y[good]) - outcome.effect * np.mean(x[good])) if good.any() else np.nan
        figure = scatter(table, styles, name, "l_star_entropy", label, "L* empirical", fit=(intercept, outcome.effect))
        if figure is not None:
            out.blocks.append(Picture(f"L* over {label}", figure, f"Empirical L* over {label}, a point a model, with the least squares line.", prompt_set))
    correlations = context.table("lstar_correlations", prompt_set)
    out.blocks.append(Shown("Correlations with L*", "lstar_correlations", correlations, ("feature", "num_models", "r", "low", "high", "p", "p_holm", "words"), prompt_set,
                            f"Pearson's r with its 95 % interval. {int(correlations['r'].notna().sum())} tests at once: trust p by Holm."))


def study(context: Context) -> Study:
    out = Study("lstar", "L* formula", "Can the layer of transition be told from depth, attention entropy and conditioning?",
                "Empirical L*: the first layer whose flat entropy of Ā has reached the midpoint of first and last layer. v1 is L/2. v2 multiplies it by a factor of the "
                f"entropy's gradient and one of the conditioning of the first W_V, with three fitted parameters (κ capped at {lstar_formula.CONDITION_CAP:g}, factor clipped to 0.5–1.5).")
    out.blocks += missing_words(context.results, NEEDS)
    for prompt_set in context.prompt_sets:
        _of_set(context, out, prompt_set)
    if not context.prompt_sets:
        out.blocks.append(Words("No prompts were run: there is no attention, and so no L*.", kind="answer"))
    else:
        out.blocks.append(Shown("Entropy by layer", "lstar_layers", context.table("lstar_layers"), ("model", "prompt_set", "layer", "flat_entropy"), is_folded=True))
    return out
