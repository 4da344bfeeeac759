"""Reading of single values; tables of models and of what a reader must know of them."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator

import numpy as np
import xarray as xr

from spectrace import declarations
from spectrace.results import Results
from spectrace.tables.frame import (EXPECTED, LAB, MEAN_TOKENS, MODEL, NUM_FAILED, NUM_HEADS, NUM_LAYERS, NUM_PROMPTS, PROMPT_SET, Column, Table,
                                    dataset_column, in_order)

NAN = float("nan")


# Reading of single values ---------------------------------------------------------------------------------------------

def sets_of(results: Results, model: str, prompt_set: str | None) -> list[str]:
    """The model's prompt sets, or the one asked for if it has that."""
    return [name for name in results.prompt_sets(model) if prompt_set in (None, name)]


def scalar(group: xr.Dataset | None, name: str) -> float:
    """A dataset without dimensions; NaN where it is not there."""
    return float(group[name].values) if group is not None and name in group else NAN


def by_layer(group: xr.Dataset | None, name: str, **selection) -> np.ndarray | None:
    """Values of a dataset over its layers, after the selection; None where it is not there, or has no such matrix. The dataset is
    kept in memory."""
    if group is None or name not in group or any(label not in group[dim].values for dim, label in selection.items()):
        return None
    return np.asarray(group[name].load().sel(**selection).values, dtype=float)


def prompt_mean(results: Results, model: str, prompt_set: str, name: str) -> np.ndarray | None:
    """Mean over the prompts of a per-prompt quantity, by its other dimensions; None where it is not there."""
    return by_layer(results.statistics(model, prompt_set), name, statistic="mean")


def mean(values: np.ndarray | None) -> float:
    """Mean; NaN of nothing, and if any value is no number: nothing is dropped in silence."""
    with np.errstate(invalid="ignore"):
        return float(np.mean(values)) if values is not None and np.size(values) else NAN


def std(values: np.ndarray | None) -> float:
    """Unbiased standard deviation (n-1); NaN for fewer than two values."""
    with np.errstate(invalid="ignore"):
        return float(np.std(values, ddof=1)) if values is not None and np.size(values) > 1 else NAN


def layers_without_attention(attributes: dict) -> set[int]:
    """Of a hybrid, by the attributes of its file."""
    return set(json.loads(attributes.get("layers_without_attention", "[]")))


def identity(results: Results, model: str) -> dict:
    """Model, lab, expected and sizes: the front of a row."""
    attributes = results.attributes(model)
    tied = attributes.get("tied_embeddings")
    return {"model": model, "lab": attributes.get("lab") or None, "expected": attributes.get("expected") or None,
            "num_layers": attributes.get("num_layers"), "num_heads": attributes.get("num_heads"),
            "num_kv_heads": attributes.get("num_kv_heads"), "head_dim": attributes.get("head_dim"),
            "hidden_size": attributes.get("hidden_size"), "vocab_size": attributes.get("vocab_size"),
            "tied_embeddings": None if tied is None else bool(tied)}


def prompt_counts(results: Results, model: str, prompt_set: str) -> dict:
    """num_prompts, num_failed_prompts and mean_tokens of a prompt set."""
    prompts = results.group(model, f"prompts/{prompt_set}")
    counts = {"num_prompts": prompts.sizes.get("prompt") if prompts is not None else None}
    if prompts is not None and "prompt_error" in prompts:
        ran = prompts["prompt_error"].values == ""
        counts["num_failed_prompts"] = int(np.count_nonzero(~ran))
        if "num_tokens" in prompts:
            counts["mean_tokens"] = mean(prompts["num_tokens"].values[ran].astype(float))
    return counts


def other_lengths(mean_tokens) -> bool:
    """Whether models cut the prompts into other numbers of tokens, so that what grows with a prompt's length does not compare."""
    lengths = np.asarray(mean_tokens, dtype=float)
    lengths = lengths[np.isfinite(lengths)]
    return bool(lengths.size and lengths.max() > lengths.min())


# models ---------------------------------------------------------------------------------------------------------------

