"""Tables of the H4 v2 study: traces, spectra and free energy of the sheaf Laplacian."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from spectrace import declarations
from spectrace.results import Results
from spectrace.tables.frame import EXPECTED, LAB, LAYER, MEAN_TOKENS, MODEL, NUM_FAILED, NUM_HEADS, NUM_LAYERS, NUM_PROMPTS, PROMPT_SET, Column, Table
from spectrace.tables.general import NAN, by_layer, identity, mean, prompt_counts, prompt_mean, scalar, sets_of

# The notebook's reference results (H4 v2, small models): mean multi-head trace, behaviour, and what is known of the number.
REFERENCES = {
    "gpt2": (62696.0, "EXPAND", ""),
    "pythia-160m": (18887.0, "DAMPEN", "its W_V is a mix of q, k and v rows (the fused matrix was cut in thirds)"),
    "pythia-410m": (11326.0, "DAMPEN", "its W_V is a mix of q, k and v rows (the fused matrix was cut in thirds)"),
    "opt-125m": (2368.0, "EXPAND", ""),
}
SPECTRA = ("lambda_max", "spectral_gap", "nullity", "spectral_entropy", "graph_lambda_2")
ENTROPY_UNIT = declarations.dataset(declarations.PROMPTS, "spectral_entropy").units


def mean_over_heads(results: Results, model: str, prompt_set: str, name: str) -> np.ndarray | None:
    """Mean over prompts and heads of a (prompt, layer, head) quantity, by layer; NaN where a head has none."""
    values = prompt_mean(results, model, prompt_set, name)
    return None if values is None else values.mean(axis=1)


def _rows(results: Results, prompt_set: str | None) -> Iterator[dict]:
    for model in results:
        for name in sets_of(results, model, prompt_set):
            row = identity(results, model) | {"prompt_set": name} | prompt_counts(results, model, name)
            traces = prompt_mean(results, model, name, "trace_multihead")
            star = scalar(results.statistics(model, name), "l_star_trace")
            row |= {"mean_trace": mean(traces), "mean_trace_mean_attention": mean(prompt_mean(results, model, name, "trace_mean_attention")),
                    "l_star_trace": star, "last_gain_mean": scalar(results.statistics(model, name), "last_gain_mean")}
            row["mean_trace_per_token"] = row["mean_trace"] / row.get("mean_tokens", NAN)
            if row["num_layers"]:
                row |= {"l_star_ratio": star / row["num_layers"], "layers_times_heads": row["num_layers"] * row["num_heads"]}
            row |= {f"{quantity}_mean": mean(mean_over_heads(results, model, name, quantity)) for quantity in SPECTRA}
            row |= {f"over_{reference}": row["mean_trace"] / value for reference, (value, *_) in REFERENCES.items()}
            yield row


def _layer_rows(results: Results, prompt_set: str | None) -> Iterator[dict]:
    for model in results:
        for name in sets_of(results, model, prompt_set):
            statistics = results.statistics(model, name)
            found = {quantity: mean_over_heads(results, model, name, quantity) for quantity in SPECTRA}
            for trace in ("trace_multihead", "trace_mean_attention"):
                found |= {trace: by_layer(statistics, trace, statistic="mean"), f"{trace}_std": by_layer(statistics, trace, statistic="std")}
            found["contraction_ratio"] = by_layer(statistics, "contraction_ratio", statistic="mean")
            found = {key: values for key, values in found.items() if values is not None}
            count = max((len(values) for values in found.values()), default=0)
            for layer in range(count):
                yield identity(results, model) | {"prompt_set": name, "layer": layer, "depth": layer / count} | {
                    key: float(values[layer]) for key, values in found.items()}


def beta_quantities(results: Results, model: str, prompt_set: str) -> dict[str, str]:
    """Quantities of the file's statistics that run over β, and their meaning: ln Z, free energy, and what later files add."""
    statistics = results.statistics(model, prompt_set)
    return {} if statistics is None else {name: array.attrs.get("long_name", name) for name, array in statistics.data_vars.items()
                                          if "beta" in array.dims}


def _beta_rows(results: Results, prompt_set: str | None) -> Iterator[dict]:
    for model in results:
        for name in sets_of(results, model, prompt_set):
            statistics = results.statistics(model, name)
            for quantity in beta_quantities(results, model, name):
                array = statistics[quantity].sel(statistic="mean")
                values = array.transpose("beta", ...).values.reshape(array.sizes["beta"], -1)
                for beta, places in zip(statistics["beta"].values, values):
                    yield {"model": model, "prompt_set": name, "quantity": quantity, "unit": array.attrs.get("units"), "beta": float(beta),
                           "mean": mean(places), "min": float(places.min()), "max": float(places.max())}


