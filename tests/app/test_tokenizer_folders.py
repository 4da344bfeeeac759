"""Folders whose files say different things of the tokenizer: what the program prints and keeps of it."""

import json
import shutil
import sys
from pathlib import Path

import h5py
import pytest
from program import DEMO_MODELS, bytes_of, run_job, spectrace, write_job

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "oracle"))


@pytest.fixture
def model(tmp_path):
    """The demo's GPT-2, whose tokenizer_config.json asks for a first token that tokenizer.json does not put."""
    folder = tmp_path / "model"
    shutil.copytree(next(p for p in DEMO_MODELS if p.name == "gpt2-tiny"), folder)
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": True, "additional_special_tokens": ["val"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def job_of(model, *sets):
    return {"name": "j", "models": [{"name": "m", "path": str(model)}], "prompt_sets": list(sets), "analyses": ["attention"]}


TEXTS = {"name": "texts", "prompts": ["all values"]}
IDS = {"name": "ids", "prompts": [{"id": "a", "input_ids": [1, 2, 3]}]}


def test_inspect_says_which_tokenizer_and_why(model):
    described = json.loads(spectrace("inspect", model, "--json").stdout)["tokenizer"]
    assert described["files"] == ["tokenizer.json", "tokenizer_config.json"]
    assert described["tokens_added"] == 1 and described["ids_before"] == []
    assert len(described["warnings"]) == 1 and "add_bos_token is true" in described["warnings"][0]
    assert "class" not in described
    shown = spectrace("inspect", model).stdout
    line = next(line for line in shown.splitlines() if line.startswith("tokenizer "))
    assert "tokenizer_config.json" in line and "warnings: add_bos_token is true" in line


def test_disagreement_is_warned_of_by_check_run_and_tokenize(tmp_path, model):
    job = write_job(tmp_path, job_of(model, TEXTS))
    checked = spectrace("check", job)
    assert checked.returncode == 0 and "m: warning: tokenizer: add_bos_token is true" in checked.stdout
    done = spectrace("run", job)
    assert done.returncode == 0 and "m: tokenizer: add_bos_token is true" in done.stdout + done.stderr
    tokenized = spectrace("tokenize", model, "values")
    without = spectrace("tokenize", next(p for p in DEMO_MODELS if p.name == "gpt2-tiny"), "values")
    assert tokenized.stdout != without.stdout, "the added token is not found"
    assert "add_bos_token is true" in tokenized.stderr


def test_set_of_texts_keeps_its_tokenizer(tmp_path, model):
    described = json.loads(spectrace("inspect", model, "--json").stdout)["tokenizer"]
    results = run_job(tmp_path / "once", job_of(model, IDS, TEXTS))
    with h5py.File(results / "m.h5") as file:
        assert json.loads(file["prompts/texts"].attrs["tokenizer"]) == described
        assert "tokenizer" not in file["prompts/ids"].attrs
        assert str(tmp_path) not in file["prompts/texts"].attrs["tokenizer"]
    # A job without texts builds upon it, and the other way round.
    grown = tmp_path / "grown"
    run_job(grown, job_of(model, TEXTS))
    run_job(grown, job_of(model, IDS))
    with h5py.File(grown / "j" / "m.h5") as file:
        assert json.loads(file["prompts/texts"].attrs["tokenizer"]) == described
    assert bytes_of(run_job(grown, job_of(model, IDS, TEXTS))) == bytes_of(results)


def test_vocabulary_of_a_class_that_is_not_known_fails_its_texts_alone(tmp_path, model):
    spec = json.loads((model / "tokenizer.json").read_text())["model"]
    (model / "vocab.json").write_text(json.dumps(spec["vocab"]))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in spec["merges"]]
    (model / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{merge}\n" for merge in merges), newline="\n")
    (model / "tokenizer.json").unlink()
    (model / "tokenizer_config.json").write_text('{"tokenizer_class": "CLIPTokenizer"}')
    results = run_job(tmp_path, job_of(model, IDS, TEXTS), expect=1)
    with h5py.File(results / "m.h5") as file:
        assert "'CLIPTokenizer'" in file["prompts/texts/prompt_error"].asstr()[0]
        assert file["prompts/ids/prompt_error"].asstr()[0] == ""


def test_random_folders_against_transformers(capsys):
    pytest.importorskip("transformers", reason="needs the oracle's packages (tools/setup --oracle)")
    import tokenizer_folders
    import tokenizers_differential

    build = tokenizers_differential.Builder(vocab_size=700)
    failures = tokenizer_folders.run(build, tokenizers_differential.PROGRAM, 60, seed=7)
    assert failures == 0, capsys.readouterr().out
