"""The analysis patterns against transformers' attention and what enters its softmax, of one case of every family; and prompts of
repeated random tokens."""

import h5py
import numpy as np
import pytest
from expected import ExpectedModel, oracle, patterns
from models import make_llama
from program import run_analysis, spectrace, write_job
from test_against_oracle import FAMILY_CASES, FLOAT32_STEPS_TOLERANCE, TOLERANCE, TYPED_CASES, assert_close, case_id, check_statistics

PROMPTS = {
    "one token": [7],
    "said twice at once": [5, 5],  # row 1 has an equal token before it, but none that another one follows
    "nothing twice": [3, 1, 4, 15, 9, 2, 6],
    "twice at once and again": [4, 4, 7, 4, 4, 9, 7],
    "all said twice": [11, 3, 8, 30, 1, 11, 3, 8, 30, 1],
    "one said on and on": [6] * 9,
    "long": [(7 * i * i + 3 * i + 2) % 41 for i in range(13)],  # ends in 35, 21, 21
}
LONG = 1200  # tokens
SCORES = ("max_logit", "mean_log_sum_exp")
REPEATED = {"prompts": 6, "length": 5, "seed": 1}


def run_patterns(tmp_path, folder, prompt_sets, dtype="float64"):
    return run_analysis(tmp_path, folder, "patterns", prompt_sets=prompt_sets, keep="all", compute={"dtype": dtype, "tokens_per_batch": 20})


def prompts_of(group):
    return [group["token_ids"][start : start + count].tolist() for start, count in zip(group["row_start"][:], group["num_tokens"][:])]


def check_patterns(group, expected, tolerance, exact, floor=1e-3):
    per_prompt = expected.patterns(prompts_of(group), exact)
    largest = np.stack([values["_scores"] for values in per_prompt])
    for quantity in (name for name in per_prompt[0] if not name.startswith("_")):
        measured = group[quantity][:]
        # A score is a sum of products that may cancel: it is as good as the largest of its layer.
        more = tolerance * largest if quantity in SCORES else 0.0
        assert_close(measured, np.stack([values[quantity] for values in per_prompt]), tolerance, quantity, floor, more)
        check_statistics(group["statistics"], quantity, measured)


@pytest.mark.parametrize(("folder", "dtype"), TYPED_CASES, ids=case_id)
def test_patterns_of_every_family(tmp_path, folder, dtype):
    sets = [{"name": "ids", "prompts": [{"id": name, "input_ids": ids} for name, ids in PROMPTS.items()]}]
    expected = ExpectedModel(folder)
    with h5py.File(run_patterns(tmp_path, folder, sets, dtype)) as file:
        assert file.attrs["status"] == "ok", file.attrs["error"]
        check_patterns(file["prompts/ids"], expected, TOLERANCE[dtype], exact=dtype == "float64")
        if dtype == "float64":
            check_patterns(file["prompts/ids"], expected, FLOAT32_STEPS_TOLERANCE, exact=False, floor=1)


@pytest.mark.parametrize("case", ["llama", "gemma2", "bloom"])
def test_patterns_of_a_long_prompt(tmp_path, case):
    """So long that heads come some at a time, and rows of scores in blocks."""
    folder = next(p for p in FAMILY_CASES if p.name == case)
    ids = [(i * i + 3 * i) % 41 for i in range(LONG)]
    with h5py.File(run_patterns(tmp_path, folder, [{"name": "ids", "prompts": [{"id": "long", "input_ids": ids}]}])) as file:
        assert file.attrs["status"] == "ok", file.attrs["error"]
        group, expected = file["prompts/ids"], ExpectedModel(folder)
        assert expected.num_heads * LONG**2 >= 2**22  # kLongAttentionEntries
        check_patterns(group, expected, TOLERANCE["float64"], exact=True)


@pytest.mark.parametrize("folder", FAMILY_CASES, ids=lambda p: p.name)
def test_scores_of_the_oracle_are_what_its_softmax_gets(folder):
    """Else max_logit would be held against other scores than those of the attention."""
    for forward in oracle.oracle_forward(folder, list(PROMPTS.values()), exact=True):
        largest = forward.scores.max(-1, keepdims=True)
        weights = np.exp(forward.scores - largest)
        np.testing.assert_allclose(weights / weights.sum(-1, keepdims=True), forward.attentions, rtol=0, atol=forward.scores.shape[-1] * 2.0**-50)
        assert np.isneginf(forward.scores[..., *np.triu_indices(forward.scores.shape[-1], 1)]).all()


def test_definitions_by_hand():
    """Rows: 0 4 | 1 4 | 2 9 | 3 4. Equal tokens before: row 1 (0), row 3 (0, 1); those with another one between: row 3 (0, 1)."""
    a = np.array([[1, 0, 0, 0], [0.25, 0.75, 0, 0], [0.5, 0.125, 0.375, 0], [0.0625, 0.25, 0.5, 0.1875]])
    scores = np.log(a, out=np.full(a.shape, -np.inf), where=a > 0) + [[2], [-3], [0], [1]]
    values = patterns(a, scores, [4, 4, 9, 4])
    assert values == pytest.approx({
        "first_token_mass": (0.25 + 0.5 + 0.0625) / 3,
        "self_mass": (0.75 + 0.375 + 0.1875) / 3,
        "previous_token_mass": (0.25 + 0.125 + 0.5) / 3,
        "mean_distance": (0.25 + (2 * 0.5 + 0.125) + (3 * 0.0625 + 2 * 0.25 + 0.5)) / 3,
        "duplicate_token_score": (0.25 + (0.0625 + 0.25)) / 2,
        "induction_score": 0.25 + 0.5,
        "max_logit": 2.0,
        "mean_log_sum_exp": (2 - 3 + 0 + 1) / 4,
    }, abs=1e-15)