def series_of(results: Results, model: str) -> str:
    """What a checkpoint is a step of: the job's path without its revision, else the model's name without the step."""
    for entry in results.job.get("models", []):
        if isinstance(entry, dict) and entry.get("name") == model and isinstance(entry.get("path"), str):
            path = entry["path"].partition("@")[0]
            others = [other for other in results.job["models"] if isinstance(other, dict)
                      and str(other.get("path", "")).partition("@")[0] == path]
            if len(others) > 1:
                return path
    step = results.attributes(model).get("step")
    return re.sub(rf"[-_.]?(step)?[-_]?0*{step}$", "", model) or model if step is not None else model


def rope_scaling(attributes: dict) -> str | None:
    """The fields of the rotary scaling as one text; None for a model without rotary angles or without scaling."""
    plain = {"rope_theta", "rope_type", "rope_dimensions", "rope_max_positions"}
    fields = [f"{name.removeprefix('rope_')} {value:g}" if isinstance(value, float) else f"{name.removeprefix('rope_')} {value}"
              for name, value in attributes.items() if name.startswith("rope_") and name not in plain]
    return ", ".join(fields) or None


def _models(results: Results, _prompt_set: str | None) -> Iterator[dict]:
    for model in results:
        attributes = results.attributes(model)
        row = identity(results, model) | {name: attributes.get(name) for name in (
            "status", "error", "revision", "step", "architecture", "num_parameters", "storage_dtype", "compute_dtype",
            "slicing", "norm_placement", "position_encoding", "max_positions", "rope_theta", "rope_type")}
        row |= {"series": series_of(results, model), "rope_scaling": rope_scaling(attributes), "source": attributes.get("source")}
        yield row | {f"meta_{key}": value for key, value in results.meta(model).items()}


MODELS = Table("models", "a model", (
    MODEL, LAB, EXPECTED,
    Column("status", "text", "ok, partial (some of it failed) or failed", heading="status"),
    Column("error", "text", "what failed", heading="error"),
    Column("revision", "text", "revision of the checkpoint, as the job says", heading="revision"),
    Column("step", "int", "training step of the checkpoint, as the job says", heading="step"),
    Column("series", "text", "what the checkpoint is a step of: the job's path, else the name without the step", heading="series"),
    Column("architecture", "text", "class named in the checkpoint's config", heading="architecture"),
    NUM_LAYERS, NUM_HEADS,
    Column("num_kv_heads", "int", "key/value heads a layer", heading="kv heads"),
    Column("head_dim", "int", "width of a head, d", heading="d"),
    Column("hidden_size", "int", "width of the residual stream, D", heading="D"),
    Column("vocab_size", "int", "tokens of the vocabulary, V", heading="V"),
    Column("num_parameters", "int", "numbers of the checkpoint that the model uses", heading="parameters"),
    Column("storage_dtype", "text", "number type of the checkpoint", heading="stored as"),
    Column("compute_dtype", "text", "number type of the forward pass; spectra are float64 always", heading="computed in"),
    Column("tied_embeddings", "bool", "whether input and output embeddings are one matrix", heading="tied"),
    Column("slicing", "text", "correct; or as-published: cut as the notebooks do, not as the model uses its heads; or as-published-float16: of weights rounded to float16, too", heading="slicing"),
    Column("norm_placement", "text", "where a block's norms stand", heading="norms"),
    Column("position_encoding", "text", "rotary, learned or alibi", heading="positions"),
    Column("max_positions", "int", "longest context that the checkpoint's config names", "tokens", "context"),
    Column("rope_theta", "float", "base of the rotary angles", heading="RoPE θ"),
    Column("rope_type", "text", "scaling of the rotary angles", heading="RoPE type"),
    Column("rope_scaling", "text", "the scaling's further fields", heading="RoPE scaling"),
    Column("source", "text", "program and version that wrote the file", heading="written by"),
), _models, is_open=True)


# summary --------------------------------------------------------------------------------------------------------------

