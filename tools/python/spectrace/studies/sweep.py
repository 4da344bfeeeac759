"""The sweep itself: models, what went wrong, what is small or not finite; training steps; spectra; gains; whatever else the files hold."""

from __future__ import annotations

import numpy as np
import pandas as pd

from spectrace.results import Results
from spectrace.studies.base import Context, Picture, Shown, Study, Words
from spectrace.studies.drawing import GREY, MOST_BANDS, figure_of, lines
from spectrace.studies.h4_v2_extended import OVER_BETA
from spectrace.studies.prediction import DRAWN as DRAWN_OF_PREDICTION
from spectrace.tables.independence import counted_words
from spectrace.tables.notable_heads import KINDS as KINDS_OF_HEADS

FEW_PROMPTS = 10
SPECTRUM_POINTS = 60   # of each spectrum that a figure draws
MOST_SPECTRA_OPEN = 4   # of more models the spectra are folded
SPECTRUM_LAYERS = 6    # of each model whose spectra are drawn
STEP_QUANTITIES = (("mean_trace", "Mean trace"), ("l_star_trace", "L* (trace)"), ("l_star_entropy", "L* (entropy)"), ("w_v_spectral_norm_mean", "Mean σ₁ of W_V"),
                   ("unembedding_spectral_norm", "σ₁ of W_U"), ("last_gain_mean", "Last gain"), ("effective_amplification", "Effective amplification"))
# Drawn in the studies already
DRAWN = {"trace_multihead", "trace_mean_attention", "lambda_max", "spectral_gap", "nullity", "spectral_entropy", "flat_entropy_mean_attention",
         "row_entropy_mean_attention", "sparsity_mean_attention", "gain", *OVER_BETA, "graph_lambda_2", "contraction_ratio", *DRAWN_OF_PREDICTION, *KINDS_OF_HEADS}


def overview(context: Context) -> Study:
    """What was asked, what came, what failed: read before any number is believed."""
    results = context.results
    out = Study("sweep", "The sweep", "What was measured, and what went wrong?", "")
    models = context.table("models")
    errors = results.errors
    counts = models["status"].value_counts()
    out.blocks.append(Words(", ".join(f"{count} {status}" for status, count in counts.items()) + f" of {len(models) + len(results.missing) + len(results.problems)} models.", kind="answer"))
    if results.missing:
        out.blocks.append(Words("Not there yet (models of the job without a results file): " + ", ".join(results.missing) + ".", kind="warning"))
    out.blocks += [Words(f"{row['file']} {row['problem']}.", kind="warning") for _, row in results.problems.iterrows()]
    marked = models.loc[models["slicing"].fillna("").str.startswith("as-published"), "model"]
    if len(marked):
        out.blocks.append(Words("Sliced as the published notebooks do, not as the models use their heads: " + ", ".join(marked) + ".", kind="warning"))
    duplicates = context.table("duplicates")
    out.blocks += [Words(f"{row['model']} and {row['same_as']} are the same weights: {row['num_tensors']} tensors, all with equal digests.", kind="warning") for _, row in duplicates.iterrows()]
    out.blocks += [Words(f"In tests over models, {words}", kind="warning") for words in [counted_words(context.units)] if words]
    summary = context.table("summary")
    few = summary[(summary["num_prompts"] - summary["num_failed_prompts"].fillna(0)) < FEW_PROMPTS]
    for prompt_set, rows in few[few["prompt_set"] != ""].groupby("prompt_set", sort=False):
        usable = (rows["num_prompts"] - rows["num_failed_prompts"].fillna(0))
        out.blocks.append(Words(f"Few prompts: means over “{prompt_set}” are of {usable.min()}{f' to {usable.max()}' if usable.max() > usable.min() else ''} prompts a model.", prompt_set, "warning"))
    if len(errors):
        out.blocks.append(Shown("What failed", "", errors, tuple(errors.columns), note="It is left out of every number and figure below."))
    nonfinite = context.table("nonfinite")
    if len(nonfinite):
        out.blocks.append(Shown("Values that are not finite", "nonfinite", nonfinite, ("model", "prompt_set", "quantity", "places", "of_places", "max_nonfinite"),
                                note="Beyond those of failed prompts. They are left out of means over prompts, and counted here."))
    else:
        out.blocks.append(Words("Every value is finite, but for those of failed prompts." if len(errors) else "Every value is finite.", kind="text"))
    for prompt_set in context.prompt_sets or (None,):
        rows = summary[(summary["prompt_set"] == prompt_set) | (summary["prompt_set"] == "")] if prompt_set else summary
        out.blocks.append(Shown("Summary", "summary", rows, ("model", "lab", "expected", "status", "num_prompts", "num_failed_prompts", "mean_tokens", "mean_trace", "mean_trace_per_token", "l_star_trace", "l_star_entropy",
                                "l_star_sign_change", "last_gain_mean", "last_gain_after_norm_mean", "effective_amplification", "w_q_spectral_norm_mean", "w_k_spectral_norm_mean",
                                "w_v_spectral_norm_mean", "w_o_spectral_norm_mean", "unembedding_spectral_norm"), prompt_set))
    meta = tuple(column for column in models if column.startswith("meta_"))
    out.blocks.append(Shown("Models", "models", models, ("model", "lab", "expected", "status", "revision", "step", "architecture", "num_layers", "num_heads", "num_kv_heads", "head_dim",
                            "hidden_size", "vocab_size", "num_parameters", "storage_dtype", "compute_dtype", "tied_embeddings", "slicing", "norm_placement", "position_encoding", *meta)))
    return out


