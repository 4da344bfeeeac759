"""The studies: what each asks of a sweep, and its answer in tables, figures and tests."""

from __future__ import annotations

from spectrace.results import Results, ResultsError
from spectrace.studies import h4_v2_extended, heads, lineage, llama31_anomaly, lstar, opt_anomaly, prediction, restriction_maps, sweep
from spectrace.studies.base import Context, Study
from spectrace.studies.drawing import Styles

STUDIES = {"opt_anomaly": opt_anomaly.study, "llama31_anomaly": llama31_anomaly.study, "restriction_maps": restriction_maps.study,
           "lstar": lstar.study, "h4_v2_extended": h4_v2_extended.study}


def context_of(results: Results, prompt_sets: list[str] | None = None) -> Context:
    """What studies are made from. prompt_sets: those to report on, None: all. Raises ResultsError for one that is not there."""
    there = results.prompt_sets()
    unknown = [name for name in prompt_sets or [] if name not in there]
    if unknown:
        raise ResultsError(f"{results.path}: no prompt set '{unknown[0]}' (there are {', '.join(there) or 'none'})")
    return Context(results, Styles(results), tuple(prompt_sets or there))


def all_studies(context: Context) -> list[Study]:
    """The sweep, the five studies, and what else the files hold, in the report's order."""
    parts = [sweep.overview(context), *(make(context) for make in STUDIES.values()), prediction.study(context), heads.study(context), sweep.residual(context), lineage.study(context), sweep.steps(context), sweep.spectra(context), sweep.others(context)]
    return [part for part in parts if part is not None]
