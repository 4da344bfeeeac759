"""Holds spectrace's forward pass and weights against transformers, on random checkpoints of every family.

    tools/dev/differential --family llama --seeds 200            random checkpoints
    tools/dev/differential --folder models/pythia-70m            checkpoints that are there
    tools/dev/differential --stored --help                       families without a forward pass: spectra alone
    tools/dev/differential --table docs/families.md a.json b.json   the page of results, from --json files

Compared for each prompt and layer, entry by entry: attention [heads, n, n], hidden states [n, hidden] (what enters block
0, then the raw output of each block), the final norm; for each layer W_Q, W_K, W_V, W_O as canonical slices, and the unembedding, which
must be equal. Of each prompt the likelihood of the next tokens and the entropy of what is predicted, and of the longest one the
logit lens (divergence, entropy) and what attention and MLP add to each row (its norm, and its part along the row that enters the
block). An error is the largest difference over the largest expected value; of predictions and the lens, over the largest score.
"""

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

import make_checkpoints
import numpy as np
import oracle
import random_configs
import safetensors.numpy
import torch
import transformers
from families_page import COMPARED, COMPARISONS, EFFECTS, QUANTITIES, TITLES, max_or_nan, write_page

ROOT = pathlib.Path(__file__).resolve().parents[2]
DUMP = ROOT / "build" / "release" / "tests" / "support" / "dump_forward"
PROGRAM = pathlib.Path(os.environ.get("SPECTRACE_PROGRAM", ROOT / "build" / "release" / "spectrace"))

# Of a forward pass: what is compared layer by layer, and what there is once a prompt.
LAYERED, WHOLE = ("attentions", "boundaries"), ("final_norm",)

# Of a sample: how save_checkpoint stores it.
STORAGE = ("prefix", "renames", "dtype", "files", "shard_bytes", "old_tensors")

# The only difference between stored and computed weights is the rounding of float64 to float32, done alike.
WEIGHT_TOLERANCE = 0.0
HAVE_POSITION_TABLES = ("biogpt", "codegen", "gpt2", "gpt_bigcode", "gpt_neo", "gptj", "opt")  # longer prompts than it are an error
SEEDS_PER_BATCH = 25  # that share one start of dump_forward
# Weights are drawn again where the oracle's own rounding moves a result by more than this part of the tolerance: such
# weights blow up any rounding (a norm of nearly nothing), and would compare condition numbers. The oracle alone decides.
OWN_ROUNDING, MOST_DRAWS = 0.25, 40


@dataclasses.dataclass
class Case:
    """One checkpoint, what the oracle finds in it, and how far spectrace is from that."""

    name: str
    family: str
    seed: int | None  # None: a folder that was given
    folder: pathlib.Path
    settings: dict  # for the message of a failure
    prompts: list = dataclasses.field(default_factory=list)
    forwards: list = dataclasses.field(default_factory=list)  # of oracle.Forward, one a prompt
    exact_forwards: list = dataclasses.field(default_factory=list)
    lens: np.ndarray | None = None  # [layers + 1, vocab] of the longest prompt's last token
    writes: list = dataclasses.field(default_factory=list)  # of attention and MLP, [layers, n, hidden] each, of that prompt
    weights: list = dataclasses.field(default_factory=list)  # of {"W_Q": array, …}, one a layer
    unembedding: np.ndarray | None = None  # [vocab, hidden]
    text_family: str = ""  # as spectrace calls it; "": family
    draws: int = 1  # of the weights
    errors: dict = dataclasses.field(default_factory=dict)  # {comparison: {quantity: error}}
    problem: str = ""  # why it failed; "" if it did not


def longest_prompt(case):
    """Its place: what takes a pass for each boundary and block is asked of it alone."""
    return max(range(len(case.prompts)), key=lambda index: len(case.prompts[index]))


def describe_failure(error):
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({pathlib.Path(place.filename).name}:{place.lineno})"


def run_oracle(case):
    model = oracle.load_model(case.folder)
    case.forwards = oracle.oracle_forward(case.folder, case.prompts, exact=False, model=model)
    case.exact_forwards = oracle.oracle_forward(case.folder, case.prompts, exact=True, model=model)
    return model


