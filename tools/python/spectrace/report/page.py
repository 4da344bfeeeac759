"""Studies as one HTML page that needs nothing but itself: style, script, Plotly and all numbers are in it."""

from __future__ import annotations

import datetime
import html
import itertools
import json
import math
from importlib import resources

import numpy as np
import pandas as pd
from plotly.offline import get_plotlyjs

from spectrace import tables
from spectrace.inference import Outcome, number, p_text
from spectrace.studies.base import Block, Context, Picture, Shown, Study, Tested, Words

VERDICTS = {"yes": "yes", "no": "no", "open": "can’t be said"}
SIGNIFICANT = 4
MOST_MODELS_OPEN = 12  # a longer list of models gets a field to search it


def format_number(value: object) -> str:
    """Four significant digits; whole numbers whole; a dash where there is no value."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", "\u2009").replace("-", "−")
    return f"{value:.{SIGNIFICANT}g}".replace("-", "−")


def _attributes(**values: object) -> str:
    """HTML attributes; None leaves one out, _ stands for - in their names."""
    return "".join(f' {name.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"' for name, value in values.items() if value is not None)


def _sort_key(value: object) -> str | None:
    """What a cell is sorted by, where that is not its text."""
    if isinstance(value, (int, float, np.number)) and not isinstance(value, (bool, np.bool_)) and value == value:
        return f"{float(value):.17g}"
    return None


def _kind(values: pd.Series) -> str:
    return "text" if pd.api.types.is_string_dtype(values) else "number"


# Blocks ---------------------------------------------------------------------------------------------------------------

class Page:
    """Collects the figures of the page while its blocks become HTML."""

    def __init__(self) -> None:
        self.figures: list[str] = []

    def study(self, study: Study) -> str:
        parts = [f'<section id="{study.name}" aria-labelledby="{study.name}-title">',
                 f'<h2 id="{study.name}-title">{html.escape(study.title)}</h2>', f'<p class="question">{html.escape(study.question)}</p>']
        if study.background:
            parts.append(f'<p class="quiet">{html.escape(study.background)}</p>')
        answers = [block for block in study.blocks if isinstance(block, Words) and block.kind == "answer"]
        if answers:
            parts.append('<div class="answer"><h3>Answer</h3>' + "".join(self._words(block) for block in answers) + "</div>")
        rest = [block for block in study.blocks if block not in answers]
        for (is_picture, fold), run in itertools.groupby(rest, key=lambda block: (isinstance(block, Picture), getattr(block, "fold", ""))):
            blocks = "\n".join(self._block(block) for block in run)
            blocks = f'<div class="figures">{blocks}</div>' if is_picture else blocks
            parts.append(f'<details class="folded"><summary>{html.escape(fold)}</summary>{blocks}</details>' if fold else blocks)
        return "\n".join(parts + ["</section>"])

    def _block(self, block: Block) -> str:
        if isinstance(block, Words):
            return self._words(block)
        if isinstance(block, Picture):
            return self._picture(block)
        return self._table(block) if isinstance(block, Shown) else self._tests(block)

    def _words(self, block: Words) -> str:
        kind = block.kind if block.kind in ("warning", "missing") else None
        return f'<p{_attributes(class_=kind, data_set=block.prompt_set)}>{html.escape(block.text)}</p>'

    def _picture(self, picture: Picture) -> str:
        spec = json.loads(picture.figure.to_json())
        model = (spec["layout"].get("meta") or {}).get("model")
        self.figures.append(json.dumps({"data": spec["data"], "layout": spec["layout"]}, separators=(",", ":"), allow_nan=False))
        height = spec["layout"].get("height")
        return (f'<figure{_attributes(class_="card wide-card" if picture.is_wide else "card", data_set=picture.prompt_set, data_model=model)}>'
                f'<figcaption>{html.escape(picture.title)}</figcaption>'
                f'<div class="drawing" tabindex="0" role="img"{_attributes(aria_label=f"{picture.title}. {picture.description}", data_figure=len(self.figures) - 1, style=f"height:{height}px" if height else None)}></div>'
                + (f'<p class="quiet">{html.escape(picture.caption)}</p>' if picture.caption else "") + "</figure>")

    def _table(self, shown: Shown) -> str:
        documented = {column.name: column for column in tables.find(shown.table).columns} if shown.table else {}
        names = [name for name in shown.columns if name in shown.frame
                 and (shown.frame[name].notna().any() or name in ("model", "reference_over_model"))]
        heads, meanings = [], []
        for name in names:
            column = documented.get(name)
            heading = column.heading if column and column.heading else name.removeprefix("meta_").replace("_", " ")
            unit = f" ({column.unit})" if column and column.unit not in ("1", "") else ""
            meaning = (column.meaning + unit) if column else ""
            kind = _kind(shown.frame[name])
            heads.append(f'<th class="{kind}" scope="col"><button type="button"{_attributes(title=meaning or None)}>{html.escape(heading)}</button></th>')
            if meaning:
                meanings.append(f"<dt>{html.escape(heading)}</dt><dd>{html.escape(meaning)}</dd>")
        texts = {name for name in names if _kind(shown.frame[name]) == "text"}
        rows = "".join(self._row(row, names, texts) for row in shown.frame[names].itertuples(index=False, name=None)) if names else ""
        title = html.escape(shown.title)
        body = (f'<div class="wide" tabindex="0" role="region" aria-label="{title}"><table><thead><tr>{"".join(heads)}</tr></thead><tbody>{rows}</tbody></table></div>'
                if rows else '<p class="quiet">No rows.</p>')
        note = f'<p class="quiet">{html.escape(shown.note)}</p>' if shown.note else ""
        meaning = f'<details class="meanings"><summary>What the columns mean</summary><dl>{"".join(meanings)}</dl></details>' if meanings and rows else ""
        inner = f"{note}{body}<div class=\"under\">{meaning}{'<button type=button class=csv>Save as CSV</button>' if rows else ''}</div>"
        if shown.is_folded:
            return f'<details{_attributes(class_="block folded", data_set=shown.prompt_set)}><summary>{title} ({len(shown.frame)} rows)</summary>{inner}</details>'
        return f'<div{_attributes(class_="block", data_set=shown.prompt_set)}><h3>{title}</h3>{inner}</div>'

    def _row(self, row: tuple, names: list[str], texts: set[str]) -> str:
        cells = []
        for name, value in zip(names, row):
            cells.append(f'<td{_attributes(class_="text" if name in texts else None, data_v=_sort_key(value))}>{html.escape(format_number(value))}</td>')
        return f'<tr{_attributes(data_model=row[names.index("model")] if "model" in names else None)}>{"".join(cells)}</tr>'

    def _tests(self, tested: Tested) -> str:
        note = f'<p class="quiet">{html.escape(tested.note)}</p>' if tested.note else ""
        return (f'<div{_attributes(class_="block tests", data_set=tested.prompt_set)}><h3>{html.escape(tested.title)}</h3>{note}'
                + "".join(self._test(outcome) for outcome in tested.outcomes) + "</div>")

    def _test(self, outcome: Outcome) -> str:
        interval = f"[{number(outcome.low)}, {number(outcome.high)}]" if outcome.low == outcome.low else "none"
        facts = [("n", outcome.n), (outcome.effect_name, number(outcome.effect)), ("95 % interval", interval),
                 ("p", p_text(outcome.p).removeprefix("p ").removeprefix("= ") if outcome.p == outcome.p else "none"), ("method", outcome.method
                  + (f", {outcome.statistic_name} = {number(outcome.statistic)}" if outcome.statistic == outcome.statistic else ""))]
        cells = "".join(f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>" for name, value in facts)
        note = f'<p class="quiet">{html.escape(outcome.note)}</p>' if outcome.note else ""
        return (f'<article class="test"><h4><span class="chip {outcome.verdict}">{VERDICTS[outcome.verdict]}</span> {html.escape(outcome.question)}</h4>'
                f'<p>{html.escape(outcome.words)}</p><dl class="facts">{cells}</dl>{note}</article>')


# The page -------------------------------------------------------------------------------------------------------------

def _file(name: str) -> str:
    return resources.files("spectrace.report").joinpath(name).read_text(encoding="utf-8")


def _inert(text: str) -> str:
    """JSON that can stand in a <script> element whatever its texts hold."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _swatch(context: Context, model: str) -> str:
    style = context.styles.of[model]
    dash = {"solid": "", "dash": "7 4", "dot": "2 3", "dashdot": "7 3 2 3", "longdash": "11 4", "longdashdot": "11 3 2 3"}[style.dash]
    return (f'<svg width="26" height="10" aria-hidden="true"><line x1="0" y1="5" x2="26" y2="5" stroke="{style.color}" stroke-width="3"'
            + (f' stroke-dasharray="{dash}"' if dash else "") + "/></svg>")


