#!/usr/bin/env python3
"""What people use instead of spectrace, each a program of its own: contenders.py NAME REQUEST.json

REQUEST: {"model": folder, "threads": n, "matrices": names, "heads": true, "prompts": [[ids] ...]}. The last line of the
output is JSON: work_s, seconds from the first byte of the weights to the last number, without Python's start and its
imports; and what was computed, so that nobody times a contender that does less.
"""

import json
import math
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "lib"))
from geometries import size_of, tensors_of  # noqa: E402


class Weights:
    """The matrices of a checkpoint as linear maps, by name: layers.0.W_Q …, W_U."""

    def __init__(self, folder):
        from safetensors import safe_open

        self.config = json.loads((folder / "config.json").read_text())
        files = [safe_open(path, framework="pt") for path in sorted(folder.glob("*.safetensors"))]
        self.file_of = {name: file for file in files for name in file.keys()}
        self.place = {matrix.name: (name, matrix) for name, tensor in tensors_of(self.config).items() for matrix in tensor.matrices}
        self.heads = size_of(self.config, "heads")
        self.kv_heads = size_of(self.config, "kv_heads") or self.heads
        self.head_dim = self.config.get("head_dim", size_of(self.config, "hidden") // self.heads)

    def matrix(self, name, dtype):
        """[outputs, inputs]"""
        tensor, matrix = self.place[name]
        values = self.file_of[tensor].get_tensor(tensor).reshape(matrix.view)[matrix.index]
        values = values.reshape(-1, values.shape[-1]).to(dtype)
        return values.T if self.config["model_type"] == "gpt2" and name != "W_U" else values

    def slices(self, name, matrix):
        """The heads' parts: rows, of W_O columns."""
        kind = name.rsplit(".", 1)[-1]
        if kind == "W_U":
            return ()
        return matrix.chunk(self.heads, 1) if kind == "W_O" else matrix.chunk(self.heads if kind == "W_Q" else self.kv_heads, 0)


def spectra(request, singular_values, dtype):
    """Every matrix, and every head where asked for. Returns how many spectra there are, and a sum that depends on all."""
    weights, count, total = Weights(Path(request["model"])), 0, 0.0
    for name in request["matrices"]:
        matrix = weights.matrix(name, dtype)
        for part in (matrix, *(weights.slices(name, matrix) if request.get("heads") else ())):
            total += float(singular_values(part).sum())
            count += 1
    return {"spectra": count, "sum": total}


def svdvals(request, dtype):
    import torch

    torch.set_num_threads(request["threads"])
    started = time.perf_counter()
    found = spectra(request, torch.linalg.svdvals, dtype(torch))
    return found | {"work_s": time.perf_counter() - started}


def numpy_svd(request):
    import torch

    started = time.perf_counter()
    found = spectra(request, lambda part: np.linalg.svd(part.numpy(), compute_uv=False), torch.float64)
    return found | {"work_s": time.perf_counter() - started}


def weightwatcher(request):
    """Its analysis as it comes, of a module that has these matrices and nothing else; it knows no heads."""
    import logging

    import torch
    import weightwatcher as ww

    torch.set_num_threads(request["threads"])
    logging.getLogger("weightwatcher").setLevel(logging.ERROR)
    started = time.perf_counter()
    weights, layers = Weights(Path(request["model"])), []
    for name in request["matrices"]:
        matrix = weights.matrix(name, torch.float32).contiguous()
        linear = torch.nn.Linear(matrix.shape[1], matrix.shape[0], bias=False, device="meta")
        linear.weight = torch.nn.Parameter(matrix, requires_grad=False)
        layers.append(linear)
    details = ww.WeightWatcher(model=torch.nn.Sequential(*layers)).analyze()
    return {"work_s": time.perf_counter() - started, "spectra": len(details), "sum": float(details.alpha.sum())}


def flat_entropy(matrix):
    """lstar_formula's compute_attention_entropy."""
    values = matrix[matrix > 1e-10]
    if len(values) < 2:
        return 0.0
    p = values / values.sum()
    return float(-(p * p.log()).sum()) / math.log(len(values))


def prompt_statistics(model, weights, request):
    """What the notebooks take down of prompts: traces per head and of the mean attention, entropies, sparsity, norms, gains.

    Better than they are: float32, batches of prompts of one length, no logits, and norms of W_V taken once, not a prompt.
    """
    import torch

    layers = size_of(weights.config, "layers")
    norms = []
    for layer in range(layers):
        name = f"layers.{layer}.W_V"
        heads = weights.slices(name, weights.matrix(name, torch.float32))
        norms.append(torch.stack([(part**2).sum() for part in heads]).repeat_interleave(weights.heads // weights.kv_heads))
    total, batches = 0.0, {}
    for prompt in request["prompts"]:
        batches.setdefault(len(prompt), []).append(prompt)
    for batch in batches.values():
        for start in range(0, len(batch), 64):
            out = model(input_ids=torch.tensor(batch[start : start + 64]), output_attentions=True, output_hidden_states=True, use_cache=False)
            for layer, attention in enumerate(out.attentions):  # [prompts, heads, n, n]
                off_diagonal = attention.sum((-1, -2)) - attention.diagonal(dim1=-2, dim2=-1).sum(-1)
                total += float((off_diagonal * norms[layer]).sum())
                for mean in attention.mean(1):
                    total += float((mean.sum() - mean.trace()) * norms[layer][0])
                    total += float(-(mean * (mean + 1e-10).log()).sum(-1).mean()) + float((mean < 0.01).float().mean()) + flat_entropy(mean)
            last = torch.stack([state[:, -1].norm(dim=-1) for state in out.hidden_states])
            total += float((last[1:] / last[:-1]).sum()) + float(torch.stack([state.norm(dim=-1).mean() for state in out.hidden_states]).sum())
    return total


def transformers_eager(request):
    """Loads the model in float32, runs it, takes the statistics; with "matrices", their svdvals in float32 too."""
    import torch
    import transformers

    torch.set_grad_enabled(False)
    torch.set_num_threads(request["threads"])
    transformers.logging.disable_progress_bar()
    started = time.perf_counter()
    folder = Path(request["model"])
    model = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    loaded = time.perf_counter() - started
    total = prompt_statistics(model, Weights(folder), request)
    found = {"prompts": len(request["prompts"]), "sum": total, "load_s": loaded}
    if request.get("matrices"):
        found["spectra"] = spectra(request, torch.linalg.svdvals, torch.float32)["spectra"]
    return found | {"work_s": time.perf_counter() - started}


def best_rate(work, once, least_s=0.5):
    """`once` / the best time of `work` in at least three tries and `least_s` seconds."""
    work()
    times, started = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - started < least_s:
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return once / min(times)


def probe(request):
    """What this machine does now, on so many threads: gemm flops a second, bytes a second of a = b + c."""
    import torch

    torch.set_num_threads(request["threads"])
    rates = {}
    for name, dtype in (("gemm_float32", torch.float32), ("gemm_float64", torch.float64)):
        n = 2048
        a, b, c = (torch.full((n, n), 1.0, dtype=dtype) for _ in range(3))
        rates[name] = best_rate(lambda: torch.mm(a, b, out=c), 2 * n**3)  # noqa: B023
    count = 1 << 25  # 128 MiB each, beyond any cache
    x, y, z = (torch.full((count,), 1.0) for _ in range(3))
    rates["bandwidth"] = best_rate(lambda: torch.add(x, y, out=z), 3 * 4 * count)
    return rates


CONTENDERS = {
    "svdvals float32": lambda request: svdvals(request, lambda torch: torch.float32),
    "svdvals float64": lambda request: svdvals(request, lambda torch: torch.float64),
    "numpy float64": numpy_svd,
    "weightwatcher": weightwatcher,
    "transformers": transformers_eager,
    "probe": probe,
}


def main():
    print("\n" + json.dumps(CONTENDERS[sys.argv[1]](json.loads(Path(sys.argv[2]).read_text()))))


if __name__ == "__main__":
    main()
