"""The look of all plots: quiet axes, titles to the left, where the numbers come from below."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from reprune.analysis.formats import SCIENTIFIC_FROM, plain, rounded
from reprune.analysis.names import task_title
from reprune.analysis.palette import GRID, INK, MUTED, PAPER
from reprune.analysis.provenance import fit, protocols_called, sources_of
from reprune.analysis.unit import Unit

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "svg.fonttype": "none",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.labelsize": 9.5,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.facecolor": PAPER,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "lines.linewidth": 2.0,
    "lines.markersize": 6.5,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.major.size": 3.5,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "axes.unicode_minus": True,
    "path.simplify": False,
}

WIDTH, HEAD, BODY, PITCH, MARGIN = 7.6, 0.9, 3.5, 3.85, 0.14
"""Inches: the figure's width, its two lines of title, axes with their labels, from one panel to the next,
and the margin."""
FOOTNOTE_CHARACTERS = 122
LETTER, LEGEND_LINE = 0.072, 0.22  # inches: the mean width of a letter of 9 points, from line to line


def new_figure(title: str, subtitle: str, footnote: str, body: float = BODY) -> Figure:
    """A figure with its words in place around a body of ``body`` inches; it grows with the footnote."""
    lines = wrap(footnote)
    height = HEAD + body + 0.22 + 0.155 * len(lines)
    figure = Figure(figsize=(WIDTH, height))
    figure.text(MARGIN / WIDTH, 1 - 0.16 / height, title, fontsize=13, fontweight="bold", va="top")
    figure.text(MARGIN / WIDTH, 1 - 0.46 / height, subtitle, fontsize=9, color=MUTED, va="top")
    figure.text(
        MARGIN / WIDTH,
        0.1 / height,
        "\n".join(lines),
        fontsize=7.5,
        color=MUTED,
        va="bottom",
        linespacing=1.4,
    )
    return figure


def add_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in inches, ``left`` from the figure's edge, ``top`` from the head of the body."""
    across, down = figure.get_size_inches()
    return figure.add_axes((left / across, 1 - (HEAD + top + height) / down, width / across, height / down))


def heading(figure: Figure, left: float, top: float, text: str) -> None:
    """A title over a part of the body, ``left`` and ``top`` in inches."""
    across, down = figure.get_size_inches()
    place = left / across, 1 - (HEAD + top) / down
    figure.text(*place, text, fontsize=10, fontweight="bold", va="center")


def legend_lines(names: Iterable[str], left: float) -> list[list[str]]:
    """The names of a legend in lines that fit the width of a figure from ``left``, inches, on."""
    lines: list[list[str]] = [[]]
    for name in names:
        if sum(map(_entry, [*lines[-1], name])) > WIDTH - left and lines[-1]:
            lines.append([])
        lines[-1].append(name)
    return lines


def legend(figure: Figure, left: float, top: float, shades: dict[str, str]) -> None:
    """Names, each behind a square of its colour; ``left`` and ``top``, of the first line, in inches."""
    across, down = figure.get_size_inches()
    for i, names in enumerate(legend_lines(shades, left)):
        x, y = left, 1 - (HEAD + top + i * LEGEND_LINE) / down
        for name in names:
            figure.text(x / across, y, "■", color=shades[name], fontsize=9, va="center")
            figure.text((x + 0.16) / across, y, name, fontsize=9, va="center")
            x += _entry(name)


def _entry(name: str) -> float:
    return 0.4 + LETTER * len(name)


def body_height(data: pd.DataFrame) -> float:
    """The height that the panels of ``data``, one for each model, need."""
    return BODY + PITCH * (data.model.nunique() - 1)


def panels(
    unit: Unit,
    figure: Figure,
    data: pd.DataFrame,
    box: tuple[float, float, float, float],
) -> Iterator[tuple[Axes, pd.DataFrame]]:
    """Axes and data of each model, one below the other; with several, each under its title."""
    left, top, width, height = box
    for index, (model, part) in enumerate(data.groupby("model", sort=False)):
        axes = add_axes(figure, left, top + index * PITCH, width, height)
        if data.model.nunique() > 1:
            axes.set_title(unit.model_title(str(model)), loc="left", fontsize=10, fontweight="bold")
        quiet(axes)
        yield axes, part


def wrap(text: str) -> list[str]:
    """``text`` in lines that fit the width of a figure."""
    return [part for line in text.splitlines() for part in textwrap.wrap(line, FOOTNOTE_CHARACTERS)]


def log_scale(axis: Axis) -> None:
    """Make an axis logarithmic, with labels as dense as its range allows."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = axis.get_view_interval()
    steps = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0) if high / low < 5 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 1000 else steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
    axis.set_minor_formatter(NullFormatter())


def _tick(value: float) -> str:
    """``1,000`` or ``10⁵``."""
    text = f"{value:,g}" if value < SCIENTIFIC_FROM else plain(rounded(value))
    return text.replace("1.00×", "").replace(".00×", "×")


def quiet(axes: Axes) -> None:
    """Horizontal grid lines instead of a frame."""
    axes.grid(axis="y")
    axes.spines["left"].set_visible(False)


def not_drawn(reasons: Iterable[str]) -> list[str]:
    """The line of a footnote that says what is missing and why; none if nothing is."""
    told = list(dict.fromkeys(reasons))
    return ["Not drawn: " + "; ".join(told)] if told else []


def origin(unit: Unit, models: Iterable[str], protocol: str | None = None, tasks: Iterable[str] = ()) -> str:
    """Where the numbers come from, in one or two lines: models, scale, protocol; the data and its fit."""
    words = [", ".join(map(unit.model_title, dict.fromkeys(models))), f"scale {unit.info['scale']}"]
    words += list(protocols_called(unit, protocol)) if protocol else []
    texts = [
        f"Data of {task_title(task)}: {source['source']} ({fit(source)})"
        for task in tasks
        for source in sources_of(unit, protocol or "", task)
    ]
    return "\n".join([" · ".join(words), *texts])