def _chooser(context: Context) -> str:
    models = list(context.results)
    boxes = "".join(f'<label{_attributes(title=model)}><input type="checkbox" checked value="{html.escape(model)}">{_swatch(context, model)}<span>{html.escape(model)}</span></label>' for model in models)
    search = '<input type="search" id="find-model" placeholder="find a model" aria-label="Find a model">' if len(models) > MOST_MODELS_OPEN else ""
    sets = "".join(f'<option value="{html.escape(name)}">{html.escape(name)}</option>' for name in context.prompt_sets)
    chosen = f'<label class="set">Prompt set <select id="prompt-set">{sets}</select></label>' if len(context.prompt_sets) > 1 else ""
    return (f'{chosen}<fieldset id="models"><legend>Models</legend><div class="buttons"><button type="button" id="all-models">all</button>'
            f'<button type="button" id="no-models">none</button></div>{search}<div class="list">{boxes}</div>'
            '<p class="quiet">Choose what figures and tables show. Tests and averages are always of all models.</p></fieldset>')


def _subtitle(context: Context) -> list[str]:
    results = context.results
    attributes = [results.attributes(model) for model in results]
    times = [results.file(model).stat().st_mtime for model in results]
    days = sorted({datetime.datetime.fromtimestamp(t).strftime("%Y-%m-%d %H:%M") for t in (min(times), max(times))})
    computed = sorted({str(a["compute_dtype"]) for a in attributes if a.get("compute_dtype")})
    betas = {tuple(json.loads(a["parameters"]).get("beta", ())) for a in attributes if str(a.get("parameters", "")).startswith("{")} - {()}
    lines = [f"{len(results)} model{'s' if len(results) != 1 else ''}, {len(context.prompt_sets)} prompt set{'s' if len(context.prompt_sets) != 1 else ''}"
             + (f" ({', '.join(context.prompt_sets)})" if context.prompt_sets else ""),
             f"forward pass in {', '.join(computed) or '?'}, spectra and sums in float64",
             f"files written {' to '.join(days)}", ", ".join(sorted({str(a.get('source', 'spectrace')) for a in attributes})),
             f"report of {datetime.datetime.now().strftime('%Y-%m-%d %H:%M')}"]
    lines[2:2] = [f"β from {number(min(grid))} to {number(max(grid))}, {len(grid)} points" for grid in sorted(betas)]
    return lines


