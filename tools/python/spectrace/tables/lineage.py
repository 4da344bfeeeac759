"""Which models share weights' ancestry: a row a pair, from stored values alone.

A training run leaves its own roughness in how the entries' standard deviations of W_Q, W_K, W_V, W_O go over depth, and training on
hardly changes it (Yoon et al., Intrinsic Fingerprint of LLMs, arXiv:2507.03014, 2025). The smooth course is what all models
of a kind have in common, so it is taken off first: a correlation of the curves themselves says little.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spectrace.inference import ALPHA, holm
from spectrace.results import Results
from spectrace.tables.frame import MODEL, Column, Table
from spectrace.tables.general import NAN, by_layer

MATRICES = ("W_Q", "W_K", "W_V", "W_O")
SMOOTH_DEGREE = 3        # of the polynomial over depth that counts as smooth
LEAST_LAYERS = 12        # of fewer, what is left of four matrices is too short to tell chance
PERMUTATIONS = 9999
QUANTILES = (np.arange(256) + 0.5) / 256
ANCESTRY = "ancestry"    # what a job may say of a model in `meta`: of two values two origins are known to be different


@dataclass(frozen=True)
class Fingerprint:
    """What of one model is held against another's."""

    curves: np.ndarray       # (matrix, layer): ln of the entries' standard deviation
    spectra: np.ndarray      # (layer, matrix, quantile): of the singular values over their mean
    digests: dict[str, str]  # tensor -> digest
    ancestry: str | None


def on_depth(values: np.ndarray, count: int) -> np.ndarray:
    """Along the last axis, at `count` places of the same relative depth; itself where there are as many."""
    if values.shape[-1] == count:
        return values
    at, places = np.linspace(0, 1, count), np.linspace(0, 1, values.shape[-1])
    return np.apply_along_axis(lambda row: np.interp(at, places, row), -1, values)


def smooth_basis(num_layers: int) -> np.ndarray:
    """Polynomials over depth, orthonormal: (layer, degree)."""
    depth = np.linspace(-1, 1, num_layers)
    return np.linalg.qr(np.polynomial.legendre.legvander(depth, SMOOTH_DEGREE))[0]


def roughness(curves: np.ndarray) -> np.ndarray:
    """What is left of curves (matrix, layer) beside a smooth course, each of norm 1; zeros where nothing is."""
    basis = smooth_basis(curves.shape[-1])
    rest = curves - curves @ basis @ basis.T
    norms = np.linalg.norm(rest, axis=-1, keepdims=True)
    scale = np.abs(curves).max(axis=-1, keepdims=True) + 1.0
    return np.where(norms > 1e-12 * scale, rest / np.where(norms > 0, norms, 1), 0.0)


def mean_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Over the matrices, of Pearson's correlation over depth; NaN where a curve is constant."""
    a, b = (rows - rows.mean(axis=-1, keepdims=True) for rows in (first, second))
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(((a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))).mean())


def chance_of(first: np.ndarray, second: np.ndarray, seed: int = 0) -> float:
    """p of the mean correlation of two roughnesses: how often the layers of one in another order, the same for all matrices, give as much.

    In another order it has a smooth course again, which is taken off once more (Freedman and Lane 1983); else few layers would seem
    to say more than they do.
    """
    generator = np.random.default_rng(seed)
    found = (first * second).sum(-1).mean()
    orders = np.argsort(generator.random((PERMUTATIONS, first.shape[-1])), axis=1)
    moved = second[:, orders]  # (matrix, order, layer)
    smooth = moved @ smooth_basis(first.shape[-1])
    left = np.maximum(1 - (smooth**2).sum(-1), 0)  # what is left of its squares; `first` sees nothing of what is taken off
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = np.nan_to_num(np.einsum("ml,mpl->mp", first, moved) / np.sqrt(left)).mean(0)
    return float((1 + np.count_nonzero(drawn >= found - 1e-12)) / (1 + PERMUTATIONS))


def curves_of(results: Results, model: str) -> np.ndarray | None:
    """ln of the entries' standard deviation, (matrix, layer); None where the file has not all four matrices of every layer."""
    curves = [by_layer(results.group(model, "weights"), "entry_std", matrix=matrix) for matrix in MATRICES]
    if any(curve is None or not np.all(curve > 0) or not np.isfinite(curve).all() for curve in curves):
        return None
    return np.log(np.stack(curves))


def fingerprint(results: Results, model: str) -> Fingerprint | None:
    """None where there are no curves."""
    curves = curves_of(results, model)
    if curves is None:
        return None
    weights, spectra = results.group(model, "weights"), []
    for layer in range(curves.shape[-1]):
        of_layer = []
        for matrix in MATRICES:
            values = np.asarray(weights["singular_values"].isel(layer=layer).sel(matrix=matrix).values, dtype=float)
            values = np.sort(values[np.isfinite(values)])
            of_layer.append(np.quantile(values / values.mean(), QUANTILES))
        spectra.append(of_layer)
    checkpoint = results.group(model, "checkpoint")
    digests = {} if checkpoint is None or "digest" not in checkpoint else dict(
        zip(map(str, checkpoint["tensor"].values), map(str, checkpoint["digest"].values)))
    ancestry = results.meta(model).get(ANCESTRY)
    return Fingerprint(curves, np.array(spectra), digests, None if ancestry is None else str(ancestry))


