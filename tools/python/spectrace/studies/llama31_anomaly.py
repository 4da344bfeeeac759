"""Llama 3.1 anomaly: does a large unembedding make up for a residual stream that contracts?"""

from __future__ import annotations

import numpy as np

from spectrace import inference
from spectrace.inference import NAN, Outcome, number
from spectrace.studies.base import (Context, Picture, Shown, Study, Tested, Words, missing_words, needs_group,
                                    needs_statistic)
from spectrace.studies.drawing import bars
from spectrace.tables import references
from spectrace.tables.general import scalar

COMPENSATES = (0.7, 1.3)  # the notebook's: ratio of effective amplifications
EQUAL = 0.05              # ratios that are nearer to 1 are as good as equal
THETA_FACTOR = 10.0       # the notebook's: ratio of RoPE bases
NEEDS = (needs_group("Norms of the unembedding", "unembedding"),
         needs_statistic("Measured gains", "last_gain_mean"))


def _last_gains(context: Context, model: str, prompt_set: str) -> np.ndarray:
    """Gain of the last block for each prompt; empty where the file keeps statistics only."""
    prompts = context.results.group(model, f"prompts/{prompt_set}")
    return prompts["gain"].isel(layer=-1).values if prompts is not None and "gain" in prompts else np.array([])


def _interval_words(value: float, low: float, high: float) -> str:
    return number(value) + (f" ({number(low)} to {number(high)})" if low == low else "")


def _balance_words(sigma_ratio: float, gain_ratio: float, effect: float) -> str:
    """What W_U has to do with it: it makes up for something only where the gain is smaller and σ₁ larger."""
    gain, sigma = number(gain_ratio), number(sigma_ratio)
    if abs(gain_ratio - 1) <= EQUAL:
        return f"Their last gains are as good as equal (ratio {gain}), so there is nothing to make up for; σ₁ of W_U has the ratio {sigma}."
    if gain_ratio > 1:
        return f"Its last gain is the larger one (ratio {gain}), so there is nothing to make up for; σ₁ of W_U has the ratio {sigma}."
    if abs(sigma_ratio - 1) <= EQUAL:
        return f"Its last gain is smaller (ratio {gain}), and σ₁ of W_U as good as equal (ratio {sigma}): W_U makes up for nothing."
    if sigma_ratio < 1:
        return f"Its last gain is smaller (ratio {gain}), and σ₁ of W_U too (ratio {sigma}): W_U makes up for nothing."
    share = ("as much as" if abs(effect - 1) <= EQUAL else "more than" if effect > 1 else "a part of")
    return f"Its last gain is smaller (ratio {gain}) and σ₁ of W_U larger (ratio {sigma}), which makes up for {share} what the gain lacks."


def amplification_words(model: str, reference: str, sigma_ratio: float, gain_ratio: float, low: float, high: float) -> tuple[str, str]:
    """Verdict and words on whether two models amplify alike; low, high: interval of the product of both ratios, NaN if there is none.

    A verdict needs the whole interval on one side of the band's ends.
    """
    effect, (least, most) = sigma_ratio * gain_ratio, COMPENSATES
    below, above = (low, high) if low == low else (effect, effect)
    what = f"{model}'s effective amplification is {_interval_words(effect, low, high)} times that of {reference}"
    balance = _balance_words(sigma_ratio, gain_ratio, effect)
    if least < below and above < most:
        return "yes", f"About the same: {what}, within {least}–{most}. {balance}"
    if below >= most or above <= least:
        return "no", f"{'Larger' if below >= most else 'Smaller'}: {what}, {'above' if below >= most else 'below'} {least}–{most}. {balance}"
    return "open", f"Undecided: {what}; the interval reaches across an end of {least}–{most}. {balance}"


def _amplification_outcome(context: Context, reference: str, model: str, prompt_set: str) -> Outcome:
    sigma = {name: scalar(context.results.group(name, "unembedding"), "spectral_norm") for name in (reference, model)}
    gains = {name: scalar(context.results.statistics(name, prompt_set), "last_gain_mean") for name in (reference, model)}
    least, most = COMPENSATES
    question = f"Is the effective amplification (σ₁ of W_U × measured last gain) of {model} about that of {reference} (ratio within {least}–{most})?"
    values = {name: _last_gains(context, name, prompt_set) for name in (reference, model)}
    found = inference.mean_ratio(question, values[model], values[reference], (model, reference), "prompts",
                                 factor=sigma[model] / sigma[reference] if sigma[reference] else NAN)
    effect = sigma[model] * gains[model] / (sigma[reference] * gains[reference])
    if effect != effect:
        return Outcome(**{**found.__dict__, "effect": NAN, "verdict": "open",
                          "words": f"Can't be said: {model} or {reference} has no measured gain or no unembedding for “{prompt_set}”."})
    verdict, words = amplification_words(model, reference, sigma[model] / sigma[reference], gains[model] / gains[reference], found.low, found.high)
    note = found.note if values[model].size and values[reference].size else "The files keep no values of single prompts, so there is no interval."
    return Outcome(**{**found.__dict__, "effect": effect, "verdict": verdict, "words": words, "note": note})


