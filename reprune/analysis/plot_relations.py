"""A picture of how well the best head finds each dependency, beside the best fixed offset."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from reprune.analysis import palette, style
from reprune.analysis.relations import NAMES, accuracies
from reprune.analysis.samples import Undecided
from reprune.analysis.unit import Unit

LEFT, WIDTH, LINE, FOOT, LEGEND = 1.75, 4.0, 0.3, 0.55, 0.32


def draw_relations(unit: Unit, spec: dict[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Draw the accuracies of a row's first run; returns them as data.

    Raises :class:`Undecided` if no relation had enough instances.
    """
    rows = unit.select(spec["experiment"], spec["method"], spec.get("target"))
    if not rows:
        raise Undecided(f"no row is called '{spec['method']}'")
    data = accuracies(unit, rows[0], spec["protocol"], spec["task"])
    if data.empty:
        raise Undecided(f"{rows[0].name}: no relation had enough instances")
    figure = style.new_figure(
        spec["title"],
        "How often the best head points from one word of a dependency at the other",
        "\n".join([style.origin(unit, data.model, spec["protocol"], [spec["task"]]), _best_of(data)]),
        LEGEND + LINE * len(data) + FOOT,
    )
    shades = {
        "Best head, syntactic": palette.ROLES["syntactic"],
        "Best head, not syntactic": palette.ROLES["unknown"],
        "Best fixed offset": palette.INK,
    }
    style.legend(figure, LEFT - 0.1, 0.08, shades)
    _panel(style.add_axes(figure, LEFT, LEGEND, WIDTH, LINE * len(data)), data)
    return figure, data


def _best_of(data: pd.DataFrame) -> str:
    return (
        f"Bars: ± standard error over sentences. Best of {int(data.heads.max())} heads, which favours heads "
        "a little; n: dependencies of that kind"
    )


def _panel(axes: Axes, data: pd.DataFrame) -> None:
    heights = np.arange(len(data))[::-1]
    for height, line in zip(heights, data.itertuples(), strict=True):
        shade = palette.ROLES["syntactic" if line.syntactic else "unknown"]
        axes.plot([line.baseline, line.accuracy], [height] * 2, color=shade, linewidth=2.2, alpha=0.5)
        axes.plot(line.baseline, height, marker="|", markersize=11, markeredgewidth=2, color=palette.INK)
        axes.errorbar(line.accuracy, height, xerr=line.stderr, marker="o", color=shade, capsize=2.5)
        found = f"layer {line.layer + 1}, head {line.head + 1}"
        axes.annotate(
            found + (f"; n = {line.instances:,}" if line.instances else ""),
            (1.0, height),
            xycoords=("axes fraction", "data"),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            color=palette.MUTED,
        )
    axes.set_yticks(heights, [NAMES[name] for name in data.relation], fontsize=8.5)
    axes.set(xlim=(0, 1), ylim=(-0.6, len(data) - 0.4), xlabel="Accuracy")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, 0))
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
