"""Writes results files in the contract's layout, with made-up numbers, for tests of the Python package alone.

The numbers are formulas of model, layer, head and prompt, so that a test can say what it must read back; statistics are
computed from them. What the program itself writes is tested in tests/app.
"""

from __future__ import annotations

import json
import pathlib
from dataclasses import dataclass, field

import h5py
import numpy as np

TEXT = h5py.string_dtype("utf-8")
STATISTICS = ["count", "nonfinite", "mean", "std", "min", "max"]
MATRICES = ["W_Q", "W_K", "W_V", "W_O"]
ANALYSES = ("weights", "heads", "unembedding", "attention", "sheaf", "residual")
BETAS = np.logspace(-3, 3, 7)
TOKENS = 3  # of every prompt


@dataclass
class FakeModel:
    name: str
    num_layers: int = 4
    num_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int = 3
    vocab_size: int = 50
    scale: float = 1.0
    sets: dict[str, list[str]] = field(default_factory=lambda: {"test": ["a", "b", "c"]})
    failed_prompts: tuple[str, ...] = ()
    error: str = ""
    slicing: str = "correct"
    lab: str = ""
    expected: str = ""
    architecture: str = "FakeForCausalLM"
    rope_theta: float | None = None
    tied: bool = False
    step: int | None = None
    revision: str = ""
    meta: dict = field(default_factory=dict)
    analyses: tuple[str, ...] = ANALYSES
    weights_of: str = ""       # the digests are those of this model
    infinite_condition: bool = False
    nonfinite_gain: bool = False
    conventions: str = "spectrace-2"
    path: str = ""             # in the job

    @property
    def hidden_size(self) -> int:
        return self.num_heads * self.head_dim


class Group:
    """A group with its dimension scales; every dataset gets all of its dimensions' scales attached."""

    def __init__(self, file: h5py.File, path: str, dimensions: dict[str, list]):
        self.group = file.create_group(path, track_order=True)
        for name, values in dimensions.items():
            data = np.array(values, dtype=TEXT) if isinstance(values[0], str) else np.array(values)
            scale = self._dataset(name, data, name, "1")
            scale.make_scale(name)

    def _dataset(self, name: str, data, long_name: str, units: str) -> h5py.Dataset:
        dataset = self.group.create_dataset(name, data=data)
        dataset.attrs["long_name"] = long_name
        dataset.attrs["units"] = units
        return dataset

    def add(self, name: str, dims: tuple[str, ...], values, units: str = "1") -> None:
        values = np.asarray(values)
        data = values.astype(TEXT) if values.dtype.kind in "UO" else values
        dataset = self._dataset(name, data, name.replace("_", " "), units)
        for axis, dim in enumerate(dims):
            assert self.group[dim].shape[0] == data.shape[axis], (name, dim)
            dataset.dims[axis].attach_scale(self.group[dim])


def statistics_of(values: np.ndarray) -> np.ndarray:
    """(statistic, ...) over the first axis, as section 7 of the definitions says: unbiased std, non-finite counted."""
    finite = np.where(np.isfinite(values), values, np.nan)
    count = np.isfinite(values).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.stack([count, (~np.isfinite(values)).sum(axis=0), np.nanmean(finite, axis=0),
                         np.nanstd(finite, axis=0, ddof=1), np.nanmin(finite, axis=0), np.nanmax(finite, axis=0)]).astype(float)


def traces(model: FakeModel, num_prompts: int) -> np.ndarray:
    """(prompt, layer, head): rises towards the middle layers; heads and prompts differ."""
    prompt = np.arange(num_prompts)[:, None, None]
    layer = np.arange(model.num_layers)[None, :, None]
    head = np.arange(model.num_heads)[None, None, :]
    hump = np.exp(-((layer - model.num_layers / 2) ** 2) / model.num_layers)
    return model.scale * (10 + 40 * hump) * (1 + 0.1 * head) * (1 + 0.05 * prompt)


def gains(model: FakeModel, num_prompts: int) -> np.ndarray:
    """(prompt, layer)"""
    return 1.2 - 0.4 * np.arange(model.num_layers)[None, :] / model.num_layers + 0.02 * np.arange(num_prompts)[:, None]


