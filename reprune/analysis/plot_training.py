"""The loss while compressed models are trained again, step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reprune.analysis import palette, style
from reprune.analysis.labels import label_ends, with_targets
from reprune.analysis.noted import noted, read_rows
from reprune.analysis.plot_curve import BOX
from reprune.analysis.unit import Row, Unit

SMOOTH = 25  # a line is smoothed over this part of its steps


def draw_training(unit: Unit, spec: dict[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Draw the plot, a panel for each model; returns it with its data.

    Raises :class:`Undecided` if no row was recovered.
    """
    known, reasons = read_rows(unit, spec, spec["methods"], lambda row: noted(unit, row, "recovery"))
    data = with_targets(pd.concat([_by_step(row, runs) for row, runs in known], ignore_index=True))
    figure = style.new_figure(
        spec["title"],
        "Loss in nats per token; lines: training, smoothed; open and filled: validation before and after",
        "\n".join([style.origin(unit, data.model), *style.not_drawn(reasons)]),
        style.body_height(data),
    )
    for axes, part in style.panels(unit, figure, data, BOX):
        _panel(axes, spec, part)
    return figure, data


def _by_step(row: Row, runs: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """One line per step, from 1, means over runs; step 0 and the last step have the validation loss."""
    told = list(runs.values())
    steps = min(len(run["losses"]) for run in told)
    losses = np.mean([run["losses"][:steps] for run in told], axis=0)
    frame = pd.DataFrame({"step": range(steps + 1), "loss": [np.nan, *losses]})
    frame["smoothed"] = frame.loss.rolling(max(1, steps // SMOOTH), center=True, min_periods=1).mean()
    frame.loc[0, "smoothed"] = np.nan
    for step, key in ((0, "validation_before"), (steps, "validation_after")):
        frame.loc[step, "validation"] = np.mean([run[key] for run in told])
    return frame.assign(
        label=row.label,
        method=row.method,
        model=row.model,
        target=row.target,
        kind=told[0]["kind"],
        trainable=told[0]["trainable"],
        run_id=";".join(runs),
    )


def _panel(axes: Axes, spec: dict[str, Any], data: pd.DataFrame) -> None:
    axes.set(xlabel="Step", ylabel="Loss (log scale)" if spec.get("log_y") else "Loss")
    ranks, ends = palette.ranks(data, "name"), []
    for name, group in data.groupby("name", sort=False):
        shade = palette.colour(group.method.iloc[0], ranks[name])
        _one_line(axes, group, shade, ranks[name])
        ends.append((group.validation.iloc[-1], name, shade))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(-0.015 * data.step.max(), 1.015 * data.step.max())
    if spec.get("log_y"):
        style.log_scale(axes.yaxis)
    label_ends(axes, ends)


def _one_line(axes: Axes, group: pd.DataFrame, shade: str, rank: int) -> None:
    method = group.method.iloc[0]
    axes.plot(group.step, group.loss, color=shade, linewidth=0.8, alpha=0.25)
    axes.plot(group.step, group.smoothed, color=shade, linestyle=palette.line(rank))
    marks = group[group.validation.notna()]
    for mark, fill in zip(marks.itertuples(), (palette.PAPER, shade), strict=True):
        axes.plot(
            mark.step,
            mark.validation,
            marker=palette.marker(method),
            color=shade,
            markerfacecolor=fill,
            clip_on=False,
            zorder=3,
        )
