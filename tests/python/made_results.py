"""Results files that hold given numbers: a dataset is (dimensions, values), as `write_results` takes them.

fake_results makes whole sweeps by formula; here a test says what stands in the file, for instance a published number.
"""

from __future__ import annotations

import json

import h5py
import numpy as np

TEXT = h5py.string_dtype("utf-8")
MATRICES = ["W_Q", "W_K", "W_V", "W_O"]
STATISTICS = ["count", "nonfinite", "mean", "std", "min", "max"]


def write_results(path, attributes, groups, matrices=MATRICES):
    """matrices: labels of the dimension; groups: {"weights": {"spectral_norm": (("layer", "matrix"), array)}}; every dimension gets its scale in its group."""
    path.parent.mkdir(parents=True, exist_ok=True)
    front = {"Conventions": "spectrace-2", "source": "made by a test", "model": path.stem, "lab": "", "expected": "", "status": "ok",
             "error": "", "slicing": "correct", "compute_dtype": "float32", "parameters": "{}"}
    with h5py.File(path, "w", track_order=True) as file:
        file.attrs.update(front | attributes)
        for name, datasets in groups.items():
            group = file.create_group(name, track_order=True)
            for dim, size in sizes_of(datasets).items():
                values = {"matrix": list(matrices), "statistic": STATISTICS}.get(dim, list(range(size)))
                scale = group.create_dataset(dim, data=np.array(values, dtype=TEXT if isinstance(values[0], str) else None))
                scale.make_scale(dim)
            for dataset, (dims, values) in datasets.items():
                values = np.asarray(values)
                made = group.create_dataset(dataset, data=values.astype(TEXT) if values.dtype.kind in "UO" else values)
                made.attrs.update({"units": "1", "long_name": dataset})
                for axis, dim in enumerate(dims):
                    made.dims[axis].attach_scale(group[dim])
    return path


def sizes_of(datasets):
    sizes = {}
    for dataset, (dims, values) in datasets.items():
        for dim, size in zip(dims, np.shape(values), strict=True):
            assert sizes.setdefault(dim, size) == size, (dataset, dim)
    return sizes


def attributes_of(num_layers=4, num_heads=4, num_kv_heads=2, head_dim=3, hidden_size=12, vocab_size=50, **more):
    return {"architecture": "LlamaForCausalLM", "num_layers": num_layers, "num_heads": num_heads, "num_kv_heads": num_kv_heads,
            "head_dim": head_dim, "hidden_size": hidden_size, "vocab_size": vocab_size, "num_parameters": 1000, "storage_dtype": "float32",
            "tied_embeddings": 0, "max_positions": 64} | more


def over_prompts(values, axis_names):
    """Statistics of (prompt, …) values, as the program's: (statistic, …), unbiased std."""
    values = np.asarray(values, dtype=float)
    count = np.isfinite(values).sum(axis=0)
    finite = np.where(np.isfinite(values), values, np.nan)
    with np.errstate(all="ignore"):
        std = np.nanstd(finite, axis=0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], np.nan)
        rows = [count, len(values) - count, np.nanmean(finite, axis=0), std, np.nanmin(finite, axis=0), np.nanmax(finite, axis=0)]
    return ("statistic", *axis_names), np.stack(rows).astype(float)


def prompt_groups(name, quantities, scalars=None, ids=None, tokens=None):
    """The groups of a prompt set: quantities {name: (dims after prompt, values)}; tokens: a list of ids a prompt."""
    count = len(next(iter(quantities.values()))[1])
    tokens = tokens or [[1, 2, 3]] * count
    starts = np.cumsum([0, *(len(row) for row in tokens[:-1])])
    prompts = {"prompt_id": (("prompt",), np.array(ids or [str(i) for i in range(count)], dtype=object)),
               "num_tokens": (("prompt",), np.array([len(row) for row in tokens])),
               "prompt_error": (("prompt",), np.array([""] * count, dtype=object)),
               "row_start": (("prompt",), starts), "token_ids": (("token",), np.concatenate(tokens))}
    prompts |= {key: (("prompt", *dims), values) for key, (dims, values) in quantities.items()}
    statistics = {key: over_prompts(values, dims) for key, (dims, values) in quantities.items()}
    statistics |= {key: ((), float(value)) for key, value in (scalars or {}).items()}
    return {f"prompts/{name}": prompts, f"prompts/{name}/statistics": statistics}


def write_job(folder, models, **more):
    """What a run notes beside its results: the job as written, with the models' paths."""
    job = {"name": "made", "models": [{"name": name, "path": path} for name, path in models.items()], "prompt_sets": []} | more
    for name in models:
        (folder / f"{name}.run.json").write_text(json.dumps({"model": name, "job": job}))
