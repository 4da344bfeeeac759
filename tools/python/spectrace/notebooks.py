"""Results in the forms that the five notebooks save and plot: their JSON keys, their statistics.

A notebook's key holds what the notebook means by it, standard deviations with ddof 0 where it takes those, but from numbers
without its errors (docs/quantities.md, "Where the notebooks differ"). Keys that its plotting cells read and its JSON lacks are
added: `stats` (opt_anomaly) and `features` (lstar_formula). A number that does not exist is NaN, as the notebooks write it.
"""

from __future__ import annotations

import datetime
import itertools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from spectrace import declarations, lstar_formula, model_names
from spectrace.results import Results, ResultsError
from spectrace.tables.general import NAN, by_layer, mean, prompt_counts, prompt_mean, scalar
from spectrace.tables.h4_v2_extended import REFERENCES
from spectrace.tables.restriction_maps import MATRICES

LAB_COLORS = {"EleutherAI": "#E74C3C", "Meta": "#3498DB", "OpenAI": "#8E44AD", "Mistral": "#27AE60", "Google": "#F39C12",
              "BigScience": "#1ABC9C"}
# Colour and marker of the restriction maps' notebook.
STYLES = {"pythia-160m": ("#E74C3C", "o"), "pythia-410m": ("#C0392B", "s"), "gpt-neo-125m": ("#F39C12", "^"), "opt-125m": ("#3498DB", "o"),
          "opt-350m": ("#2980B9", "s"), "bloom-560m": ("#27AE60", "o"), "gpt2": ("#9B59B6", "o")}
OTHER_COLORS = ("#34495E", "#16A085", "#D35400", "#7F8C8D", "#2C3E50", "#8E44AD")
MARKERS = ("o", "s", "^", "D", "v", "P")
LLAMA31_KEYS = {"llama-3.1-8b": "llama3.1-8b", "mistral-7b-v0.1": "mistral-7b", "gemma-2-9b": "gemma2-9b"}
ARCHITECTURES = {"GPTNeoX": "neox", "GPTJ": "gptj", "GPT2": "gpt2", "GPTNeo": "gpt2", "Bloom": "bloom", "Llama": "llama", "Mistral": "llama"}


@dataclass
class Export:
    """What a notebook would have saved, the models that are not in it, each with the reason, and what is to be known of others."""

    document: dict
    left_out: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


def make(results: Results, notebook: str, prompt_set: str | None = None, names: dict[str, str] | None = None) -> Export:
    """The export of a sweep for one of NOTEBOOKS. names: what to call models that the notebook does not know.

    prompt_set: which prompts; needed where the sweep has several sets and the notebook prompts at all. Raises ResultsError if
    there is no such notebook or set, or nothing to export.
    """
    if notebook not in NOTEBOOKS:
        raise ResultsError(f"no notebook '{notebook}' (there are {', '.join(NOTEBOOKS)})")
    unknown = sorted(set(names or {}) - set(results))
    if unknown:
        raise ResultsError(f"{results.path}: no model '{unknown[0]}' to name otherwise (there are {', '.join(results)})")
    form = NOTEBOOKS[notebook]
    sweep = _Sweep(results, _choose_set(results, prompt_set, form.needs_prompts), names or {})
    document = form.make(sweep)
    if not sweep.taken:
        reasons = "; ".join(f"{model}: {reason}" for model, reason in sweep.left_out.items())
        raise ResultsError(f"{results.path}: nothing to export for the notebook {notebook} ({reasons})")
    return Export(document, sweep.left_out, sweep.notes)


def _choose_set(results: Results, prompt_set: str | None, is_needed: bool) -> str | None:
    sets = results.prompt_sets()
    if prompt_set is not None:
        if prompt_set not in sets:
            raise ResultsError(f"{results.path}: no prompt set '{prompt_set}' (there are {', '.join(sets) or 'none'})")
        return prompt_set
    if len(sets) > 1 and is_needed:
        raise ResultsError(f"{results.path}: a notebook has one set of prompts, here are {', '.join(sets)}. Choose one: --prompts {sets[0]}")
    return sets[0] if sets else None


