"""Restriction maps: do labs that dampen have weaker value and output maps?"""

from __future__ import annotations

import numpy as np
import pandas as pd

from spectrace import inference
from spectrace.inference import Outcome
from spectrace.studies.base import Context, Picture, Shown, Study, Tested, Words, missing_words, needs_group
from spectrace.studies.drawing import bars_by_lab, lines
from spectrace.tables.independence import counted_words, once_each
from spectrace.tables.restriction_maps import MATRICES, NO_LAB, QUANTITIES, lab_values

NEEDS = (needs_group("Spectra of Q, K, V and O", "weights"),)
NOTEBOOK_LAB = "EleutherAI"


def _groups(context: Context) -> tuple[str, str, set[str]]:
    """Names of the two groups and the models of the first: EleutherAI, else those expected to dampen."""
    attributes = {model: context.results.attributes(model) for model in context.results}
    of_lab = {model for model, values in attributes.items() if values.get("lab") == NOTEBOOK_LAB}
    if of_lab:
        return NOTEBOOK_LAB, "other labs", of_lab
    dampeners = {model for model, values in attributes.items() if str(values.get("expected", "")).upper().startswith("DAMPEN")}
    return "models expected to dampen", "the others", dampeners


def _means(context: Context, matrix: str) -> pd.DataFrame:
    """model, lab, value: the mean σ₁ of the matrix."""
    return pd.DataFrame([{"model": model, "lab": lab, "value": value}
                         for lab, models in lab_values(context.results, matrix).items() for model, value in models.items()])


def _two_groups(context: Context, means: pd.DataFrame, is_first: pd.Series, question: str, names: tuple[str, str], alternative: str) -> Outcome:
    once = once_each(means.assign(is_first=is_first.astype(float)), context.units, is_first)
    return inference.mann_whitney(question, once["value"][once["is_first"] == 1], once["value"][once["is_first"] == 0], names, alternative)


def _notebook_outcome(context: Context, matrix: str) -> Outcome:
    first, second, members = _groups(context)
    means = _means(context, matrix)
    return _two_groups(context, means, means["model"].isin(members), f"Is the mean σ₁ of {matrix} smaller for {first} than for {second}?", (first, second), "less")


def _lab_outcomes(context: Context, matrix: str) -> list[Outcome]:
    means = _means(context, matrix)
    return [_two_groups(context, means, means["lab"] == lab, f"Does the mean σ₁ of {matrix} of {lab} differ from the other labs'?", (lab, "other labs"), "two-sided")
            for lab in dict.fromkeys(means["lab"]) if lab != NO_LAB]


def _with_holm(outcomes: list[Outcome]) -> tuple[Outcome, ...]:
    adjusted = inference.holm([outcome.p for outcome in outcomes])
    return tuple(Outcome(**{**outcome.__dict__, "note": (outcome.note + (f" p by Holm: {p:.3f}." if np.isfinite(p) else "")).strip()})
                 for outcome, p in zip(outcomes, adjusted))


def study(context: Context) -> Study:
    results, styles = context.results, context.styles
    out = Study("restriction_maps", "Restriction maps", "Do labs whose models dampen have weaker restriction maps (W_V, W_O)?",
                "The restriction map of head h is √w·W_V[h], so its strength is the spectral norm of W_V. The notebook's hypothesis: EleutherAI's "
                "models, which dampen, have smaller spectral norms of W_V and W_O than the others; its test is Mann and Whitney's, one-sided.")
    outcomes = [_notebook_outcome(context, matrix) for matrix in ("W_V", "W_O")] if any("weights" in results.groups(m) for m in results) else []
    if outcomes and not _groups(context)[2]:
        out.blocks.append(Words(f"The notebook's test can't be made: no model is of {NOTEBOOK_LAB}, and the job expects none to dampen (“expected”: “DAMPEN”).", kind="answer"))
    else:
        out.blocks += [Words(f"{matrix}: {outcome.words}", kind="answer") for matrix, outcome in zip(("W_V", "W_O"), outcomes)]
    out.blocks += missing_words(results, NEEDS)
    if not outcomes:
        return out
    labs = context.table("restriction_maps_labs")
    out.blocks += [Words(f"{row['lab']} ({inference.count(row['num_models'], 'models')}): mean σ₁ of W_V {inference.number(row['W_V_mean'])}, "
                         f"of W_O {inference.number(row['W_O_mean'])}.", kind="answer") for _, row in labs.iterrows()]
    out.blocks.append(Shown("By lab", "restriction_maps_labs", labs, ("lab", "num_models") + tuple(
        f"{matrix}_{statistic}" for matrix in ("W_V", "W_O", "W_Q", "W_K") for statistic in ("mean", "std")) + ("models",),
        note="Mean and standard deviation (n−1) over the lab's models of their mean σ₁. No std for a lab of one model."))
    out.blocks.append(Tested("The notebook's two tests", tuple(outcomes), note=f"One-sided: smaller in the first group. {counted_words(context.units)}".strip()))
    by_lab = _with_holm([outcome for matrix in ("W_V", "W_O") for outcome in _lab_outcomes(context, matrix)])
    if len(labs) > 1 and by_lab:
        out.blocks.append(Tested("Every lab against the others", by_lab, note=f"Two-sided; p also by Holm's correction for all of these tests. {counted_words(context.units)}".strip()))
    for matrix in ("W_V", "W_O"):
        figure = bars_by_lab(lab_values(results, matrix), styles, "mean σ₁")
        if figure is not None:
            out.blocks.append(Picture(f"Mean spectral norm of {matrix} by lab", figure, f"Bars: mean over a lab's models of the mean σ₁ of {matrix}, with their standard deviation; points: models.",
                                      caption="Bars: mean and standard deviation over a lab's models. Points: models."))
    layers = context.table("restriction_maps_layers")
    for quantity, label in QUANTITIES.items():
        for matrix in MATRICES:
            figure = lines(layers[layers["matrix"] == matrix], styles, "layer", quantity, "layer", label)
            if figure is not None:
                title = {"spectral_norm": "Spectral norm", "effective_rank": "Effective rank", "condition_number": "Condition number"}[quantity]
                out.blocks.append(Picture(f"{title} of {matrix}", figure, f"{title} of {matrix} of every model, a line over its layers."))
    out.blocks.append(Shown("By model", "restriction_maps", context.table("restriction_maps"), ("model", "lab", "expected", "num_layers") + tuple(
        f"{matrix}_{quantity}_{statistic}" for quantity in QUANTITIES for matrix in ("W_V", "W_O", "W_Q", "W_K") for statistic in ("mean", "std")),
        note="Means and standard deviations (n−1) over layers."))
    out.blocks.append(Shown("By layer", "restriction_maps_layers", layers, ("model", "lab", "layer", "matrix", *QUANTITIES),
                            note="Every number of the figures.", is_folded=True))
    return out
