"""overview.png: what runs along the layers, all models in one picture, drawn without a display."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend comes first)
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter  # noqa: E402

from spectrace.studies.base import Context  # noqa: E402
from spectrace.studies.drawing import Style, is_wide  # noqa: E402

DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-.", "longdash": (0, (8, 3)), "longdashdot": (0, (8, 3, 1, 3))}
WIDTH_IN, PANEL_IN, LEGEND_ROW_IN = 14.0, 3.4, 0.21
LEGEND_CHARACTERS = 150  # of names that fit into a row
STYLE = {
    "figure.facecolor": "white", "figure.dpi": 130, "font.size": 10, "axes.titlesize": 11, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7, "axes.axisbelow": True, "axes.edgecolor": "#888888", "legend.frameon": False, "lines.linewidth": 1.8,
}


def _panels(context: Context) -> list[tuple[str, pd.DataFrame, str, str, str]]:
    """Title, rows, column of x, column of y, label: those that have anything to show."""
    results = []
    if context.prompt_sets:
        first = context.prompt_sets[0]
        layers = context.table("h4_v2_extended_layers", first)
        statistics = context.table("layer_statistics", first)
        results += [("Trace of the sheaf Laplacian", layers, "depth", "trace_multihead", "l/L"),
                    ("Row entropy of the mean attention (nats)", statistics[statistics["quantity"] == "row_entropy_mean_attention"], "layer", "mean", "layer"),
                    ("Gain of the residual stream", statistics[statistics["quantity"] == "gain"], "layer", "mean", "layer")]
    weights = context.table("restriction_maps_layers")
    results += [(f"Spectral norm of {matrix}", weights[weights["matrix"] == matrix], "layer", "spectral_norm", "layer") for matrix in ("W_V", "W_O")]
    results += [("Effective rank of W_V", weights[weights["matrix"] == "W_V"], "layer", "effective_rank", "layer")]
    return [panel for panel in results if np.isfinite(panel[1][panel[3]].to_numpy(dtype=float)).any()]


def _draw(axes, styles: dict[str, Style], panel: tuple[str, pd.DataFrame, str, str, str]) -> None:
    title, rows, x, y, label = panel
    for model, values in rows.groupby("model", sort=False):
        axes.plot(values[x].to_numpy(dtype=float), values[y].to_numpy(dtype=float), color=styles[model].color, linestyle=DASHES[styles[model].dash])
    axes.set_title(title)
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=x == "layer"))
    if is_wide([rows[y].to_numpy(dtype=float)]):
        axes.set_yscale("log", nonpositive="clip")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def overview(context: Context) -> Figure | None:
    """Up to six panels and a legend of all models below; None if there is nothing to draw."""
    panels = _panels(context)
    if not panels:
        return None
    models = list(dict.fromkeys(model for panel in panels for model in panel[1]["model"]))
    longest = max(len(model) for model in models) + 6
    columns = max(1, min(len(models), LEGEND_CHARACTERS // longest))
    legend_in = LEGEND_ROW_IN * -(-len(models) // columns) + 0.3
    rows = -(-len(panels) // 3)
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(WIDTH_IN, rows * PANEL_IN + legend_in), layout="constrained")
        figure.get_layout_engine().set(rect=(0, legend_in / figure.get_figheight(), 1, 1 - legend_in / figure.get_figheight()), w_pad=0.1, h_pad=0.1)
        for axes, panel in zip(figure.subplots(rows, min(len(panels), 3), squeeze=False).flat, panels):
            _draw(axes, context.styles.of, panel)
        for axes in figure.axes[len(panels):]:
            axes.set_visible(False)
        handles = [Line2D([], [], color=context.styles.of[model].color, linestyle=DASHES[context.styles.of[model].dash], label=model) for model in models]
        legend = figure.legend(handles=handles, loc="lower center", ncols=columns, fontsize=9.5)
        legend.set_in_layout(False)
        return figure
