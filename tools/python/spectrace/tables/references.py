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


@dataclass(frozen=True)
class Kind:
    """A kind of model by name, and a regular expression over architecture and name."""

    name: str
    pattern: str

    def among(self, results: Results, models: list[str]) -> list[str]:
        return [model for model in models
                if re.search(self.pattern, f"{results.attributes(model).get('architecture', '')} {model}", re.IGNORECASE)]


def choose(results: Results, group: str, references: tuple[Kind, ...], subjects: tuple[Kind, ...]) -> Reference:
    """The reference of a study and what is held against it: by the job's `"meta": {"role": "reference" | "subject"}`, else by the
    first of the study's kinds of models that is there, else the first model against all others.

    group: what a model's file must hold.
    """
    models = [model for model in results if group in results.groups(model)]
    if not models:
        return Reference(None, (), f"no model has the analysis “{group}”")
    roles = {model: results.meta(model).get("role") for model in models}
    of_subjects = [model for model in models if roles[model] == "subject"]
    of_subjects = of_subjects or next(filter(None, (kind.among(results, models) for kind in subjects)), [])
    chosen, reason = [model for model in models if roles[model] == "reference"], "the job says so (meta: role)"
    for number, kind in enumerate(references):
        if not chosen and (chosen := [model for model in kind.among(results, models) if model not in of_subjects]):
            reason = f"the first {kind.name} of the job" + (f", since none is a {references[0].name}" if number else "")
    if not chosen:
        chosen = [model for model in models if model not in of_subjects] or models
        reason = f"the first other model of the job, since none is a {references[0].name}"
    if len(models) == 1:
        reason = "the only model; held against itself"
    of_subjects = [model for model in of_subjects if model != chosen[0]]
    if not of_subjects:
        of_subjects = [model for model in models if model != chosen[0]]
        reason += f"; every other model is held against it, since none is a {subjects[0].name}" if of_subjects else ""
    return Reference(chosen[0], tuple(of_subjects), reason)


def opt_anomaly(results: Results) -> Reference:
    return choose(results, "weights", (Kind("GPT-2", r"^GPT2|\bgpt-?2"),), (Kind("OPT model", r"^OPT|\bopt-"),))


def llama31_anomaly(results: Results) -> Reference:
    rotary = "|".join(re.escape(model) for model in results if results.attributes(model).get("rope_theta")) or r"(?!)"
    return choose(results, "unembedding", (Kind("Mistral", "mistral"), Kind("model with rotary positions", rf" (?:{rotary})$")),
                  (Kind("Llama 3.1", r"llama-?_?3\.?1"), Kind("Llama", "^llama")))
