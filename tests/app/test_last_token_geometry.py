"""The analysis last_token_geometry against numpy's singular values of transformers' hidden states."""

import json

import h5py
import numpy as np
import pytest
from expected import last_token_geometry, last_tokens
from models import ids_set, make_llama
from program import ROOT, bytes_of, run_analysis, run_job, spectrace, write_job
from test_against_oracle import FAMILY_CASES, FLOAT32_CASES, TOLERANCE, case_id

# Of every length, and more of them than the smallest models have channels; the first two are one token.
PROMPTS = [{"id": str(i), "input_ids": [(5 * i * i + 3 * j * j + i * j + 1) % 41 for j in range(1 + i // 2 % 7)]} for i in range(40)]
IDS = [prompt["input_ids"] for prompt in PROMPTS]
SETS = [{"name": "ids", "prompts": PROMPTS}]
GROUP = "prompts/ids/last_token_geometry"


def run_geometry(tmp_path, folder, dtype="float64", **job):
    return run_analysis(tmp_path, folder, "last_token_geometry", **{"prompt_sets": SETS, "compute": {"dtype": dtype, "tokens_per_batch": 20}, **job})


def check_geometry(group, vectors, tolerance):
    """vectors: [N, boundary, D]. A singular value is off by its bound, and by what the vectors are off."""
    for b in range(vectors.shape[1]):
        expected = last_token_geometry(vectors[:, b])
        scale = np.linalg.norm(vectors[:, b])
        for name in ("singular_values", "centered_singular_values"):
            values, measured = expected.pop(name), group[name][b]
            assert np.isnan(measured[len(values):]).all() and len(measured) == min(vectors.shape[0], vectors.shape[2]), name
            away = np.abs(measured[: len(values)] - values).max()
            assert away <= group["singular_value_error"][b] + (tolerance + 1e-14) * scale, (name, b, away)
        for name, value in expected.items():
            # The last exponent rests on small eigenvalues, of which a tolerance of the largest is a larger share.
            more = 30 if name.startswith("alpha") else 1
            assert group[name][b] == pytest.approx(value, rel=more * tolerance, abs=more * tolerance, nan_ok=True), (name, b)


# The vectors are those whose norms and geometry test_against_oracle holds in every family: one of each kind is enough.
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("folder", [folder for folder in FAMILY_CASES if folder.name in FLOAT32_CASES], ids=case_id)
def test_geometry_of_families(tmp_path, folder, dtype):
    vectors = last_tokens(folder, IDS, exact=dtype == "float64")
    with h5py.File(run_geometry(tmp_path, folder, dtype, last_token_geometry={"every": 2})) as file:
        assert file.attrs["status"] == "ok", file.attrs["error"]
        boundaries = file[GROUP]["boundary"][:].tolist()
        assert boundaries == sorted({*range(0, vectors.shape[1], 2), vectors.shape[1] - 1})
        assert file[GROUP]["num_vectors"][()] == len(IDS) and set(file["prompts/ids"]) >= {"prompt_id", "last_token_geometry"}
        assert "last_token_vectors" not in file["prompts/ids"]
        check_geometry(file[GROUP], vectors[:, boundaries], TOLERANCE[dtype])


def test_definitions_by_hand():
    """Four points on the axes, around a mean: X has the singular values 3, 2 and that of the mean, without it 3 and 2."""
    points = np.array([[3.0, 0, 0], [-3, 0, 0], [0, 2, 0], [0, -2, 0]]) / np.sqrt(2)
    found = last_token_geometry(points + [0, 0, 5])
    p, covariance = np.array([10, 3, 2]) / 15, np.array([9, 4]) / 13
    np.testing.assert_allclose(found["singular_values"], [10, 3, 2], atol=1e-14)
    np.testing.assert_allclose(found["centered_singular_values"], [3, 2, 0], atol=1e-14)
    assert found["rankme"] == pytest.approx(np.exp(-(p * np.log(p)).sum()))
    assert found["rankme_covariance"] == pytest.approx(np.exp(-(covariance * np.log(covariance)).sum()))
    assert found["stable_rank"] == pytest.approx((100 + 9 + 4) / 100) and np.isnan(found["alpha_req"])


def test_another_token_is_noticed(tmp_path):
    """The oracle is asked for the token before the last one."""
    folder = next(p for p in FAMILY_CASES if p.name == "llama")
    before = last_tokens(folder, [ids[:-1] or ids for ids in IDS], exact=True)
    with h5py.File(run_geometry(tmp_path, folder)) as file, pytest.raises(AssertionError):
        check_geometry(file[GROUP], before[:, file[GROUP]["boundary"][:]], TOLERANCE["float64"])


def test_a_set_has_the_vectors_of_the_prompts_that_ran(tmp_path):
    """A prompt too long for the model, and one whose tokens are none."""
    folder = next(p for p in FAMILY_CASES if p.name == "gpt2")
    bad = [{"id": "long", "input_ids": [1] * 5000}, *PROMPTS[:9], {"id": "none", "input_ids": [10**6]}, *PROMPTS[9:]]
    path = run_job(tmp_path, {"name": "j", "models": [{"name": "m", "path": str(folder)}], "prompt_sets": [{"name": "ids", "prompts": bad}],
                              "analyses": ["last_token_geometry"], "compute": {"dtype": "float64"}}, expect=1) / "m.h5"
    with h5py.File(path) as file:
        assert file[GROUP]["num_vectors"][()] == len(PROMPTS)
        check_geometry(file[GROUP], last_tokens(folder, IDS, exact=True)[:, file[GROUP]["boundary"][:]], TOLERANCE["float64"])
        assert [bool(error) for error in file["prompts/ids/prompt_error"].asstr()[:]] == [prompt["id"] in ("long", "none") for prompt in bad]


def test_boundaries_as_they_are_asked_for(tmp_path):
    make_llama(tmp_path / "m", layers=5)

    def boundaries(name, **section):
        with h5py.File(run_geometry(tmp_path / name, tmp_path / "m", last_token_geometry=section)) as file:
            return file[GROUP]["boundary"][:].tolist()

    assert boundaries("default") == [0, 5]
    assert boundaries("every", every=3) == [0, 3, 5]
    assert boundaries("named", boundaries=[-1, 2, -6, 40]) == [0, 2, 5]
    job = {"name": "j", "models": [{"name": "m", "path": str(tmp_path / "m")}], "prompt_sets": SETS, "analyses": ["last_token_geometry"],
           "last_token_geometry": {"every": 2, "boundaries": [1]}}
    done = spectrace("check", write_job(tmp_path, job))
    assert done.returncode == 2 and "exclude each other" in done.stderr and "/last_token_geometry" in done.stderr


def test_other_boundaries_are_other_results(tmp_path):
    make_llama(tmp_path / "m", layers=5)
    run_geometry(tmp_path, tmp_path / "m")
    job = {"name": "last_token_geometry", "models": [{"name": "model", "path": str(tmp_path / "m")}], "prompt_sets": SETS,
           "analyses": ["last_token_geometry"], "last_token_geometry": {"every": 2}, "compute": {"dtype": "float64", "tokens_per_batch": 20}}
    done = spectrace("run", write_job(tmp_path, job))
    assert done.returncode != 0 and "boundaries of last_token_geometry" in done.stderr


def test_same_bytes_alone_and_beside_others(tmp_path):
    """Over ranks and stages, and where a file with statistics of the set grows by it, and one with it by statistics."""
    make_llama(tmp_path / "m", layers=4)
    job = {"name": "job", "models": [{"name": "m", "path": str(tmp_path / "m")}], "prompt_sets": [ids_set(count=30, longest=9)],
           "compute": {"tokens_per_batch": 20}, "last_token_geometry": {"every": 1}}
    both = job | {"analyses": ["residual", "last_token_geometry"]}
    one = bytes_of(run_job(tmp_path / "one", both))
    for ranks, options in [(3, ()), (4, ("--stages", 2))]:
        assert bytes_of(run_job(tmp_path / f"ranks{ranks}", both, *options, ranks=ranks)) == one
    for first in ("residual", "last_token_geometry"):
        folder = tmp_path / first
        run_job(folder, job | {"analyses": [first]})
        assert bytes_of(run_job(folder, both)) == one
        done = spectrace("run", folder / "job.json")
        assert done.returncode == 0 and "results are there" in done.stderr


def test_the_summary_has_a_column_of_it(tmp_path):
    folder = ROOT / "tests" / "data" / "model" / "llama"
    path = run_geometry(tmp_path, folder)
    with h5py.File(path) as file, h5py.File(path.with_name("summary.h5")) as summary:
        assert summary["summary/rankme_last_boundary"][0] == file[GROUP]["rankme"][-1]
        assert json.loads(file.attrs["parameters"])["last_token_geometry"] == {"every": 8}
