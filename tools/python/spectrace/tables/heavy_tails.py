"""Table of heavy tails: what WeightWatcher's users look at, of every matrix (spectrace.heavy_tails)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import xarray as xr

from spectrace.heavy_tails import metrics
from spectrace.results import Results
from spectrace.tables.frame import LAB, LAYER, MODEL, Column, Table
from spectrace.tables.general import identity, layers_without_attention


def matrix_shape(attributes: dict, matrix: str) -> tuple[int, int]:
    """Rows and columns of W_Q, W_K, W_V, W_O or W_U of a model, from the attributes of its file."""
    hidden, queries = int(attributes["hidden_size"]), int(attributes["num_heads"]) * int(attributes["head_dim"])
    values = int(attributes["num_kv_heads"]) * int(attributes["head_dim"])
    return {"W_Q": (queries, hidden), "W_K": (values, hidden), "W_V": (values, hidden), "W_O": (hidden, queries),
            "W_U": (int(attributes["vocab_size"]), hidden)}[matrix]


def _rows(results: Results, _prompt_set: str | None) -> Iterator[dict]:
    for model in results:
        attributes = results.attributes(model)
        weights, unembedding, tensors = (results.group(model, group) for group in ("weights", "unembedding", "tensors"))
        # Of latent attention's matrices the attributes do not say the shapes.
        if weights is not None and "singular_values" in weights and set(map(str, weights["matrix"].values)) == {"W_Q", "W_K", "W_V", "W_O"}:
            without = layers_without_attention(attributes)
            values = weights["singular_values"].transpose("layer", "matrix", "index").values
            counts = weights["num_singular_values"].transpose("layer", "matrix").values
            for layer, of_layer in enumerate(values):
                if layer in without:
                    continue
                for place, matrix in enumerate(map(str, weights["matrix"].values)):
                    known = of_layer[place][:int(counts[layer, place])] if np.isfinite(counts[layer, place]) else of_layer[place][:0]
                    yield identity(results, model) | {"layer": layer, "matrix": matrix} | metrics(known, *matrix_shape(attributes, matrix))
        if unembedding is not None and "singular_values" in unembedding:
            yield identity(results, model) | {"matrix": "W_U"} | metrics(
                unembedding["singular_values"].values, *matrix_shape(attributes, "W_U"))
        if tensors is not None and "singular_values" in tensors:
            yield from ({**identity(results, model), **row} for row in _stored_matrices(tensors))


def _stored_matrices(tensors: xr.Dataset) -> Iterator[dict]:
    """Of every matrix of the checkpoint, by name; of one that failed no eigenvalues."""
    values = tensors["singular_values"].transpose("tensor", "index").values
    shapes = zip(tensors["rows"].values.astype(int), tensors["columns"].values.astype(int))
    counts = tensors["num_singular_values"].values
    for place, (name, shape) in enumerate(zip(map(str, tensors["tensor"].values), shapes)):
        known = values[place][:int(counts[place])] if np.isfinite(counts[place]) else values[place][:0]
        yield {"matrix": name} | metrics(known, *map(int, shape))


HEAVY_TAILS = Table("heavy_tails", "a model, layer and matrix (without a layer: W_U, the unembedding, and stored matrices by their names)", (
    MODEL, LAB, LAYER, Column("matrix", "text", "W_Q, W_K, W_V, W_O, W_U, or a name of /tensors", heading="matrix"),
    Column("N", "int", "larger dimension of the matrix", heading="N"),
    Column("M", "int", "smaller dimension", heading="M"),
    Column("Q", "float", "N/M", heading="Q"),
    Column("num_evals", "int", "eigenvalues λ = σ² of WᵀW, min(m,n)", heading="eigenvalues"),
    Column("alpha", "float", "exponent of the power law p(λ) ∝ λ^-α that fits the tail best", heading="α"),
    Column("alpha_weighted", "float", "α·log₁₀ λ_max", heading="α weighted"),
    Column("D", "float", "Kolmogorov-Smirnov distance of the fit", heading="D"),
    Column("sigma", "float", "standard error of α", heading="± α"),
    Column("xmin", "float", "eigenvalue where the tail begins", heading="λ_min"),
    Column("xmax", "float", "largest eigenvalue of the fit", heading="λ_max of the fit"),
    Column("num_pl_spikes", "int", "eigenvalues of the tail, λ ≥ xmin", heading="in the tail"),
    Column("status", "text", "success, or failed: no power law", heading="fit"),
    Column("warning", "text", "over-trained (α < 2) or under-trained (α > 6), as WeightWatcher has it", heading="warning"),
    Column("num_spikes", "int", "eigenvalues above the bulk of the Marchenko-Pastur law that fits best", heading="spikes"),
    Column("sigma_mp", "float", "that law's σ, for W scaled by W_scale", heading="σ MP"),
    Column("mp_softrank", "float", "upper edge of the bulk over λ_max", heading="soft rank"),
    Column("bulk_min", "float", "lower edge of the bulk", heading="bulk from"),
    Column("bulk_max", "float", "upper edge of the bulk", heading="bulk to"),
    Column("W_scale", "float", "factor that brings the mean eigenvalue to 1", heading="scale"),
    Column("lambda_max", "float", "largest eigenvalue, σ₁²", heading="λ_max"),
    Column("sv_max", "float", "largest singular value", heading="σ₁"),
    Column("sv_min", "float", "smallest singular value", heading="σ_min"),
    Column("norm", "float", "Σλ = ‖W‖_F²: squared, as WeightWatcher has it", heading="Σλ"),
    Column("log_norm", "float", "log₁₀ of norm", heading="log norm"),
    Column("spectral_norm", "float", "λ_max = σ₁²: squared, as WeightWatcher has it", heading="λ_max"),
    Column("log_spectral_norm", "float", "log₁₀ of λ_max", heading="log λ_max"),
    Column("log_alpha_norm", "float", "log₁₀ Σ λ^α", heading="log α norm"),
    Column("stable_rank", "float", "Σλ/λ_max", heading="stable rank"),
    Column("matrix_rank", "int", "singular values above σ₁·N·2⁻⁵²", heading="rank"),
    Column("rank_loss", "int", "the other ones", heading="rank loss"),
    Column("weak_rank_loss", "int", "eigenvalues below 1e-6", heading="weak rank loss"),
    Column("entropy", "float", "−Σ p ln p / ln rank, p = λ/Σλ", heading="entropy"),
), _rows)
