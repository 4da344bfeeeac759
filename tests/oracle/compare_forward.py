#!/usr/bin/env python3
"""Holds the forward pass against transformers on any checkpoint.

    compare_forward.py --dump build/dev/dump_forward FOLDER [--prompts '[[1, 2, 3]]'] [--dtype float64] [--exact]

`--dump` is the program of tests/support/dump_forward.cpp. Prints the worst error of each quantity, relative to its
largest value; exits with 1 if one is above --tolerance.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import safetensors.numpy

import oracle


def random_prompts(folder, lengths, seed=0):
    config = json.loads((folder / "config.json").read_text())
    generator = np.random.default_rng(seed)
    return [generator.integers(0, config["vocab_size"], size=n).tolist() for n in lengths]


def run_dump(program, folder, prompts, dtype, threads):
    """The tensors that spectrace finds, by name."""
    with tempfile.TemporaryDirectory() as temporary:
        prompt_file, out = pathlib.Path(temporary, "prompts.json"), pathlib.Path(temporary, "out.safetensors")
        prompt_file.write_text(json.dumps(prompts))
        subprocess.run([program, folder, prompt_file, out, dtype, str(threads)], check=True, stdout=subprocess.DEVNULL)
        return safetensors.numpy.load_file(out)


def worst_errors(found, forwards):
    """{quantity: worst relative error over all prompts, each layer by itself}."""
    worst = {"attentions": 0.0, "boundaries": 0.0, "final_norm": 0.0}
    for index, forward in enumerate(forwards):
        for name in ("attentions", "boundaries"):
            for mine, theirs in zip(found[f"{name}.{index}"], getattr(forward, name), strict=True):
                worst[name] = max(worst[name], oracle.relative_error(mine, theirs))
        error = oracle.relative_error(found[f"final_norm.{index}"], forward.final_norm)
        worst["final_norm"] = max(worst["final_norm"], error)
    return worst


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    parser.add_argument("--dump", required=True, type=pathlib.Path)
    parser.add_argument("--prompts", type=json.loads, help="a list of lists of token ids")
    parser.add_argument("--lengths", type=int, nargs="+", default=[5, 1, 33, 12])
    parser.add_argument("--dtype", default="float64", choices=["float32", "float64"])
    parser.add_argument("--exact", action="store_true", help="the oracle's float32 steps in float64 too")
    parser.add_argument("--tolerance", type=float, default=np.inf)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    too_far = False
    for folder in arguments.folders:
        prompts = arguments.prompts or random_prompts(folder, arguments.lengths)
        found = run_dump(arguments.dump, folder, prompts, arguments.dtype, arguments.threads)
        worst = worst_errors(found, oracle.oracle_forward(folder, prompts, arguments.exact))
        too_far |= max(worst.values()) > arguments.tolerance
        print(f"{folder.name:24}", "  ".join(f"{name} {error:.1e}" for name, error in worst.items()))
    sys.exit(1 if too_far else 0)


if __name__ == "__main__":
    main()