class _Sweep:
    """The models of a sweep as a notebook sees them; notes which of them were left out, and why."""

    def __init__(self, results: Results, prompt_set: str | None, names: dict[str, str]):
        self.results, self.prompt_set, self.names = results, prompt_set, names
        self.left_out: dict[str, str] = {}
        self.notes: dict[str, str] = {}
        self.taken: list[str] = []

    def name(self, model: str) -> str:
        """What the notebooks call the model: its hub id if they know it, else its name in the job."""
        return self.names.get(model) or model_names.known_as(self.results, model) or model

    def attributes(self, model: str) -> dict:
        return self.results.attributes(model)

    def weights(self, model: str, quantity: str, matrix: str) -> np.ndarray | None:
        """By layer; None, and a note, where it is not there."""
        return by_layer(self.results.group(model, "weights"), quantity, matrix=matrix)

    def prompt_mean(self, model: str, quantity: str) -> np.ndarray | None:
        return None if self.prompt_set is None else prompt_mean(self.results, model, self.prompt_set, quantity)

    def statistic(self, model: str, name: str) -> float:
        return scalar(self.results.statistics(model, self.prompt_set), name) if self.prompt_set is not None else NAN

    def collect(self, row: Callable[[str], dict], needs: Callable[[str], list[str]]) -> dict[str, dict]:
        """row(model) of every model that lacks nothing."""
        rows = {}
        for model in self.results:
            missing = needs(model)
            if self.attributes(model).get("status") == "failed" and not self.results.groups(model):
                self.left_out[model] = f"failed ({self.attributes(model).get('error') or 'no reason noted'})"
            elif missing:
                self.left_out[model] = f"has no {', no '.join(missing)}"
            else:
                rows[model] = row(model)
                self.taken.append(model)
                self._note_failed_prompts(model)
        return rows

    def _note_failed_prompts(self, model: str) -> None:
        if self.prompt_set in self.results.prompt_sets(model):
            counts = prompt_counts(self.results, model, self.prompt_set)
            if counts.get("num_failed_prompts"):
                self.notes[model] = f"{counts['num_failed_prompts']} of {counts['num_prompts']} prompts failed; means are over the others"

    def lacks_of_prompts(self, model: str, *quantities: str) -> list[str]:
        where = f"in prompt set '{self.prompt_set}'" if self.prompt_set is not None else "for there are no prompts"
        return [f"{quantity} {where} (analysis {declarations.of_prompts(quantity).analysis})" for quantity in quantities
                if self.prompt_mean(model, quantity) is None]

    def lacks_of_weights(self, model: str) -> list[str]:
        return [] if self.weights(model, "spectral_norm", "W_V") is not None else ["spectra of weights (analysis weights)"]


def _now() -> str:
    return datetime.datetime.now().isoformat()


def _plain(values: np.ndarray) -> list[float]:
    return [float(value) for value in values]


def _whole(value: float) -> int | None:
    return int(value) if math.isfinite(value) else None


def std_of_notebooks(values: np.ndarray) -> float:
    """numpy.std as the notebooks call it: ddof 0, over n and not n-1."""
    return float(np.std(values)) if len(values) else NAN


# h4_v2_extended -------------------------------------------------------------------------------------------------------

def _h4_v2_extended(sweep: _Sweep) -> dict:
    def row(model: str) -> dict:
        traces, full = sweep.prompt_mean(model, "trace_multihead"), sweep.prompt_mean(model, "trace_mean_attention")
        star = _whole(sweep.statistic(model, "l_star_trace"))
        return {"model": sweep.name(model), "lab": sweep.attributes(model).get("lab", ""), "behavior": sweep.attributes(model).get("expected", ""),
                "known_gain": sweep.statistic(model, "last_gain_mean"), "n_layers": len(traces), "n_heads": sweep.attributes(model).get("num_heads"),
                "traces_full": _plain(full), "traces_mh": _plain(traces), "mean_trace_mh": mean(traces), "L_star": star,
                "L_star_ratio": NAN if star is None else star / len(traces)}

    rows = sweep.collect(row, lambda model: sweep.lacks_of_prompts(model, "trace_multihead", "trace_mean_attention"))
    references = {name: {"trace_mh": trace, "behavior": behaviour} for name, (trace, behaviour, *_) in REFERENCES.items()}
    return {"experiment": "H4 v2 Extended - Large Model Validation", "date": _now(), "models_tested": len(rows),
            "reference_results": references, "extended_results": list(rows.values())}


