"""Table of the Llama 3.1 anomaly study: does a large unembedding make up for a residual stream that contracts?"""

from __future__ import annotations

from collections.abc import Iterator

from spectrace.results import Results
from spectrace.tables import references
from spectrace.tables.frame import EXPECTED, LAB, MODEL, NUM_PROMPTS, PROMPT_SET, Column, Table
from spectrace.tables.general import identity, prompt_counts, rope_scaling, scalar, sets_of
from spectrace.tables.quantities import columns_of

UNEMBEDDING_COLUMNS = columns_of("unembedding", ("spectral_norm", "frobenius_norm", "effective_rank", "row_norm_mean", "row_norm_std",
                                                 "spectral_per_sqrt_vocab", "singular_value_error"))


def _values(results: Results, model: str, prompt_set: str) -> dict:
    attributes, unembedding = results.attributes(model), results.group(model, "unembedding")
    statistics = results.statistics(model, prompt_set) if prompt_set else None
    return {column.name: scalar(unembedding, column.name) for column in UNEMBEDDING_COLUMNS} | {
        name: scalar(statistics, name) for name in ("last_gain_mean", "last_gain_after_norm_mean", "effective_amplification")} | {
        "rope_theta": attributes.get("rope_theta"), "rope_type": attributes.get("rope_type"), "rope_scaling": rope_scaling(attributes),
        "max_positions": attributes.get("max_positions"), "context_length": results.meta(model).get("context_length"),
        "training_tokens": results.meta(model).get("training_tokens")}


def _ratio(values: dict, others: dict, name: str) -> float | None:
    return float(values[name]) / float(others[name]) if values.get(name) is not None and others.get(name) else None


def _rows(results: Results, prompt_set: str | None) -> Iterator[dict]:
    reference = references.llama31_anomaly(results).model
    for model in results:
        for name in sets_of(results, model, prompt_set) or [""]:
            values = _values(results, model, name)
            row = identity(results, model) | values | {"prompt_set": name, "reference": reference}
            if name:
                row |= prompt_counts(results, model, name)
            if reference:
                others = _values(results, reference, name if name in results.prompt_sets(reference) else "")
                row |= {"sigma_ratio": _ratio(values, others, "spectral_norm"), "gain_ratio": _ratio(values, others, "last_gain_mean"),
                        "amplification_ratio": _ratio(values, others, "effective_amplification"),
                        "theta_ratio": _ratio(values, others, "rope_theta")}
            yield row


LLAMA31_ANOMALY = Table("llama31_anomaly", "a model and prompt set", (
    MODEL, LAB, EXPECTED, PROMPT_SET,
    Column("vocab_size", "int", "rows of W_U, V", heading="V"),
    Column("hidden_size", "int", "columns of W_U, D", heading="D"),
    Column("tied_embeddings", "bool", "whether W_U is the input embedding too", heading="tied"),
    *UNEMBEDDING_COLUMNS, NUM_PROMPTS,
    Column("last_gain_mean", "float", "measured gain of the last block, before any final norm; mean over prompts", heading="last gain"),
    Column("last_gain_after_norm_mean", "float", "the same with the final norm's output (the published “with LN” gain)", heading="gain after norm"),
    Column("effective_amplification", "float", "σ₁ of W_U times last_gain_mean", heading="amplification"),
    Column("rope_theta", "float", "base of the rotary angles", heading="RoPE θ"),
    Column("rope_type", "text", "scaling of the rotary angles", heading="RoPE type"),
    Column("rope_scaling", "text", "the scaling's further fields", heading="RoPE scaling"),
    Column("max_positions", "int", "longest context that the checkpoint's config names", "tokens", "max positions"),
    Column("context_length", "float", "context that its makers name (meta of the job)", "tokens", "context"),
    Column("training_tokens", "text", "tokens that it was trained on (meta of the job)", "tokens", "training tokens"),
    Column("reference", "text", "model that the ratios are against", heading="reference"),
    Column("sigma_ratio", "float", "σ₁ of W_U over the reference's", heading="σ₁ ratio"),
    Column("gain_ratio", "float", "measured last gain over the reference's", heading="gain ratio"),
    Column("amplification_ratio", "float", "effective amplification over the reference's; 0.7 to 1.3 is the notebook's “compensates”", heading="amplification ratio"),
    Column("theta_ratio", "float", "RoPE θ over the reference's; above 10 is the notebook's “supported”", heading="θ ratio"),
), _rows)