# Headings of pages, in the order of the columns; what is not here follows as declared, under its name.
SUMMARY_HEADINGS = {
    "mean_trace": "mean trace", "l_star_trace": "L* (trace)", "l_star_entropy": "L* (entropy)", "l_star_sign_change": "L* (sign)",
    "w_q_spectral_norm_mean": "σ₁ W_Q", "w_k_spectral_norm_mean": "σ₁ W_K", "w_v_spectral_norm_mean": "σ₁ W_V", "w_o_spectral_norm_mean": "σ₁ W_O",
    "unembedding_spectral_norm": "σ₁ W_U", "last_gain_mean": "last gain", "last_gain_after_norm_mean": "after norm",
    "effective_amplification": "amplification"}
SET_SCALARS = {declared.name: declared for declared in declarations.datasets(declarations.STATISTICS)}
# Columns that summary.h5 lacks.
_NOT_IN_SUMMARY = {f"w_{matrix}_spectral_norm_mean": f"Mean over layers of the spectral norm of W_{matrix.upper()}" for matrix in "qk"}


def _summary_columns() -> tuple[Column, ...]:
    """Numbers of summary.h5, a scalar of a set in the words of its dataset, and all further scalars of sets."""
    meanings = _NOT_IN_SUMMARY | declarations.summary()
    return tuple(dataset_column(SET_SCALARS.get(name) or declarations.Dataset(name, (), "1", meanings[name]), SUMMARY_HEADINGS.get(name, ""))
                 for name in in_order([*meanings, *SET_SCALARS], SUMMARY_HEADINGS))


def _noted(results: Results, model: str, prompt_set: str) -> dict:
    """What summary.h5 says of a model and set: of columns that are not computed here there is no other word."""
    noted = results.noted_summary(model, prompt_set)
    return {name: noted[name] for name in declarations.summary() if name in noted}


def _summary(results: Results, prompt_set: str | None) -> Iterator[dict]:
    for model in results:
        attributes = results.attributes(model)
        row = identity(results, model) | {name: attributes.get(name) for name in ("status", "error", "architecture",
                                                                                    "num_parameters", "slicing", "revision", "step")}
        weights, unembedding = results.group(model, "weights"), results.group(model, "unembedding")
        if weights is not None:
            row |= {f"{matrix.lower()}_spectral_norm_mean": mean(by_layer(weights, "spectral_norm", matrix=matrix))
                    for matrix in weights["matrix"].values if matrix in ("W_Q", "W_K", "W_V", "W_O")}
        row["unembedding_spectral_norm"] = scalar(unembedding, "spectral_norm")
        names = sets_of(results, model, prompt_set)
        for name in names:
            statistics, counts = results.statistics(model, name), prompt_counts(results, model, name)
            trace = mean(prompt_mean(results, model, name, "trace_multihead"))
            yield _noted(results, model, name) | row | {"prompt_set": name} | counts | {
                "mean_trace": trace, "mean_trace_per_token": trace / counts.get("mean_tokens", NAN)} | {
                scalar_name: scalar(statistics, scalar_name) for scalar_name in SET_SCALARS}
        if not names:
            yield _noted(results, model, "") | row | {"prompt_set": ""}


SUMMARY = Table("summary", "a model and prompt set; a model without prompts has one row", (
    MODEL, PROMPT_SET, LAB, EXPECTED,
    Column("status", "text", "ok, partial (some of it failed) or failed", heading="status"),
    Column("error", "text", "what failed", heading="error"),
    Column("revision", "text", "revision of the checkpoint, as the job says", heading="revision"),
    Column("step", "int", "training step of the checkpoint, as the job says", heading="step"),
    Column("architecture", "text", "class named in the checkpoint's config", heading="architecture"),
    NUM_LAYERS, NUM_HEADS,
    Column("num_kv_heads", "int", "key/value heads a layer", heading="kv heads"),
    Column("head_dim", "int", "width of a head, d", heading="d"),
    Column("hidden_size", "int", "width of the residual stream, D", heading="D"),
    Column("vocab_size", "int", "tokens of the vocabulary, V", heading="V"),
    Column("num_parameters", "int", "numbers of the checkpoint that the model uses", heading="parameters"),
    Column("slicing", "text", "correct, as-published or as-published-float16", heading="slicing"),
    NUM_PROMPTS, NUM_FAILED, MEAN_TOKENS,
    Column("mean_trace_per_token", "float", "mean_trace over mean_tokens: the traces of all prompts over all their tokens", "1/token", "trace a token"),
    *_summary_columns(),
), _summary)