def entropies(model: FakeModel, num_prompts: int) -> np.ndarray:
    """(prompt, layer): flat entropy of the mean attention; falls faster, the larger the model's scale."""
    depth = np.arange(model.num_layers)[None, :] / model.num_layers
    return 0.9 - 0.3 * depth ** (1 / model.scale) + 0.01 * np.arange(num_prompts)[:, None]


def spectral_norms(model: FakeModel) -> np.ndarray:
    """(layer, matrix)"""
    return model.scale * (2 + np.arange(model.num_layers)[:, None] + 0.5 * np.arange(4)[None, :])


def condition_numbers(model: FakeModel) -> np.ndarray:
    """(layer, matrix)"""
    values = 100 * model.scale * (1 + np.arange(model.num_layers)[:, None] + np.arange(4)[None, :])
    if model.infinite_condition:
        values[0, 2] = np.inf
    return values


def effective_ranks(model: FakeModel) -> np.ndarray:
    """(layer, matrix)"""
    return model.hidden_size * (0.5 + 0.1 * np.arange(4)[None, :]) * np.ones((model.num_layers, 1))


def unembedding_norm(model: FakeModel) -> float:
    return 20.0 * model.scale


def write_weights(file: h5py.File, model: FakeModel) -> None:
    layers = list(range(model.num_layers))
    count = model.hidden_size
    group = Group(file, "weights", {"layer": layers, "matrix": MATRICES, "index": list(range(count))})
    decay = np.exp(-np.arange(count)[None, None, :] * (1 + 0.2 * np.arange(model.num_layers)[:, None, None]) / 6)
    values = np.repeat(spectral_norms(model)[:, :, None] * decay, 1, axis=1)
    values[:, 1:3, model.num_kv_heads * model.head_dim:] = np.nan  # W_K and W_V have fewer
    group.add("singular_values", ("layer", "matrix", "index"), values)
    group.add("num_singular_values", ("layer", "matrix"), np.isfinite(values).sum(axis=2))
    group.add("spectral_norm", ("layer", "matrix"), spectral_norms(model))
    frobenius = np.sqrt(np.nansum(values**2, axis=2))
    group.add("frobenius_norm", ("layer", "matrix"), frobenius)
    group.add("effective_rank", ("layer", "matrix"), effective_ranks(model))
    group.add("stable_rank", ("layer", "matrix"), frobenius**2 / spectral_norms(model) ** 2)
    group.add("condition_number", ("layer", "matrix"), condition_numbers(model))
    group.add("numerical_rank", ("layer", "matrix"), np.isfinite(values).sum(axis=2).astype(float))
    group.add("singular_value_error", ("layer", "matrix"), 1e-14 * spectral_norms(model))
    group.add("entry_mean", ("layer", "matrix"), 0.001 * spectral_norms(model))
    group.add("entry_std", ("layer", "matrix"), 0.02 * spectral_norms(model))


def write_heads(file: h5py.File, model: FakeModel) -> None:
    layers, heads = list(range(model.num_layers)), list(range(model.num_heads))
    group = Group(file, "heads", {"layer": layers, "matrix": MATRICES, "head": heads})
    norms = spectral_norms(model)[:, :, None] * (1 - 0.1 * np.arange(model.num_heads)[None, None, :] / model.num_heads)
    for name, factor in (("spectral_norm", 1.0), ("frobenius_norm", 1.5), ("effective_rank", 0.5), ("stable_rank", 0.4), ("condition_number", 30.0)):
        group.add(name, ("layer", "matrix", "head"), factor * norms)


