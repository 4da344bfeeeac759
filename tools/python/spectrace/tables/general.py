"""Tables of what lies in the files: models, weights, heads, unembedding, prompts, statistics."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator

import numpy as np
import xarray as xr

from spectrace.results import Results
from spectrace.tables.frame import (EXPECTED, HEAD, LAB, LAYER, MATRIX, MODEL, NUM_FAILED, NUM_HEADS, NUM_LAYERS,
                                    NUM_PROMPTS, PROMPT_SET, Column, Table)

NAN = float("nan")


# Reading of single values ---------------------------------------------------------------------------------------------

def sets_of(results: Results, model: str, prompt_set: str | None) -> list[str]:
    """The model's prompt sets, or the one asked for if it has that."""
    return [name for name in results.prompt_sets(model) if prompt_set in (None, name)]


def scalar(group: xr.Dataset | None, name: str) -> float:
    """A dataset without dimensions; NaN where it is not there."""
    return float(group[name].values) if group is not None and name in group else NAN


def by_layer(group: xr.Dataset | None, name: str, **selection) -> np.ndarray | None:
    """Values of a dataset over its layers, after the selection; None where it is not there. The dataset is kept in memory."""
    return np.asarray(group[name].load().sel(**selection).values, dtype=float) if group is not None and name in group else None


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


def identity(results: Results, model: str) -> dict:
    """Model, lab, expected and sizes: the front of a row."""
    attributes = results.attributes(model)
    return {"model": model, "lab": attributes.get("lab") or None, "expected": attributes.get("expected") or None,
            "num_layers": attributes.get("num_layers"), "num_heads": attributes.get("num_heads"),
            "num_kv_heads": attributes.get("num_kv_heads"), "head_dim": attributes.get("head_dim"),
            "hidden_size": attributes.get("hidden_size"), "vocab_size": attributes.get("vocab_size")}


def prompt_counts(results: Results, model: str, prompt_set: str) -> dict:
    """num_prompts and num_failed_prompts of a prompt set."""
    prompts = results.group(model, f"prompts/{prompt_set}")
    counts = {"num_prompts": prompts.sizes.get("prompt") if prompts is not None else None}
    if prompts is not None and "prompt_error" in prompts:
        counts["num_failed_prompts"] = int(np.count_nonzero(prompts["prompt_error"].values != ""))
    return counts


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
        tied = attributes.get("tied_embeddings")
        row |= {"tied_embeddings": None if tied is None else bool(tied), "series": series_of(results, model),
                "rope_scaling": rope_scaling(attributes), "source": attributes.get("source")}
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

SCALARS = ("l_star_trace", "l_star_entropy", "l_star_sign_change", "last_gain_mean", "last_gain_after_norm_mean",
           "effective_amplification")


def _summary(results: Results, prompt_set: str | None) -> Iterator[dict]:
    for model in results:
        attributes = results.attributes(model)
        row = identity(results, model) | {name: attributes.get(name) for name in ("status", "error", "architecture",
                                                                                    "num_parameters", "slicing", "revision", "step")}
        weights, unembedding = results.group(model, "weights"), results.group(model, "unembedding")
        if weights is not None:
            row |= {f"{matrix.lower()}_spectral_norm_mean": mean(by_layer(weights, "spectral_norm", matrix=matrix))
                    for matrix in weights["matrix"].values}
        row["unembedding_spectral_norm"] = scalar(unembedding, "spectral_norm")
        names = sets_of(results, model, prompt_set)
        for name in names:
            statistics = results.statistics(model, name)
            yield row | {"prompt_set": name} | prompt_counts(results, model, name) | {
                "mean_trace": mean(prompt_mean(results, model, name, "trace_multihead"))} | {
                scalar_name: scalar(statistics, scalar_name) for scalar_name in SCALARS}
        if not names:
            yield row | {"prompt_set": ""}


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
    NUM_PROMPTS, NUM_FAILED,
    Column("mean_trace", "float", "trace of the sheaf Laplacian summed over heads (trace_multihead), mean over prompts and layers", heading="mean trace"),
    Column("l_star_trace", "float", "layer of the steepest change of the prompt-mean trace", "layer", "L* (trace)"),
    Column("l_star_entropy", "float", "first layer whose prompt-mean flat entropy of the mean attention has reached the midpoint of first and last layer", "layer", "L* (entropy)"),
    Column("l_star_sign_change", "float", "first layer where the prompt-mean trace turns from rising to falling; NaN if it never does", "layer", "L* (sign)"),
    Column("w_q_spectral_norm_mean", "float", "spectral norm of W_Q, mean over layers", heading="σ₁ W_Q"),
    Column("w_k_spectral_norm_mean", "float", "spectral norm of W_K, mean over layers", heading="σ₁ W_K"),
    Column("w_v_spectral_norm_mean", "float", "spectral norm of W_V, mean over layers", heading="σ₁ W_V"),
    Column("w_o_spectral_norm_mean", "float", "spectral norm of W_O, mean over layers", heading="σ₁ W_O"),
    Column("unembedding_spectral_norm", "float", "spectral norm of the unembedding W_U", heading="σ₁ W_U"),
    Column("last_gain_mean", "float", "norm of the last token's vector after the last block over that before it; mean over prompts", heading="last gain"),
    Column("last_gain_after_norm_mean", "float", "the same with the final norm's output", heading="after norm"),
    Column("effective_amplification", "float", "spectral norm of W_U times last_gain_mean", heading="amplification"),
), _summary)