# opt_anomaly ----------------------------------------------------------------------------------------------------------

OPT_STATS = {"frobenius_norm": "frobenius_norm", "spectral_norm": "spectral_norm", "mean": "entry_mean", "std": "entry_std",
             "rank": "numerical_rank", "condition_number": "condition_number"}


def _opt_anomaly(sweep: _Sweep) -> dict:
    def weights_of(model: str) -> dict:
        values = {key: sweep.weights(model, quantity, "W_V") for key, quantity in OPT_STATS.items()}
        values = {key: array for key, array in values.items() if array is not None}
        stats = [{"layer": layer} | {key: (_whole if key == "rank" else float)(array[layer]) for key, array in values.items()}
                 for layer in range(len(values["spectral_norm"]))]
        return {"model": sweep.name(model), "mean_frobenius": mean(values.get("frobenius_norm")), "mean_spectral": mean(values["spectral_norm"]),
                "mean_condition": mean(values.get("condition_number")), "stats": stats}

    def attention_of(model: str) -> dict:
        entropy, sparsity = sweep.prompt_mean(model, "row_entropy_mean_attention"), sweep.prompt_mean(model, "sparsity_mean_attention")
        return {"model": sweep.name(model), "entropy_by_layer": _plain(entropy), "sparsity_by_layer": _plain(sparsity),
                "mean_entropy": mean(entropy), "mean_sparsity": mean(sparsity)}

    def needs(model: str) -> list[str]:
        return sweep.lacks_of_weights(model) + sweep.lacks_of_prompts(model, "row_entropy_mean_attention", "sparsity_mean_attention")

    # The notebook's cells take a model's weights and attention from both dictionaries: it is in both or in neither.
    rows = sweep.collect(lambda model: {"weights": weights_of(model), "attention": attention_of(model)}, needs)
    return {"experiment": "OPT Anomaly Investigation", "date": _now(),
            "W_V_analysis": {sweep.name(model): row["weights"] for model, row in rows.items()},
            "attention_analysis": {sweep.name(model): row["attention"] for model, row in rows.items()}}


# llama31_anomaly ------------------------------------------------------------------------------------------------------

def _rope_scaling(attributes: dict) -> dict | None:
    known = {"rope_theta", "rope_dimensions", "rope_max_positions"}
    fields = {name.removeprefix("rope_"): value for name, value in attributes.items() if name.startswith("rope_") and name not in known}
    scaling_type = fields.pop("type", "default")
    return None if scaling_type == "default" and not fields else fields | {"rope_type": scaling_type}