def write_unembedding(file: h5py.File, model: FakeModel) -> None:
    group = Group(file, "unembedding", {"index": list(range(model.hidden_size)), "token": list(range(model.vocab_size))})
    sigma = unembedding_norm(model)
    group.add("singular_values", ("index",), sigma * np.exp(-np.arange(model.hidden_size) / 5))
    group.add("row_norm", ("token",), 1 + 0.01 * np.arange(model.vocab_size))
    for name, value in (("singular_value_error", 1e-14 * sigma), ("spectral_norm", sigma), ("frobenius_norm", 3 * sigma), ("effective_rank", 5.0),
                        ("row_norm_mean", 1.0 + 0.005 * (model.vocab_size - 1)), ("row_norm_std", 0.14),
                        ("spectral_per_sqrt_vocab", sigma / np.sqrt(model.vocab_size))):
        group.add(name, (), value)


def per_prompt_values(model: FakeModel, num_prompts: int) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """name -> (dimensions but for prompt, values), by the model's analyses."""
    found = {}
    trace, gain = traces(model, num_prompts), gains(model, num_prompts)
    if model.nonfinite_gain:
        gain[0, -1] = np.inf
    if "sheaf" in model.analyses:
        found |= {"trace": (("layer", "head"), trace), "trace_multihead": (("layer",), trace.sum(axis=2)),
                  "trace_mean_attention": (("layer",), trace[:, :, 0]), "lambda_max": (("layer", "head"), trace / 3),
                  "spectral_gap": (("layer", "head"), trace / 300), "nullity": (("layer", "head"), np.full(trace.shape, 7.0)),
                  "spectral_entropy": (("layer", "head"), 2 + trace / trace.max()), "graph_lambda_2": (("layer", "head"), 0.1 + 0.2 * trace / trace.max()),
                  "contraction_ratio": (("layer",), 0.2 + 0.1 * (trace / trace.max()).mean(axis=2))}
    if "residual" in model.analyses:
        norm = np.concatenate([np.ones((num_prompts, 1)), np.cumprod(gain, axis=1)], axis=1)
        found |= {"gain": (("layer",), gain), "last_token_norm": (("boundary",), norm), "mean_token_norm": (("boundary",), 0.9 * norm),
                  "final_norm_last_token": ((), norm[:, -1]), "final_norm_mean_token": ((), 0.9 * norm[:, -1]),
                  "last_gain_after_norm": ((), 0.5 * gain[:, -1])}
    if "attention" in model.analyses:
        flat = entropies(model, num_prompts)
        entropy = np.linspace(1.5, 0.5, model.num_layers)[None, :] + 0.1 * np.arange(num_prompts)[:, None]
        ones = np.ones((1, 1, model.num_heads))
        found |= {"row_entropy_mean_attention": (("layer",), entropy), "sparsity_mean_attention": (("layer",), 0.5 + 0.1 * flat),
                  "flat_entropy_mean_attention": (("layer",), flat), "row_entropy": (("layer", "head"), 0.9 * entropy[:, :, None] * ones),
                  "sparsity": (("layer", "head"), (0.5 + 0.1 * flat)[:, :, None] * ones), "flat_entropy": (("layer", "head"), 0.9 * flat[:, :, None] * ones)}
    return found


def log_partitions(model: FakeModel) -> np.ndarray:
    """(layer, head, beta), the same for every prompt"""
    shape = (model.num_layers, model.num_heads, len(BETAS))
    return np.broadcast_to(np.log(TOKENS * model.hidden_size) - 0.2 * BETAS / (1 + BETAS), shape) * np.ones(shape)


def two_levels(model: FakeModel, low: float) -> dict[str, np.ndarray]:
    """Thermodynamics (layer, head, beta) of two levels, `low` and `low` + 1 + layer, the same for every prompt and head."""
    x = BETAS * (1.0 + np.arange(model.num_layers))[:, None, None] * np.ones((1, model.num_heads, 1))
    p = np.exp(-x) / (1 + np.exp(-x))
    log_z = np.log1p(np.exp(-x)) - BETAS * low
    return {"log_partition_nonzero": log_z, "internal_energy": low + p * x / BETAS, "heat_capacity": x**2 * p * (1 - p),
            "thermal_entropy": log_z + BETAS * low + p * x}


def l_star_entropy(mean: np.ndarray) -> float:
    """Section 6 of the definitions."""
    middle = (mean[0] + mean[-1]) / 2
    reached = mean >= middle if mean[-1] > mean[0] else mean <= middle
    return float(np.argmax(reached)) if reached.any() else len(mean) // 2


