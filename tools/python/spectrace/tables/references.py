"""Which model a study holds the others against, and why that one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from spectrace.results import Results


@dataclass(frozen=True)
class Reference:
    """The reference model (None: no model is there to compare), the models held against it, and the reason in words."""

    model: str | None
    subjects: tuple[str, ...]
    reason: str


def _usable(results: Results, group: str) -> list[str]:
    return [model for model in results if group in results.groups(model)]


def choose(results: Results, group: str, reference: tuple[str, str], subject: tuple[str, str]) -> Reference:
    """The reference of a study: by `"meta": {"role": "reference"}` of the job, else by the study's own kind of model, else the first.

    group: what a model's file must hold. reference, subject: name of the kind, and a regular expression over architecture and name.
    """
    models = _usable(results, group)
    roles = {model: results.meta(model).get("role") for model in models}

    def of_kind(pattern: str) -> list[str]:
        return [model for model in models
                if re.search(pattern, f"{results.attributes(model).get('architecture', '')} {model}", re.IGNORECASE)]

    chosen = [model for model in models if roles[model] == "reference"]
    if chosen:
        reason = "the job says so (meta: role)"
    elif chosen := of_kind(reference[1]):
        reason = f"the first {reference[0]} of the job"
    elif models:
        chosen, reason = models, f"the first model of the job, since none is a {reference[0]}"
    else:
        return Reference(None, (), f"no model has {group}")
    subjects = [model for model in models if roles[model] == "subject" and model != chosen[0]]
    if not subjects:
        subjects = [model for model in of_kind(subject[1]) if model != chosen[0]]
        if not subjects:
            subjects = [model for model in models if model != chosen[0]]
            if subjects:
                reason += f"; every other model is held against it, since none is a {subject[0]}"
    return Reference(chosen[0], tuple(subjects), reason)


def opt_anomaly(results: Results) -> Reference:
    return choose(results, "weights", ("GPT-2", r"^GPT2|\bgpt-?2"), ("OPT model", r"^OPT|\bopt-"))


def llama31_anomaly(results: Results) -> Reference:
    return choose(results, "unembedding", ("Mistral", "mistral"), ("Llama 3.1", r"llama-?_?3\.?1"))
