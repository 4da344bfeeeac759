"""H4 v2 extended: traces, transition points, spectra and free energy of the sheaf Laplacian."""

from __future__ import annotations

import numpy as np
import pandas as pd

from spectrace import inference
from spectrace.inference import Outcome, number
from spectrace.studies.base import (Context, Picture, Shown, Study, Tested, Words, missing_words, needs_statistic)
from spectrace.studies.drawing import MOST_BANDS, bars, bars_by_lab, lines, scatter
from spectrace.tables.general import other_lengths
from spectrace.tables.h4_v2_extended import REFERENCES, SPECTRA, beta_quantities
from spectrace.tables.independence import counted_words, once_each
from spectrace.tables.restriction_maps import NO_LAB

NEEDS = (needs_statistic("Traces and L*", "trace_multihead"), needs_statistic("Sheaf spectra", "lambda_max"),
         needs_statistic("ln Z and free energy over β", "log_partition"))
SPECTRUM_NAMES = {"lambda_max": ("Largest eigenvalue", "λ max"), "spectral_gap": ("Spectral gap (smallest non-zero eigenvalue)", "gap"),
                  "nullity": ("Nullity", "dimension"), "spectral_entropy": ("Spectral entropy", "nats"),
                  "graph_lambda_2": ("λ₂ of the token graph (Fiedler value)", "λ₂ of L_G")}
# Quantities over β: title, axis. The token graph's are folded under one heading.
OVER_BETA = {"log_partition_nonzero": ("ln Z over the non-zero eigenvalues", "ln Z"), "internal_energy": ("Internal energy U", "U"),
             "heat_capacity": ("Heat capacity C", "C"), "thermal_entropy": ("Entropy S", "S (nats)"),
             "graph_log_partition_nonzero": ("Token graph: ln Z over the non-zero μ", "ln Z"), "graph_internal_energy": ("Token graph: internal energy U", "U"),
             "graph_heat_capacity": ("Token graph: heat capacity C", "C"), "graph_thermal_entropy": ("Token graph: entropy S", "S (nats)"),
             "log_partition": ("ln Z over all nD eigenvalues", "ln Z"), "free_energy": ("Free energy over all nD eigenvalues", "−free energy")}


def _behaviour(text: object) -> str:
    upper = str(text).upper()
    return "EXPAND" if upper.startswith("EXPAND") else "DAMPEN" if upper.startswith("DAMPEN") else ""


def outcomes(table: pd.DataFrame, units: dict[str, str]) -> list[Outcome]:
    """Tests over models of the table "h4_v2_extended" of one prompt set; of traces a token, since traces grow with the tokens that a
    model's tokenizer makes of the prompts."""
    by_behaviour = once_each(table, units, table["expected"].map(_behaviour))
    behaviour = by_behaviour["expected"].map(_behaviour)
    table = once_each(table, units)
    traces = table["mean_trace_per_token"].to_numpy()
    log = np.log10(np.where(traces > 0, traces, np.nan))
    size = table["layers_times_heads"].to_numpy(dtype=float, na_value=np.nan)
    return [
        inference.mann_whitney("Do models expected to dampen have another mean trace a token than those expected to expand?",
                               by_behaviour["mean_trace_per_token"][behaviour == "DAMPEN"], by_behaviour["mean_trace_per_token"][behaviour == "EXPAND"],
                               ("DAMPEN", "EXPAND"), "two-sided"),
        inference.regression("Does the trace a token go with the size (log₁₀ of both)?", np.log10(size), log, ("log₁₀(L × H)", "log₁₀ of the mean trace a token")),
        inference.mean_against("Does the transition lie elsewhere than at half the depth (L*/L = 0.5)?", table["l_star_ratio"], 0.5, "L*/L"),
    ]


def _spread(most: pd.Series, least: pd.Series) -> str:
    """How far the mean traces of a set's models lie apart, in words; there is no factor to a trace that is 0."""
    if most["model"] == least["model"]:
        return f"The mean trace of {most['model']} is {number(most['mean_trace'])}."
    words = f"Mean traces run from {number(least['mean_trace'])} ({least['model']}) to {number(most['mean_trace'])} ({most['model']})"
    if not least["mean_trace"] > 0:
        return f"{words}."
    return f"{words}, a factor of {number(most['mean_trace'] / least['mean_trace'])}; the notebook's small models spread over a factor of 26."


def _length_words(table: pd.DataFrame, prompt_set: str) -> list[Words]:
    """Said where the models' traces are of prompts of other lengths."""
    if not other_lengths(table["mean_tokens"]):
        return []
    lengths = inference.listed(dict(table[["model", "mean_tokens"]].itertuples(index=False, name=None)), ".1f")
    per_token = table.dropna(subset=["mean_trace_per_token"])
    most, least = (per_token.loc[pick] for pick in (per_token["mean_trace_per_token"].idxmax(), per_token["mean_trace_per_token"].idxmin()))
    return [Words(f"The models cut these prompts into other numbers of tokens ({lengths} a prompt), and a trace grows with them: models compare by trace a token, "
                  f"which runs from {number(least['mean_trace_per_token'])} ({least['model']}) to {number(most['mean_trace_per_token'])} ({most['model']}).", prompt_set, "warning")]


