"""The committed notebook: executed, without an error, of no machine's paths; its cells run on results of the demo's names."""

import json
import re

import matplotlib
import pytest
from fake_results import FakeModel, write_folder

matplotlib.use("Agg")


@pytest.fixture
def notebook(root):
    return json.loads((root / "docs" / "demo.ipynb").read_text(encoding="utf-8"))


def test_notebook_is_executed_and_names_no_machine(notebook):
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] in ("error", "stream")]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 4
    assert not re.search(r"/(home|root|tmp)/|site-packages", json.dumps(notebook))


def test_cells_run(notebook, tmp_path, monkeypatch):
    architectures = {"gpt2-tiny": "GPT2LMHeadModel", "neox-tiny": "GPTNeoXForCausalLM", "opt-tiny": "OPTForCausalLM", "llama-tiny": "LlamaForCausalLM"}
    write_folder(tmp_path / "jobs/demo/results", [FakeModel(name, num_layers=4 + i, architecture=architecture, sets={"code": ["a", "b"], "facts": ["c", "d", "e"]})
                                                   for i, (name, architecture) in enumerate(architectures.items())])
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path / "docs")
    names = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), "docs/demo.ipynb", "exec"), names)
    assert len(names["results"]) == 4 and names["outcome"].effect == names["outcome"].effect