def _pair(first: Fingerprint, second: Fingerprint) -> dict:
    count = min(first.curves.shape[-1], second.curves.shape[-1])
    a, b = on_depth(first.curves, count), on_depth(second.curves, count)
    rough_a, rough_b = roughness(a), roughness(b)
    quantiles = [on_depth(np.moveaxis(one.spectra, 0, -1), count) for one in (first, second)]  # (matrix, quantile, layer)
    unit = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in quantiles]
    common = first.digests.keys() & second.digests.keys()
    known = first.ancestry is not None and second.ancestry is not None
    return {
        "num_layers_compared": count,
        "num_equal_tensors": sum(first.digests[name] == second.digests[name] for name in common), "num_common_tensors": len(common),
        "std_correlation": mean_correlation(a, b), "std_difference": float(np.abs(a - b).mean()),
        "roughness_correlation": float((rough_a * rough_b).sum(-1).mean()),
        "p": chance_of(rough_a, rough_b) if count >= LEAST_LAYERS else NAN,
        "spectral_distance": float(np.linalg.norm(unit[0] - unit[1], axis=1).mean()),
        "wasserstein": float(np.abs(quantiles[0] - quantiles[1]).mean()),
        "is_known_unrelated": known and first.ancestry != second.ancestry,
    }


def verdict(pair: dict, p_holm: float, reference: list[float]) -> str:
    """same: byte for byte; shared: more alike than chance and than any pair known to be unrelated; none: no sign; open: can't be said."""
    if pair["num_common_tensors"] and pair["num_equal_tensors"] == pair["num_common_tensors"]:
        return "same"
    if p_holm != p_holm:
        return "open"
    above = all(pair["roughness_correlation"] > other for other in reference)
    return "shared" if p_holm < ALPHA and pair["roughness_correlation"] > 0.5 and above else "none"


def _rows(results: Results, _prompt_set: str | None) -> Iterator[dict]:
    prints = {model: found for model in results if (found := fingerprint(results, model)) is not None}
    pairs = [{"model": a, "other": b} | _pair(prints[a], prints[b]) for a, b in itertools.combinations(prints, 2)]
    tested = [pair for pair in pairs if pair["p"] == pair["p"]]
    for pair, p_holm in zip(tested, holm([pair["p"] for pair in tested]) if tested else ()):
        pair["p_holm"] = float(p_holm)
    unrelated = [pair["roughness_correlation"] for pair in pairs if pair["is_known_unrelated"]]
    for pair in pairs:
        reference = [] if pair["is_known_unrelated"] else unrelated
        yield pair | {"p_holm": pair.get("p_holm", NAN), "num_reference_pairs": len(reference),
                      "reference_correlation": max(reference, default=NAN), "verdict": verdict(pair, pair.get("p_holm", NAN), reference)}


LINEAGE = Table("lineage", "two models", (
    MODEL,
    Column("other", "text", "name of the other model", heading="other"),
    Column("verdict", "text", "same: equal bytes; shared: more alike than chance and than any pair known to be unrelated; none: no sign; open: too few layers", heading="verdict"),
    Column("num_layers_compared", "int", "layers of the one with fewer, the other's taken at the same relative depth", heading="layers"),
    Column("num_equal_tensors", "int", "tensors with equal digests among those of the same name that both were measured from", heading="equal tensors"),
    Column("num_common_tensors", "int", "tensors of the same name that both were measured from", heading="of"),
    Column("std_correlation", "float", "correlation over depth of ln of the entries' standard deviation, mean over Q, K, V, O", heading="r of std"),
    Column("std_difference", "float", "mean over layers and matrices of the absolute difference of ln of the entries' standard deviation", heading="|Δ ln std|"),
    Column("roughness_correlation", "float", f"the same correlation once the smooth course (a polynomial of degree {SMOOTH_DEGREE} over depth) is taken off", heading="r of roughness"),
    Column("p", "float", f"how often layers in another order give as much ({PERMUTATIONS} orders, the same for all four matrices); none of fewer than {LEAST_LAYERS} layers", heading="p"),
    Column("p_holm", "float", "the same, for all pairs at once by Holm", heading="p (Holm)"),
    Column("spectral_distance", "float", "Euclidean distance of the spectra scaled to norm 1, mean over layers and matrices", heading="spectra apart"),
    Column("wasserstein", "float", "Wasserstein-1 distance of the singular values over their mean, mean over layers and matrices", heading="Wasserstein"),
    Column("is_known_unrelated", "bool", "the job says so: other values of meta.ancestry", heading="unrelated"),
    Column("num_reference_pairs", "int", "pairs that are known to be unrelated, beside which this one is held", heading="references"),
    Column("reference_correlation", "float", "the largest roughness_correlation among these", heading="their largest"),
), _rows)