def _answer(table: pd.DataFrame, prompt_set: str) -> list[Words]:
    there = table.dropna(subset=["mean_trace"])
    if there.empty:
        return [Words("No model has a trace for these prompts.", prompt_set, "answer")]
    most, least = (there.loc[pick] for pick in (there["mean_trace"].idxmax(), there["mean_trace"].idxmin()))
    spread = "Every mean trace is 0." if most["mean_trace"] == 0 and len(there) > 1 else _spread(most, least)
    ratios = inference.listed(dict(there.dropna(subset=["l_star_ratio"])[["model", "l_star_ratio"]].itertuples(index=False, name=None)), ".2f")
    return [Words(spread, prompt_set, "answer"), *_length_words(there, prompt_set), Words(f"L*/L: {ratios}.", prompt_set, "answer")]


def _thermodynamics_missing(context: Context) -> list[Words]:
    names = {name for model in context.results for prompt_set in context.results.prompt_sets(model)
             for name in (context.results.statistics(model, prompt_set) or ())}
    absent = [what for name, (what, _) in (SPECTRUM_NAMES | OVER_BETA).items() if name not in names]
    return [Words(f"Not in these files: {'; '.join(absent)}. They were written by a version of spectrace that did not compute them.", kind="missing")] if absent and names else []


def _peaks(context: Context, prompt_set: str) -> list[Words]:
    """Where each model's heat capacity is largest: the β at which its levels freeze out."""
    table = context.table("thermodynamics", prompt_set)
    rows = table[table["quantity"] == "heat_capacity"].dropna(subset=["mean"])
    if rows.empty:
        return []
    peaks = rows.loc[rows.groupby("model", sort=False)["mean"].idxmax()]
    last = rows["beta"].max()
    at_end = peaks[peaks["beta"] == last]
    inside = "; ".join(f"{row['model']} {number(row['mean'])} at β = {row['beta']:.3g}" for _, row in peaks[peaks["beta"] < last].iterrows())
    sentences = [f"Largest heat capacity (mean over prompts, layers and heads): {inside}."] * bool(inside) + [
        f"Still rising at the largest β, {last:g}: the heat capacity of {', '.join(at_end['model'])}."] * bool(len(at_end))
    return [Words(" ".join(sentences), prompt_set, "answer")]


def _beta_pictures(context: Context, prompt_set: str) -> list[Picture]:
    table = context.table("thermodynamics", prompt_set)
    meanings = {name: meaning for model in context.results for name, meaning in beta_quantities(context.results, model, prompt_set).items()}
    pictures = []
    for quantity, (title, label) in OVER_BETA.items():
        rows = table[table["quantity"] == quantity]
        if quantity not in meanings or rows.empty:
            continue
        fold = "Over all nD eigenvalues" if quantity in ("log_partition", "free_energy") else ""
        if quantity == "log_partition":
            rows = rows.assign(mean=rows["mean"] - rows.groupby("model")["mean"].transform("first"))
            title, label = "Change of ln Z over all nD eigenvalues", "ln Z − ln Z(first β)"
        if quantity == "free_energy":  # it is negative
            rows = rows.assign(mean=-rows["mean"])
        figure = lines(rows, context.styles, "beta", "mean", "β", label, log_x=True, may_log_y="energy" in quantity)
        if figure is not None:
            pictures.append(Picture(title, figure, f"{meanings[quantity]}; mean over prompts, layers and heads, over β, a line a model.", prompt_set, fold=fold))
    return pictures