H4_V2_EXTENDED = Table("h4_v2_extended", "a model and prompt set", (
    MODEL, LAB, EXPECTED, PROMPT_SET, NUM_LAYERS, NUM_HEADS, NUM_PROMPTS, NUM_FAILED, MEAN_TOKENS,
    Column("mean_trace", "float", "multi-head trace Σ_h Tr Δ_F, mean over prompts and layers", heading="mean trace"),
    Column("mean_trace_per_token", "float", "the same over mean_tokens: the traces of all prompts over all their tokens", "1/token", "trace a token"),
    Column("mean_trace_mean_attention", "float", "trace with the mean attention Ā and the first head's W_V (the notebook's “full” trace), mean over prompts and layers", heading="mean trace, Ā"),
    Column("l_star_trace", "float", "layer of the steepest change of the prompt-mean trace, L*", "layer", "L*"),
    Column("l_star_ratio", "float", "L*/L", heading="L*/L"),
    Column("layers_times_heads", "int", "L × H, the notebook's proxy of size", heading="L × H"),
    Column("last_gain_mean", "float", "measured gain of the last block, mean over prompts", heading="last gain"),
    Column("lambda_max_mean", "float", "largest eigenvalue of Δ_F, mean over prompts, layers and heads", heading="λ max"),
    Column("spectral_gap_mean", "float", "smallest non-zero eigenvalue, the same mean", heading="gap"),
    Column("nullity_mean", "float", "dimension of the null space, the same mean", heading="nullity"),
    Column("spectral_entropy_mean", "float", "entropy of the eigenvalues scaled to sum 1, the same mean", ENTROPY_UNIT, "entropy"),
    Column("graph_lambda_2_mean", "float", "second smallest eigenvalue of the token graph's Laplacian (Fiedler value), the same mean", heading="λ₂ of L_G"),
    *(Column(f"over_{name}", "float", f"mean trace over the notebook's reference for {name}, {value:.0f} ({behaviour})"
             + (f"; {problem}" if problem else ""), heading=f"/ {name}") for name, (value, behaviour, problem) in REFERENCES.items()),
), _rows)

H4_V2_EXTENDED_LAYERS = Table("h4_v2_extended_layers", "a model, prompt set and layer", (
    MODEL, LAB, PROMPT_SET, LAYER, Column("depth", "float", "normalised layer l/L", heading="l/L"),
    Column("trace_multihead", "float", "Σ_h Tr Δ_F, mean over prompts", heading="trace"),
    Column("trace_multihead_std", "float", "its standard deviation over prompts", heading="± std"),
    Column("trace_mean_attention", "float", "trace with the mean attention and the first head's W_V, mean over prompts", heading="trace, Ā"),
    Column("trace_mean_attention_std", "float", "its standard deviation over prompts", heading="± std"),
    Column("lambda_max", "float", "largest eigenvalue of Δ_F, mean over prompts and heads", heading="λ max"),
    Column("spectral_gap", "float", "smallest non-zero eigenvalue, mean over prompts and heads", heading="gap"),
    Column("nullity", "float", "dimension of the null space, mean over prompts and heads", heading="nullity"),
    Column("spectral_entropy", "float", "entropy of the eigenvalues scaled to sum 1, mean over prompts and heads", ENTROPY_UNIT, "entropy"),
    Column("graph_lambda_2", "float", "second smallest eigenvalue of the token graph's Laplacian (Fiedler value), mean over prompts and heads", heading="λ₂ of L_G"),
    Column("contraction_ratio", "float", "mean of √Ā over the token pairs j ≤ i, mean over prompts", heading="contraction"),
), _layer_rows)

THERMODYNAMICS = Table("thermodynamics", "a model, prompt set, quantity and β", (
    MODEL, PROMPT_SET, Column("quantity", "text", "a quantity of the statistics that runs over β (docs/file-format.md)", heading="quantity"),
    Column("unit", "text", "its unit", heading="unit"),
    Column("beta", "float", "inverse temperature β", heading="β"),
    Column("mean", "float", "mean over prompts, layers and heads", "of the quantity", "mean"),
    Column("min", "float", "least over layers and heads of the mean over prompts", "of the quantity", "min"),
    Column("max", "float", "greatest over layers and heads of the mean over prompts", "of the quantity", "max"),
), _beta_rows)