def residual(context: Context) -> Study | None:
    """Gains and norms of the residual stream; None where no file has them."""
    out = Study("residual", "Residual stream", "Does the residual stream expand or contract, and where?",
                "gain[l] is the norm of the last token's vector leaving block l over that entering it, before any final norm.")
    for prompt_set in context.prompt_sets:
        table = context.table("layer_statistics", prompt_set)
        figure = lines(table[table["quantity"] == "gain"], context.styles, "layer", "mean", "layer", "gain", "std", level=1.0)
        if figure is not None:
            out.blocks.append(Picture("Gain by layer", figure, "Gain of the last token's norm, mean over the prompts, a line a model; bands: one standard deviation; dashed: 1.", prompt_set,
                                      caption=f"Mean over the prompts. Bands (up to {MOST_BANDS} models): one standard deviation. Dashed: 1, neither expands nor contracts."))
        table = context.table("boundary_statistics", prompt_set)
        for quantity, title in (("last_token_norm", "Norm of the last token"), ("mean_token_norm", "Mean norm of the tokens")):
            figure = lines(table[table["quantity"] == quantity], context.styles, "boundary", "mean", "boundary (0: entering block 0)", "norm", "std")
            if figure is not None:
                out.blocks.append(Picture(f"{title} by boundary", figure, f"{title}, mean over the prompts, between blocks, a line a model.", prompt_set))
    return out if out.blocks else None


def steps(context: Context) -> Study | None:
    """Checkpoints of training runs over their steps; None where no series has two."""
    models = context.table("models").dropna(subset=["step"])
    counts = models.groupby("series", sort=False).size()
    series = list(counts[counts > 1].index)
    if not series:
        return None
    out = Study("steps", "Training steps", "What changes over the course of training?",
                "Checkpoints of one training run (one path, several steps), over the step; a line a run.")
    models = models[models["series"].isin(series)]
    summary = context.table("summary").merge(models[["model", "series"]], on="model")
    colors = {name: color for name, color in zip(series, list(context.styles.of_lab.values()) * len(series))}
    for prompt_set in context.prompt_sets or (None,):
        rows = summary[(summary["prompt_set"] == prompt_set) | (summary["prompt_set"] == "")] if prompt_set else summary
        for name, title in STEP_QUANTITIES:
            there = rows[np.isfinite(rows[name].to_numpy(dtype=float))].sort_values("step")
            if there.empty:
                continue
            figure = figure_of("training step", title)
            for run, points in there.groupby("series", sort=False):
                figure.add_scatter(x=points["step"].tolist(), y=points[name].tolist(), mode="lines", name=run, line={"color": colors.get(run, GREY), "width": 1.5}, hoverinfo="skip")
            for _, row in there.iterrows():
                style = context.styles.of[row["model"]]
                figure.add_scatter(x=[row["step"]], y=[row[name]], mode="markers", name=row["model"], meta=row["model"], marker={"size": 9, "color": style.color, "symbol": style.marker},
                                   hovertemplate=f"{row['model']}<br>step %{{x}}: %{{y:.4~g}}<extra></extra>")
            out.blocks.append(Picture(f"{title} over training", figure, f"{title} over the training step: {', '.join(series)}.", prompt_set))
    out.blocks.append(Shown("By step", "summary", summary.sort_values(["series", "step"]), ("model", "step", "prompt_set", *(name for name, _ in STEP_QUANTITIES))))
    return out


