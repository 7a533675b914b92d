"""Which blocks methods choose: how much each block changes the hidden state, and marks where they cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reprune.analysis import palette, style
from reprune.analysis.labels import label_ends, with_targets
from reprune.analysis.noted import depth_of, noted, read_rows
from reprune.analysis.samples import Undecided
from reprune.analysis.unit import Row, Unit

LEFT, WIDTH = 0.72, 5.43
CURVE, GAP, STRIP, FOOT, TITLE = 1.55, 0.16, 0.3, 0.62, 0.3
"""Inches: the curve, the gap below it, a method's strip, the block numbers below, a model's title above."""


def draw_layers(unit: Unit, spec: dict[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Draw the plot, a panel for each model; returns it with its data.

    Raises :class:`Undecided` if no row noted the blocks it chose, or none how alike they are.
    """
    known, reasons = read_rows(unit, spec, spec["methods"], lambda row: noted(unit, row, "chosen"))
    data = with_targets(pd.concat([_choices(unit, row, runs) for row, runs in known], ignore_index=True))
    models = list(dict.fromkeys(data.model))
    alike = {model: _similarity(unit, spec, model) for model in models}
    data = data.assign(similarity=[alike[row.model][row.block] for row in data.itertuples()])
    heights = [TITLE * (len(models) > 1) + CURVE + GAP + STRIP * _rows(data, m) + FOOT for m in models]
    figure = style.new_figure(
        spec["title"],
        "How much each block of the dense model changes the hidden state; below, the methods' choices",
        "\n".join([style.origin(unit, models), _order(data), *style.not_drawn(reasons)]),
        sum(heights),
    )
    for index, model in enumerate(models):
        title = unit.model_title(model) if len(models) > 1 else ""
        _panel(figure, sum(heights[:index]), title, alike[model], data[data.model == model])
    return figure, data


def _order(data: pd.DataFrame) -> str:
    told = "Numbers: the order in which a method took its blocks"
    pale = data.chosen.between(0, 1, inclusive="neither").any()
    return told + ("; with the first seed, pale ones with some seeds only" if pale else "")


def _rows(data: pd.DataFrame, model: str) -> int:
    return data[data.model == model].groupby(["label", "target"]).ngroups


def _choices(unit: Unit, row: Row, runs: dict[str, list[int]]) -> pd.DataFrame:
    """One line per block: the share of the row's runs that chose it, and when the first run did."""
    blocks, first = range(depth_of(unit, row.model)), next(iter(runs.values()))
    return pd.DataFrame(
        {
            "label": row.label,
            "method": row.method,
            "model": row.model,
            "target": row.target,
            "block": blocks,
            "chosen": [np.mean([block in chosen for chosen in runs.values()]) for block in blocks],
            "order": [first.index(block) + 1 if block in first else None for block in blocks],
            "run_id": ";".join(runs),
        }
    )


def _similarity(unit: Unit, spec: dict[str, Any], model: str) -> list[float]:
    """The similarities by block that the first run of the experiment noted."""
    for row in unit.rows(spec["experiment"]):
        for run in row.runs if row.model == model else ():
            if "similarity" in (notes := unit.notes.get(str(run.run_id), {})):
                return notes["similarity"]
    raise Undecided(f"no run of {unit.model_title(model)} noted how alike its blocks are")


def _panel(figure: Figure, top: float, title: str, alike: list[float], data: pd.DataFrame) -> None:
    groups = list(data.groupby(["label", "name"], sort=False))
    top += TITLE if title else 0.0
    curve = style.add_axes(figure, LEFT, top, WIDTH, CURVE)
    curve.set_title(title, loc="left", fontsize=10, fontweight="bold")
    style.quiet(curve)
    _curve(curve, alike)
    strips = style.add_axes(figure, LEFT, top + CURVE + GAP, WIDTH, STRIP * len(groups))
    _strips(strips, groups, palette.ranks(data), len(alike))


def _curve(axes: Axes, alike: list[float]) -> None:
    """1 − cosine on a log scale (ShortGPT's block influence): redundant blocks are the low ones."""
    turned = 1 - np.asarray(alike, dtype=float)
    axes.plot(turned, "o-", color=palette.INK, linewidth=1.4, markersize=4.5, markeredgecolor=palette.PAPER)
    axes.set(xlim=(-0.5, len(alike) - 0.5), ylabel="1 − cosine (log scale)", xticks=[])
    style.log_scale(axes.yaxis)
    axes.spines["bottom"].set_visible(False)


def _strips(axes: Axes, groups: list, ranks: dict[str, int], blocks: int) -> None:
    """A strip for each row: its chosen blocks coloured, paler where only some seeds chose them."""
    labels = []
    for height, ((label, name), group) in enumerate(groups):
        shade = palette.colour(group.method.iloc[0], ranks[label])
        for cell in group.itertuples():
            _cell(axes, cell, height, shade)
        labels.append((height + 0.5, name, shade))
    axes.set(xlim=(-0.5, blocks - 0.5), ylim=(len(groups), 0), yticks=[], xlabel="Decoder block")
    every = max(1, blocks // 10)
    axes.set_xticks(range(0, blocks, every))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    label_ends(axes, labels)


def _cell(axes: Axes, cell: Any, height: int, shade: str) -> None:
    colour = palette.faded(shade, cell.chosen)
    axes.bar(cell.block, 0.84, 1.0, height + 0.08, color=colour, edgecolor=palette.PAPER, linewidth=0.8)
    if pd.notna(cell.order):
        axes.text(
            cell.block,
            height + 0.52,
            f"{cell.order:.0f}",
            ha="center",
            va="center",
            fontsize=7,
            color=palette.on(colour),
        )