# weights, heads, unembedding ------------------------------------------------------------------------------------------

WEIGHT_COLUMNS = (
    Column("spectral_norm", "float", "largest singular value, σ₁", heading="σ₁"),
    Column("frobenius_norm", "float", "Frobenius norm, from the entries", heading="‖W‖_F"),
    Column("effective_rank", "float", "exp of the entropy of the singular values scaled to sum 1", heading="effective rank"),
    Column("stable_rank", "float", "‖W‖_F²/σ₁²", heading="stable rank"),
    Column("condition_number", "float", "largest over smallest singular value, κ; inf if the smallest is 0", heading="κ"),
)
MATRIX_COLUMNS = WEIGHT_COLUMNS + (
    Column("numerical_rank", "float", "singular values above σ₁·max(m,n)·2⁻²³", heading="rank"),
    Column("num_singular_values", "float", "number of singular values, min(m,n)", heading="min(m,n)"),
    Column("singular_value_error", "float", "absolute error bound that holds for every singular value", heading="error bound"),
    Column("entry_mean", "float", "mean of the entries", heading="entry mean"),
    Column("entry_std", "float", "standard deviation of the entries, unbiased", heading="entry std"),
)


def _cells(group: xr.Dataset, columns: tuple[Column, ...], dims: tuple[str, ...], front: dict) -> Iterator[dict]:
    """A row for each place in dims, with those of the columns that the group has."""
    arrays = {column.name: group[column.name].transpose(*dims).values for column in columns if column.name in group}
    if not arrays:
        return
    coordinates = [group[dim].values for dim in dims]
    for place in itertools.product(*(range(len(values)) for values in coordinates)):
        yield front | {dim: _python(values[i]) for dim, values, i in zip(dims, coordinates, place)} | {
            name: float(array[place]) for name, array in arrays.items()}


def _python(value: object) -> object:
    return value.item() if isinstance(value, np.generic) else value


def group_rows(path: str, columns: tuple[Column, ...], dims: tuple[str, ...]):
    def rows(results: Results, _prompt_set: str | None) -> Iterator[dict]:
        for model in results:
            group = results.group(model, path)
            if group is not None:
                yield from _cells(group, columns, dims, identity(results, model))
    return rows


WEIGHTS = Table("weights", "a model, layer and matrix", (MODEL, LAB, LAYER, MATRIX) + MATRIX_COLUMNS,
                group_rows("weights", MATRIX_COLUMNS, ("layer", "matrix")))
HEADS = Table("heads", "a model, layer, matrix and query head", (MODEL, LAB, LAYER, MATRIX, HEAD) + WEIGHT_COLUMNS,
              group_rows("heads", WEIGHT_COLUMNS, ("layer", "matrix", "head")))

UNEMBEDDING_COLUMNS = (
    Column("spectral_norm", "float", "largest singular value of W_U, σ₁", heading="σ₁"),
    Column("frobenius_norm", "float", "Frobenius norm of W_U, from the entries", heading="‖W_U‖_F"),
    Column("effective_rank", "float", "exp of the entropy of the singular values scaled to sum 1", heading="effective rank"),
    Column("row_norm_mean", "float", "mean of the norms of the tokens' rows", heading="row norm"),
    Column("row_norm_std", "float", "standard deviation of the row norms, unbiased", heading="its std"),
    Column("spectral_per_sqrt_vocab", "float", "σ₁/√V", heading="σ₁/√V"),
    Column("singular_value_error", "float", "absolute error bound that holds for every singular value", heading="error bound"),
)


def _unembedding(results: Results, _prompt_set: str | None) -> Iterator[dict]:
    for model in results:
        group = results.group(model, "unembedding")
        if group is not None:
            tied = results.attributes(model).get("tied_embeddings")
            yield identity(results, model) | {"tied_embeddings": None if tied is None else bool(tied)} | {
                column.name: scalar(group, column.name) for column in UNEMBEDDING_COLUMNS}


UNEMBEDDING = Table("unembedding", "a model", (
    MODEL, LAB,
    Column("vocab_size", "int", "rows of W_U, V", heading="V"),
    Column("hidden_size", "int", "columns of W_U, D", heading="D"),
    Column("tied_embeddings", "bool", "whether it is the input embedding too", heading="tied")) + UNEMBEDDING_COLUMNS, _unembedding)


