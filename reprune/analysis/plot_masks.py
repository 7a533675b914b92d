"""How masks close while they are learned, and how soon they agree on what to keep."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from reprune.analysis import palette, style
from reprune.analysis.histories import PRUNING, History, histories
from reprune.analysis.labels import label_ends, with_targets
from reprune.analysis.noted import read_rows
from reprune.analysis.unit import Row, Unit

LEFT, WIDTH = 0.72, 5.43
TITLE, SHARES, GAP, OVERLAP, FOOT = 0.3, 2.3, 0.2, 1.2, 0.62
"""Inches: a row's title, the shares closed, the gap below, the overlaps, the axis."""
DASH = 4.0  # of targets, in widths of their lines
TOLD = ("sparsity", "wanted", "overlap")


def draw_masks(unit: Unit, spec: dict[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Draw a panel for each row of the method; returns it with its data.

    Raises :class:`Undecided` if no row noted masks.
    """
    known, reasons = read_rows(unit, spec, [spec["method"]], lambda row: _by_kind(unit, row))
    data = with_targets(pd.concat([frame for _, frame in known], ignore_index=True))
    height = TITLE * (len(known) > 1) + SHARES + GAP + OVERLAP + FOOT
    figure = style.new_figure(
        spec["title"],
        "Above: share of masks expected to be closed, dashed: wanted; below: overlap with those kept before",
        "\n".join([style.origin(unit, data.model), *style.not_drawn(reasons)]),
        height * len(known),
    )
    for index, (row, part) in enumerate(known):
        title = f"{row.name}, {unit.model_title(row.model)}" if len(known) > 1 else ""
        _panel(figure, index * height, title, part)
    return figure, data


def _by_kind(unit: Unit, row: Row) -> pd.DataFrame:
    """One line per measurement and kind of mask, means over runs."""
    runs = histories(unit, row)
    frame = pd.DataFrame([line for run in runs for line in _lines(run)])
    means = frame.groupby(["step", "kind"], sort=False, as_index=False).mean()
    return means.assign(
        label=row.label,
        method=row.method,
        model=row.model,
        target=row.target,
        run_id=";".join(run.run_id for run in runs),
    )


def _lines(run: History) -> list[dict[str, Any]]:
    return [
        {"step": m["step"], "kind": kind} | {name: _number(m.get(name, {}).get(kind)) for name in TOLD}
        for m in run.stage(PRUNING).measured
        for kind in m["sparsity"]
    ]


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _panel(figure: Figure, top: float, title: str, data: pd.DataFrame) -> None:
    style.heading(figure, LEFT, top, title)
    top += TITLE * bool(title)
    shades = palette.series(data.kind)
    closed = style.add_axes(figure, LEFT, top, WIDTH, SHARES)
    kept = style.add_axes(figure, LEFT, top + SHARES + GAP, WIDTH, OVERLAP)
    dashes = target_dashes(data)
    for (kind, group), width in zip(data.groupby("kind", sort=False), palette.widths(shades), strict=True):
        closed.plot(group.step, group.wanted, color=shades[kind], linewidth=1.2, linestyle=dashes[kind])
        closed.plot(group.step, group.sparsity, color=shades[kind], linewidth=width)
        kept.plot(group.step, group.overlap, color=shades[kind], linewidth=width)
    ends = data.groupby("kind", sort=False).tail(1)
    for axes, name in ((closed, "Closed"), (kept, "Overlap")):
        _dress(axes, name, data.step.max())
    closed.tick_params(labelbottom=False)
    kept.set(xlabel="Step", ylim=(min(0.5, data.overlap.min()), 1.02))
    label_ends(closed, [(row.sparsity, row.kind, shades[row.kind]) for row in ends.itertuples()])


def target_dashes(data: pd.DataFrame) -> dict[str, tuple[float, tuple[float, float]]]:
    """The line style of each kind's target: the dashes of equal targets take turns, so that all are seen."""
    wanted = {kind: tuple(group.wanted) for kind, group in data.groupby("kind", sort=False)}
    styles, met = {}, Counter()
    for kind, target in wanted.items():
        gap = DASH * max(1, [*wanted.values()].count(target) - 1)
        styles[kind] = (DASH * met[target], (DASH, gap))
        met[target] += 1
    return styles


def _dress(axes: Axes, name: str, steps: int) -> None:
    style.quiet(axes)
    axes.set(ylabel=name, xlim=(0, steps))
    axes.yaxis.set_label_coords(-0.085, 0.5)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, 0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
