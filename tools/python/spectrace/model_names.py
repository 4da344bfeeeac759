"""Which published model a model of a sweep is, and what the notebooks call it."""

from __future__ import annotations

import pathlib

from spectrace.results import Results

# As the notebooks name them to the hub's client.
HUB_IDS = (
    "EleutherAI/pythia-70m", "EleutherAI/pythia-160m", "EleutherAI/pythia-410m", "EleutherAI/pythia-1b", "EleutherAI/pythia-1.4b",
    "EleutherAI/pythia-2.8b", "EleutherAI/pythia-6.9b", "EleutherAI/pythia-12b", "EleutherAI/gpt-neo-125M", "EleutherAI/gpt-j-6B",
    "facebook/opt-125m", "facebook/opt-350m", "facebook/opt-1.3b", "gpt2", "openai-community/gpt2-medium", "openai-community/gpt2-large",
    "bigscience/bloom-560m", "mistralai/Mistral-7B-v0.1", "meta-llama/Llama-3.1-8B", "google/gemma-2b", "google/gemma-2-9b",
)
# Other spellings of a hub id's last part.
ALIASES = {"meta-llama-3.1-8b": "llama-3.1-8b", "llama3.1-8b": "llama-3.1-8b", "mistral-7b": "mistral-7b-v0.1", "gemma2-9b": "gemma-2-9b"}
_IDS = {hub_id.rpartition("/")[2].lower(): hub_id for hub_id in HUB_IDS}


def canonical(name: str) -> str:
    """A model's name or hub id without its organisation and revision, in small letters and one spelling."""
    short = name.rstrip("/").rpartition("/")[2].partition("@")[0].lower()
    return ALIASES.get(short, short)


def hub_id(name: str) -> str | None:
    """The hub id of a model that the notebooks or published files know; None of any other."""
    return _IDS.get(canonical(name))


def job_path(results: Results, model: str) -> str:
    """Where the job says that the model lies; "" where that is not known."""
    models = results.job.get("models", [])
    for entry in models if isinstance(models, list) else []:
        if isinstance(entry, dict) and entry.get("name") == model and isinstance(entry.get("path"), str):
            return entry["path"]
    return ""


def known_as(results: Results, model: str) -> str | None:
    """The hub id of a model of a sweep, told by its name, else by its path in the job; None if the notebooks do not know it."""
    return hub_id(model) or hub_id(pathlib.PurePosixPath(job_path(results, model)).as_posix())
