"""What a sweep measured of a model, as the rules of the published check ask for it."""

from __future__ import annotations

import numpy as np

from spectrace import declarations, model_names
from spectrace.published.numbers import FLOAT32, Source
from spectrace.results import Results
from spectrace.tables.general import by_layer, prompt_mean, scalar
from spectrace.tables.heavy_tails import matrix_shape


class NotRun(Exception):
    """A number has nothing to be held against; the text says what is missing."""


def choose_prompt_set(results: Results, model: str, source: Source) -> str:
    """The set that holds the source's prompts: by its name in jobs/published, else by its texts in the job. Raises NotRun."""
    sets = results.prompt_sets(model)
    found = source.prompt_set if source.prompt_set in sets else next(
        (name for name in sets if source.prompts and _texts(results, name) == source.prompts), None)
    if found is None:
        if source.prompts:
            raise NotRun(f"no prompt set with its {source.num_prompts} prompts (jobs/published calls it '{source.prompt_set}')")
        raise NotRun(f"its {source.num_prompts} prompts were not published; a prompt set '{source.prompt_set}' would be taken for them")
    group = results.group(model, f"prompts/{found}")
    there = group.sizes.get("prompt", 0)
    if there != source.num_prompts:
        raise NotRun(f"prompt set '{found}' has {there} prompts, {source.num_prompts} were published")
    if source.prompts and _texts(results, found) not in ((), source.prompts):
        raise NotRun(f"prompt set '{found}' has other prompts than were published")
    failed = int(np.count_nonzero(group["prompt_error"].values != "")) if "prompt_error" in group else 0
    if failed:
        raise NotRun(f"{failed} of the {there} prompts of '{found}' failed")
    return found


def _texts(results: Results, prompt_set: str) -> tuple[str, ...]:
    sets = results.job.get("prompt_sets", [])
    for entry in sets if isinstance(sets, list) else []:
        if isinstance(entry, dict) and entry.get("name") == prompt_set and isinstance(entry.get("prompts"), list):
            return tuple(str(prompt.get("text", "")) if isinstance(prompt, dict) else str(prompt) for prompt in entry["prompts"])
    return ()


class Measured:
    """A model of a sweep, read as it is asked for. What is not there raises NotRun."""

    def __init__(self, results: Results, model: str, source: Source):
        self.results, self.model, self.source = results, model, source
        self.attributes = results.attributes(model)
        if not self.attributes.get("num_layers"):
            raise NotRun(f"'{model}' failed: {self.attributes.get('error') or 'no reason noted'}")
        self.num_layers = int(self.attributes["num_layers"])
        self._prompt_set: str | None = None

    @property
    def prompt_set(self) -> str:
        if self._prompt_set is None:
            self._prompt_set = choose_prompt_set(self.results, self.model, self.source)
        return self._prompt_set

    @property
    def is_as_published(self) -> bool:
        return str(self.attributes.get("slicing", "")).startswith("as-published")

    @property
    def is_rounded(self) -> bool:
        """Whether weights were rounded to float16 before their spectra."""
        return self.attributes.get("slicing") == "as-published-float16"

    @property
    def weights_unit(self) -> float:
        """The notebook's unit roundoff, as far as the weights here were not rounded as its were."""
        return FLOAT32 if self.is_rounded else self.source.unit

    def _expect_its_rounding(self) -> None:
        if self.is_rounded and self.source.unit == FLOAT32:
            raise NotRun(f"'{self.model}' has weights that were rounded to float16, the notebook took float32: \"slicing\": \"as-published\" or \"correct\"")

    @property
    def known_as(self) -> str:
        return model_names.known_as(self.results, self.model) or self.model

    def attribute(self, name: str) -> float:
        value = self.attributes.get(name)
        if not isinstance(value, (int, float)):
            raise NotRun(f"'{self.model}' has no {name}")
        return float(value)

    def weights(self, quantity: str, matrix: str) -> np.ndarray:
        """By layer."""
        self._expect_its_rounding()
        values = by_layer(self.results.group(self.model, "weights"), quantity, matrix=matrix)
        if values is None:
            raise NotRun(f"'{self.model}' has no {quantity} of weights (analysis weights)")
        return values

    def shape(self, matrix: str) -> tuple[int, int]:
        return matrix_shape(self.attributes, matrix)

    def unembedding(self, quantity: str) -> float:
        self._expect_its_rounding()
        group = self.results.group(self.model, "unembedding")
        if group is None or quantity not in group:
            raise NotRun(f"'{self.model}' has no {quantity} of W_U (analysis unembedding)")
        return scalar(group, quantity)

    def mean(self, quantity: str) -> np.ndarray:
        """Over the prompts, by layer."""
        return self._of_prompts(quantity, prompt_mean(self.results, self.model, self.prompt_set, quantity))

    def std(self, quantity: str) -> np.ndarray:
        """Over the prompts as the notebooks take it: over n, not n-1."""
        statistics = self.results.statistics(self.model, self.prompt_set)
        unbiased = self._of_prompts(quantity, by_layer(statistics, quantity, statistic="std"))
        count = by_layer(statistics, quantity, statistic="count")
        with np.errstate(invalid="ignore", divide="ignore"):
            return unbiased * np.sqrt((count - 1) / count)

    def by_prompt(self, quantity: str) -> np.ndarray:
        """(prompt, …)"""
        group = self.results.group(self.model, f"prompts/{self.prompt_set}")
        return self._of_prompts(quantity, np.asarray(group[quantity].values, dtype=float) if quantity in group else None)

    def statistic(self, name: str) -> float:
        value = scalar(self.results.statistics(self.model, self.prompt_set), name)
        if value != value:
            raise NotRun(f"'{self.model}' has no {name} for prompt set '{self.prompt_set}'")
        return value

    def over_any_prompts(self, name: str) -> float:
        """A statistic over whatever prompts there are: what a typed-in number, or one of unknown prompts, is held against."""
        for prompt_set in self.results.prompt_sets(self.model):
            value = scalar(self.results.statistics(self.model, prompt_set), name)
            if value == value:
                return value
        raise NotRun(f"'{self.model}' has no {name} (analysis {declarations.of_prompts(name).analysis} was not run, or there are no prompts)")

    def last_gain(self) -> float:
        return self.over_any_prompts("last_gain_mean")

    def num_tokens(self) -> np.ndarray:
        return np.asarray(self.results.group(self.model, f"prompts/{self.prompt_set}")["num_tokens"].values, dtype=float)

    def _of_prompts(self, quantity: str, values: np.ndarray | None) -> np.ndarray:
        if values is None:
            analysis = declarations.of_prompts(quantity).analysis
            raise NotRun(f"'{self.model}' has no {quantity} for prompt set '{self.prompt_set}' (analysis {analysis} was not run, or `keep` left it out)")
        return values
