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


@dataclass
class FakeModel:
    name: str
    num_layers: int = 4
    num_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int = 3
    scale: float = 1.0
    sets: dict[str, list[str]] = field(default_factory=lambda: {"test": ["a", "b", "c"]})
    failed_prompts: tuple[str, ...] = ()
    error: str = ""
    slicing: str = "correct"

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


def spectral_norms(model: FakeModel) -> np.ndarray:
    """(layer, matrix)"""
    return model.scale * (2 + np.arange(model.num_layers)[:, None] + 0.5 * np.arange(4)[None, :])


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
    group.add("frobenius_norm", ("layer", "matrix"), np.sqrt(np.nansum(values**2, axis=2)))


def write_prompts(file: h5py.File, model: FakeModel, name: str, prompts: list[str]) -> None:
    layers, heads = list(range(model.num_layers)), list(range(model.num_heads))
    ok = np.array([0.0 if prompt not in model.failed_prompts else np.nan for prompt in prompts])
    trace = traces(model, len(prompts)) + ok[:, None, None]
    gain = gains(model, len(prompts)) + ok[:, None]
    entropy = np.linspace(1.5, 0.5, model.num_layers)[None, :] + 0.1 * np.arange(len(prompts))[:, None] + ok[:, None]
    group = Group(file, f"prompts/{name}", {"prompt": list(range(len(prompts))), "layer": layers, "head": heads,
                                            "token": list(range(3 * len(prompts)))})
    group.add("prompt_id", ("prompt",), prompts)
    group.add("num_tokens", ("prompt",), [3] * len(prompts))
    group.add("prompt_error", ("prompt",), ["made to fail" if p in model.failed_prompts else "" for p in prompts])
    group.add("token_ids", ("token",), np.arange(3 * len(prompts)))
    group.add("row_start", ("prompt",), 3 * np.arange(len(prompts)))
    per_prompt = {"trace": (("layer", "head"), trace), "trace_multihead": (("layer",), trace.sum(axis=2)),
                  "gain": (("layer",), gain), "row_entropy_mean_attention": (("layer",), entropy)}
    for quantity, (dims, values) in per_prompt.items():
        group.add(quantity, ("prompt",) + dims, values)
    statistics = Group(file, f"prompts/{name}/statistics", {"statistic": STATISTICS, "layer": layers, "head": heads})
    for quantity, (dims, values) in per_prompt.items():
        statistics.add(quantity, ("statistic",) + dims, statistics_of(values))
    mean = np.nanmean(trace.sum(axis=2), axis=0)
    statistics.add("l_star_trace", (), float(np.argmax(np.abs(np.gradient(mean)))))
    statistics.add("last_gain_mean", (), float(np.nanmean(gain[:, -1])))


def write_model(folder: pathlib.Path, model: FakeModel) -> pathlib.Path:
    path = folder / f"{model.name}.h5"
    failed = bool(model.error)
    with h5py.File(path, "w", track_order=True, libver=("v108", "v110")) as file:
        status = "failed" if failed else "partial" if model.failed_prompts else "ok"
        file.attrs.update({"Conventions": "spectrace-2", "source": "spectrace test fixture", "parameters": json.dumps({"slicing": model.slicing}),
                           "model": model.name, "lab": "", "expected": "", "status": status, "error": model.error,
                           "slicing": model.slicing})
        if failed:
            return path
        file.attrs.update({"architecture": "FakeForCausalLM", "num_layers": model.num_layers, "num_heads": model.num_heads,
                           "num_kv_heads": model.num_kv_heads, "head_dim": model.head_dim,
                           "hidden_size": model.hidden_size, "vocab_size": 50, "num_parameters": 123456,
                           "compute_dtype": "float32"})
        write_weights(file, model)
        for name, prompts in model.sets.items():
            write_prompts(file, model, name, prompts)
    return path


def write_folder(folder: pathlib.Path, models: list[FakeModel]) -> pathlib.Path:
    """A results folder of these models, in this order in the job."""
    folder.mkdir(parents=True, exist_ok=True)
    job = {"name": "fake", "models": [{"name": model.name, "path": model.name} for model in models],
           "prompt_sets": [{"name": name, "prompts": prompts} for name, prompts in models[0].sets.items()]}
    for model in models:
        write_model(folder, model)
        (folder / f"{model.name}.run.json").write_text(json.dumps({"model": model.name, "job": job}))
    return folder
