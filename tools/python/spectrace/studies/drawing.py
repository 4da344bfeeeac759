"""Figures of the studies by Plotly: a trace a model, named in `meta`, so that the page can show and hide models everywhere at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from spectrace.results import Results

# Told apart by colour-blind readers (after Okabe and Ito), each at least 3:1 against white.
COLORS = ("#0072B2", "#C2500A", "#00805C", "#A8478A", "#7A6100", "#2B83C4", "#222222", "#8A3FBF")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x", "star", "triangle-down")
GREY = "#767676"
LONGEST_TICK = 20  # characters of a model's name beside an axis; hovering shows all of it
MOST_UPRIGHT = 8   # more bars than this lie on their side, so that names can be read
MOST_DOTTED = 12  # lines of more models have no dots
BAR_PX, BARS_MARGIN_PX = 24, 90
MOST_LAYER_TICKS = 12
MOST_BANDS = 8  # with more models bands of one standard deviation hide more than they show


@dataclass(frozen=True)
class Style:
    color: str
    dash: str
    marker: str


class Styles:
    """Each model looks the same in every figure: up to eight models a colour each, else a colour a lab if there are labs enough."""

    def __init__(self, results: Results):
        models = list(results)
        labs = {model: results.attributes(model).get("lab") or "" for model in models}
        kinds = list(dict.fromkeys(labs.values()))
        by_lab = len(models) > len(COLORS) and 2 <= len(kinds) <= len(COLORS)
        seen: dict[int, int] = {}
        self.of: dict[str, Style] = {}
        for number, model in enumerate(models):
            color = kinds.index(labs[model]) if by_lab else number % len(COLORS)
            turn = seen[color] = seen.get(color, -1) + 1
            self.of[model] = Style(COLORS[color], DASHES[turn % len(DASHES)], MARKERS[(turn if by_lab else number) % len(MARKERS)])
        self.short = _short_names(models)
        lab_names = sorted(kinds)
        self.of_lab = {lab or "(no lab)": COLORS[lab_names.index(lab) % len(COLORS)] for lab in kinds}


def _short_names(models: list[str]) -> dict[str, str]:
    """Names for ticks: cut in the middle, and still told apart."""
    short: dict[str, str] = {}
    for model in models:
        name = model if len(model) <= LONGEST_TICK else f"{model[:LONGEST_TICK // 2 - 1]}…{model[-LONGEST_TICK // 2:]}"
        taken = list(short.values())
        short[model] = name if name not in taken else f"{name} ({taken.count(name) + sum(other.startswith(name + ' (') for other in taken) + 1})"
    return short


def lay_down(figure: go.Figure, num_bars: int) -> go.Figure:
    """The same bars on their side, one below the other, high enough for all of them."""
    for trace in figure.data:
        if trace.type == "bar":
            trace.x, trace.y, trace.orientation = trace.y, trace.x, "h"
            trace.hovertemplate = trace.hovertemplate.replace("%{y", "%{x")
            trace.error_x, trace.error_y = {**trace.error_y.to_plotly_json()} if trace.error_y.array is not None else None, None
    label, scale = figure.layout.yaxis.title.text, figure.layout.yaxis.type
    figure.update_xaxes(title_text=label, type=scale, tickangle=0, nticks=5)
    figure.update_yaxes(title_text="", type=None, autorange="reversed")
    if scale != "log" and any(trace.text is not None for trace in figure.data):  # room for the numbers at the bars' ends
        values = [float(value) for trace in figure.data if trace.type == "bar" for value in trace.x]
        figure.update_xaxes(range=[min(0.0, 1.2 * min(values)), 1.22 * max(values)])
    for shape in figure.layout.shapes or ():
        shape.update(x0=shape.y0, x1=shape.y1, y0=0, y1=1, xref="x", yref="y domain")
    figure.update_layout(height=BAR_PX * num_bars + BARS_MARGIN_PX)
    return figure


def _floats(values) -> np.ndarray:
    return pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(dtype=float, na_value=np.nan)


def is_wide(values: Iterable[np.ndarray], factor: float = 20) -> bool:
    """Whether positive values span more than the factor: then an axis is logarithmic."""
    joined = np.concatenate([np.ravel(v) for v in values] or [np.array([])])
    every = joined[np.isfinite(joined)]
    return bool(every.size and every.min() > 0 and every.max() > factor * every.min())


def _few_decades(values: Iterable[np.ndarray]) -> bool:
    joined = np.concatenate([np.ravel(v) for v in values])
    every = joined[np.isfinite(joined) & (joined > 0)]
    return bool(every.size and every.max() < 100 * every.min())


def figure_of(xlabel: str, ylabel: str, log_x: bool = False, log_y: bool = False) -> go.Figure:
    figure = go.Figure()
    figure.update_layout(template="none", showlegend=False, separators=".")  # 1058.5 as 1059: no commas in some
    figure.update_xaxes(title_text=xlabel, type="log" if log_x else None)
    figure.update_yaxes(title_text=ylabel, type="log" if log_y else None)
    return figure


def _rgba(color: str, alpha: float) -> str:
    return f"rgba({int(color[1:3], 16)},{int(color[3:5], 16)},{int(color[5:7], 16)},{alpha})"


def lines(frame: pd.DataFrame, styles: Styles, x: str, y: str, xlabel: str, ylabel: str, std: str | None = None,
          log_x: bool = False, marks: dict[str, float] | None = None, level: float | None = None, may_log_y: bool = True) -> go.Figure | None:
    """A line a model of y over x; a band of one std if the models are few; marks: model -> x to mark. None if no value is finite.

    may_log_y: y has a logarithmic axis where it spans decades; without it a peak stays one.
    """
    frame = frame.dropna(subset=[y])
    frame = frame[np.isfinite(_floats(frame[y]))]
    if frame.empty:
        return None
    log_y = may_log_y and is_wide([_floats(frame[y])])
    figure = figure_of(xlabel, ylabel, log_x, log_y)
    if xlabel == "layer" and _floats(frame[x]).max() <= MOST_LAYER_TICKS:
        figure.update_xaxes(dtick=1)  # no half layers
    if log_y and _few_decades([_floats(frame[y])]):
        figure.update_yaxes(dtick="D2", tickformat=".4~g")  # 1, 2, 5, 10
    groups = list(frame.groupby("model", sort=False))
    for model, rows in groups:
        style, xs, ys = styles.of[model], _floats(rows[x]), _floats(rows[y])
        if std and len(groups) <= MOST_BANDS and rows[std].notna().any():
            spread = np.nan_to_num(_floats(rows[std]))
            low = np.where(ys - spread > 0, ys - spread, ys / 10) if log_y else ys - spread
            figure.add_scatter(x=np.concatenate([xs, xs[::-1]]), y=np.concatenate([ys + spread, low[::-1]]), fill="toself", mode="lines",
                               line_width=0, fillcolor=_rgba(style.color, 0.13), hoverinfo="skip", meta=model)
        figure.add_scatter(x=xs, y=ys, mode="lines+markers" if len(xs) <= 40 and len(groups) <= MOST_DOTTED else "lines", name=model, meta=model,
                           line={"color": style.color, "dash": style.dash, "width": 2},
                           marker={"size": 5, "color": style.color, "symbol": style.marker},
                           hovertemplate=f"{model}<br>%{{x:.4~g}}: %{{y:.4~g}}<extra></extra>")
        if marks and model in marks and np.isfinite(marks[model]):
            at = np.flatnonzero(xs == marks[model])
            figure.add_scatter(x=xs[at], y=ys[at], mode="markers", meta=model, name=f"{model} L*",
                               marker={"size": 12, "color": style.color, "symbol": "circle-open", "line": {"width": 2.5}},
                               hovertemplate=f"{model}: L* at %{{x:.4~g}}<extra></extra>")
    if level is not None:
        figure.add_hline(y=level, line={"color": GREY, "width": 1, "dash": "dash"})
    return figure


def bars(frame: pd.DataFrame, styles: Styles, y: str, ylabel: str, level: float | None = None) -> go.Figure | None:
    """A bar a model, its value written on it; many bars lie on their side."""
    frame = frame.dropna(subset=[y])
    frame = frame[np.isfinite(_floats(frame[y]))]
    if frame.empty:
        return None
    figure = figure_of("", ylabel, log_y=is_wide([_floats(frame[y])], 100))
    for _, row in frame.iterrows():
        figure.add_bar(x=[styles.short[row["model"]]], y=[float(row[y])], name=row["model"], meta=row["model"],
                       marker_color=styles.of[row["model"]].color, text=[f"{row[y]:.3g}"], textposition="outside", cliponaxis=False,
                       hovertemplate=f"{row['model']}<br>%{{y:.4~g}}<extra></extra>")
    figure.update_layout(barmode="overlay")
    if level is not None:
        figure.add_hline(y=level, line={"color": GREY, "width": 1, "dash": "dash"})
    return lay_down(figure, len(frame)) if len(frame) > MOST_UPRIGHT else figure


def bars_by_lab(labs: dict[str, dict[str, float]], styles: Styles, ylabel: str) -> go.Figure | None:
    """Bars of the labs' means with their standard deviations, and the models as points."""
    labs = {lab: {model: value for model, value in models.items() if np.isfinite(value)} for lab, models in labs.items()}
    labs = {lab: models for lab, models in labs.items() if models}
    if not labs:
        return None
    log_y = is_wide([np.array(list(models.values())) for models in labs.values()], 100)
    figure = figure_of("", ylabel, log_y=log_y)
    for lab, models in labs.items():
        values = np.array(list(models.values()))
        width = 0.5 if len(labs) < 3 else None
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
        figure.add_bar(x=[lab], y=[values.mean()], name=lab, width=width, marker={"color": styles.of_lab[lab], "opacity": 0.35},
                       error_y={"type": "data", "array": [spread], "color": GREY} if spread is not None else None,
                       hovertemplate=f"{lab}: %{{y:.4~g}} ± {'–' if spread is None else f'{spread:.3g}'} ({len(values)} models)<extra></extra>")
        for model, value in models.items():
            figure.add_scatter(x=[lab], y=[value], mode="markers", name=model, meta=model,
                               marker={"size": 9, "color": styles.of[model].color, "symbol": styles.of[model].marker, "line": {"width": 1, "color": "white"}},
                               hovertemplate=f"{model}<br>%{{y:.4~g}}<extra></extra>")
    return figure


