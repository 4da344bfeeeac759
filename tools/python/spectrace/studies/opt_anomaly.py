"""OPT anomaly: why is the trace of OPT so small beside that of GPT-2, though both expand?"""

from __future__ import annotations

from spectrace import inference
from spectrace.inference import Outcome, number
from spectrace.studies.base import (Context, Picture, Shown, Study, Tested, Words, missing_words, needs_group,
                                    needs_statistic)
from spectrace.studies.drawing import bars, lines
from spectrace.tables import references
from spectrace.tables.general import by_layer, mean

FACTOR = 3.0  # the notebook's: GPT-2's mean spectral norm of W_V above 3 times OPT's
NEEDS = (needs_group("Norms, rank and conditioning of W_V", "weights"),
         needs_statistic("Entropy and sparsity of the mean attention Ā", "row_entropy_mean_attention"),
         needs_statistic("The trace", "trace_multihead"))
WEIGHT_FIGURES = (("frobenius_norm", "Frobenius norm of W_V", "‖W_V‖_F"), ("spectral_norm", "Spectral norm of W_V", "σ₁"),
                  ("entry_mean", "Mean of W_V's entries", "mean"), ("entry_std", "Standard deviation of W_V's entries", "std"),
                  ("rank", "Numerical rank of W_V", "rank"), ("condition_number", "Condition number of W_V", "κ"))


def _ratio_outcome(context: Context, reference: str, model: str) -> Outcome:
    def norms(name: str):
        return by_layer(context.results.group(name, "weights"), "spectral_norm", matrix="W_V")
    found = inference.mean_ratio(f"Is the mean σ₁ of W_V of {reference} more than {FACTOR:g} times that of {model}?",
                                 norms(reference), norms(model), (reference, model), "layers")
    if found.effect != found.effect:
        return found
    yes = found.effect > FACTOR
    sure = found.low == found.low and (found.low > FACTOR or found.high < FACTOR)
    words = (f"{'Confirmed' if yes else 'Not confirmed'}: {reference} has {number(found.effect)} times the mean σ₁ of {model}, "
             f"{'above' if yes else 'not above'} {FACTOR:g}"
             + ("; the whole interval says so." if sure else "; the interval reaches to the other side." if found.low == found.low else "."))
    if yes:
        words += f" The trace goes with ‖W_V‖_F², so a small W_V explains a small trace of {model}."
    note = (found.note + " Layers of one model are not independent: the interval is a guide.").strip()
    return Outcome(**{**found.__dict__, "verdict": "yes" if yes else "no", "words": words, "note": note})


def study(context: Context) -> Study:
    results, styles = context.results, context.styles
    out = Study("opt_anomaly", "OPT anomaly", "Why has OPT a trace many times smaller than GPT-2, although both expand?",
                "The notebook found a mean trace of 2 368 for OPT-125m and 62 696 for GPT-2. Its candidates: tied embeddings, a small W_V, "
                "another attention pattern. Its verdict: if GPT-2's mean spectral norm of W_V is more than 3 times OPT's, W_V explains the difference.")
    chosen = references.opt_anomaly(results)
    outcomes = tuple(_ratio_outcome(context, chosen.model, model) for model in chosen.subjects)
    if outcomes:
        out.blocks += [Words(outcome.words, kind="answer") for outcome in outcomes[:4]]
    else:
        only = f"{chosen.model} is the only model with weights" if chosen.model else chosen.reason
        own = f" Its mean σ₁ of W_V is {number(mean(by_layer(results.group(chosen.model, 'weights'), 'spectral_norm', matrix='W_V')))}." if chosen.model else ""
        out.blocks.append(Words(f"The ratio can't be formed: {only}.{own}", kind="answer"))
    out.blocks += missing_words(results, NEEDS)
    layers = context.table("opt_anomaly_layers")
    weights = layers.drop_duplicates(["model", "layer"])
    summary = context.table("opt_anomaly")
    for prompt_set in context.prompt_sets or (None,):
        rows = summary[(summary["prompt_set"] == prompt_set) | (summary["prompt_set"] == "")] if prompt_set else summary
        out.blocks.append(Shown("Summary", "opt_anomaly", rows, (
            "model", "lab", "tied_embeddings", "frobenius_norm_mean", "spectral_norm_mean", "entry_mean_mean", "entry_std_mean", "rank_mean",
            "condition_number_mean", "num_infinite_conditions", "entropy_mean", "sparsity_mean", "mean_trace", "last_gain_mean",
            "reference_over_model"), prompt_set, f"Reference: {chosen.model or 'none'}: {chosen.reason}. Means over layers; attention also over the prompts."))
    if outcomes:
        out.blocks.append(Tested("Does W_V explain it?", outcomes))
    for name, title, label in WEIGHT_FIGURES:
        figure = lines(weights, styles, "layer", name, "layer", label)
        if figure is not None:
            out.blocks.append(Picture(f"{title} by layer", figure, f"{title} of every model, a line over its layers."))
    figure = bars(summary.drop_duplicates("model"), styles, "spectral_norm_mean", "mean σ₁")
    if figure is not None:
        out.blocks.append(Picture("Mean spectral norm of W_V", figure, "Mean over layers of the spectral norm of W_V, a bar a model."))
    for prompt_set in context.prompt_sets:
        rows = layers[layers["prompt_set"] == prompt_set]
        for name, title, label in (("entropy", "Row entropy of the mean attention", "nats"), ("sparsity", "Sparsity of the mean attention", "share below 0.01")):
            figure = lines(rows, styles, "layer", name, "layer", label)
            if figure is not None:
                out.blocks.append(Picture(f"{title} by layer", figure, f"{title}, mean over the prompts of “{prompt_set}”, a line a model.", prompt_set))
    out.blocks.append(Shown("By layer", "opt_anomaly_layers", layers, (
        "model", "prompt_set", "layer", "frobenius_norm", "spectral_norm", "entry_mean", "entry_std", "rank", "condition_number", "entropy", "sparsity"),
        note="Every number of the figures.", is_folded=True))
    return out
