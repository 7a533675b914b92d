"""Labels written at what they name, moved only as far as needed to stay legible."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from reprune.analysis.palette import PAPER

LINE_CHARACTERS, LINE_HEIGHT = 15, 0.065  # room at the right of the axes; share of their height
NEAR = 0.12  # the part of an axis before its end within which a line still ends at the edge
OF = " of parameters"
BEHIND = {"boxstyle": "square,pad=0.1", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.7}
POINTS = 12.0  # the height of a line of text


def with_targets(data: pd.DataFrame) -> pd.DataFrame:
    """``data`` with a column ``name``: the label, with its target where compressed rows have several.

    ``20% of parameters`` is ``20%`` where all targets are of parameters.
    """
    dense = data.target == "dense"
    targets = data.target[~dense]
    if targets.nunique() < 2:
        return data.assign(name=data.label)
    short = data.target.str.removesuffix(OF) if targets.str.endswith(OF).all() else data.target
    return data.assign(name=data.label.where(dense, data.label + " " + short))


def label_ends(axes: Axes, labels: Sequence[tuple[float, str, str]]) -> None:
    """Write labels (height in data, text, colour) to the right of the axes, kept apart."""
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = [to_axes.transform((axes.get_xlim()[0], height))[1] for height, _, _ in labels]
    texts = [textwrap.fill(text, LINE_CHARACTERS) for _, text, _ in labels]
    sizes = [LINE_HEIGHT * (text.count("\n") + 1) for text in texts]
    for place, text, (_, _, shade) in zip(apart(heights, sizes), texts, labels, strict=True):
        axes.annotate(
            text,
            (1.0, place),
            xycoords="axes fraction",
            xytext=(9, 0),
            color=shade,
            textcoords="offset points",
            va="center",
            fontsize=9.5,
            fontweight="bold",
            annotation_clip=False,
        )


def label_last(
    axes: Axes,
    ends: Sequence[tuple[float, float, str, str]],
    span: tuple[float, float],
    levels: Sequence[tuple[float, str, str]] = (),
) -> None:
    """Name lines that end at (x, y, text, colour) at the right edge, those that end before it at their end.

    ``span`` is the first and last x of all lines; ``levels`` are (y, text, colour) named at the edge as well.
    """
    edge = span[1] - NEAR * (span[1] - span[0])
    label_ends(axes, [*((y, text, shade) for x, y, text, shade in ends if x >= edge), *levels])
    label_beside(axes, [end for end in ends if end[0] < edge])


def label_beside(axes: Axes, labels: Sequence[tuple[float, float, str, str]]) -> None:
    """Write labels (x, y, text, colour) to the right of their points, kept apart."""
    scale = 72 / axes.figure.dpi
    spots = axes.transData.transform([(x, y) for x, y, _, _ in labels]) * scale if labels else []
    placed = apart([y for _, y in spots], [POINTS] * len(labels))
    for (x, y, text, shade), spot, place in zip(labels, spots, placed, strict=True):
        axes.annotate(
            text,
            (x, y),
            xytext=(9, place - spot[1]),
            textcoords="offset points",
            va="center",
            color=shade,
            fontsize=9.5,
            fontweight="bold",
            bbox=BEHIND,
        )


def apart(heights: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """``heights`` moved as little as neighbours of these ``sizes`` need not to overlap, order kept."""
    order = np.argsort(heights, kind="stable")
    placed = [heights[i] for i in order]
    for _ in range(50):
        for i in range(len(placed) - 1):
            lack = (sizes[order[i]] + sizes[order[i + 1]]) / 2 - (placed[i + 1] - placed[i])
            if lack > 1e-9:
                placed[i] -= lack / 2
                placed[i + 1] += lack / 2
    result = [0.0] * len(placed)
    for place, i in zip(placed, order, strict=True):
        result[i] = float(place)
    return result


def label_points(axes: Axes, labels: Sequence[tuple[float, float, str, str]]) -> None:
    """Write labels (x, y, text, colour) beside their points, on the first side where nothing is yet."""
    spots = axes.transData.transform([(x, y) for x, y, _, _ in labels]) * 72 / axes.figure.dpi
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in spots]
    for (x, y, text, shade), spot in zip(labels, spots, strict=True):
        half = 3.1 * len(text)
        sides = [(0, -16), (half + 10, -4), (-half - 10, -4), (0, 8), (0, -28), (0, 20)]
        boxes = [
            (spot[0] + dx - half, spot[1] + dy, spot[0] + dx + half, spot[1] + dy + 9) for dx, dy in sides
        ]
        free = next((i for i, box in enumerate(boxes) if not any(_overlap(box, t) for t in taken)), 0)
        taken.append(boxes[free])
        axes.annotate(
            text,
            (x, y),
            xytext=sides[free],
            textcoords="offset points",
            ha="center",
            color=shade,
            fontsize=9.5,
            fontweight="bold",
            bbox=BEHIND,
        )


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