def test_means_over_nothing_are_no_numbers(tmp_path):
    sets = [{"name": "ids", "prompts": [{"id": name, "input_ids": ids} for name, ids in PROMPTS.items()]}]
    with h5py.File(run_patterns(tmp_path, make_llama(tmp_path / "model"), sets)) as file:
        group = file["prompts/ids"]
        empty = {name: {prompt for prompt, values in zip(PROMPTS, group[name][:]) if np.isnan(values).all()}
                 for name in ("self_mass", "duplicate_token_score", "induction_score", "max_logit")}
        assert not any(np.isnan(values).any() and not np.isnan(values).all() for name in empty for values in group[name][:])
    assert empty == {"self_mass": {"one token"}, "duplicate_token_score": {"one token", "nothing twice"},
                     "induction_score": {"one token", "nothing twice", "said twice at once", "long"}, "max_logit": set()}


@pytest.mark.parametrize("shift, quantity", [(lambda ids: ids[1:] + ids[:1], "duplicate_token_score"), (lambda ids: ids[::-1], "induction_score")])
def test_tokens_in_another_place_are_noticed(tmp_path, shift, quantity):
    """The attention is that of the prompt, the tokens are moved: sums over other pairs."""
    folder = next(p for p in FAMILY_CASES if p.name == "llama")
    ids = PROMPTS["twice at once and again"]
    with h5py.File(run_patterns(tmp_path, folder, [{"name": "ids", "prompts": [{"id": "p", "input_ids": ids}]}])) as file:
        forward = oracle.oracle_forward(folder, [ids], exact=True)[0]
        values = file["prompts/ids"][quantity][0]
        of_layer = [[patterns(a, s, ids)[quantity] for a, s in zip(*layer)] for layer in zip(forward.attentions, forward.scores)]
        moved = [[patterns(a, s, shift(ids))[quantity] for a, s in zip(*layer)] for layer in zip(forward.attentions, forward.scores)]
        assert_close(values, of_layer, TOLERANCE["float64"], quantity)
        with pytest.raises(AssertionError, match=quantity):
            assert_close(values, moved, TOLERANCE["float64"], quantity)


def test_heads_in_another_order_are_noticed(tmp_path):
    expected = ExpectedModel(next(p for p in FAMILY_CASES if p.name == "falcon_40b"))
    as_it_is = expected.patterns

    def reversed_heads(prompts, exact=False):
        return [{name: values[:, ::-1] for name, values in of_prompt.items()} for of_prompt in as_it_is(prompts, exact)]

    expected.patterns = reversed_heads
    sets = [{"name": "ids", "prompts": [{"id": "p", "input_ids": PROMPTS["long"]}]}]
    with h5py.File(run_patterns(tmp_path, expected.folder, sets)) as file, pytest.raises(AssertionError, match="first_token_mass"):
        check_patterns(file["prompts/ids"], expected, TOLERANCE["float64"], exact=True)


@pytest.mark.parametrize("case", ["gpt2", "llama", "gemma2"])
def test_repeated_random_tokens(tmp_path, case):
    folder = next(p for p in FAMILY_CASES if p.name == case)
    with h5py.File(run_patterns(tmp_path, folder, [{"name": "induction", "repeated_random_tokens": REPEATED}])) as file:
        assert file.attrs["status"] == "ok", file.attrs["error"]
        prompts = prompts_of(file["prompts/induction"])
        assert [len(ids) for ids in prompts] == [2 * REPEATED["length"]] * REPEATED["prompts"]
        assert all(ids[: len(ids) // 2] == ids[len(ids) // 2 :] for ids in prompts)
        assert len({tuple(ids) for ids in prompts}) == len(prompts)
        check_patterns(file["prompts/induction"], ExpectedModel(folder), TOLERANCE["float64"], exact=True)


def random_tokens(tmp_path, **settings):
    folder = make_llama(tmp_path / "model", config={"bos_token_id": 1, "eos_token_id": [2, 7], "pad_token_id": 0})
    with h5py.File(run_patterns(tmp_path / str(settings), folder, [{"name": "s", "repeated_random_tokens": REPEATED | settings}])) as file:
        return prompts_of(file["prompts/s"])


def test_random_tokens_are_all_but_the_special_ones(tmp_path):
    """64 prompts of 25 tokens: of 46 tokens each is left out with a probability of 46 (45/46)^1600, 10⁻¹³."""
    prompts = random_tokens(tmp_path, prompts=64, length=25)
    assert set(np.ravel(prompts)) == set(range(50)) - {0, 1, 2, 7}


def test_random_tokens_are_decided_by_the_seed(tmp_path):
    prompts = random_tokens(tmp_path)
    assert random_tokens(tmp_path / "again") == prompts
    assert random_tokens(tmp_path, seed=2) != prompts


@pytest.mark.parametrize("settings, problem", [({"lenght": 5}, ": unknown key 'lenght'"), ({"length": 0}, "/length: is 0"),
                                               ({"prompts": -1}, "/prompts: is -1")])
def test_wrong_settings_of_random_tokens_are_named(tmp_path, settings, problem):
    job = {"name": "j", "models": [{"name": "m", "path": str(make_llama(tmp_path / "model"))}], "analyses": ["patterns"],
           "prompt_sets": [{"name": "s", "repeated_random_tokens": REPEATED | settings}]}
    done = spectrace("check", write_job(tmp_path, job))
    assert done.returncode == 2 and f"/prompt_sets/0/repeated_random_tokens{problem}" in done.stderr, f"{done.stdout}\n{done.stderr}"
