"""The head nearest to each role as it attends to one short sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from reprune.analysis import palette, style
from reprune.analysis.heads import ROLES
from reprune.analysis.samples import Undecided
from reprune.analysis.unit import Row, Unit

COLUMNS, LETTER = 2, 0.068
"""Panels beside each other; inches of a letter of the words on the axes."""
MEASURES: dict[str, Callable[[float], str]] = {
    "positional": lambda value: f"{value:.0%} of maxima at one offset",
    "syntactic": lambda value: f"{abs(100 * value):.0f} points {_side(value)} the best offset",
    "rare": lambda value: f"at the rarest token in {value:.0%} of sentences",
    "unknown": lambda value: f"confidence {value:.2f}",
}
"""What a role is asked of, in words."""
TITLE, SIDE, FOOT = 0.38, 2.5, 0.16


def draw_attention(unit: Unit, spec: dict[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Draw a map for each role, of a head of the row ``method`` that has it or is nearest; its data too.

    Raises :class:`Undecided` if the row's suite of head roles kept no example.
    """
    row, example = _example(unit, spec)
    words, maps = example["words"], example["maps"]
    room = 0.2 + LETTER * max(map(len, words))
    pitch = TITLE + room + SIDE + FOOT
    figure = style.new_figure(
        spec["title"],
        "Attention of each word of a sentence (row) to every word (column)",
        "\n".join(
            [
                f"The sentence: {' '.join(words)}",  # in the lines that are wrapped: it may be long
                style.origin(unit, [row.model], spec["protocol"], [spec["task"]]),
                "Between words: summed over the pieces of the attended one, mean over those of the other; "
                "what goes to the end of the sentence is left out",
            ]
        ),
        pitch * -(-len(maps) // COLUMNS),
    )
    between = (style.WIDTH - COLUMNS * (room + SIDE)) / (COLUMNS + 1)
    for index, one in enumerate(maps):
        left = between + (index % COLUMNS) * (room + SIDE + between) + room
        axes = style.add_axes(figure, left, (index // COLUMNS) * pitch + TITLE + room, SIDE, SIDE)
        _panel(axes, words, one)
    return figure, _data(row, words, maps)


def _example(unit: Unit, spec: dict[str, Any]) -> tuple[Row, dict[str, Any]]:
    rows = unit.select(spec["experiment"], spec["method"], spec.get("target"))
    if not rows:
        raise Undecided(f"no row is called '{spec['method']}'")
    row = rows[0]
    for protocol, by_task in unit.notes.get(str(row.runs[0].run_id), {}).get("measured", {}).items():
        example = by_task.get(spec["task"], {}).get("example")
        if protocol.split("@")[0] == spec["protocol"] and example:
            return row, example
    raise Undecided(f"{row.name}: {row.runs[0].reason or 'no example sentence was kept'}")


def _panel(axes: Axes, words: list[str], one: dict[str, Any]) -> None:
    shade = palette.ROLES[one["role"]]
    dark = palette.INK if one["role"] == "unknown" else shade
    colours = LinearSegmentedColormap.from_list(one["role"], [palette.PAPER, dark])
    weights = np.asarray(one["weights"])
    axes.pcolormesh(
        weights, cmap=colours, vmin=0.0, vmax=1.0, edgecolors=palette.GRID, linewidth=0.4, clip_on=False
    )
    axes.set(xlim=(0, len(words)), ylim=(len(words), 0))
    middles = np.arange(len(words)) + 0.5
    axes.set_xticks(middles, words, rotation=90, fontsize=8)
    axes.set_yticks(middles, words, fontsize=8)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)
    axes.set_title(_title(one), loc="left", fontsize=9, fontweight="bold", color=dark, pad=5)


def _title(one: dict[str, Any]) -> str:
    role = ROLES[one["role"]]
    name = role.capitalize() if one["reached"] else f"Nearest to {role}"
    return f"{name}: layer {one['layer'] + 1}, head {one['head'] + 1}\n{MEASURES[one['role']](one['value'])}"


def _side(value: float) -> str:
    return "above" if value >= 0 else "below"


def _data(row: Row, words: list[str], maps: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "label": row.label,
                "role": one["role"],
                "reached": one["reached"],
                "value": one["value"],
                "layer": one["layer"],
                "head": one["head"],
                "query": query,
                "key": key,
                "weight": one["weights"][i][j],
                "run_id": row.runs[0].run_id,
            }
            for one in maps
            for i, query in enumerate(words)
            for j, key in enumerate(words)
        ]
    )