def _of_set(context: Context, out: Study, prompt_set: str) -> None:
    styles = context.styles
    table, layers = context.table("h4_v2_extended", prompt_set), context.table("h4_v2_extended_layers", prompt_set)
    out.blocks += _answer(table, prompt_set)
    out.blocks.append(Shown("Summary", "h4_v2_extended", table, (
        "model", "lab", "expected", "num_layers", "num_heads", "num_prompts", "num_failed_prompts", "mean_tokens", "mean_trace", "mean_trace_per_token", "mean_trace_mean_attention", "l_star_trace",
        "l_star_ratio", "layers_times_heads", "last_gain_mean", *(f"{name}_mean" for name in SPECTRA)), prompt_set))
    if table["mean_trace"].notna().any():
        out.blocks.append(Tested("Tests", tuple(outcomes(table, context.units)), prompt_set, counted_words(context.units)))
    out.blocks.append(Shown("Mean trace over the notebook's reference models", "h4_v2_extended", table, (
        "model", "mean_trace", *(f"over_{name}" for name in REFERENCES)), prompt_set,
        "Reference: the notebook's mean multi-head traces on its own four prompts. Those of Pythia were made of wrongly cut weights (hover the heading), so their ratios compare unlike things."))
    stars = {row["model"]: row["l_star_trace"] / row["num_layers"] for _, row in table.dropna(subset=["l_star_trace", "num_layers"]).iterrows()}
    labs: dict[str, dict[str, float]] = {}
    for _, row in table.dropna(subset=["mean_trace"]).iterrows():
        labs.setdefault(row["lab"] if pd.notna(row["lab"]) else NO_LAB, {})[row["model"]] = row["mean_trace"]
    bands = f"Bands (up to {MOST_BANDS} models): one standard deviation over the prompts. "
    captions = {"Multi-head trace by depth": bands + "Rings: L*.", "Trace of the mean attention by depth": bands + "The notebook's “full” trace.",
                "Mean trace by lab": "Bars: mean and standard deviation over a lab's models. Points: models.", "Transition point over depth": "Dashed: half the depth."}
    pictures = [
        ("Multi-head trace by depth", lines(layers, styles, "depth", "trace_multihead", "l/L", "Σ_h Tr Δ_F", "trace_multihead_std", marks=stars),
         "Multi-head trace, mean over the prompts, over the normalised layer, a line a model; bands: one standard deviation; rings: L*."),
        ("Trace of the mean attention by depth", lines(layers, styles, "depth", "trace_mean_attention", "l/L", "Tr Δ_F of Ā", "trace_mean_attention_std"),
         "Trace with the mean attention and the first head's W_V, mean over the prompts, over the normalised layer."),
        ("Mean trace by model", bars(table, styles, "mean_trace", "mean trace"), "Mean multi-head trace, a bar a model."),
        ("Mean trace a token by model", bars(table, styles, "mean_trace_per_token", "trace a token"), "Mean multi-head trace over the mean number of tokens, a bar a model."),
        ("Mean trace by lab", bars_by_lab(labs, styles, "mean trace"), "Mean over each lab's models, with their standard deviation; points: models."),
        ("Transition point over depth", scatter(table, styles, "num_layers", "l_star_ratio", "layers L", "L*/L", level=0.5), "L*/L over the number of layers, a point a model; dashed: half the depth."),
        ("Trace over size", scatter(table, styles, "layers_times_heads", "mean_trace", "L × H", "mean trace"), "Mean trace over layers times heads, a point a model."),
    ] + [(f"{title} by depth", lines(layers, styles, "depth", name, "l/L", label), f"{title} of the sheaf Laplacian, mean over prompts and heads, over the normalised layer.")
         for name, (title, label) in SPECTRUM_NAMES.items()] + [
        ("Contraction ratio by depth", lines(layers, styles, "depth", "contraction_ratio", "l/L", "mean √Ā"), "Mean of √Ā over the token pairs j ≤ i, mean over the prompts, over the normalised layer: what the published files call contraction_ratios.")]
    out.blocks += [Picture(title, figure, description, prompt_set, caption=captions.get(title, "")) for title, figure, description in pictures if figure is not None]
    out.blocks += _peaks(context, prompt_set) + _beta_pictures(context, prompt_set)


def study(context: Context) -> Study:
    out = Study("h4_v2_extended", "H4 v2 extended", "How large is the sheaf Laplacian's trace, where does it change, and how does it go with lab and size?",
                "Tr Δ_F = (ΣA − tr A)·‖W_V‖_F² for each head, summed over heads. L* is the layer of the steepest change of its mean over the prompts. Spectra and partition "
                "functions are exact: all nD eigenvalues are products of the token graph's and the squared singular values of W_V.")
    out.blocks += missing_words(context.results, NEEDS)
    for prompt_set in context.prompt_sets:
        _of_set(context, out, prompt_set)
    if context.prompt_sets:
        out.blocks.append(Words("ln Z, U, C and S are of the non-zero eigenvalues, with weights e^(−βλ)/Z; of the token graph alone, W_V has no part in them. ln Z over all nD eigenvalues is nearly "
                                "constant, since each token has D−d structural zeros: its change is shown.", kind="text"))
        out.blocks += _thermodynamics_missing(context)
        out.blocks.append(Shown("All traces", "h4_v2_extended_layers", context.table("h4_v2_extended_layers"), (
            "model", "prompt_set", "layer", "depth", "trace_multihead", "trace_multihead_std", "trace_mean_attention", "trace_mean_attention_std", *SPECTRA, "contraction_ratio"), is_folded=True))
    else:
        out.blocks.append(Words("No prompts were run: there is no attention, and so no trace.", kind="answer"))
    return out
