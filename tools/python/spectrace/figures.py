"""Figures of a sweep: what runs along the layers, and the singular value spectra. Drawn without a display."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend comes first)
import numpy as np  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter  # noqa: E402

from spectrace.results import Results  # noqa: E402

# Okabe and Ito's colours, told apart by colour-blind readers too; from the ninth model on with another line style.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#B2A300")
LINES = ("-", "--", ":", "-.")
LAYER_COLORS = "viridis"
SPECTRA_PER_ROW = 4

STYLE = {
    "figure.facecolor": "white", "figure.dpi": 150, "font.size": 9.5, "axes.titlesize": 10.5,
    "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "grid.color": "#e6e6e6", "grid.linewidth": 0.7, "axes.axisbelow": True, "axes.edgecolor": "#888888",
    "xtick.color": "#444444", "ytick.color": "#444444", "axes.labelcolor": "#333333", "legend.frameon": False,
    "legend.fontsize": 8.5, "lines.linewidth": 1.7,
}


class ModelStyle:
    """Each model looks the same in every figure."""

    def __init__(self, results: Results):
        self._number = {model: number for number, model in enumerate(results)}

    def __call__(self, model: str) -> dict:
        number = self._number[model]
        return {"color": COLORS[number % len(COLORS)], "linestyle": LINES[number // len(COLORS) % len(LINES)]}

    def legend(self, figure: Figure, models: list[str], extra: list[Line2D] = ()) -> None:
        handles = [Line2D([], [], label=model, **self(model)) for model in models] + list(extra)
        figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 6), fontsize=9.5)


def prompt_statistics(results: Results, model: str, prompt_set: str):
    """The statistics of a prompt set as a dataset; None where the model has none."""
    path = f"prompts/{prompt_set}/statistics"
    tree = results[model]
    return tree[path].dataset if prompt_set in results.prompt_sets(model) and "statistics" in tree[
        f"prompts/{prompt_set}"].children else None


def _finish_layers(axes, title: str, label: str) -> None:
    axes.set_title(title)
    axes.set_xlabel("layer")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _log_if_wide(axes, values: list[np.ndarray]) -> None:
    """A logarithmic axis, its numbers written out, where the values span more than a factor of 10."""
    every = np.concatenate([v[np.isfinite(v)] for v in values]) if values else np.array([])
    if every.size and every.min() > 0 and every.max() > 10 * every.min():
        axes.set_yscale("log", nonpositive="clip")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _place: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def draw_by_layer(axes, results: Results, styles: ModelStyle, prompt_set: str, name: str, transition: str | None = None) -> bool:
    """Mean of a per-prompt quantity over the prompts, with a band of one standard deviation; False if nobody has it.

    transition: name of a statistics scalar that holds a layer; it is marked on the line.
    """
    drawn = []
    for model in results:
        statistics = prompt_statistics(results, model, prompt_set)
        if statistics is None or name not in statistics:
            continue
        mean = statistics[name].sel(statistic="mean").values
        std = statistics[name].sel(statistic="std").values
        layers = statistics["layer"].values
        axes.plot(layers, mean, **styles(model))
        axes.fill_between(layers, mean - std, mean + std, color=styles(model)["color"], alpha=0.16, linewidth=0)
        if transition and transition in statistics and np.isfinite(statistics[transition]):
            where = np.flatnonzero(layers == int(statistics[transition]))
            axes.plot(layers[where], mean[where], "o", color=styles(model)["color"], markersize=6, markeredgecolor="white")
        drawn.append(mean)
    _log_if_wide(axes, drawn)
    return bool(drawn)


def draw_trace(axes, results: Results, styles: ModelStyle, prompt_set: str) -> bool:
    found = draw_by_layer(axes, results, styles, prompt_set, "trace_multihead", "l_star_trace")
    _finish_layers(axes, "Trace of the sheaf Laplacian", r"$\sum_h \mathrm{Tr}\,\Delta_F$")
    return found


def draw_gain(axes, results: Results, styles: ModelStyle, prompt_set: str) -> bool:
    axes.axhline(1, color="#999999", linewidth=1)
    found = draw_by_layer(axes, results, styles, prompt_set, "gain")
    _finish_layers(axes, "Gain of the residual stream", "norm after / norm before")
    return found


def draw_weight_norms(axes, results: Results, styles: ModelStyle, matrix: str) -> bool:
    drawn = []
    for model, tree in results.items():
        if "weights" not in tree.children:
            continue
        norms = tree["weights"]["spectral_norm"].sel(matrix=matrix)
        axes.plot(norms["layer"].values, norms.values, marker=".", **styles(model))
        drawn.append(norms.values)
    _log_if_wide(axes, drawn)
    letter = matrix.removeprefix("W_")
    _finish_layers(axes, f"Spectral norm of $W_{letter}$", r"$\sigma_1$")
    return bool(drawn)


def draw_spectrum(axes, results: Results, model: str, matrix: str) -> None:
    """Singular values of one matrix of every layer, each scaled by its largest."""
    weights = results[model]["weights"]
    values = weights["singular_values"].sel(matrix=matrix)
    layers = values["layer"].values
    colors = matplotlib.colormaps[LAYER_COLORS](np.linspace(0.0, 0.9, len(layers)))
    for color, row in zip(colors, values.values):
        row = row[np.isfinite(row)]
        if row.size and row[0] > 0:
            axes.plot(np.arange(1, row.size + 1) / row.size, np.where(row > 0, row / row[0], np.nan), color=color, linewidth=1.2)
    axes.set_title(model)
    axes.set_yscale("log")
    axes.set_xlabel("index / number of values")
    axes.set_ylabel(r"$\sigma_i / \sigma_1$")


def _layer_bar(figure: Figure, axes, label: str) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap

    shades = ListedColormap(matplotlib.colormaps[LAYER_COLORS](np.linspace(0.0, 0.9, 256)))
    bar = figure.colorbar(ScalarMappable(cmap=shades), ax=axes, ticks=[0, 1], pad=0.01, aspect=14)
    bar.ax.set_yticklabels(["first", "last"])
    bar.set_label(label, labelpad=-12)
    bar.outline.set_visible(False)


def overview(results: Results, prompt_set: str | None) -> Figure:
    """Traces, gains and spectral norms by layer, and below them the spectra of W_V of up to four models."""
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(14, 7.4), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08, hspace=0.04, wspace=0.03)
        upper, lower = figure.subfigures(2, 1, height_ratios=[1.1, 1])
        styles = ModelStyle(results)
        axes = upper.subplots(1, 4)
        found = [prompt_set is not None and draw_trace(axes[0], results, styles, prompt_set),
                 prompt_set is not None and draw_gain(axes[1], results, styles, prompt_set),
                 draw_weight_norms(axes[2], results, styles, "W_V"), draw_weight_norms(axes[3], results, styles, "W_O")]
        for one, is_found in zip(axes, found):
            if not is_found:
                one.set_visible(False)
        star = Line2D([], [], color="#555555", marker="o", markeredgecolor="white", linestyle="", label="$L^*$ (trace)")
        styles.legend(upper, list(results), [star] if found[0] else [])
        models = [model for model, tree in results.items() if "weights" in tree.children][:SPECTRA_PER_ROW]
        if models:
            spectra = lower.subplots(1, len(models), sharey=True, squeeze=False)[0]
            for one, model in zip(spectra, models):
                draw_spectrum(one, results, model, "W_V")
            for one in spectra[1:]:
                one.set_ylabel("")
            _layer_bar(lower, list(spectra), "layer")
            lower.suptitle("Singular values of $W_V$ by layer", x=0.01, ha="left", fontsize=10.5, color="#333333")
        return figure


def prompt_set_figure(results: Results, prompt_set: str) -> Figure | None:
    """Trace, attention entropy and gain by layer for one prompt set; None if no model has any of them."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(14, 4.1), layout="constrained")
        styles = ModelStyle(results)
        found = [draw_trace(axes[0], results, styles, prompt_set),
                 draw_by_layer(axes[1], results, styles, prompt_set, "row_entropy_mean_attention"),
                 draw_gain(axes[2], results, styles, prompt_set)]
        _finish_layers(axes[1], "Row entropy of the mean attention", "nats")
        if not any(found):
            plt.close(figure)
            return None
        for one, is_found in zip(axes, found):
            one.set_visible(is_found)
        styles.legend(figure, [model for model in results if prompt_statistics(results, model, prompt_set) is not None])
        return figure


def weights_figure(results: Results) -> Figure | None:
    """Spectral norms of the four matrices by layer."""
    models = [model for model, tree in results.items() if "weights" in tree.children]
    if not models:
        return None
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 4, figsize=(14, 3.8), layout="constrained")
        styles = ModelStyle(results)
        for one, matrix in zip(axes, ("W_Q", "W_K", "W_V", "W_O")):
            draw_weight_norms(one, results, styles, matrix)
        styles.legend(figure, models)
        return figure


def spectra_figure(results: Results, model: str) -> Figure:
    """Singular values of the four matrices of a model, a line a layer."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 4, figsize=(14, 3.3), sharey=True, layout="constrained")
        for one, matrix in zip(axes, ("W_Q", "W_K", "W_V", "W_O")):
            draw_spectrum(one, results, model, matrix)
            one.set_title(f"$W_{matrix.removeprefix('W_')}$")
        for one in axes[1:]:
            one.set_ylabel("")
        _layer_bar(figure, list(axes), "layer")
        return figure