def _llama31_anomaly(sweep: _Sweep) -> dict:
    def key(model: str) -> str:
        name = sweep.name(model)
        return sweep.names.get(model) or LLAMA31_KEYS.get(model_names.canonical(name), name)

    def unembedding_of(model: str) -> dict:
        group, attributes = sweep.results.group(model, "unembedding"), sweep.attributes(model)
        vocabulary, hidden, spectral = attributes["vocab_size"], attributes["hidden_size"], scalar(group, "spectral_norm")
        gain = sweep.statistic(model, "last_gain_mean")
        return {"model": key(model), "shape": [vocabulary, hidden], "vocab_size": vocabulary, "hidden_dim": hidden,
                "frobenius_norm": scalar(group, "frobenius_norm"), "spectral_norm": spectral, "mean_row_norm": scalar(group, "row_norm_mean"),
                "std_row_norm": scalar(group, "row_norm_std"), "spectral_per_sqrt_vocab": scalar(group, "spectral_per_sqrt_vocab"),
                "effective_amplification": spectral * gain, "last_gain": gain}

    def rope_of(model: str) -> dict:
        attributes = sweep.attributes(model)
        return {"rope_theta": attributes.get("rope_theta"), "rope_scaling": _rope_scaling(attributes), "max_position": attributes.get("max_positions"),
                "context_length": sweep.results.meta(model).get("context_length", attributes.get("max_positions"))}

    rows = sweep.collect(unembedding_of, lambda model: [] if sweep.results.group(model, "unembedding") is not None else
                         ["spectrum of W_U (analysis unembedding)"])
    # The notebook keeps models that failed, with the reason; its cells leave them out.
    failed = {key(model): {"error": reason} for model, reason in sweep.left_out.items()}
    return {"experiment": "LLaMA 3.1 Anomaly - Hypothesis Tests", "date": _now(),
            "hypothesis_1_titanium_projector": {"description": "W_U norm compensates for residual contraction",
                                                "results": {key(model): row for model, row in rows.items()} | failed},
            "hypothesis_2_rope": {"description": "Long-context RoPE requires dampening", "results": {key(model): rope_of(model) for model in rows}},
            "hypothesis_3_grokking": {"description": "Training scale causes efficient representations",
                                      "status": "THEORETICAL - Requires checkpoint analysis"}}


# restriction_map_spectral ---------------------------------------------------------------------------------------------

SUMMARY_COLUMNS = ("Model", "Lab", "Expected", "Layers", "W_V Mean", "W_V Std", "W_O Mean", "W_O Std")


def _restriction_map_spectral(sweep: _Sweep) -> dict:
    colors, markers = itertools.cycle(OTHER_COLORS), itertools.cycle(MARKERS)

    def style(model: str, lab: str) -> tuple[str, str]:
        known = STYLES.get(model_names.canonical(sweep.name(model)))
        return known or (LAB_COLORS.get(lab) or next(colors), next(markers))

    def row(model: str) -> dict:
        attributes = sweep.attributes(model)
        lab = attributes.get("lab", "")
        color, marker = style(model, lab)
        architecture = re.sub(r"(For|LM|Model).*", "", str(attributes.get("architecture", "")))
        found = {"model": sweep.name(model), "lab": lab, "expected": attributes.get("expected", ""), "color": color, "marker": marker,
                 "arch": ARCHITECTURES.get(architecture, architecture),
                 "n_layers": attributes.get("num_layers")}
        for matrix in MATRICES:
            norms = sweep.weights(model, "spectral_norm", matrix)
            for quantity in ("spectral_norm", "frobenius_norm", "effective_rank"):
                values = sweep.weights(model, quantity, matrix)
                found |= {} if values is None else {f"{matrix}_{quantity}": _plain(values)}
            found |= {f"{matrix}_mean_spectral": mean(norms), f"{matrix}_std_spectral": std_of_notebooks(norms)}
        return found

    rows = list(sweep.collect(row, sweep.lacks_of_weights).values())
    summary = [dict(zip(SUMMARY_COLUMNS, (row["model"].rpartition("/")[2], row["lab"], row["expected"], row["n_layers"], row["W_V_mean_spectral"],
                                          row["W_V_std_spectral"], row["W_O_mean_spectral"], row["W_O_std_spectral"]))) for row in rows]
    return {"experiment": "Restriction Map Spectral Analysis", "date": _now(),
            "hypothesis": "EleutherAI (Dampener) has lower spectral energy than others (Expander)", "models_tested": len(rows),
            "results": rows, "summary": summary}


def restriction_map_summary(document: dict) -> pd.DataFrame:
    """The notebook's table `df`, of which its CSV is made."""
    return pd.DataFrame(document["summary"], columns=list(SUMMARY_COLUMNS))


# lstar_formula --------------------------------------------------------------------------------------------------------

