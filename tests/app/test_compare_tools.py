"""What the program writes, through spectrace-compare and spectrace-published: two runs, two weights, the notebooks' slicing."""

import json
import subprocess
import sys

import numpy as np
import pytest
from models import LLAMA_CONFIG, llama_tensors, write_safetensors
from program import DEMO_MODELS, ENVIRONMENT, ROOT, run_job

sys.path.insert(0, str(ROOT / "tools" / "python"))
from spectrace import published  # noqa: E402

LAYER, GROUP, HEADS_OF_GROUP = 1, 1, [2, 3]  # 4 heads on 2 key/value heads


def tool(name, *arguments):
    environment = ENVIRONMENT | {"PYTHONPATH": str(ROOT / "tools" / "python")}
    return subprocess.run([sys.executable, "-m", f"spectrace.{name}", *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=300)


def write_llama(folder, factor):
    """The same model but for one key/value head's rows of one layer's W_V."""
    folder.mkdir(parents=True)
    tensors = llama_tensors(np.random.default_rng(1))
    tensors[f"model.layers.{LAYER}.self_attn.v_proj.weight"][8 * GROUP:8 * (GROUP + 1)] *= factor
    write_safetensors(folder / "model.safetensors", tensors)
    (folder / "config.json").write_text(json.dumps(LLAMA_CONFIG))


def run(folder, model, **more):
    prompts = [{"name": "ids", "prompts": [{"id": "a", "input_ids": [1, 2, 3, 4, 5]}, {"id": "b", "input_ids": [7, 8, 9]}]}]
    return run_job(folder, {"name": "job", "models": [{"name": "llama", "path": str(model)}], "prompt_sets": prompts, **more})


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    write_llama(folder / "base", 1.0)
    write_llama(folder / "tuned", 2.0)  # a power of two: no entry is rounded anew
    return folder, run(folder / "a", folder / "base")


def changed(path):
    pair, = json.loads(path.read_text())["pairs"]
    return {f"{change['group']}/{change['quantity']}": change for change in pair["changes"] if change["num_changed"]}


def test_float32_and_float64_are_the_same_within_their_bounds(results):
    folder, base = results
    other = run(folder / "b", folder / "base", compute={"dtype": "float64"})
    done = tool("compare", base, other)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "compute_dtype: float32 -> float64" in done.stdout


def test_a_changed_head_is_found_where_it_is(results, tmp_path):
    folder, base = results
    done = tool("compare", base, run(folder / "c", folder / "tuned"), "--json", tmp_path / "c.json")
    assert done.returncode == 1, done.stdout + done.stderr
    assert ", 1 changed" in done.stdout
    found = changed(tmp_path / "c.json")
    for quantity in ("weights/spectral_norm", "weights/singular_values", "weights/frobenius_norm"):
        assert found[quantity]["layers"].keys() == {str(LAYER)} and found[quantity]["where"]["matrix"] == "W_V"
    assert found["heads/frobenius_norm"]["heads"] == [[LAYER, head] for head in HEADS_OF_GROUP]
    # Scaled rows have the same condition number, stable and effective rank; attention sees it from the next layer on.
    assert not {"heads/condition_number", "heads/stable_rank", "heads/effective_rank"} & found.keys()
    assert [head for layer, head in found["prompts/ids/trace"]["heads"] if layer == LAYER] == HEADS_OF_GROUP
    assert min(map(int, found["prompts/ids/row_entropy"]["layers"])) == LAYER + 1
    assert not any(quantity.startswith("unembedding") for quantity in found)


def test_published_check_reads_what_the_program_writes(tmp_path):
    """Both slicings of a small NeoX under a published model's name: no number agrees, and each says so."""
    demo = next(path for path in DEMO_MODELS if path.name == "neox-tiny")
    source = published.SOURCES["opt_anomaly"]
    folders = []
    for slicing in ("correct", "as-published"):
        job = {"name": slicing, "models": [{"name": "pythia-160m", "path": str(demo)}], "slicing": slicing,
               "prompt_sets": [{"name": source.prompt_set, "prompts": list(source.prompts)}]}
        folders.append(run_job(tmp_path / slicing, job))
    done = tool("published", *folders, "--json", tmp_path / "p.json")
    assert done.returncode == 0, done.stderr
    rows = {(row["source"], row["quantity"]): row for row in json.loads((tmp_path / "p.json").read_text())["numbers"] if row["model"].endswith("pythia-160m")}
    assert rows["opt_anomaly", "mean_spectral"]["verdict_in_words"] == "differs because of error 1"
    assert "there are 4 values, 12 were published" in rows["opt_anomaly", "entropy_by_layer"]["reason"]
    assert rows["h4_v2_validation", "known_gain"]["verdict_in_words"] == "differs because of error 7"
    assert rows["h4_v2_validation", "traces_full"]["verdict"] == "not run"
