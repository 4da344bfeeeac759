"""spectrace-report FOLDER [-o DIR]: a page with the tables and figures of a results folder, and overview.png."""

from __future__ import annotations

import argparse
import base64
import html
import io
import math
import pathlib
import sys

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from spectrace import figures
from spectrace.results import Results, ResultsError, open_results

# Column of Results.summary, heading, what it means
PROMPT_COLUMNS = (
    ("trace_multihead_mean", "mean trace", "trace of the sheaf Laplacian, summed over heads; mean over prompts and layers"),
    ("l_star_trace", "L* trace", "layer where the prompt mean of the trace changes fastest"),
    ("l_star_entropy", "L* entropy", "first layer whose attention entropy has reached the midpoint of first and last layer"),
    ("l_star_sign_change", "L* sign", "first layer where the trace stops growing and starts to fall"),
    ("last_gain_mean", "last gain", "norm of the last token's vector after the last layer over that before it"),
    ("last_gain_after_norm_mean", "after norm", "the same with the final norm's output"),
    ("effective_amplification", "ampl.", "last gain times the spectral norm of W_U"),
)
MODEL_COLUMNS = (
    ("architecture", "architecture", "class named in the checkpoint's config"),
    ("num_layers", "layers", "number of blocks"),
    ("num_heads", "heads", "query heads"),
    ("num_kv_heads", "kv heads", "key/value heads"),
    ("hidden_size", "hidden", "size of the residual stream"),
    ("num_parameters", "weights", "numbers in the checkpoint that the model uses"),
    ("W_Q_spectral_norm_mean", "σ₁ W_Q", "mean spectral norm over the layers"),
    ("W_K_spectral_norm_mean", "σ₁ W_K", "mean spectral norm over the layers"),
    ("W_V_spectral_norm_mean", "σ₁ W_V", "mean spectral norm over the layers"),
    ("W_O_spectral_norm_mean", "σ₁ W_O", "mean spectral norm over the layers"),
    ("W_U_spectral_norm", "σ₁ W_U", "spectral norm of the unembedding"),
)

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: #222; background: #fff; margin: 0 auto; max-width: 1180px; padding: 2rem 1.5rem 4rem; }}
h1 {{ font-size: 1.7rem; margin: 0 0 .2rem; }} h2 {{ font-size: 1.2rem; margin: 2.6rem 0 .6rem; border-bottom: 1px solid #ddd; padding-bottom: .25rem; }}
h3 {{ font-size: 1rem; margin: 1.6rem 0 .3rem; }} p {{ max-width: 52rem; }} .quiet {{ color: #666; }}
img {{ width: 100%; height: auto; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .88rem; margin: .6rem 0; }}
th, td {{ padding: .32rem .7rem; border-bottom: 1px solid #e8e8e8; text-align: right; white-space: nowrap; }}
th {{ font-weight: 600; color: #444; border-bottom: 2px solid #ccc; }} th[title] {{ cursor: help; }}
td.text, th.text {{ text-align: left; }} tbody tr:hover {{ background: #f6f8fa; }}
td {{ font-variant-numeric: tabular-nums; }}
.failed {{ background: #fdf0ed; border-left: 4px solid #c0392b; padding: .2rem 1rem .6rem; margin: 1.2rem 0; }}
.failed td {{ white-space: normal; border-color: #f0d5cf; }}
.notice {{ background: #fff8e5; border-left: 4px solid #d8a000; padding: .5rem 1rem; margin: 1.2rem 0; }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1.2rem; font-size: .9rem; }} dt {{ font-weight: 600; }} dd {{ margin: 0; }}
</style></head><body>
<h1>{title}</h1>
<p class="quiet">{subtitle}</p>
{body}
</body></html>
"""


def format_number(value: object) -> str:
    """Four significant digits; whole numbers whole; a dash where there is no value."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, str):
        return value
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", " ")
    return f"{value:.4g}"


def html_table(table: pd.DataFrame, columns: tuple[tuple[str, str, str], ...]) -> str:
    """columns: name in the table, heading, explanation. A column that no row has a value for is left out."""
    shown = [column for column in columns if column[0] in table and table[column[0]].notna().any()]
    is_text = {name: pd.api.types.is_object_dtype(table[name]) or pd.api.types.is_string_dtype(table[name])
               for name, _, _ in shown}
    attribute = {name: ' class="text"' if text else "" for name, text in is_text.items()}
    head = "".join(f'<th{attribute[name]} title="{html.escape(meaning)}">{html.escape(heading)}</th>'
                   for name, heading, meaning in shown)
    rows = "".join("<tr>" + "".join(f"<td{attribute[name]}>{html.escape(format_number(row[name]))}</td>" for name, _, _ in shown)
                   + "</tr>" for _, row in table.iterrows())
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def html_figure(figure: Figure, description: str) -> str:
    """The figure inside the page, so that the page can be sent on as one file."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    plt.close(figure)
    return f'<img alt="{html.escape(description)}" src="data:image/png;base64,{base64.b64encode(picture.getvalue()).decode()}">'


def definitions(columns: tuple[tuple[str, str, str], ...]) -> str:
    return "<dl>" + "".join(f"<dt>{html.escape(heading)}</dt><dd>{html.escape(meaning)}</dd>" for _, heading, meaning in columns) + "</dl>"


def failures_section(results: Results) -> str:
    errors = results.errors
    if errors.empty:
        return ""
    columns = (("model", "model", ""), ("prompt_set", "prompt set", ""), ("prompt", "prompt", ""), ("error", "error", ""))
    return ('<div class="failed"><h3>What failed</h3><p>It is left out of every number and figure below.</p>'
            + html_table(errors, columns) + "</div>")


def slicing_notice(results: Results) -> str:
    marked = [model for model, tree in results.items() if tree.attrs.get("slicing") == "as-published"]
    if not marked:
        return ""
    return ('<div class="notice">Sliced as the published notebooks do, not as the models use their heads: '
            + html.escape(", ".join(marked)) + ".</div>")


def prompt_set_section(results: Results, summary: pd.DataFrame, prompt_set: str) -> str:
    rows = summary[summary["prompt_set"] == prompt_set]
    columns = (("model", "model", ""), ("num_prompts", "prompts", "prompts in the set"),
               ("num_prompts_failed", "failed", "prompts that failed")) + PROMPT_COLUMNS
    parts = [f"<h2>Prompt set “{html.escape(prompt_set)}”</h2>", html_table(rows, columns)]
    figure = figures.prompt_set_figure(results, prompt_set)
    if figure is not None:
        parts.append(html_figure(figure, f"Trace, attention entropy and gain by layer, prompt set {prompt_set}"))
    return "\n".join(parts)


def weights_section(results: Results, summary: pd.DataFrame) -> str:
    columns = (("model", "model", ""),) + MODEL_COLUMNS
    parts = ["<h2>Models and weights</h2>", html_table(summary.drop_duplicates("model"), columns)]
    figure = figures.weights_figure(results)
    if figure is not None:
        parts.append(html_figure(figure, "Spectral norms of W_Q, W_K, W_V and W_O by layer"))
    for model, tree in results.items():
        if "weights" in tree.children:
            parts.append(f"<h3>Singular values of {html.escape(model)}</h3>")
            parts.append(html_figure(figures.spectra_figure(results, model), f"Singular values of {model} by layer"))
    return "\n".join(parts)


def write_report(results: Results, folder: pathlib.Path) -> list[pathlib.Path]:
    """Writes report.html and overview.png into the folder; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    summary = results.summary
    prompt_sets = results.prompt_sets()
    first_set = prompt_sets[0] if prompt_sets else None

    overview = figures.overview(results, first_set)
    overview.savefig(folder / "overview.png")
    caption = "Lines are means over the prompts" + (f" of the set “{html.escape(first_set)}”" if first_set else "") + (
        "; bands are one standard deviation; dots mark L* (trace).")
    body = [failures_section(results), slicing_notice(results), "<h2>Overview</h2>", f'<p class="quiet">{caption}</p>',
            html_figure(overview, "Traces, gains, spectral norms and spectra by layer")]
    body += [prompt_set_section(results, summary, name) for name in prompt_sets]
    body += [weights_section(results, summary), "<h2>What the columns mean</h2>", definitions(PROMPT_COLUMNS + MODEL_COLUMNS)]

    any_attributes = next(iter(results.values())).attrs
    subtitle = (f"{len(results)} models, {len(prompt_sets)} prompt sets · forward pass in "
                f"{any_attributes.get('compute_dtype', '?')} · {any_attributes.get('source', 'spectrace')}")
    page = PAGE.format(title=f"spectrace: {html.escape(results.path.resolve().name)}", subtitle=html.escape(subtitle),
                       body="\n".join(part for part in body if part))
    (folder / "report.html").write_text(page, encoding="utf-8")
    return [folder / "report.html", folder / "overview.png"]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="spectrace-report", description="Writes report.html and overview.png of a results folder.")
    parser.add_argument("folder", metavar="FOLDER", help="a results folder, or one <model>.h5")
    parser.add_argument("-o", "--output", metavar="DIR", type=pathlib.Path, help="where to write (default: FOLDER/report)")
    options = parser.parse_args(arguments)
    try:
        with open_results(options.folder) as results:
            base = results.path if results.path.is_dir() else results.path.parent
            for path in write_report(results, options.output or base / "report"):
                print(path)
    except (ResultsError, OSError) as problem:
        print(f"spectrace-report: {problem}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