def html_page(context: Context, studies: list[Study]) -> str:
    """The whole page. It asks nothing of the network, and no text of the results can become markup or script."""
    page = Page()
    sections = "\n".join(page.study(study) for study in studies)
    name = context.results.job.get("name") or context.results.path.resolve().name
    title = html.escape(f"spectrace: {name}")
    links = "".join(f'<li><a href="#{study.name}">{html.escape(study.title)}</a></li>' for study in studies)
    plotly = get_plotlyjs().replace("</script", "<\\/script")
    figures = _inert("[" + ",".join(page.figures) + "]")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><link rel="icon" href="data:,">
<style>{_file("style.css")}</style></head><body>
<a class="skip" href="#main">To the results</a>
<header><h1>{title}</h1><p class="quiet">{" · ".join(html.escape(line) for line in _subtitle(context))}</p></header>
<div class="frame"><aside><details id="panel" open><summary>Contents and models</summary><nav aria-label="Contents"><ul>{links}</ul></nav>{_chooser(context)}</details></aside>
<main id="main">
<noscript><p class="warning">Figures and sorting need JavaScript; the tables and tests are all here without it.</p></noscript>
{sections}
</main></div>
<script type="application/json" id="figures">{figures}</script>
<script>{plotly}</script>
<script>{_file("script.js")}</script>
</body></html>
"""