def _spectrum_figure(results: Results, model: str, matrix: str):
    weights = results.group(model, "weights")
    layers = np.unique(np.linspace(0, weights.sizes["layer"] - 1, SPECTRUM_LAYERS).round().astype(int))
    values = weights["singular_values"].sel(matrix=matrix).isel(layer=layers).values
    figure = figure_of("index / number of values", "σ / σ₁", log_y=True)
    for position, (layer, row) in enumerate(zip(layers, values)):
        row = row[np.isfinite(row)]
        if not row.size or not row[0] > 0:
            continue
        at = np.unique(np.concatenate([np.arange(min(8, row.size)), np.linspace(0, row.size - 1, SPECTRUM_POINTS).round().astype(int)]))
        at = at[row[at] > 0]
        shade = position / max(len(layers) - 1, 1)
        color = "#{:02x}{:02x}{:02x}".format(*(int(a + (b - a) * shade) for a, b in zip((0x8F, 0xB8, 0xDE), (0x0A, 0x2A, 0x5E))))
        figure.add_scatter(x=(at + 1) / row.size, y=row[at] / row[0], mode="lines", line={"color": color, "width": 1.8}, name=f"layer {layer}",
                           hovertemplate=f"{model}, layer {layer}<br>%{{x:.3f}}: %{{y:.3~g}}<extra></extra>")
    figure.update_layout(showlegend=True)
    return figure if figure.data else None


def spectra(context: Context) -> Study | None:
    """Singular values of the attention matrices of every model."""
    models = [model for model in context.results if "weights" in context.results.groups(model) and "singular_values" in context.results.group(model, "weights")]
    if not models:
        return None
    out = Study("spectra", "Singular values", "What do the spectra of Q, K, V and O look like?", f"Singular values over the largest, of up to {SPECTRUM_LAYERS} layers from first (light) to last (dark).")
    for model in models:
        for matrix in map(str, context.results.group(model, "weights")["matrix"].values):
            figure = _spectrum_figure(context.results, model, matrix)
            if figure is not None:
                figure.update_layout(meta={"model": model})
                out.blocks.append(Picture(f"{model}: {matrix}", figure, f"Singular values of {matrix} of {model}, scaled by the largest, by layer.", fold=model if len(models) > MOST_SPECTRA_OPEN else ""))
    return out


def others(context: Context) -> Study | None:
    """Whatever a file has by layer that no study draws, so that nothing that was computed is out of sight."""
    out = Study("others", "Further quantities", "What else do the files hold?", "Means over the prompts by layer (and over heads, where there are heads) of what no study above draws.")
    for prompt_set in context.prompt_sets:
        layer = context.table("layer_statistics", prompt_set)
        head = context.table("head_statistics", prompt_set)
        by_head = head.groupby(["model", "quantity", "layer"], sort=False)["mean"].agg(lambda values: values.mean(skipna=False)).reset_index()
        table = pd.concat([layer[["model", "quantity", "layer", "mean"]], by_head])
        units = dict(zip(pd.concat([layer["quantity"], head["quantity"]]), pd.concat([layer["unit"], head["unit"]])))
        for quantity in dict.fromkeys(table["quantity"]):
            if quantity in DRAWN:
                continue
            figure = lines(table[table["quantity"] == quantity], context.styles, "layer", "mean", "layer", "" if pd.isna(units[quantity]) or units[quantity] == "1" else str(units[quantity]))
            if figure is not None:
                out.blocks.append(Picture(quantity.replace("_", " "), figure, f"{quantity.replace('_', ' ')}, mean over prompts (and heads), by layer, a line a model.", prompt_set))
    return out if out.blocks else None
