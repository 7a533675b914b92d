"""The look of all plots: one palette by method, quiet axes, titles to the left, text kept as text."""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from reprune.analysis.names import task_title
from reprune.analysis.provenance import fit, protocols_called, sources_of
from reprune.analysis.unit import Unit

INK, MUTED, GRID, PAPER = "#22282e", "#6a737c", "#dfe3e7", "#ffffff"
"""The four neutral colours; the report swaps them for its own so that plots follow dark and light."""

COLOURS = {
    "dense": MUTED, "magnitude": "#9a8c7a", "wanda": "#1783c8", "sparsegpt": "#ee8f22", "besa": "#d63d6e",
    "shortgpt": "#33a6c4", "llm_pruner": "#117a65", "sheared_llama": "#7d5ba6", "grasp": "#b0a12c",
    "flop": "#5c6bc0", "cap": "#a0522d", "voita_heads": "#45a25a", "gradual_pruning": "#d474b5",
}
MARKERS = {
    "dense": "_", "magnitude": "s", "wanda": "o", "sparsegpt": "D", "besa": "^", "shortgpt": "v",
    "llm_pruner": "P", "sheared_llama": "X", "grasp": "p", "flop": "h", "cap": "<", "voita_heads": ">",
    "gradual_pruning": "d",
}
LINES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans", "font.size": 9.5, "svg.fonttype": "none", "axes.edgecolor": MUTED,
    "axes.labelcolor": INK, "axes.labelsize": 9.5, "axes.linewidth": 0.8, "axes.spines.top": False,
    "axes.spines.right": False, "axes.axisbelow": True, "axes.facecolor": PAPER, "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER, "grid.color": GRID, "grid.linewidth": 0.8, "lines.linewidth": 2.0,
    "lines.markersize": 6.5, "text.color": INK, "xtick.color": MUTED, "ytick.color": MUTED,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "xtick.labelsize": 9, "ytick.labelsize": 9,
    "xtick.major.size": 3.5, "ytick.major.size": 0, "xtick.minor.size": 0, "ytick.minor.size": 0,
    "axes.unicode_minus": True, "path.simplify": False,
}

WIDTH, HEAD, BODY, MARGIN = 7.6, 0.9, 3.5, 0.14
"""Inches: the figure's width, its two lines of title, the body of axes with their labels, the margin."""
FOOTNOTE_CHARACTERS = 122


def colour(method: str) -> str:
    """The colour of a method, the same in all plots; methods without one get theirs from their name."""
    return COLOURS.get(method) or _stable_choice(method, list(COLOURS.values())[1:])


def marker(method: str) -> str:
    """The marker of a method, so that colour is never the only difference."""
    return MARKERS.get(method) or _stable_choice(method, list(MARKERS.values())[1:])


def line(index: int) -> Any:
    """The line style of the ``index``-th row of one method."""
    return LINES[index % len(LINES)]


def _stable_choice(name: str, options: list[str]) -> str:
    return options[hashlib.sha256(name.encode()).digest()[0] % len(options)]


def new_figure(title: str, subtitle: str, footnote: str, body: float = BODY) -> Figure:
    """A figure with its words in place around a body of ``body`` inches; it grows with the footnote."""
    lines = wrap(footnote)
    height = HEAD + body + 0.22 + 0.155 * len(lines)
    figure = Figure(figsize=(WIDTH, height))
    figure.text(MARGIN / WIDTH, 1 - 0.16 / height, title, fontsize=13, fontweight="bold", va="top")
    figure.text(MARGIN / WIDTH, 1 - 0.46 / height, subtitle, fontsize=9, color=MUTED, va="top")
    figure.text(MARGIN / WIDTH, 0.1 / height, "\n".join(lines), fontsize=7.5, color=MUTED, va="bottom",
                linespacing=1.4)
    return figure


def add_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in inches, ``left`` from the figure's edge, ``top`` from the head of the body."""
    across, down = figure.get_size_inches()
    return figure.add_axes((left / across, 1 - (HEAD + top + height) / down, width / across, height / down))


def panels(unit: Unit, figure: Figure, data: pd.DataFrame, box: tuple[float, float, float, float],
           ) -> Iterator[tuple[Axes, pd.DataFrame]]:
    """Axes and data of each model, one below the other; with several, each under its title."""
    left, top, width, height = box
    for index, (model, part) in enumerate(data.groupby("model", sort=False)):
        axes = add_axes(figure, left, top + index * BODY, width, height)
        if data.model.nunique() > 1:
            axes.set_title(unit.model_title(str(model)), loc="left", fontsize=10, fontweight="bold")
        quiet(axes)
        yield axes, part


def wrap(text: str) -> list[str]:
    """``text`` in lines that fit the width of a figure."""
    return [part for line in text.splitlines() for part in textwrap.wrap(line, FOOTNOTE_CHARACTERS)]


def log_scale(axis: Axis) -> None:
    """Make an axis logarithmic, labelled at 1, 2 and 5 of each decade in plain numbers."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axis.set_minor_formatter(NullFormatter())


def quiet(axes: Axes) -> None:
    """Horizontal grid lines instead of a frame."""
    axes.grid(axis="y")
    axes.spines["left"].set_visible(False)


def origin(unit: Unit, models: Iterable[str], protocol: str | None = None, task: str | None = None) -> str:
    """Where the numbers come from, in one or two lines: models, scale, protocol; the text and its fit."""
    words = [", ".join(map(unit.model_title, dict.fromkeys(models))), f"scale {unit.info['scale']}"]
    words += list(protocols_called(unit, protocol)) if protocol else []
    texts = [f"Text of {task_title(task)}: {source['source']} ({fit(source)})"
             for source in (sources_of(unit, protocol, task) if protocol and task else [])]
    return "\n".join([" · ".join(words), *texts])


def label_ends(axes: Axes, labels: Sequence[tuple[float, str, str]], gap: float = 0.065) -> None:
    """Write labels to the right of the axes at data heights (height, text, colour), kept apart."""
    to_axes = axes.transData + axes.transAxes.inverted()
    heights = [to_axes.transform((axes.get_xlim()[0], height))[1] for height, _, _ in labels]
    for place, (_, text, shade) in zip(apart(heights, gap), labels, strict=True):
        axes.annotate(text, (1.0, place), xycoords="axes fraction", xytext=(9, 0), color=shade,
                      textcoords="offset points", va="center", fontsize=9.5, fontweight="bold",
                      annotation_clip=False)


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
        boxes = [(spot[0] + dx - half, spot[1] + dy, spot[0] + dx + half, spot[1] + dy + 9)
                 for dx, dy in sides]
        free = next((i for i, box in enumerate(boxes) if not any(_overlap(box, t) for t in taken)), 0)
        taken.append(boxes[free])
        axes.annotate(text, (x, y), xytext=sides[free], textcoords="offset points", ha="center", color=shade,
                      fontsize=9.5, fontweight="bold")


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
