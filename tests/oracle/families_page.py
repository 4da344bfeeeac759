"""docs/families.md, from what differential.py writes with --json."""

import json
import math

QUANTITIES = {"attentions": "attention", "boundaries": "hidden states", "final_norm": "final norm", "weights": "weights",
              "predictions": "predictions", "lens": "logit lens", "writes": "what blocks add"}
# float32 against the oracle in float64; float64 against the oracle as it is, with steps in float32; float64 against the
# oracle with these steps in float64.
COMPARISONS = {"float32": 5e-5, "float64": 2e-6, "exact": 1e-10}
TITLES = {"float32": "float32", "float64": "float64", "exact": "float64, exact oracle"}
# What each table has of the comparisons, weights aside: passes, and what they lead to, which is held against the exact oracle alone.
COMPARED = tuple((comparison, name) for comparison in COMPARISONS for name in ("attentions", "boundaries", "final_norm"))
EFFECTS = tuple((comparison, name) for comparison in ("float32", "exact") for name in ("predictions", "lens", "writes"))


def max_or_nan(a, b):
    """Larger of the two; not a number if one of them is not (Python's max would lose it)."""
    return math.nan if math.isnan(a) or math.isnan(b) else max(a, b)


def merge(files):
    """{family: tally as JSON} and versions over several --json files. @raises ValueError if the versions differ."""
    merged, version = {}, None
    for file in files:
        found = json.loads(file.read_text())
        if version not in (None, found["versions"]):
            raise ValueError(f"{file}: made with {found['versions']}, the others with {version}")
        version = found["versions"]
        for family, tally in found.get("families", {}).items():
            into = merged.setdefault(family, {"ranges": set(), "seeds": 0, "failed": 0, "redrawn": 0, "worst": {}})
            seeds = (found["first_seed"], found["first_seed"] + tally["seeds"] - 1)
            if any(seeds[0] <= last and first <= seeds[1] for first, last in into["ranges"]):
                raise ValueError(f"{file}: seeds {seeds[0]} to {seeds[1]} of {family} are in another file too")
            into["ranges"].add(seeds)
            into["seeds"] += tally["seeds"]
            into["redrawn"] += tally["redrawn"]
            into["failed"] += len(tally["failures"])
            for comparison, errors in tally["worst"].items():
                for name, worst in errors.items():
                    so_far = into["worst"].setdefault(comparison, {}).get(name, 0.0)
                    into["worst"][comparison][name] = max_or_nan(so_far, worst["error"])
    return merged, version


def merge_stored(files):
    """{family: (seeds, failed)} of the families without a forward pass."""
    merged = {}
    for file in files:
        for family, tally in json.loads(file.read_text()).get("stored", {}).items():
            seeds, failed = merged.get(family, (0, 0))
            merged[family] = (seeds + tally["seeds"], failed + len(tally["failures"]))
    return merged


def stored_section(stored):
    """Lines of the page about families of which only the matrices are known."""
    lines = [
        "",
        "## Families without a forward pass",
        "",
        "Of these spectrace knows where the matrices lie (`tests/oracle/stored_families.py`). Each seed draws heads, sizes,",
        "experts, which layers have attention or experts, and the storage type; singular values, Frobenius norms and means of",
        "the entries of each matrix of `/weights`, `/heads`, `/mlp` (every expert) and `/unembedding` are held against numpy's of",
        "the matrices in transformers' modules, which hold most of them otherwise than the file. Allowed: the stored error bound",
        "and 1e-13 σ₁ for numpy's own.",
        "",
        "| family | seeds | failed |",
        "|---|---:|---:|",
        *(f"| {family} | {seeds} | {failed} |" for family, (seeds, failed) in sorted(stored.items())),
        "",
        "Again: `tools/dev/differential --stored --seeds 250`. gpt-oss in MXFP4 is held against transformers' unpacking by",
        "`tests/app/test_stored_families.py`.",
    ]
    return lines


