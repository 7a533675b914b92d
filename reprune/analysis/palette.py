"""The colours, markers and line styles of all plots: a method looks the same wherever it is drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from typing import Any

import pandas as pd
from matplotlib.colors import to_hex, to_rgb

INK, MUTED, GRID, PAPER = "#22282e", "#6a737c", "#dfe3e7", "#ffffff"
"""The four neutral colours; the report swaps them for its own so that plots follow dark and light."""

COLOURS = {
    "dense": MUTED,
    "magnitude": "#9a8c7a",
    "wanda": "#1783c8",
    "sparsegpt": "#ee8f22",
    "besa": "#d63d6e",
    "shortgpt": "#33a6c4",
    "llm_pruner": "#117a65",
    "sheared_llama": "#7d5ba6",
    "grasp": "#224bb2",
    "laco": "#6d5005",
    "llm_streamline": "#77377d",
    "slicegpt": "#f66c69",
    "fwsvd": "#b0a12c",
    "asvd": "#b082f7",
    "svd_llm": "#ca4a27",
    "flop": "#5c6bc0",
    "cap": "#a0522d",
    "voita_heads": "#45a25a",
    "gradual_pruning": "#d474b5",
    "cofi": "#00838f",
    "from_scratch": "#4c7a1e",
}
MARKERS: dict[str, Any] = {
    "dense": "_",
    "magnitude": "s",
    "wanda": "o",
    "sparsegpt": "D",
    "besa": "^",
    "shortgpt": "v",
    "llm_pruner": "P",
    "sheared_llama": "X",
    "grasp": "p",
    "laco": "H",
    "llm_streamline": "*",
    "slicegpt": "8",
    "fwsvd": (4, 1, 0),
    "asvd": (3, 1, 0),
    "svd_llm": (6, 1, 0),
    "flop": "h",
    "cap": "<",
    "voita_heads": ">",
    "gradual_pruning": "d",
    "cofi": (5, 1, 36),
    "from_scratch": (8, 1, 0),
}
ROLES = {"positional": "#0072b2", "syntactic": "#d55e00", "rare": "#009e73", "unknown": "#a3a9b5"}
"""Of the roles of attention heads: Okabe and Ito's, and a grey that is no removed head's."""
SPARE_COLOURS = ["#4d7f91", "#8f6b9e", "#7f8c3a", "#b5651d", "#5a7d5a", "#a3485f"]
SERIES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5c2e", "#8a8f2a"]
"""Of what is no method, such as domains of text: Okabe and Ito's but yellow and black, and two more."""
LINES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
SHADES = ((0.0, 0.0), (0.0, 0.38), (1.0, 0.38), (0.0, 0.6))


def colour(method: str, rank: int = 0) -> str:
    """The colour of a method, the same in all plots; its further rows, by rank, are darker and lighter.

    Methods without a colour of their own get one of the spare ones by their name.
    """
    base = COLOURS.get(method) or _stable_choice(method, SPARE_COLOURS)
    towards, share = SHADES[rank % len(SHADES)]
    return to_hex([(1 - share) * own + share * towards for own in to_rgb(base)])


def series(names: Iterable[str]) -> dict[str, str]:
    """A colour for each of some names that are no methods, by their order."""
    return {name: SERIES[i % len(SERIES)] for i, name in enumerate(dict.fromkeys(names))}


def widths(names: Collection[str]) -> list[float]:
    """The widths of lines that may lie on one another: the later the thinner, so that all are seen."""
    return [1.3 + 0.5 * i for i in reversed(range(len(names)))]


def on(shade: str) -> str:
    """The neutral colour that is legible on ``shade``."""
    red, green, blue = to_rgb(shade)
    return INK if 0.3 * red + 0.59 * green + 0.11 * blue > 0.62 else PAPER


def faded(shade: str, share: float) -> str:
    """``shade`` for a share of 1, the colour of grid lines for 0."""
    return to_hex(
        [share * own + (1 - share) * none for own, none in zip(to_rgb(shade), to_rgb(GRID), strict=True)]
    )


def marker(method: str) -> Any:
    """The marker of a method, so that colour is never the only difference."""
    return MARKERS.get(method) or _stable_choice(method, list(MARKERS.values())[1:])


def line(rank: int) -> Any:
    """The line style of a method's row by its rank."""
    return LINES[rank % len(LINES)]


def ranks(data: pd.DataFrame, by: str = "label") -> dict[str, int]:
    """The place of each label, or of each value ``by``, among those of its method, a column beside it."""
    pairs = data[[by, "method"]].drop_duplicates(by)
    return dict(zip(pairs[by], pairs.groupby("method", sort=False).cumcount(), strict=True))


def _stable_choice(name: str, options: list[Any]) -> Any:
    return options[hashlib.sha256(name.encode()).digest()[0] % len(options)]
