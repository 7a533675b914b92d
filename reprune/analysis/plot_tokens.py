"""Held-out loss against the tokens trained on, those of pruning included, one line per row."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reprune.analysis import palette, style
from reprune.analysis.formats import tokens_unit
from reprune.analysis.histories import CONTINUED, PRUNING, measurements
from reprune.analysis.labels import label_last, with_targets
from reprune.analysis.names import task_title
from reprune.analysis.noted import read_rows
from reprune.analysis.plot_curve import BOX
from reprune.analysis.samples import Undecided
from reprune.analysis.unit import Unit

LINE = ["name", "label", "method", "model", "target", "stage", "step", "tokens", "run_id"]


def draw_tokens(unit: Unit, spec: dict[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Draw the plot, a panel for each model; returns it with its data.

    Raises :class:`Undecided` if no row was trained on a mixture, or none on the one ``domain`` asked for.
    """
    measured, reasons = measured_rows(unit, spec)
    domain = spec.get("domain")
    if domain:
        measured = measured[measured.domain == domain]
        if measured.empty:
            raise Undecided(f"no mixture has the domain '{domain}'")
    data = measured.groupby(LINE, sort=False, as_index=False).loss.mean()
    over = f"on {task_title(domain)}" if domain else "mean over domains"
    pruned = "; open: the end of pruning" if data.stage.nunique() > 1 else ""
    figure = style.new_figure(
        spec["title"],
        f"Held-out loss in nats per token, {over}{pruned}",
        "\n".join([style.origin(unit, data.model), *style.not_drawn(reasons)]),
        style.body_height(data),
    )
    for axes, part in style.panels(unit, figure, data, BOX):
        _panel(axes, spec, part)
    return figure, data


def measured_rows(unit: Unit, spec: dict[str, Any]) -> tuple[pd.DataFrame, list[str]]:
    """The measurements of the rows that a plot names, and why others have none.

    Raises :class:`Undecided` if none has any.
    """
    named = [row for name in spec["methods"] for row in unit.select(spec["experiment"], name)]
    beside = (*named, *unit.rows(spec["experiment"]))
    known, reasons = read_rows(unit, spec, spec["methods"], lambda row: measurements(unit, row, beside))
    return with_targets(pd.concat([frame for _, frame in known], ignore_index=True)), reasons


def _panel(axes: Axes, spec: dict[str, Any], data: pd.DataFrame) -> None:
    divisor, title = tokens_unit(data.tokens.max())
    if spec.get("log_x"):
        data = data[data.tokens > 0]
    axes.set(xlabel=title, ylabel="Loss (log scale)" if spec.get("log_y") else "Loss")
    ranks, ends = palette.ranks(data, "name"), []
    for name, group in data.groupby("name", sort=False):
        shade = palette.colour(group.method.iloc[0], ranks[name])
        _one_line(axes, group.assign(tokens=group.tokens / divisor), shade, ranks[name])
        ends.append((group.tokens.iloc[-1] / divisor, group.loss.iloc[-1], name, shade))
    for wanted, axis in (("log_x", axes.xaxis), ("log_y", axes.yaxis)):
        if spec.get(wanted):
            style.log_scale(axis)
    label_last(axes, ends, (data.tokens.min() / divisor, data.tokens.max() / divisor))


def _one_line(axes: Axes, group: pd.DataFrame, shade: str, rank: int) -> None:
    axes.plot(group.tokens, group.loss, color=shade, linestyle=palette.line(rank))
    axes.plot(*_end(group), color=shade, marker=palette.marker(group.method.iloc[0]), clip_on=False)
    pruned = group[group.stage == PRUNING]
    if len(pruned) and (group.stage == CONTINUED).any():
        axes.plot(*_end(pruned), color=shade, marker="o", markerfacecolor=palette.PAPER, zorder=3)


def _end(group: pd.DataFrame) -> tuple[float, float]:
    return group.tokens.iloc[-1], group.loss.iloc[-1]