# prompts and statistics -----------------------------------------------------------------------------------------------

def _prompts(results: Results, prompt_set: str | None) -> Iterator[dict]:
    for model in results:
        for name in sets_of(results, model, prompt_set):
            group = results.group(model, f"prompts/{name}")
            per_prompt = {key: group[key].values for key in ("num_tokens", "final_norm_last_token", "final_norm_mean_token",
                                                             "last_gain_after_norm") if key in group}
            if "gain" in group:
                per_prompt["last_gain"] = group["gain"].isel(layer=-1).values
            if "trace_multihead" in group:
                per_prompt["mean_trace"] = group["trace_multihead"].mean("layer", skipna=False).values
            ids, errors = group["prompt_id"].values, group["prompt_error"].values
            for i in range(len(ids)):
                yield {"model": model, "prompt_set": name, "prompt": ids[i], "error": errors[i]} | {
                    key: float(values[i]) for key, values in per_prompt.items()}


PROMPTS = Table("prompts", "a model, prompt set and prompt", (
    MODEL, PROMPT_SET,
    Column("prompt", "text", "id of the prompt", heading="prompt"),
    Column("error", "text", "why it could not run; empty if it did", heading="error"),
    Column("num_tokens", "int", "tokens of the prompt", "tokens", "tokens"),
    Column("mean_trace", "float", "trace of the sheaf Laplacian summed over heads, mean over layers", heading="mean trace"),
    Column("last_gain", "float", "norm of the last token's vector after the last block over that before it", heading="last gain"),
    Column("last_gain_after_norm", "float", "the same with the final norm's output", heading="after norm"),
    Column("final_norm_last_token", "float", "norm of the last token's vector after the final norm", heading="final norm"),
    Column("final_norm_mean_token", "float", "mean over tokens of the norm after the final norm", heading="final norm, all tokens"),
), _prompts)

STATISTIC_COLUMNS = (
    Column("quantity", "text", "per-prompt quantity, as in /prompts/<set> (docs/file-format.md)", heading="quantity"),
    Column("unit", "text", "unit of the quantity", heading="unit"),
    Column("count", "int", "prompts with a finite value", heading="count"),
    Column("nonfinite", "int", "prompts without one; they are left out of the other columns", heading="not finite"),
    Column("mean", "float", "mean over the prompts", "of the quantity", "mean"),
    Column("std", "float", "standard deviation over the prompts, unbiased", "of the quantity", "std"),
    Column("min", "float", "least", "of the quantity", "min"),
    Column("max", "float", "greatest", "of the quantity", "max"),
)


def _statistics_rows(dims: tuple[str, ...]):
    def rows(results: Results, prompt_set: str | None) -> Iterator[dict]:
        for model in results:
            for name in sets_of(results, model, prompt_set):
                statistics = results.statistics(model, name)
                for quantity, array in (statistics.data_vars.items() if statistics is not None else ()):
                    if set(array.dims) != {"statistic", *dims}:
                        continue
                    front = {"model": model, "prompt_set": name, "quantity": quantity, "unit": array.attrs.get("units")}
                    values = array.transpose("statistic", *dims).values
                    labels = [str(label) for label in statistics["statistic"].values]
                    coordinates = [statistics[dim].values for dim in dims]
                    for place in itertools.product(*(range(len(c)) for c in coordinates)):
                        yield front | {dim: _python(c[i]) for dim, c, i in zip(dims, coordinates, place)} | {
                            label: float(values[(k, *place)]) for k, label in enumerate(labels)}
    return rows


LAYER_STATISTICS = Table("layer_statistics", "a model, prompt set, quantity and layer",
                         (MODEL, PROMPT_SET, LAYER) + STATISTIC_COLUMNS, _statistics_rows(("layer",)))
HEAD_STATISTICS = Table("head_statistics", "a model, prompt set, quantity, layer and head",
                        (MODEL, PROMPT_SET, LAYER, HEAD) + STATISTIC_COLUMNS, _statistics_rows(("layer", "head")))
BOUNDARY_STATISTICS = Table("boundary_statistics", "a model, prompt set, quantity and boundary between blocks", (
    MODEL, PROMPT_SET, Column("boundary", "int", "0: what enters block 0; l+1: what leaves block l", heading="boundary")
) + STATISTIC_COLUMNS, _statistics_rows(("boundary",)))


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
        weights = results.group(model, "weights")
        for matrix in (weights["matrix"].values if weights is not None and prompt_set is None else ()):
            for quantity in ("condition_number", "spectral_norm", "frobenius_norm"):
                values = by_layer(weights, quantity, matrix=matrix)
                if values is not None and not np.isfinite(values).all():
                    yield {"model": model, "prompt_set": "", "quantity": f"{quantity} of {matrix}",
                           "places": int(np.count_nonzero(~np.isfinite(values))), "of_places": len(values)}


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
