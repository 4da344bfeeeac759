import copy
import json

import jsonschema
import pytest

JOB = {
    "name": "h4-v2-extended",
    "models": [{"name": "mistral-7b", "path": "mistralai/Mistral-7B-v0.1", "lab": "Mistral", "expected": "EXPAND",
                "revision": "main", "step": 0, "meta": {"training_tokens": 8e12, "kind": "base", "tied": False},
                "prompt_sets": ["test"]}],
    "models_root": "checkpoints",
    "prompt_sets": [{"name": "test", "prompts": ["The capital of France is Paris.", {"id": "ids", "input_ids": [1, 2]}]},
                    {"name": "facts", "path": "facts.jsonl"},
                    {"name": "induction", "repeated_random_tokens": {"prompts": 32, "length": 50, "seed": 1}}],
    "analyses": ["weights", "heads", "unembedding", "attention", "sheaf", "residual"],
    "sheaf": {"beta": {"from": 1e-3, "to": 1e3, "count": 25}, "graph_eigenvalues": True},
    "last_token_geometry": {"boundaries": [0, 8, -1]},
    "tensors": {"include": ["*.weight"], "exclude": ["*.wte.*"], "convolutions": ["*conv*"], "max_elements": 1000000},
    "compute": {"dtype": "float32", "device": "auto", "tokens_per_batch": 4096, "max_memory_gib": 20, "stages": "auto",
                "threads": 2},
    "slicing": "correct",
    "keep": ["trace", "gain"],
    "output": "h4-v2-extended",
}