def effects_table(merged):
    """Lines of the page about what the passes lead to."""
    lines = [
        "",
        "What the forward pass knows, of the same seeds: *predictions*, the likelihood of each next token and the entropy of what is",
        "predicted, from the model's own head; *logit lens* of the longest prompt's last token at every boundary (divergence from the",
        "final distribution, entropy), where the oracle is the model itself with the boundary in the place of its last block's output;",
        "*what blocks add*, the norm of what attention and MLP of each block add to each row and its part along the row that enters,",
        "where the oracle is the block's output with and without the part. All against transformers in float64, its steps lifted.",
        "Errors of likelihoods and divergences are over the largest score, of what blocks add over the largest norm. Allowed as above.",
        "",
        "| family | " + " | ".join(f"{QUANTITIES[name]}, {c}" for c, name in EFFECTS) + " |",
        "|---" + "|---:" * len(EFFECTS) + "|",
    ]
    for family, tally in sorted(merged.items()):
        lines.append(f"| {family} | " + " | ".join(f"{tally['worst'][c][name]:.1e}" for c, name in EFFECTS) + " |")
    return lines


def write_page(path, files):
    """The table of docs/families.md."""
    merged, version = merge(files)
    lines = [
        "# Families against transformers",
        "",
        "<!-- Generated by tools/dev/differential --table; do not edit. -->",
        "",
        "Random checkpoints of every family, run by spectrace and by the family's own class in transformers, eager",
        "attention. Each seed draws sizes, heads and key/value heads, every switch and rope scaling that the family has,",
        "windows, storage type, shards, file format, tensor prefix and the style of `config.json`",
        "(`tests/oracle/random_configs.py`).",
        "",
        "Compared entry by entry, for each prompt and layer: attention (every head), hidden states (what enters block 0 and",
        "the raw output of each block), the final norm; weights are W_Q, W_K, W_V, W_O of every layer, as canonical slices, and",
        "the unembedding (in a float32 run rounded as the run rounds them). An error is the largest difference over the largest",
        "expected value; the table shows the worst over all seeds, prompts and layers.",
        "",
        "- *float32*: spectrace in float32, transformers in float64. Allowed: 5e-5.",
        "- *float64*: both in float64. In most families transformers computes softmax, RMSNorm or scores in float32 even so.",
        "  Allowed: 2e-6.",
        "- *exact*: both in float64, with these steps of transformers lifted to float64 (`exact` in `tests/oracle/oracle.py`).",
        "  Rotary tables are float32 on both sides, as the models were trained. Allowed: 1e-10.",
        "- *weights*: 0 is equal to the last bit. Nothing else is allowed.",
        "",
    ]
    titles = ["family", "seeds", "failed", *(f"{QUANTITIES[name]}, {c}" for c, name in COMPARED), "weights"]
    lines += ["| " + " | ".join(titles) + " |", "|---" + "|---:" * (len(titles) - 1) + "|"]
    for family, tally in sorted(merged.items()):
        errors = [f"{tally['worst'][c][name]:.1e}" for c, name in COMPARED]
        weights = max(tally["worst"][c]["weights"] for c in COMPARISONS)
        row = [family, tally["seeds"], tally["failed"], *errors, f"{weights:.1e}" if weights else "0"]
        lines.append("| " + " | ".join(map(str, row)) + " |")
    lines += effects_table(merged)
    seeds, redrawn = (sum(tally[name] for tally in merged.values()) for name in ("seeds", "redrawn"))
    first = min(merged)
    lines += [
        "",
        f"Weights of {redrawn} of the {seeds} seeds were drawn again, because transformers in float32, or with its float32",
        "steps, was further than a quarter of the tolerance from itself in float64: such weights blow up any rounding.",
        "",
        f"Made with {', '.join(f'{name} {number}' for name, number in version.items())}, on a CPU. Again, each family with as many",
        "seeds as its row has:",
        "",
        "```bash",
        "tools/setup --oracle",
        "cmake --build build/release --target dump_forward",
        f"tools/dev/differential --family {first} --seeds {merged[first]['seeds']} --json run-{first}.json",
        f"tools/dev/differential --table docs/families.md run-{first}.json",
        "```",
        "",
        "Where transformers itself departs from the model, the oracle is put right first; `tests/oracle/oracle.py` says where.",
    ]
    if stored := merge_stored(files):
        lines += stored_section(stored)
    path.write_text("\n".join(lines) + "\n")
