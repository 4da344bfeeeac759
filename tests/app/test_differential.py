"""A few random checkpoints of every family against transformers, and some strings through tokenizers of every kind;
tools/dev/differential and tools/dev/differential_tokenizers run many."""

import sys

import pytest
import torch
from program import ROOT

sys.path.insert(0, str(ROOT / "tests" / "oracle"))
import differential  # noqa: E402
import random_configs  # noqa: E402
import stored_families  # noqa: E402
import tokenizers_differential  # noqa: E402

SEEDS = range(3)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small matrices: further threads of torch only cost time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_every_adapter_is_drawn():
    adapters = {path.stem for path in (ROOT / "src" / "model" / "adapters").glob("*.cpp")}
    wholes = random_configs.KINDS
    drawn = (set(random_configs.FAMILIES) - set(wholes)) | {kind.text_type for kind in wholes.values() if kind.text_type}
    assert adapters == drawn | set(stored_families.FAMILIES)


@pytest.mark.parametrize("family", sorted(random_configs.FAMILIES))
def test_random_checkpoints(family, tmp_path):
    tally = differential.run_family(family, SEEDS, keep=tmp_path)
    assert tally.failures == []
    assert tally.seeds == len(SEEDS)


def test_wrong_result_is_a_failure(tmp_path):
    """A comparison that cannot fail proves nothing: heads in another order, and a seed is over its tolerance."""
    case = differential.make_case("llama", 3, tmp_path / "in" / "llama-3")
    differential.run_dump([case], tmp_path / "out", differential.DUMP, threads=1)
    for forward in case.forwards:
        forward.attentions = forward.attentions[:, ::-1]
    differential.compare(case, tmp_path / "out")
    assert "attention float64" in case.problem


def test_tokenizers_of_every_kind(capsys):
    build = tokenizers_differential.Builder(vocab_size=1000)
    num_different = {
        name: tokenizers_differential.compare(name, make(), tokenizers_differential.PROGRAM, count=200, seed=1, lines=build.lines)
        for name, make in tokenizers_differential.kinds(build)
    }
    assert len(num_different) > 80
    assert not any(num_different.values()), capsys.readouterr().out