@pytest.fixture(scope="module")
def validator():
    import pathlib

    schema = json.loads((pathlib.Path(__file__).resolve().parents[2] / "jobs" / "job.schema.json").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def test_jobs_of_the_repository_are_valid(validator, root):
    jobs = [path for path in root.glob("jobs/**/*.json") if "results" not in path.parts and "models" not in path.parts
            and path.name != "job.schema.json"]
    assert jobs
    for path in jobs:
        job = json.loads(path.read_text())
        assert not [f"{path}: {error.json_path}: {error.message}" for error in validator.iter_errors(job)]
        for prompt_set in job["prompt_sets"]:
            assert "path" not in prompt_set or (path.parent / prompt_set["path"]).is_file()


def test_a_job_with_every_key_and_one_with_the_fewest_are_valid(validator):
    validator.validate(JOB)
    validator.validate(JOB | {"last_token_geometry": {"every": 4}})
    validator.validate({"name": "weights", "models": [{"name": "m", "path": "m"}], "prompt_sets": [], "analyses": ["weights"]})


def test_every_key_of_the_schema_is_in_the_full_job(validator):
    """So that the test above misses no key."""
    properties = validator.schema["properties"]
    assert set(properties) - {"$schema"} == set(JOB)
    for part in ("compute", "sheaf"):
        assert set(properties[part]["properties"]) == set(JOB[part])
    assert set(validator.schema["definitions"]["model"]["properties"]) == set(JOB["models"][0])


@pytest.mark.parametrize("keep", ["all", "statistics", [], ["row_entropy"]], ids=json.dumps)
def test_what_keep_may_be(validator, keep):
    validator.validate(JOB | {"keep": keep})


@pytest.mark.parametrize("prompt", ["", {"text": ""}, {"input_ids": []}, {"input_ids": [-1]}], ids=json.dumps)
def test_a_bad_prompt_is_left_to_the_run(validator, prompt):
    """It is an error of this prompt alone, not of the job."""
    job = copy.deepcopy(JOB)
    job["prompt_sets"][0]["prompts"].append(prompt)
    validator.validate(job)


# Path to a value of JOB, and what to put there; None as value: take the key away
BAD = [
    (["nmae"], "x"), (["models", 0, "lap"], "x"), (["compute", "batch"], 1), (["sheaf", "betas"], {}),
    (["sheaf", "beta", "steps"], 1), (["prompt_sets", 0, "text"], "x"), (["prompt_sets", 0, "prompts", 1, "tokens"], [1]),
    (["name"], None), (["models"], None), (["prompt_sets"], None), (["models", 0, "path"], None),
    (["models"], []), (["name"], ""), (["name"], "a/b"), (["models", 0, "name"], "../up"), (["models", 0, "name"], 3),
    (["prompt_sets", 0, "prompts"], []), (["prompt_sets", 0, "path"], "both.txt"),
    (["prompt_sets", 1, "path"], None), (["prompt_sets", 0, "prompts", 1, "input_ids"], None),
    (["prompt_sets", 0, "prompts", 1, "input_ids"], ["one"]),
    (["prompt_sets", 2, "path"], "beside.txt"), (["prompt_sets", 2, "repeated_random_tokens", "lenght"], 5),
    *[(["prompt_sets", 2, "repeated_random_tokens", key], value) for key in ("prompts", "length", "seed") for value in (None, -1, 1.5, 10**17)],
    (["prompt_sets", 2, "repeated_random_tokens", "prompts"], 0), (["prompt_sets", 2, "repeated_random_tokens", "length"], 0),
    (["analyses"], []), (["analyses", 0], "weigths"), (["analyses"], ["heads", "heads"]),
    (["sheaf", "beta", "from"], 0), (["sheaf", "beta", "count"], 0), (["sheaf", "beta", "count"], 2.5),
    (["sheaf", "beta", "to"], None), (["sheaf", "graph_eigenvalues"], "yes"),
    (["compute", "dtype"], "float16"), (["compute", "device"], "gpu"), (["compute", "tokens_per_batch"], 0),
    (["compute", "max_memory_gib"], 0), (["compute", "stages"], 0), (["compute", "stages"], "all"),
    (["compute", "threads"], 0), (["compute", "threads"], 100000), (["sheaf", "beta", "count"], 10**9),
    (["keep"], "some"), (["keep"], ["tracce"]), (["keep"], ["trace", "trace"]), (["models", 0, "revision"], ""),
    (["models", 0, "step"], 1.5), (["models", 0, "step"], "1000"), (["models", 0, "meta"], []),
    (["models", 0, "meta", "list"], [1]), (["models", 0, "meta", "none"], {}),
    (["prompt_sets", 0, "prompts", 1, "text"], "beside ids"), (["slicing"], "published"), (["output"], ""),
]


@pytest.mark.parametrize("path, value", BAD, ids=lambda part: json.dumps(part))
def test_bad_values_are_refused(validator, path, value):
    job = copy.deepcopy(JOB)
    place = job
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    assert list(validator.iter_errors(job))


STUDY_JOBS = {"opt_anomaly": 5, "llama31_anomaly": 3, "restriction_maps": 7, "lstar": 9, "h4_v2_extended": 5}  # models of each notebook


def test_every_study_of_the_report_has_its_job(root):
    from spectrace.studies import STUDIES

    assert set(STUDIES) == set(STUDY_JOBS)
    for study, num_models in STUDY_JOBS.items():
        folder = root / "jobs" / study.replace("_", "-")
        job, readme = json.loads((folder / "job.json").read_text()), (folder / "README.md").read_text()
        assert len(job["models"]) == num_models and job["output"] == "results"
        for model in job["models"]:
            assert model["lab"] and model["expected"] and model["path"].count("/") == 1  # a hub id
        assert job["compute"]["dtype"] == "float32"
        for part in ("**The question.**", "**What it costs**", "**What to expect.**", f"spectrace check jobs/{folder.name}/job.json"):
            assert part in readme


def test_prompts_of_the_studies_are_the_notebooks(root):
    prompts = {path.parent.name: [text for prompt_set in json.loads(path.read_text())["prompt_sets"] for text in prompt_set["prompts"]]
               for path in root.glob("jobs/*/job.json")}
    assert prompts["h4-v2-extended"] == ["The capital of France is Paris.", "The sky is made of chocolate.", "Once upon a time in a land far away",
                                         "def fibonacci(n): return n if n < 2 else"]
    assert prompts["opt-anomaly"] == ["The capital of France is Paris.", "Once upon a time in a land far away"]
    assert prompts["lstar"] == ["The quick brown fox jumps over the lazy dog."]
    assert prompts["restriction-maps"] == []