def _lstar_formula(sweep: _Sweep) -> dict:
    def features(model: str) -> dict:
        attributes, entropy = sweep.attributes(model), sweep.prompt_mean(model, "flat_entropy_mean_attention")
        layers = attributes["num_layers"]
        condition, frobenius = sweep.weights(model, "condition_number", "W_V"), sweep.weights(model, "frobenius_norm", "W_V")
        first, last = (min(float(condition[place]), lstar_formula.CONDITION_CAP) for place in (0, -1))
        return {"model": sweep.name(model).rpartition("/")[2], "n_layers": layers, "d_model": attributes["hidden_size"],
                "n_heads": attributes["num_heads"], "d_head": attributes["head_dim"], "vocab_size": attributes["vocab_size"],
                "G": lstar_formula.growth_factor(), "L_star_v1": float(lstar_formula.l_star_v1(layers, lstar_formula.growth_factor())),
                "mean_attn_entropy": mean(entropy), "std_attn_entropy": std_of_notebooks(entropy), "first_layer_entropy": float(entropy[0]),
                "last_layer_entropy": float(entropy[-1]), "entropy_gradient": float(entropy[-1] - entropy[0]),
                "L_star_empirical": sweep.statistic(model, "l_star_entropy"), "W_V_cond_first": first, "W_V_cond_last": last,
                "W_V_cond_ratio": last / first, "W_V_frob_first": float(frobenius[0]), "W_V_frob_last": float(frobenius[-1]),
                "W_V_frob_ratio": float(frobenius[-1] / frobenius[0])}

    rows = list(sweep.collect(features, lambda model: sweep.lacks_of_weights(model)
                              + sweep.lacks_of_prompts(model, "flat_entropy_mean_attention")).values())
    table = pd.DataFrame(rows, columns=["model", "n_layers", "entropy_gradient", "W_V_cond_first", "L_star_empirical"] if not rows else None)
    arrays = [table[name].to_numpy(dtype=float) for name in ("n_layers", "entropy_gradient", "W_V_cond_first", "L_star_empirical")]
    fit = lstar_formula.fit_l_star_v2(*arrays)
    predicted = np.full(len(rows), NAN) if fit.reason else lstar_formula.l_star_v2(*arrays[:3], *fit.parameters)
    predictions = [_prediction(row, float(value)) for row, value in zip(rows, predicted)]
    errors = {version: mean(np.array([row[f"error_{version}_%"] for row in predictions])) for version in ("v1", "v2")}
    return {"timestamp": _now(),
            "formula": {"v1": "L* = L/2", "v2": "L* = (L/2) × F_entropy × F_cond",
                        "v2_components": {"F_entropy": f"1 + {fit.alpha:.3f} × tanh({fit.beta:.1f} × ∇H)",
                                          "F_cond": f"clip(1 - {fit.gamma:.3f} × ln(κ+1)/10, 0.5, 1.5)"}},
            "parameters": {"alpha": fit.alpha, "beta": fit.beta, "gamma": fit.gamma},
            "performance": {"v1_mean_error_%": errors["v1"], "v2_mean_error_%": errors["v2"], "improvement_pp": errors["v1"] - errors["v2"]},
            "model_results": predictions, "features": rows}


def _prediction(features: dict, predicted: float) -> dict:
    layers, empirical = features["n_layers"], features["L_star_empirical"]
    errors = {"v1": abs(layers / 2 - empirical), "v2": abs(predicted - empirical)}
    return {"model": features["model"], "L": layers, "L*_empirical": empirical, "L*_v1": layers / 2, "L*_v2": predicted,
            "error_v1": errors["v1"], "error_v2": errors["v2"],
            "error_v1_%": errors["v1"] / layers * 100, "error_v2_%": errors["v2"] / layers * 100}


@dataclass(frozen=True)
class _Notebook:
    make: Callable[[_Sweep], dict]
    needs_prompts: bool


NOTEBOOKS = {
    "h4_v2_extended": _Notebook(_h4_v2_extended, True),
    "opt_anomaly": _Notebook(_opt_anomaly, True),
    "llama31_anomaly": _Notebook(_llama31_anomaly, True),
    "restriction_map_spectral": _Notebook(_restriction_map_spectral, False),
    "lstar_formula": _Notebook(_lstar_formula, True),
}