def scatter(frame: pd.DataFrame, styles: Styles, x: str, y: str, xlabel: str, ylabel: str, fit: tuple[float, float] | None = None,
            level: float | None = None) -> go.Figure | None:
    """A point a model; fit: intercept and slope of a line to draw."""
    frame = frame.dropna(subset=[x, y])
    frame = frame[np.isfinite(_floats(frame[x])) & np.isfinite(_floats(frame[y]))]
    if frame.empty:
        return None
    log_y = fit is None and is_wide([_floats(frame[y])], 100)
    log_x = fit is None and is_wide([_floats(frame[x])], 100)
    figure = figure_of(xlabel, ylabel, log_x=log_x, log_y=log_y)
    if fit is not None and np.all(np.isfinite(fit)):
        ends = np.array([_floats(frame[x]).min(), _floats(frame[x]).max()])
        figure.add_scatter(x=ends, y=fit[0] + fit[1] * ends, mode="lines", line={"color": GREY, "dash": "dash", "width": 1.5}, hoverinfo="skip")
    for _, row in frame.iterrows():
        style = styles.of[row["model"]]
        figure.add_scatter(x=[float(row[x])], y=[float(row[y])], mode="markers", name=row["model"], meta=row["model"],
                           marker={"size": 11, "color": style.color, "symbol": style.marker, "line": {"width": 1, "color": "white"}},
                           hovertemplate=f"{row['model']}<br>%{{x:.4~g}}, %{{y:.4~g}}<extra></extra>")
    if level is not None:
        figure.add_hline(y=level, line={"color": GREY, "width": 1, "dash": "dash"})
    return figure
