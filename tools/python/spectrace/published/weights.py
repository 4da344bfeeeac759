"""Where the program would look for a published model's weights on this machine, and whether they are there."""

from __future__ import annotations

import os
import pathlib

from spectrace import model_names
from spectrace.results import Results


def hub_caches() -> list[pathlib.Path]:
    """Folders of the hub's cache, in the order in which the program looks (src/checkpoint/hub.cpp)."""
    places = {"HF_HUB_CACHE": "", "HUGGINGFACE_HUB_CACHE": "", "HF_HOME": "hub", "XDG_CACHE_HOME": "huggingface/hub",
              "HOME": ".cache/huggingface/hub", "TRANSFORMERS_CACHE": ""}
    return [pathlib.Path(os.path.expandvars(os.path.expanduser(os.environ[variable])), below)
            for variable, below in places.items() if os.environ.get(variable)]


def folders(hub_id: str, results: Results) -> list[pathlib.Path]:
    """Every folder where the weights might lie: the job's models_root, and the hub's caches."""
    name = "models--" + hub_id.replace("/", "--")
    root = results.job.get("models_root")
    of_root = []
    if isinstance(root, str) and root:
        base = pathlib.Path(root).expanduser()
        of_root = [base / hub_id, base / name]
    return of_root + [cache / name for cache in hub_caches()]


def where(model: str, results: Results) -> str:
    """Whether the weights are on this machine, with the folder, or with every folder that was looked at."""
    hub_id = model_names.hub_id(model) or model
    looked_at = folders(hub_id, results)
    for folder in looked_at:
        if folder.is_dir():
            return f"its weights are there ({folder}): run jobs/published"
    return f"no weights of {hub_id} (looked at {', '.join(str(folder) for folder in looked_at) or 'no folder: HOME is not set'})"