def write_prompts(file: h5py.File, model: FakeModel, name: str, prompts: list[str]) -> None:
    layers, heads = list(range(model.num_layers)), list(range(model.num_heads))
    dimensions = {"layer": layers, "head": heads, "boundary": list(range(model.num_layers + 1)), "beta": list(BETAS)}
    ok = np.array([0.0 if prompt not in model.failed_prompts else np.nan for prompt in prompts])
    values = {quantity: (dims, array + ok.reshape((-1,) + (1,) * len(dims))) for quantity, (dims, array) in per_prompt_values(model, len(prompts)).items()}
    group = Group(file, f"prompts/{name}", {"prompt": list(range(len(prompts))), **dimensions, "token": list(range(TOKENS * len(prompts)))})
    group.add("prompt_id", ("prompt",), prompts)
    group.add("num_tokens", ("prompt",), [TOKENS] * len(prompts))
    group.add("prompt_error", ("prompt",), ["made to fail" if p in model.failed_prompts else "" for p in prompts])
    group.add("token_ids", ("token",), np.arange(TOKENS * len(prompts)))
    group.add("row_start", ("prompt",), TOKENS * np.arange(len(prompts)))
    if set(model.failed_prompts) & set(prompts):
        group.add("prompt_error_by_analysis", ("prompt",), ['{"sheaf":"made to fail"}' if p in model.failed_prompts else "" for p in prompts])
    units = {"row_entropy": "nat", "row_entropy_mean_attention": "nat", "spectral_entropy": "nat"}
    for quantity, (dims, array) in values.items():
        group.add(quantity, ("prompt",) + dims, array, units.get(quantity, "1"))
    statistics = Group(file, f"prompts/{name}/statistics", {"statistic": STATISTICS, **dimensions})
    for quantity, (dims, array) in values.items():
        statistics.add(quantity, ("statistic",) + dims, statistics_of(array), units.get(quantity, "1"))
    if "sheaf" in model.analyses:
        good = int(np.isfinite(ok).sum())
        over_beta = {"log_partition": log_partitions(model), "free_energy": -log_partitions(model) / BETAS, **two_levels(model, 0.5),
                     **{f"graph_{quantity}": of for quantity, of in two_levels(model, 0.1).items()}}
        for quantity, of in over_beta.items():
            zero = np.zeros_like(of)
            statistics.add(quantity, ("statistic", "layer", "head", "beta"), np.stack([zero + good, zero + len(prompts) - good, of, zero, of, of]),
                           "1" if "energy" in quantity or "capacity" in quantity else "nat")
        mean = np.nanmean(values["trace_multihead"][1], axis=0)
        statistics.add("l_star_trace", (), float(np.argmax(np.abs(np.gradient(mean)))))
        statistics.add("l_star_sign_change", (), np.nan)
    if "attention" in model.analyses:
        statistics.add("l_star_entropy", (), l_star_entropy(np.nanmean(values["flat_entropy_mean_attention"][1], axis=0)))
    if "residual" in model.analyses:
        last = values["gain"][1][:, -1]
        last_gain = float(last[np.isfinite(last)].mean())
        statistics.add("last_gain_mean", (), last_gain)
        statistics.add("last_gain_after_norm_mean", (), 0.5 * last_gain)
        if "unembedding" in model.analyses:
            statistics.add("effective_amplification", (), unembedding_norm(model) * last_gain)


