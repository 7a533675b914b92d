"""Quality against cost: one point per row, and the front no other point beats on both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reprune.analysis import palette, style
from reprune.analysis.labels import label_points, with_targets
from reprune.analysis.plot_curve import axis_title, bars, footnote, points, subject, value_title
from reprune.analysis.unit import Unit

BOX = (0.72, 0.05, 6.6, 2.9)


def draw_pareto(unit: Unit, spec: dict[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Draw the plot, a panel for each model; returns it with its data, which say what is on the front."""
    data = points(unit, spec)
    if spec.get("target"):
        data = data[data.dense | (data.target == spec["target"])]
    data = data.assign(x=data.x.astype(float), front=False)
    figure = style.new_figure(
        spec["title"],
        f"{subject(unit, spec)}; {bars(data)}; dotted: best at no more cost",
        footnote(unit, spec, data),
        style.body_height(data),
    )
    for axes, part in style.panels(unit, figure, data, BOX):
        drawn = part[~part.dense & part.x.notna() & (part.status == "ok")].sort_values("x")
        best = front(drawn, unit.higher_is_better(spec["metric"]))
        data.loc[best.index, "front"] = True
        axes.set(xlabel=axis_title(unit, spec), ylabel=value_title(spec))
        _panel(axes, spec, drawn, best, part[part.dense & (part.status == "ok")])
    return figure, data


def _panel(
    axes: Axes, spec: dict[str, Any], drawn: pd.DataFrame, best: pd.DataFrame, dense: pd.DataFrame
) -> None:
    axes.grid(axis="x")
    axes.step(
        best.x,
        best.value,
        where="post",
        color=palette.MUTED,
        linewidth=1.2,
        linestyle=palette.line(2),
        zorder=1,
    )
    ranks = palette.ranks(drawn)
    _points(axes, drawn, ranks)
    _dense(axes, dense)
    _scale(axes, spec, drawn)
    label_points(
        axes,
        [
            (
                p.x,
                p.value,
                p.name,
                palette.colour(p.method, ranks[p.label]),
            )
            for p in with_targets(drawn).itertuples()
        ],
    )


def front(points: pd.DataFrame, higher: bool) -> pd.DataFrame:
    """The points, sorted by ascending ``x``, whose value is better than that of every cheaper one."""
    values = points.value.to_numpy(dtype=float) * (-1 if higher else 1)
    before = np.minimum.accumulate(np.concatenate([[np.inf], values]))[:-1]
    return points[values < before]


def _points(axes: Axes, drawn: pd.DataFrame, ranks: dict[str, int]) -> None:
    for point in drawn.itertuples():
        axes.errorbar(
            point.x,
            point.value,
            yerr=0.0 if pd.isna(point.stderr) else point.stderr,
            color=palette.colour(point.method, ranks[point.label]),
            marker=palette.marker(point.method),
            markersize=8,
            elinewidth=1.3,
            capsize=3,
            markeredgecolor=palette.PAPER,
            markeredgewidth=0.9,
        )


def _scale(axes: Axes, spec: dict[str, Any], drawn: pd.DataFrame) -> None:
    axes.margins(x=0.1, y=0.14)
    if spec.get("log_x"):
        style.log_scale(axes.xaxis)
    elif len(drawn):
        axes.set_xlim(0, float(drawn.x.max()) * 1.1)
    if spec.get("log_y"):
        style.log_scale(axes.yaxis)
    axes.minorticks_off()


def _dense(axes: Axes, dense: pd.DataFrame) -> None:
    """A line at the dense model's quality, which costs nothing to compress."""
    for row in dense.itertuples():
        axes.axhline(row.value, color=palette.MUTED, linewidth=1.3, linestyle=palette.line(1), zorder=1)
        axes.annotate(
            row.label,
            (1.0, row.value),
            xycoords=("axes fraction", "data"),
            xytext=(0, 5),
            textcoords="offset points",
            ha="right",
            color=palette.MUTED,
            fontsize=9.5,
            fontweight="bold",
        )
