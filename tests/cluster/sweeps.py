"""Jobs for the cluster tests, and what a run with one rank makes of them."""

import json
import shutil
import time

from models import ids_set, make_llama
from program import DEMO_MODELS, bytes_of, run_job, write_job


def make_job(folder, prompts, models=2, name="job"):
    """A job in `folder`: its own models, so that the folder is all it needs."""
    for i in range(models):
        make_llama(folder / f"m{i}", seed=i, layers=6, config={"max_position_embeddings": 256})
    job = {
        "name": name,
        "models": [{"name": f"m{i}", "path": f"m{i}"} for i in range(models)],
        "prompt_sets": [ids_set("a", count=prompts, longest=100), ids_set("b", count=3, seed=5)],
        "compute": {"tokens_per_batch": 200, "threads": 1},
    }
    return write_job(folder, job, f"{name}.json"), job


def make_demo_job(folder, prompts):
    """The committed demo models on `prompts` prompts."""
    for model in DEMO_MODELS:
        shutil.copytree(model, folder / model.name)
    job = {
        "name": "job",
        "models": [{"name": model.name, "path": model.name} for model in DEMO_MODELS],
        "prompt_sets": [ids_set("a", count=prompts, longest=60)],
        "compute": {"tokens_per_batch": 200, "threads": 1},
    }
    return write_job(folder, job, "job.json"), job


class Reference:
    """The job as one rank does it; `prompts` so that this takes about `seconds`."""

    def __init__(self, folder, seconds, make=make_job):
        self.prompts = 40
        self.make = make
        for attempt in range(6):
            path, job = make(folder / str(attempt), self.prompts)
            start = time.monotonic()
            self.results = run_job(folder / str(attempt), job)
            spent = time.monotonic() - start
            if spent > 0.6 * seconds:
                break
            self.prompts = int(self.prompts * min(8.0, max(1.5, 0.9 * seconds / spent)))
        self.bytes = bytes_of(self.results)

    def copy(self, folder):
        return self.make(folder, self.prompts)[0]


def progress(results):
    try:
        return json.loads((results / "progress.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def in_the_middle(results):
    """Some of the work is done and journalled, not all."""
    now = progress(results)
    if now.get("state") != "running":
        return False
    try:
        journalled = sum(path.stat().st_size for path in (results / "journal").rglob("*") if path.is_file())
    except FileNotFoundError:
        return False  # a model ends in this moment
    return journalled > 0 and now.get("fraction", 0) < 0.9