def ask_of_effects(case, model):
    """What the passes lead to, of the longest prompt; and the weights."""
    longest = longest_prompt(case)
    case.lens = oracle.lens_logits(model, case.prompts[longest], case.exact_forwards[longest].boundaries, exact=True)[:, -1]
    case.writes = oracle.block_writes(model, case.prompts[longest], exact=True)
    case.weights = oracle.attention_weights(case.folder, model)
    case.unembedding = model.get_output_embeddings().weight.double().numpy()


def is_conditioned(case):
    """Whether the oracle agrees with itself: in float32, and with its float32 steps, against float64 throughout."""
    single = oracle.oracle_forward(case.folder, case.prompts, model=oracle.load_model(case.folder, torch.float32))
    for forwards, tolerance in ((single, COMPARISONS["float32"]), (case.forwards, COMPARISONS["float64"])):
        for forward, exact in zip(forwards, case.exact_forwards, strict=True):
            named = {f"{name}.0": getattr(forward, name) for name in LAYERED + WHOLE}
            if not max(worst_of_prompts(named, [exact]).values()) <= OWN_ROUNDING * tolerance:
                return False
    return True


def make_case(family, seed, folder):
    """Draws the sample, writes its checkpoint and its prompts, and asks the oracle."""
    case = Case(f"{family}-{seed}", family, seed, folder, {})
    try:
        sample = random_configs.random_sample(family, seed)
        case.prompts = sample.prompts
        storage = {name: getattr(sample, name) for name in STORAGE}
        case.text_family = sample.text_family
        case.settings = {"storage": storage, "prompt_lengths": [len(ids) for ids in sample.prompts]}
        for case.draws in range(1, MOST_DRAWS + 1):
            weights_seed = seed * MOST_DRAWS + case.draws
            make_checkpoints.save_checkpoint(
                sample.config, folder, weights_seed, sample.changes, weights=sample.weights, **storage
            )
            case.settings["config"] = json.loads((folder / "config.json").read_text())
            model = run_oracle(case)
            if is_conditioned(case):
                break
        ask_of_effects(case, model)
        (folder / "prompts.json").write_text(json.dumps(sample.prompts) + "\n")
    except Exception as error:  # whatever transformers may throw: one seed fails, the others go on
        case.problem = "the oracle fails: " + describe_failure(error)
    return case


def given_case(folder, lengths, work):
    """A case of a checkpoint that is there; links to its files, so that nothing is written beside them."""
    config = transformers.AutoConfig.from_pretrained(folder).get_text_config()
    link = work / folder.name
    link.mkdir()
    for path in folder.iterdir():
        if path.name != "prompts.json":
            (link / path.name).symlink_to(path.resolve())
    case = Case(folder.name, config.model_type, None, link, {"config": config.to_diff_dict()})
    if config.model_type in HAVE_POSITION_TABLES:
        lengths = [min(length, config.max_position_embeddings) for length in lengths]
    case.prompts = make_checkpoints.prompts_of(0, config.vocab_size, lengths)
    (link / "prompts.json").write_text(json.dumps(case.prompts) + "\n")
    ask_of_effects(case, run_oracle(case))
    return case


