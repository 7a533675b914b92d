"""Labels written at what they name, moved only as far as needed to stay legible."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from reprune.analysis.palette import PAPER

LINE_CHARACTERS, LINE_HEIGHT = 19, 0.065  # room at the right of the axes; share of their height


def label_ends(axes: Axes, labels: Sequence[tuple[float, str, str]]) -> None:
    """Write labels (height in data, text, colour) to the right of the axes, kept apart."""
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = [to_axes.transform((axes.get_xlim()[0], height))[1] for height, _, _ in labels]
    texts = [textwrap.fill(text, LINE_CHARACTERS) for _, text, _ in labels]
    gap = LINE_HEIGHT * max((text.count("\n") + 1 for text in texts), default=1)
    for place, text, (_, _, shade) in zip(apart(heights, gap), texts, labels, strict=True):
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


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """``heights`` moved as little as pairs need to be ``gap`` apart, order kept."""
    order = np.argsort(heights, kind="stable")
    placed = [heights[i] for i in order]
    for _ in range(50):
        for i in range(len(placed) - 1):
            lack = gap - (placed[i + 1] - placed[i])
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
            bbox={"boxstyle": "square,pad=0.1", "facecolor": PAPER, "edgecolor": "none", "alpha": 0.7},
        )


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
