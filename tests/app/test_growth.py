"""Jobs that grow: what is there stays as it is, what is new is computed, and the file is the one that is made at once."""

import json
import shutil

import h5py
import numpy as np
import pytest

from models import ids_set, make_llama
from program import ROOT, all_analyses, described, run_job, spectrace, write_job

GRID = {"beta": {"from": 0.1, "to": 10, "count": 3}}


def make_job(folder, **more):
    make_llama(folder / "m")
    return {"name": "job", "models": [{"name": "m", "path": str(folder / "m")}], "prompt_sets": [ids_set(count=7, longest=12)],
            "compute": {"tokens_per_batch": 20}, **more}


def datasets(path, group="prompts/ids"):
    """{name: values} of a set's group, its statistics and dimensions among them."""
    with h5py.File(path) as file:
        values = {}
        file[group].visititems(lambda name, item: values.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
        return values


def attributes(path):
    with h5py.File(path) as file:
        return dict(file.attrs)


def equal(a, b):
    return a.dtype == b.dtype and (np.array_equal(a, b, equal_nan=True) if a.dtype.kind == "f" else np.array_equal(a, b))


def test_a_grid_stays_what_its_label_says(tmp_path):
    """A job without the sheaf neither makes it anew on the grid by default nor says of it what it is not."""
    job = make_job(tmp_path, analyses=["sheaf"], sheaf=GRID)
    path = run_job(tmp_path, job) / "m.h5"
    before, said = datasets(path), attributes(path)["parameters"]
    run_job(tmp_path, make_job(tmp_path, analyses=["residual"]))
    after = datasets(path)
    assert len(after["beta"]) == 3 and {name for name in before if not equal(before[name], after[name])} <= {"statistics/last_gain_mean", "statistics/last_gain_after_norm_mean"}
    assert "last_token_norm" in after and "last_token_norm" not in before
    assert json.loads(attributes(path)["parameters"])["beta"] == json.loads(said)["beta"] == list(after["beta"])
    # The first job again: its results are there, unchanged.
    write_job(tmp_path, job)
    done = spectrace("run", tmp_path / "job.json")
    assert done.returncode == 0 and "results are there" in done.stderr
    assert equal(datasets(path)["trace"], before["trace"])


def test_sets_may_be_called_as_groups_of_sets_are(tmp_path):
    """The file of such a set could not be built upon: its group was taken for statistics."""
    job = make_job(tmp_path, analyses=["residual", "last_token_geometry"])
    job["prompt_sets"] = [ids_set(name, count=5) for name in ("statistics", "last_token_geometry")]
    whole = run_job(tmp_path, job) / "m.h5"
    with h5py.File(whole) as file:
        assert set(file["prompts"]) == {"statistics", "last_token_geometry"} and "last_gain_mean" in file["prompts/statistics/statistics"]
        assert "last_gain_mean" not in file["prompts/statistics"]
    done = spectrace("run", tmp_path / "job.json")
    assert done.returncode == 0 and "results are there" in done.stderr
    before = whole.read_bytes()
    grown = make_job(tmp_path / "grown", analyses=["last_token_geometry"]) | {"prompt_sets": job["prompt_sets"], "models": job["models"]}
    run_job(tmp_path / "grown", grown)
    assert (run_job(tmp_path / "grown", grown | {"analyses": job["analyses"]}) / "m.h5").read_bytes() == before


def test_what_was_kept_stays_kept(tmp_path):
    """Eigenvalues and large quantities do not vanish where a later job asks for neither."""
    job = make_job(tmp_path, analyses=["sheaf"], sheaf=GRID | {"graph_eigenvalues": True}, keep="all")
    path = run_job(tmp_path, job) / "m.h5"
    before = datasets(path)
    assert {"graph_eigenvalues", "heat_capacity"} <= set(before)
    run_job(tmp_path, make_job(tmp_path, analyses=["sheaf", "residual"], sheaf=GRID))
    after = datasets(path)
    assert set(before) <= set(after)
    assert [name for name in before if not name.startswith("statistics/last_gain") and not equal(before[name], after[name])] == []


def test_a_list_that_kept_less_takes_nothing_away(tmp_path):
    path = run_job(tmp_path, make_job(tmp_path, analyses=["sheaf"], keep=["trace", "nullity"])) / "m.h5"
    run_job(tmp_path, make_job(tmp_path, analyses=["sheaf", "attention"], keep=["sparsity"]))
    stored = set(datasets(path))
    assert {"trace", "nullity", "sparsity"} <= stored and not {"lambda_max", "row_entropy"} & stored


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a file that every analysis was asked for at once."""
    folder = tmp_path_factory.mktemp("whole")
    return (run_job(folder, make_job(folder, analyses=all_analyses(), sheaf=GRID, keep="all")) / "m.h5").read_bytes()


def grown(folder, steps, ranks=None):
    for analyses in (*steps, all_analyses()):
        results = run_job(folder / "grown", make_job(folder, analyses=analyses, sheaf=GRID, keep="all"), ranks=ranks)
    return (results / "m.h5").read_bytes()


@pytest.mark.parametrize("ranks", [None, 3])
@pytest.mark.parametrize("steps", [
    [["residual"], ["attention", "sheaf"]],
    [["unembedding", "sheaf"], ["weights", "residual"]],
    [["attention"], ["heads", "attention", "residual", "sheaf"]],
], ids=lambda steps: "-".join(steps[0]))
def test_a_grown_file_has_the_bytes_of_one_made_at_once(tmp_path, whole, steps, ranks):
    assert grown(tmp_path, steps, ranks) == whole


@pytest.mark.parametrize("order", [1, -1])
def test_analyses_may_come_one_after_the_other(tmp_path, whole, order):
    """In the order of the file and from its end: each is added to what is there, and copied when the others are."""
    assert grown(tmp_path, [[analysis] for analysis in all_analyses()[::order]]) == whole


def test_failed_prompts_stay_failed_and_said(tmp_path):
    """A prompt that cannot run is in the file's error whichever job came last."""
    prompts = [*ids_set(count=3)["prompts"], {"id": "bad", "input_ids": [3, 10_000]}]
    job = make_job(tmp_path, analyses=["attention"]) | {"prompt_sets": [{"name": "ids", "prompts": prompts}]}
    path = run_job(tmp_path / "grown", job, expect=1) / "m.h5"
    run_job(tmp_path / "grown", job | {"analyses": ["attention", "residual"]}, expect=1)
    whole = run_job(tmp_path / "whole", job | {"analyses": ["attention", "residual"]}, expect=1) / "m.h5"
    assert path.read_bytes() == whole.read_bytes()
    # Another set does not make it forgotten.
    more = job | {"analyses": ["attention", "residual"], "prompt_sets": [*job["prompt_sets"], ids_set(name="b", count=2)]}
    run_job(tmp_path / "grown", more, expect=1)
    assert "'bad'" in attributes(path)["error"] and attributes(path)["status"] == "partial"


def test_what_failed_of_weights_stays_and_is_said_until_it_is_made_again(tmp_path):
    """A job for something else neither drops the layers that are there nor forgets those that failed."""
    def damage(tensors):
        tensors["model.layers.1.self_attn.q_proj.weight"][2, 3] = np.nan

    job = make_job(tmp_path, analyses=["weights"])
    make_llama(tmp_path / "m", change=damage)
    path = run_job(tmp_path, job, expect=1) / "m.h5"
    before, said = datasets(path, "weights"), attributes(path)
    assert said["status"] == "partial" and said["failed_units"] == 1 and "q_proj" in said["error"]
    run_job(tmp_path, job | {"analyses": ["unembedding"]}, expect=1)
    after, now = datasets(path, "weights"), attributes(path)
    assert all(equal(values, after[name]) for name, values in before.items())
    assert {name: now[name] for name in ("status", "failed_units", "error")} == {name: said[name] for name in ("status", "failed_units", "error")}
    with h5py.File(path) as file:
        assert file["weights"].attrs["failed_units"] == 1 and file["weights"].attrs["error"] == said["error"]
        assert np.isfinite(file["unembedding/spectral_norm"][()]).all()
    whole = run_job(tmp_path / "whole", job | {"analyses": ["weights", "unembedding"]}, expect=1) / "m.h5"
    assert path.read_bytes() == whole.read_bytes()


def test_the_same_analysis_with_other_settings_is_refused_by_name(tmp_path):
    path = run_job(tmp_path, make_job(tmp_path, analyses=["sheaf"], sheaf=GRID)) / "m.h5"
    before = path.read_bytes()
    write_job(tmp_path, make_job(tmp_path, analyses=["sheaf", "residual"], sheaf={"beta": {"from": 0.1, "to": 10, "count": 4}}))
    done = spectrace("run", tmp_path / "job.json")
    assert done.returncode == 2 and "beta grid: was" in done.stderr and "--fresh" in done.stderr
    assert path.read_bytes() == before


def test_eigenvalues_that_are_asked_for_later_come_as_if_at_once(tmp_path):
    with_eigenvalues = make_job(tmp_path, analyses=["sheaf"], sheaf=GRID | {"graph_eigenvalues": True})
    run_job(tmp_path / "grown", make_job(tmp_path, analyses=["sheaf"], sheaf=GRID))
    grown = run_job(tmp_path / "grown", with_eigenvalues)
    whole = run_job(tmp_path / "whole", with_eigenvalues)
    assert (grown / "m.h5").read_bytes() == (whole / "m.h5").read_bytes()


def test_a_file_of_the_version_before_is_built_upon(tmp_path):
    """tests/data/results/spectrace-2-gpt2.h5 was written by the program before analyses were files (commit ffd54f9)."""
    output = tmp_path / "job"
    output.mkdir()
    shutil.copy(ROOT / "tests/data/results/spectrace-2-gpt2.h5", output / "gpt2.h5")
    before = datasets(output / "gpt2.h5", "/")
    prompts = [{"id": "p", "input_ids": [3, 1, 4, 1, 5]}, {"id": "q", "input_ids": [9, 2]}]
    job = {"name": "job", "models": [{"name": "gpt2", "path": str(ROOT / "tests/data/model/gpt2")}],
           "prompt_sets": [{"name": "a", "prompts": prompts}], "analyses": ["heads", "residual"]}
    run_job(tmp_path, job)
    after = datasets(output / "gpt2.h5", "/")
    assert {"heads/spectral_norm", "prompts/a/gain", "prompts/a/graph_eigenvalues"} <= set(after)
    assert [name for name in before if "last_gain" not in name and not name.startswith("checkpoint/") and not equal(before[name], after[name])] == []
    info = json.loads((output / "gpt2.run.json").read_text())
    assert info["units"] == 3 + 1  # the heads of three layers, a batch: no matrices again


def test_numbers_of_another_version_are_not_mixed(tmp_path):
    """The sheaf's numbers in that file have other last bits than today's."""
    output = tmp_path / "job"
    output.mkdir()
    shutil.copy(ROOT / "tests/data/results/spectrace-2-gpt2.h5", output / "gpt2.h5")
    job = {"name": "job", "models": [{"name": "gpt2", "path": str(ROOT / "tests/data/model/gpt2")}],
           "prompt_sets": [{"name": "b", "prompts": [{"id": "r", "input_ids": [1, 2]}]}], "analyses": ["sheaf"], "sheaf": GRID}
    write_job(tmp_path, job)
    done = spectrace("run", tmp_path / "job.json")
    assert done.returncode == 2 and "numerics version of sheaf: was 1, now 3" in done.stderr and "--fresh" in done.stderr, done.stderr
    assert (output / "gpt2.h5").read_bytes() == (ROOT / "tests/data/results/spectrace-2-gpt2.h5").read_bytes()


def test_an_unknown_analysis_is_answered_by_the_nearest_names(tmp_path):
    for change, said in [({"analyses": ["weigths"]}, ["/analyses/0", "Did you mean 'weights'?"]),
                         ({"keep": ["tracce"]}, ["/keep/0", "Did you mean 'trace'"]),
                         ({"sheaff": {}}, ["unknown key 'sheaff'", "Did you mean 'sheaf'?"])]:
        write_job(tmp_path, make_job(tmp_path) | change)
        done = spectrace("check", tmp_path / "job.json")
        assert done.returncode == 2 and all(words in done.stderr for words in said), done.stderr


def names_of(path):
    """Every dataset of a file as `describe` says its place; statistics of a prompt's quantity are said with it."""
    with h5py.File(path) as file:
        names = []
        file.visititems(lambda name, item: names.append(f"/{name}") if isinstance(item, h5py.Dataset) else None)
    return [name.replace("/prompts/ids/", "/prompts/<set>/") for name in names]


def test_describe_knows_every_dataset(tmp_path):
    known = {f"{dataset['group']}/{dataset['name']}" for dataset in described()["datasets"]}
    everywhere = {dataset["name"] for dataset in described()["datasets"] if dataset["group"] == ""}
    job = make_job(tmp_path, keep="all", analyses=all_analyses(), sheaf=GRID | {"graph_eigenvalues": True})
    results = run_job(tmp_path, job)
    names = names_of(results / "m.h5") + names_of(results / "summary.h5")
    assert {"/checkpoint/digest", "/heads/kv_head_of_head", "/prompts/<set>/statistics/free_energy", "/summary/mean_trace"} <= set(names)
    assert [name for name in names if not {name, name.replace("/statistics/", "/")} & known and name.split("/")[-1] not in everywhere] == []


@pytest.mark.parametrize("name, said", [("l_star_trace", "/prompts/<set>/statistics"), ("token_ids", "/prompts/<set>"), ("prompt_id", "/prompts/<set>"),
                                        ("kv_head_of_head", "/heads"), ("mean_trace", "/summary"), ("expected", "/summary"), ("digest", "/checkpoint"),
                                        ("free_energy", "/prompts/<set>/statistics"), ("matrix", "/mlp"), ("layer", ""), ("trace", "/prompts/<set>")])
def test_describe_says_where_a_name_lies(name, said):
    done = spectrace("describe", name)
    assert done.returncode == 0 and f"{said}/{name}\n" in done.stdout, done.stdout + done.stderr
    assert {"name": name, "group": said}.items() <= next(one for one in json.loads(spectrace("describe", name, "--json").stdout) if one["group"] == said).items()


def test_describe_of_an_analysis_and_of_no_name():
    (weights,) = json.loads(spectrace("describe", "weights", "--json").stdout)
    assert {"singular_values", "w_v_spectral_norm_mean"} <= {dataset["name"] for dataset in weights["datasets"]}
    assert "Largest singular value" in spectrace("describe", "spectral_norm").stdout
    done = spectrace("describe", "spectral_nrom")
    assert done.returncode == 2 and "Did you mean 'spectral_norm'?" in done.stderr