# what a reader must know before believing the numbers -----------------------------------------------------------------

def _nonfinite(results: Results, prompt_set: str | None) -> Iterator[dict]:
    for model in results:
        for name in sets_of(results, model, prompt_set):
            statistics = results.statistics(model, name)
            failed = prompt_counts(results, model, name).get("num_failed_prompts") or 0
            for quantity, array in (statistics.data_vars.items() if statistics is not None else ()):
                if "statistic" not in array.dims:
                    continue
                counts = array.sel(statistic="nonfinite").values
                worst = float(np.max(counts)) if np.size(counts) else 0.0
                if worst > failed:
                    yield {"model": model, "prompt_set": name, "quantity": quantity, "num_failed_prompts": failed,
                           "max_nonfinite": worst, "places": int(np.count_nonzero(counts > failed)), "of_places": int(np.size(counts))}
        if prompt_set is None:
            yield from _nonfinite_of_weights(results, model)


def _nonfinite_of_weights(results: Results, model: str) -> Iterator[dict]:
    """Norms and κ, of which all else is made."""
    without = layers_without_attention(results.attributes(model))
    for path in declarations.weight_groups():
        group = results.group(model, path)
        names = [declared.name for declared in declarations.datasets(path) if declared.name.endswith(("condition_number", "spectral_norm", "frobenius_norm"))]
        for name in names if group is not None else ():
            for matrix in group["matrix"].values if "matrix" in group.dims else [""]:
                values = by_layer(group, name, **({"matrix": matrix} if matrix else {}))
                if values is None:
                    continue
                is_wrong = ~np.isfinite(values)
                if path != "mlp" and "layer" in group[name].dims:
                    is_wrong[sorted(without)] = False  # they have no such matrix
                if "expert" in group[name].dims and "failed_units" not in group.attrs:
                    is_wrong &= ~np.isnan(values)  # a layer has not every expert
                if is_wrong.any():
                    where = f" of {matrix}" * bool(matrix) + f" ({path})" * (path != "weights")
                    yield {"model": model, "prompt_set": "", "quantity": name + where,
                           "places": int(np.count_nonzero(is_wrong)), "of_places": values.size}


NONFINITE = Table("nonfinite", "a quantity of a model with values that are no numbers, beyond those of failed prompts", (
    MODEL, PROMPT_SET,
    Column("quantity", "text", "the quantity", heading="quantity"),
    Column("places", "int", "layers (times heads, β) where it happens", heading="places"),
    Column("of_places", "int", "of so many", heading="of"),
    Column("max_nonfinite", "int", "most prompts without a finite value at one place", heading="prompts, at most"),
    NUM_FAILED,
), _nonfinite)


def _duplicates(results: Results, _prompt_set: str | None) -> Iterator[dict]:
    digests = {}
    for model in results:
        checkpoint = results.group(model, "checkpoint")
        if checkpoint is not None and "digest" in checkpoint:
            digests[model] = dict(zip(map(str, checkpoint["tensor"].values), map(str, checkpoint["digest"].values)))
    for first, second in itertools.combinations(digests, 2):
        common = digests[first].keys() & digests[second].keys()
        if common and all(digests[first][name] == digests[second][name] for name in common):
            joined = "".join(f"{name}{digests[first][name]}" for name in sorted(common))
            yield {"model": first, "same_as": second, "num_tensors": len(common),
                   "digest": hashlib.sha256(joined.encode()).hexdigest()[:16]}


DUPLICATES = Table("duplicates", "two models that were read from the same bytes", (
    MODEL,
    Column("same_as", "text", "the other name of the same weights", heading="same weights as"),
    Column("num_tensors", "int", "tensors that both have, all with equal digests", heading="tensors"),
    Column("digest", "text", "short digest of those digests", heading="digest"),
), _duplicates)
