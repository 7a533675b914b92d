"""Which singular values a method keeps, by their rank in size: the largest are not always the ones kept."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from reprune.analysis import palette, style
from reprune.analysis.noted import noted, read_rows
from reprune.analysis.unit import Row, Unit

BINS = 20
EDGES = np.linspace(0, 1, BINS + 1)
ALL, LARGEST = "all matrices", "the largest"
LEFT, WIDTH = 1.0, 5.1
CURVE, GAP, STRIP, FOOT, TITLE = 1.7, 0.16, 0.26, 0.72, 0.3
"""Inches: the curve, the gap below it, a projection's strip, the axis below, a row's title above."""


def draw_spectrum(unit: Unit, spec: dict[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Draw a panel for each row of the method; returns it with its data.

    Raises :class:`Undecided` if no row noted the singular values it kept.
    """
    known, reasons = read_rows(unit, spec, [spec["method"]], lambda row: noted(unit, row, "spectrum"))
    found = [(row, _binned(row, runs)) for row, runs in known]
    heights = [
        TITLE * (len(found) > 1) + CURVE + GAP + STRIP * (data.matrices.nunique() - 2) + FOOT
        for _, data in found
    ]
    figure = style.new_figure(
        spec["title"],
        f"Share of singular values kept, by their rank in size, 5 % of the ranks at a time; {_counts(known)}",
        "\n".join([style.origin(unit, [row.model for row, _ in known]), *style.not_drawn(reasons)]),
        sum(heights),
    )
    for index, (row, data) in enumerate(found):
        title = f"{row.name}, {unit.model_title(row.model)}" if len(found) > 1 else ""
        _panel(figure, sum(heights[:index]), title, data)
    return figure, pd.concat([data for _, data in found], ignore_index=True)


def _counts(known: list[tuple[Row, dict[str, list]]]) -> str:
    most = max(len(matrices) for _, runs in known for matrices in runs.values())
    return f"mean over {most} matrices"


def _binned(row: Row, runs: dict[str, list[dict[str, Any]]]) -> pd.DataFrame:
    """One line per kind of matrix and bin: the mean over matrices of the share kept of the bin's ranks.

    ``overlap`` is the mean over a kind's matrices of the Jaccard index of what was kept and as many largest.
    """
    matrices = [matrix for run in runs.values() for matrix in run]
    largest = [{**matrix, "kept": range(len(matrix["kept"]))} for matrix in matrices]
    kinds = {ALL: matrices, LARGEST: largest}
    for matrix in matrices:
        kinds.setdefault(matrix["layer"].rpartition(".")[2], []).append(matrix)
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "label": row.label,
                    "method": row.method,
                    "model": row.model,
                    "target": row.target,
                    "matrices": kind,
                    "from_rank": EDGES[:-1],
                    "to_rank": EDGES[1:],
                    "kept": np.mean([_shares(matrix) for matrix in members], axis=0),
                    "overlap": np.mean([_overlap(matrix["kept"]) for matrix in members]),
                    "count": len(members),
                    "run_id": ";".join(runs),
                }
            )
            for kind, members in kinds.items()
        ],
        ignore_index=True,
    )


def _shares(matrix: dict[str, Any]) -> np.ndarray:
    """(bins,) the share of a matrix's singular values that was kept, in each bin of ranks."""
    size = matrix["size"]
    kept, every = (
        np.histogram((np.asarray(ranks) + 0.5) / size, EDGES)[0] for ranks in (matrix["kept"], range(size))
    )
    return kept / np.maximum(every, 1)


def _overlap(kept: Collection[int]) -> float:
    """Jaccard index of the kept ranks and the ``len(kept)`` first ones."""
    common = sum(rank < len(kept) for rank in kept)
    return common / (2 * len(kept) - common)


def _panel(figure: Figure, top: float, title: str, data: pd.DataFrame) -> None:
    shade = palette.colour(data.method.iloc[0])
    strips = data[~data.matrices.isin([ALL, LARGEST])]
    top += TITLE if title else 0.0
    curve = style.add_axes(figure, LEFT, top, WIDTH, CURVE)
    curve.set_title(title, loc="left", fontsize=10, fontweight="bold")
    style.quiet(curve)
    _curve(curve, data, shade)
    kinds = strips.matrices.nunique()
    below = top + CURVE + GAP
    image = _strips(style.add_axes(figure, LEFT, below, WIDTH, STRIP * kinds), strips, shade)
    foot = below + STRIP * kinds + 0.3
    _scale(figure, image, style.add_axes(figure, LEFT + WIDTH + 0.2, foot, 0.9, 0.09))


def _curve(axes: Axes, data: pd.DataFrame, shade: str) -> None:
    """All matrices together, against keeping as many of the largest."""
    kept, largest = (data[data.matrices == kind].kept for kind in (ALL, LARGEST))
    axes.stairs(kept, EDGES, fill=True, color=shade, alpha=0.2)
    axes.stairs(kept, EDGES, color=shade, linewidth=2, clip_on=False)
    axes.stairs(largest, EDGES, color=palette.MUTED, linewidth=1.3, linestyle=palette.line(1), clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, None), xticks=[], ylabel="Share kept")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, 0))
    told = ((0.9, f"{data.label.iloc[0]}", shade), (0.77, "as many, the largest", palette.MUTED))
    for height, text, colour in told:
        axes.text(0.98, height, text, transform=axes.transAxes, ha="right", color=colour, fontweight="bold")
    overlap = data[data.matrices == ALL].overlap.iloc[0]
    axes.text(0.98, 0.62, f"overlap {overlap:.0%}", transform=axes.transAxes, ha="right", fontsize=9)


def _strips(axes: Axes, data: pd.DataFrame, shade: str) -> Any:
    """A strip for each kind of matrix, its overlap at the side; colours grow with the root of the share."""
    shares = data.pivot(index="matrices", columns="from_rank", values="kept").loc[data.matrices.unique()]
    image = axes.pcolormesh(
        EDGES,
        np.arange(len(shares) + 1),
        shares,
        cmap=LinearSegmentedColormap.from_list("kept", [palette.PAPER, shade]),
        norm=PowerNorm(0.5, 0.0, max(0.01, float(shares.max(axis=None)))),
        edgecolor=palette.GRID,
        linewidth=0.6,
    )
    axes.set(xlim=(0, 1), ylim=(len(shares), 0), xlabel="Rank of the singular value, the largest at the left")
    axes.set_yticks(np.arange(len(shares)) + 0.5, shares.index)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, 0))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    overlaps = data.drop_duplicates("matrices").overlap
    for height, overlap in enumerate(overlaps):
        axes.text(
            1.03,
            height + 0.5,
            f"overlap {overlap:.0%}",
            va="center",
            fontsize=9,
            transform=axes.get_yaxis_transform(),
        )
    return image


def _scale(figure: Figure, image: Any, axes: Axes) -> None:
    scale = figure.colorbar(image, cax=axes, orientation="horizontal")
    most = image.norm.vmax
    scale.set_ticks([0, most / 4, most], labels=["0", f"{most / 4:.0%}", f"{most:.0%}"])
    scale.outline.set_visible(False)
    scale.ax.minorticks_off()
    scale.ax.set_title("share kept", loc="left", fontsize=9, pad=3)