def _theta_outcome(context: Context, reference: str, model: str) -> Outcome:
    theta = {name: context.results.attributes(name).get("rope_theta") for name in (reference, model)}
    base = {"question": f"Is the RoPE base of {model} more than {THETA_FACTOR:g} times that of {reference}?", "method": "ratio of two settings",
            "n": "1 model against 1", "effect_name": "θ ratio", "low": NAN, "high": NAN, "statistic_name": "", "statistic": NAN, "p": NAN,
            "note": "Settings of the checkpoints, not samples: no interval, no p."}
    if not all(theta.values()):
        without = [name for name in theta if not theta[name]]
        return Outcome(**base, effect=NAN, verdict="open", words=f"Can't be said: {' and '.join(without)} {'has' if len(without) == 1 else 'have'} no rotary positions.")
    effect = float(theta[model]) / float(theta[reference])
    words = (f"Supported: {model}'s θ is {number(effect)} times that of {reference}, made for a long context." if effect > THETA_FACTOR
             else f"Inconclusive: {model}'s θ is {number(effect)} times that of {reference}, not above {THETA_FACTOR:g}.")
    return Outcome(**base, effect=effect, verdict="yes" if effect > THETA_FACTOR else "no", words=words)


def study(context: Context) -> Study:
    results, styles = context.results, context.styles
    out = Study("llama31_anomaly", "Llama 3.1 anomaly", "Does a large unembedding make up for a residual stream that contracts?",
                "The notebook's typed-in last gains were 0.48 for Llama-3.1-8B and 1.37 for Mistral-7B; here gains are measured. Hypothesis 1: the "
                "product σ₁(W_U) × last gain is about the same (0.7 to 1.3). Hypothesis 2: a long context needs a RoPE base more than 10 times "
                "larger. Hypothesis 3 (training tokens) needs checkpoints of one training run: see “Training steps” where there are any.")
    chosen = references.llama31_anomaly(results)
    table = context.table("llama31_anomaly")
    theta = tuple(_theta_outcome(context, chosen.model, model) for model in chosen.subjects)
    if not chosen.subjects:
        only = f"{chosen.model} is the only model with an unembedding" if chosen.model else chosen.reason
        out.blocks.append(Words(f"Ratios can't be formed: {only}.", kind="answer"))
    for prompt_set in context.prompt_sets or (None,):
        rows = table[(table["prompt_set"] == prompt_set) | (table["prompt_set"] == "")] if prompt_set else table
        if prompt_set and chosen.subjects:
            outcomes = tuple(_amplification_outcome(context, chosen.model, model, prompt_set) for model in chosen.subjects)
            out.blocks += [Words(outcome.words, prompt_set, "answer") for outcome in outcomes[:4]]
            out.blocks.append(Tested("Hypothesis 1: the effective amplification is about the same", outcomes, prompt_set,
                                     f"Reference: {chosen.model}: {chosen.reason}."))
        if len(rows) and not chosen.subjects:
            row = rows.iloc[0]
            out.blocks.append(Words(f"{row['model']}: σ₁ of W_U {number(row['spectral_norm'])}, measured last gain {number(row['last_gain_mean'])}, "
                                    f"effective amplification {number(row['effective_amplification'])}.", prompt_set, "answer"))
        out.blocks.append(Shown("Unembedding, measured gains, amplification, ratios", "llama31_anomaly", rows, (
            "model", "lab", "vocab_size", "hidden_size", "tied_embeddings", "frobenius_norm", "spectral_norm", "row_norm_mean", "row_norm_std",
            "spectral_per_sqrt_vocab", "last_gain_mean", "last_gain_after_norm_mean", "effective_amplification", "sigma_ratio", "gain_ratio",
            "amplification_ratio"), prompt_set))
        for name, title, label, level in (("spectral_norm", "Spectral norm of W_U", "σ₁", None), ("last_gain_mean", "Gain of the last block, measured", "gain", 1.0),
                                          ("effective_amplification", "Effective amplification", "σ₁ × last gain", None)):
            figure = bars(rows, styles, name, label, level=level)
            if figure is not None:
                out.blocks.append(Picture(title, figure, f"{title}, a bar a model." + (f" Prompts of “{prompt_set}”." if prompt_set else ""), prompt_set))
    out.blocks[0:0] = [Words(outcome.words, kind="answer") for outcome in theta[:4]]
    if theta:
        out.blocks.append(Tested("Hypothesis 2: a long context needs a large RoPE base", theta, note=f"Reference: {chosen.model}: {chosen.reason}."))
    out.blocks.append(Shown("RoPE, context, training tokens", "llama31_anomaly", table.drop_duplicates("model"), (
        "model", "rope_theta", "theta_ratio", "rope_type", "rope_scaling", "max_positions", "context_length", "training_tokens"),
        note="Context and training tokens are what the job says of the model (meta: context_length, training_tokens)."))
    out.blocks += missing_words(results, NEEDS)
    return out
