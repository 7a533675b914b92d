"""Which domains training draws from as it goes on, and how far each is above the loss to reach."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from reprune.analysis import palette, style
from reprune.analysis.formats import tokens_unit
from reprune.analysis.histories import PRUNING
from reprune.analysis.names import task_title
from reprune.analysis.plot_tokens import measured_rows
from reprune.analysis.unit import Unit

LEFT, WIDTH, BETWEEN, ACROSS = 0.72, 6.65, 0.3, 2
"""Inches: the first panels' place, all panels' width, the gap between columns; columns in a line."""
TITLE, SHARES, GAP, EXCESS, FOOT = 0.3, 1.7, 0.2, 1.7, 0.62
"""Inches: a row's title, its shares of the data, the gap below, its excess losses, the axis."""
HEIGHT = TITLE + SHARES + GAP + EXCESS + FOOT
SETTLED = 0.1  # the share of the tokens that may run off the upper edge of the excess loss


def draw_loading(unit: Unit, spec: dict[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Draw two panels for each row, rows side by side; returns them with their data.

    Raises :class:`Undecided` if no row was trained on a mixture.
    """
    data, reasons = measured_rows(unit, spec)
    shades = palette.series(data.domain)
    titles = {task_title(domain): shade for domain, shade in shades.items()}
    head = style.LEGEND_LINE * (len(style.legend_lines(titles, LEFT)) + 0.5)
    parts = list(data.groupby(["model", "name"], sort=False))
    columns = min(ACROSS, len(parts))
    figure = style.new_figure(
        spec["title"],
        "Above: share of the data drawn; below: held-out loss above the one to reach, nats per token",
        "\n".join([style.origin(unit, data.model), *_told(data, reasons)]),
        head + HEIGHT * -(-len(parts) // columns),
    )
    style.legend(figure, LEFT, style.LEGEND_LINE / 2, titles)
    width = (WIDTH - BETWEEN * (columns - 1)) / columns
    for index, ((model, name), part) in enumerate(parts):
        line, column = divmod(index, columns)
        title = f"{name}, {unit.model_title(model)}" if data.model.nunique() > 1 else name
        place = (LEFT + column * (width + BETWEEN), head + line * HEIGHT, width)
        _panels(figure, place, title, part, data, shades)
    return figure, data


def _told(data: pd.DataFrame, reasons: list[str]) -> list[str]:
    """What of a figure cannot be read from itself."""
    told = []
    if data.stage.nunique() > 1:
        told.append("Vertical line: from pruning to continued pre-training.")
    if data.excess.max() > _highest(data):
        told.append("Losses of the first tenth run off the upper edge.")
    lacking = [f"{name}: no losses to reach" for name, of in data.groupby("name") if of.excess.isna().all()]
    return [*([" ".join(told)] if told else []), *style.not_drawn([*reasons, *lacking])]


def _highest(data: pd.DataFrame) -> float:
    """The highest excess loss that must be seen: that behind the first part of the tokens."""
    behind = data[data.tokens > SETTLED * data.tokens.max()].excess.max()
    return data.excess.max() if pd.isna(behind) else 1.05 * behind


def _panels(
    figure: Figure,
    place: tuple[float, float, float],
    title: str,
    data: pd.DataFrame,
    every: pd.DataFrame,
    shades: dict[str, str],
) -> None:
    """The two panels of one row, at (left, top, width); scales are those of ``every`` row."""
    left, top, width = place
    style.heading(figure, left, top + TITLE / 2, title)
    shares = style.add_axes(figure, left, top + TITLE, width, SHARES)
    excess = style.add_axes(figure, left, top + TITLE + SHARES + GAP, width, EXCESS)
    divisor, tokens = tokens_unit(every.tokens.max())
    for axes in (shares, excess):
        style.quiet(axes)
        axes.set_xlim(0, every.tokens.max() / divisor)
        axes.tick_params(labelleft=left == LEFT)
        axes.yaxis.set_label_coords(-0.48 / width, 0.5)
    shares.tick_params(labelbottom=False)
    excess.set_xlabel(tokens)
    if left == LEFT:
        shares.set_ylabel("Share of the data")
        excess.set_ylabel("Excess loss")
    if every.excess.notna().any():
        excess.set_ylim(1.05 * min(0.0, every.excess.min()), _highest(every))
    _draw(shares, excess, data.assign(tokens=data.tokens / divisor), shades)


def _draw(shares: Axes, excess: Axes, data: pd.DataFrame, shades: dict[str, str]) -> None:
    """Shares stand one on the other, each from a measurement to the next, and fill the panel."""
    below = 0.0
    for domain, group in data.groupby("domain", sort=False):
        above = below + group.weight.to_numpy()
        shares.fill_between(group.tokens, below, above, step="post", color=shades[str(domain)], linewidth=0)
        excess.plot(group.tokens, group.excess, color=shades[str(domain)], linewidth=1.5)
        below = above
    shares.set_ylim(0, 1)
    shares.yaxis.set_major_formatter(PercentFormatter(1.0, 0))
    excess.axhline(0.0, color=palette.MUTED, linewidth=0.8, zorder=1)
    if data.stage.nunique() > 1:
        for axes in (shares, excess):
            axes.axvline(data[data.stage == PRUNING].tokens.max(), color=palette.GRID, linewidth=1.5)