def write_model(folder: pathlib.Path, model: FakeModel) -> pathlib.Path:
    path = folder / f"{model.name}.h5"
    failed = bool(model.error)
    with h5py.File(path, "w", track_order=True, libver=("v108", "v110")) as file:
        status = "failed" if failed else "partial" if model.failed_prompts else "ok"
        file.attrs.update({"Conventions": model.conventions, "source": "spectrace test fixture",
                           "parameters": json.dumps({"slicing": model.slicing, "beta": list(BETAS)}),
                           "model": model.name, "lab": model.lab, "expected": model.expected, "status": status, "error": model.error,
                           "slicing": model.slicing})
        if model.step is not None:
            file.attrs["step"] = model.step
        if model.revision:
            file.attrs["revision"] = model.revision
        if model.meta:
            file.attrs["meta"] = json.dumps(model.meta)
        if failed:
            return path
        file.attrs.update({"architecture": model.architecture, "num_layers": model.num_layers, "num_heads": model.num_heads,
                           "num_kv_heads": model.num_kv_heads, "head_dim": model.head_dim,
                           "hidden_size": model.hidden_size, "vocab_size": model.vocab_size, "num_parameters": 123456,
                           "compute_dtype": "float32", "storage_dtype": "float16", "tied_embeddings": int(model.tied), "max_positions": 128,
                           "position_encoding": "rotary" if model.rope_theta else "learned"})
        if model.rope_theta:
            file.attrs.update({"rope_theta": model.rope_theta, "rope_type": "llama3", "rope_factor": 8.0})
        digests = Group(file, "checkpoint", {"tensor": ["embed", "head"]})
        digests.add("digest", ("tensor",), [f"{model.weights_of or model.name}-{tensor}" for tensor in ("embed", "head")])
        if "weights" in model.analyses:
            write_weights(file, model)
        if "heads" in model.analyses:
            write_heads(file, model)
        if "unembedding" in model.analyses:
            write_unembedding(file, model)
        for name, prompts in model.sets.items():
            write_prompts(file, model, name, prompts)
    return path


def write_folder(folder: pathlib.Path, models: list[FakeModel], in_job: list[str] = ()) -> pathlib.Path:
    """A results folder of these models, in this order in the job; in_job: further models of the job, that have no results."""
    folder.mkdir(parents=True, exist_ok=True)
    job = {"name": "fake", "models": [{"name": model.name, "path": model.path or model.name} for model in models] + [{"name": name, "path": name} for name in in_job],
           "prompt_sets": [{"name": name, "prompts": prompts} for name, prompts in models[0].sets.items()]}
    for model in models:
        write_model(folder, model)
        (folder / f"{model.name}.run.json").write_text(json.dumps({"model": model.name, "job": job}))
    return folder


def zoo() -> list[FakeModel]:
    """A sweep with labs, expectations and kinds enough for every study: eight models of four labs."""
    sets = {"test": [f"p{i}" for i in range(12)]}
    return [FakeModel(name, num_layers=layers, num_heads=heads, scale=scale, lab=lab, expected=expected, architecture=architecture, rope_theta=theta,
                      tied=tied, sets=sets, meta={"training_tokens": tokens, "context_length": context})
            for name, layers, heads, scale, lab, expected, architecture, theta, tied, tokens, context in (
                ("pythia-70m", 6, 4, 1.0, "EleutherAI", "DAMPENER", "GPTNeoXForCausalLM", 10000.0, False, 3e11, 2048),
                ("pythia-160m", 12, 4, 1.1, "EleutherAI", "DAMPENER", "GPTNeoXForCausalLM", 10000.0, False, 3e11, 2048),
                ("pythia-410m", 24, 8, 1.2, "EleutherAI", "DAMPENER", "GPTNeoXForCausalLM", 10000.0, False, 3e11, 2048),
                ("gpt2", 12, 4, 4.0, "OpenAI", "EXPANDER", "GPT2LMHeadModel", None, True, 1e10, 1024),
                ("opt-125m", 12, 4, 0.9, "Meta", "EXPANDER", "OPTForCausalLM", None, True, 1.8e11, 2048),
                ("opt-350m", 24, 8, 2.5, "Meta", "EXPANDER", "OPTForCausalLM", None, True, 1.8e11, 2048),
                ("llama3.1-8b", 32, 8, 3.0, "Meta", "EXPANDER", "LlamaForCausalLM", 500000.0, False, 1.5e13, 131072),
                ("mistral-7b", 32, 8, 3.3, "Mistral", "EXPANDER", "MistralForCausalLM", 10000.0, False, 8e12, 8192))]