def run_dump(cases, out, program, threads):
    """Runs dump_forward over the cases that the oracle has run; one that ends the program is found by running it alone."""
    cases = [case for case in cases if not case.problem]
    if not cases:
        return
    command = [program, "--threads", str(threads), "--out", out, *(case.folder for case in cases)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode == 0:
        return
    if len(cases) == 1:
        cases[0].problem = f"dump_forward ended with {done.returncode}: {done.stderr.strip()[-500:]}"
        return
    for case in cases:
        run_dump([case], out, program, threads)


def worst_of_prompts(found, forwards):
    """{quantity: worst error over all prompts, each layer by itself}."""
    worst = dict.fromkeys(LAYERED + WHOLE, 0.0)
    for index, forward in enumerate(forwards):
        for name in LAYERED:
            for mine, theirs in zip(found[f"{name}.{index}"], getattr(forward, name), strict=True):
                worst[name] = max_or_nan(worst[name], oracle.relative_error(mine, theirs))
        for name in WHOLE:
            worst[name] = max_or_nan(worst[name], oracle.relative_error(found[f"{name}.{index}"], getattr(forward, name)))
    return worst


def entropies(log_p):
    return -(np.exp(log_p) * log_p).sum(-1)


def largest_difference(found, expected):
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return float(np.abs(found - expected).max(initial=0.0))


def error_of_predictions(found, logits, ids):
    """Over the largest score: what they are differences of."""
    log_p = oracle.log_softmax(logits)
    nll = np.array([-log_p[i, ids[i + 1]] for i in range(len(ids) - 1)])
    return max_or_nan(largest_difference(found[0, :-1], nll), largest_difference(found[1], entropies(log_p))) / max(1.0, np.abs(logits).max())


def error_of_lens(found, scores):
    """scores: (boundary, vocab) of the last token."""
    log_p = oracle.log_softmax(scores)
    divergence = (np.exp(log_p[-1]) * (log_p[-1] - log_p)).sum(-1)
    return max_or_nan(largest_difference(found[0], divergence), largest_difference(found[1], entropies(log_p))) / max(1.0, np.abs(scores).max())


def error_of_writes(found, entering, writes):
    """found: (layers, 4, n); entering and each of the two writes: (layers, n, hidden)."""
    directions = entering / np.linalg.norm(entering, axis=-1, keepdims=True)
    expected = np.stack([part for added in writes for part in (np.linalg.norm(added, axis=-1), (added * directions).sum(-1))], axis=1)
    return largest_difference(found, expected) / max(np.linalg.norm(entering, axis=-1).max(), np.abs(expected).max())


def worst_of_effects(found, case):
    """Of what the passes lead to, against the exact oracle: {quantity: worst error}."""
    longest = longest_prompt(case)
    predictions = [error_of_predictions(found[f"next_token.{index}"], forward.logits, case.prompts[index])
                   for index, forward in enumerate(case.exact_forwards)]
    entering = case.exact_forwards[longest].boundaries[:-1]
    return {"predictions": functools.reduce(max_or_nan, predictions), "lens": error_of_lens(found[f"lens.{longest}"], case.lens),
            "writes": error_of_writes(found[f"writes.{longest}"], entering, case.writes)}


def worst_of_weights(found, case, dtype):
    worst = 0.0
    expected = {f"{name}.{layer}": w for layer, matrices in enumerate(case.weights) for name, w in matrices.items()}
    for name, matrix in (expected | {"unembedding": case.unembedding}).items():
        worst = max_or_nan(worst, oracle.relative_error(found[name], matrix.astype(dtype)))
    return worst


def compare(case, out):
    """Fills in case.errors, and case.problem where one is over its tolerance."""
    folder = out / case.folder.name
    if (folder / "error.txt").exists():
        case.problem = "spectrace: " + (folder / "error.txt").read_text()
        return
    found = {dtype: safetensors.numpy.load_file(folder / f"{dtype}.safetensors") for dtype in ("float32", "float64")}
    case.errors = {
        "float32": worst_of_prompts(found["float32"], case.forwards),
        "float64": worst_of_prompts(found["float64"], case.forwards),
        "exact": worst_of_prompts(found["float64"], case.exact_forwards),
    }
    for comparison, dtype in (("float32", np.float32), ("float64", np.float64), ("exact", np.float64)):
        case.errors[comparison]["weights"] = worst_of_weights(found[str(np.dtype(dtype))], case, dtype)
        if comparison != "float64":
            case.errors[comparison] |= worst_of_effects(found[str(np.dtype(dtype))], case)
    too_far = []
    for comparison, errors in case.errors.items():
        for name, error in errors.items():
            tolerance = WEIGHT_TOLERANCE if name == "weights" else COMPARISONS[comparison]
            if not error <= tolerance:
                too_far.append(f"{QUANTITIES[name]} {TITLES[comparison]} {error:.2e} > {tolerance:.0e}")
    case.problem = "; ".join(too_far)


def check_inspect(case):
    """`spectrace inspect --json` of a case against transformers' config and the oracle's matrices."""
    done = subprocess.run([PROGRAM, "inspect", case.folder, "--json"], capture_output=True, text=True)
    if done.returncode != 0:
        case.problem = f"spectrace inspect ended with {done.returncode}: {done.stderr.strip()[-500:]}"
        return
    found = json.loads(done.stdout)
    whole = transformers.AutoConfig.from_pretrained(case.folder)
    config = whole.get_text_config()
    heads = config.num_attention_heads
    head_dim = case.weights[0]["W_Q"].shape[0] // heads
    inner = [getattr(config, name, None) for name in ("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner")]
    expected = {
        "family": case.text_family or case.family,
        "num_layers": len(case.weights),
        "num_heads": heads,
        "num_kv_heads": case.weights[0]["W_K"].shape[0] // head_dim,
        "head_dim": head_dim,
        "hidden_size": config.hidden_size,
        "intermediate_size": next((size for size in inner if size), 4 * config.hidden_size),
        "vocab_size": config.vocab_size,
        "tied_embeddings": whole.tie_word_embeddings,
        "missing_tensors": [],
        "unused_tensors": [],
    }
    wrong = [f"{name} is {found[name]}, expected {value}" for name, value in expected.items() if found[name] != value]
    if wrong:
        case.problem = "inspect: " + "; ".join(wrong)


# Runs -----------------------------------------------------------------------------------------------------------------


class Tally:
    """Worst errors of a family over its seeds, and the seeds that failed."""

    def __init__(self, family):
        self.family, self.seeds, self.redrawn, self.failures = family, 0, 0, []
        self.worst = {comparison: {name: {"error": 0.0, "seed": None} for name in QUANTITIES} for comparison in COMPARISONS}

    def add(self, case):
        self.seeds += 1
        self.redrawn += case.draws > 1
        for comparison, errors in case.errors.items():
            for name, error in errors.items():
                if not error <= self.worst[comparison][name]["error"]:
                    self.worst[comparison][name] = {"error": error, "seed": case.seed}
        if case.problem:
            self.failures.append({"seed": case.seed, "problem": case.problem})

    def as_json(self):
        return {"seeds": self.seeds, "redrawn": self.redrawn, "worst": self.worst, "failures": self.failures}


def versions():
    return {"transformers": transformers.__version__, "torch": torch.__version__, "numpy": np.__version__}


def run_batch(make, keep, program, threads, inspect):
    """Cases of make(work folder), compared. Checkpoints of those that failed are kept in `keep`."""
    with tempfile.TemporaryDirectory(prefix="spectrace-differential-") as temporary:
        work, out = pathlib.Path(temporary, "in"), pathlib.Path(temporary, "out")
        work.mkdir()
        cases = make(work)
        run_dump(cases, out, program, threads)
        for case in cases:
            try:
                if not case.problem:
                    compare(case, out)
                if not case.problem and inspect(case):
                    check_inspect(case)
            except Exception as error:  # shapes that differ, a field that inspect does not tell
                case.problem = "the comparison fails: " + describe_failure(error)
            if case.problem and case.seed is not None and case.folder.exists():
                case.folder = keep_folder(case, keep)
    return cases


def keep_folder(case, keep):
    kept = keep / case.name
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(case.folder, kept)
    return kept


def report_failure(case):
    print(f"\n{case.name}: {case.problem}")
    print("  " + json.dumps(case.settings))
    if case.seed is not None:
        print(f"  kept in {case.folder}; again: tools/dev/differential --family {case.family} --first-seed {case.seed} --seeds 1")


def run_family(family, seeds, keep, program=DUMP, threads=1, inspect_all=False, report=lambda done: None):
    """Tally of the seeds of one family. `report(n)` is called when n more seeds are done."""
    tally = Tally(family)
    for first in range(0, len(seeds), SEEDS_PER_BATCH):
        batch = seeds[first : first + SEEDS_PER_BATCH]
        cases = run_batch(
            lambda work: [make_case(family, seed, work / f"{family}-{seed}") for seed in batch],
            keep,
            program,
            threads,
            lambda case: inspect_all or case.seed == seeds[0],
        )
        for case in cases:
            tally.add(case)
            if case.problem:
                report_failure(case)
        report(len(batch))
    return tally


def print_table(tallies):
    """One row a family: seeds, failures, worst error of each quantity in each comparison."""
    titles = [f"{QUANTITIES[name]} {TITLES[c]}" for c, name in (*COMPARED, *EFFECTS)]
    titles += ["weights"]
    rows = []
    for tally in tallies:
        errors = [tally.worst[c][name]["error"] for c, name in (*COMPARED, *EFFECTS)]
        errors += [max(tally.worst[c]["weights"]["error"] for c in COMPARISONS)]
        rows.append([tally.family, str(tally.seeds), str(len(tally.failures)), *(f"{error:.1e}" for error in errors)])
    for number, title in enumerate(["family", "seeds", "failed", *titles], 1):
        print(f"({number}) {title}")
    for row in [[f"({n})" for n in range(1, len(titles) + 4)], *rows]:
        print("  ".join([f"{row[0]:12}", *(f"{cell:>7}" for cell in row[1:])]))


class Progress:
    """One line on stderr: family, seeds done, time left."""

    def __init__(self, total):
        self.total, self.done, self.started = total, 0, time.monotonic()

    def report(self, family, count):
        self.done += count
        left = (time.monotonic() - self.started) / self.done * (self.total - self.done)
        line = f"\r{family:12} {self.done} of {self.total} seeds, about {left:.0f} s left   "
        print(line, end="\n" if self.done == self.total else "", file=sys.stderr, flush=True)


def run_families(arguments):
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    families = arguments.family or sorted(random_configs.FAMILIES)
    progress = Progress(len(families) * len(seeds))
    tallies = []
    for family in families:
        report = functools.partial(progress.report, family)
        tallies.append(
            run_family(family, seeds, arguments.keep, arguments.dump, arguments.threads, arguments.inspect_all, report)
        )
        if arguments.json:  # after each family: a run that is stopped leaves what it has
            found = {"versions": versions(), "first_seed": arguments.first_seed}
            found["families"] = {tally.family: tally.as_json() for tally in tallies}
            arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    print_table(tallies)
    return any(tally.failures for tally in tallies)


def run_folders(arguments):
    failed = False
    for folder in arguments.folder:
        (case,) = run_batch(
            lambda work: [given_case(folder.resolve(), arguments.lengths, work)],
            arguments.keep,
            arguments.dump,
            arguments.threads,
            lambda case: True,
        )
        failed |= bool(case.problem)
        for comparison, errors in case.errors.items():
            worst = "  ".join(f"{QUANTITIES[name]} {error:.1e}" for name, error in errors.items())
            print(f"{case.name:24} {TITLES[comparison]:22} {worst}")
        if case.problem:
            print(f"{case.name}: {case.problem}")
    return failed


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="tools/dev/differential", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    families = sorted(random_configs.FAMILIES)
    add = parser.add_argument
    add("--family", action="append", choices=families, metavar="F", help=f"{', '.join(families)}; may be repeated; without: all")
    add("--seeds", type=int, default=10, metavar="N", help="how many of each family (default 10)")
    add("--first-seed", type=int, default=0, metavar="K", help="seeds K to K + N - 1 (default 0)")
    add("--keep", type=pathlib.Path, default=ROOT / "build" / "differential", metavar="DIR",
        help="where the checkpoints of failed seeds go (default build/differential)")
    add("--json", type=pathlib.Path, metavar="FILE", help="write the results there too")
    add("--inspect-all", action="store_true", help="check `spectrace inspect` on every seed, not on each family's first alone")
    add("--folder", action="append", type=pathlib.Path, help="compare this checkpoint instead; may be repeated")
    add("--lengths", type=int, nargs="+", default=[5, 1, 33, 12], help="prompt lengths for --folder (default 5 1 33 12)")
    add("--threads", type=int, default=1, help="threads of spectrace and of transformers (default 1)")
    add("--dump", type=pathlib.Path, default=DUMP, metavar="PROGRAM", help="dump_forward (default: that of build/release)")
    add("--table", nargs="+", type=pathlib.Path, metavar=("PAGE", "JSON"),
        help="write PAGE from files of --json, and do nothing else")
    arguments = parser.parse_args()
    if arguments.table and len(arguments.table) < 2:
        parser.error("--table needs the page and at least one file of --json")
    if not arguments.table and not arguments.dump.exists():
        parser.error(f"no {arguments.dump} (build it: cmake --build build/release --target dump_forward)")
    return arguments


def main():
    arguments = parse_arguments()
    if arguments.table:
        write_page(arguments.table[0], arguments.table[1:])
        return 0
    torch.set_num_threads(arguments.threads)
    return 1 if (run_folders if arguments.folder else run_families)(arguments) else 0


if __name__ == "__main__":
    sys.exit(main())
