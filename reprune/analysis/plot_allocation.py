"""The learned sparsity of each layer: blocks by projections, with each projection's mean at the side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reprune.analysis import palette, style
from reprune.analysis.allocation import layers_of, sparsity
from reprune.analysis.samples import Undecided
from reprune.analysis.unit import Row, Unit

BODY, PITCH = 3.2, 3.6
MAP_BOX, BAR_BOX, SCALE_BOX = (0.82, 0.0, 4.55, 2.2), (5.53, 0.0, 1.36, 2.2), (0.82, 2.74, 1.65, 0.09)


def draw_allocation(unit: Unit, spec: dict[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Draw a panel for each row of the method, of its first run that has layers; with the data.

    Raises :class:`Undecided` if no row of the method has any.
    """
    found = list(_with_layers(unit, spec))
    if not found:
        raise Undecided(f"no row of {spec['method']} reported its layers")
    names = " and ".join(dict.fromkeys(row.name for row, _ in found))
    figure = style.new_figure(
        spec["title"],
        f"{names}: share of zeros in each layer, counted on the checkpoint",
        style.origin(unit, [row.model for row, _ in found]),
        BODY + PITCH * (len(found) - 1),
    )
    for index, (row, layers) in enumerate(found):
        title = f"{row.name}, {unit.model_title(row.model)}" if len(found) > 1 else ""
        _panel(figure, index * PITCH, title, layers, row.target_requested)
    return figure, pd.concat([_data(row, layers) for row, layers in found], ignore_index=True)


def _with_layers(unit: Unit, spec: dict[str, Any]) -> Iterator[tuple[Row, pd.DataFrame]]:
    for row in unit.select(spec["experiment"], spec["method"], spec.get("target")):
        try:
            yield row, layers_of(unit, row)[0]
        except Undecided:
            continue


def _data(row: Row, layers: pd.DataFrame) -> pd.DataFrame:
    shares = sparsity(layers, ["block", "layer"]).rename("sparsity").reset_index()
    return shares.assign(
        label=row.label, model=row.model, target=row.target_requested, run_id=layers.run_id.iloc[0]
    )


def _panel(figure: Figure, top: float, title: str, layers: pd.DataFrame, target: float) -> None:
    shares, means = sparsity(layers, ["block", "layer"]), sparsity(layers, ["layer"])
    limit = max(0.01, float(np.abs(shares - target).max()))
    boxes = [
        style.add_axes(figure, left, top + below, width, height)
        for left, below, width, height in (MAP_BOX, BAR_BOX, SCALE_BOX)
    ]
    boxes[0].set_title(title, loc="left", fontsize=10, fontweight="bold")
    image = _heat_map(boxes[0], shares.unstack("block").loc[means.index], target, limit)
    _bars(boxes[1], means, target)
    scale = figure.colorbar(image, cax=boxes[2], orientation="horizontal")
    digits = 0 if limit > 0.02 else 1
    scale.set_ticks(
        [target - limit, target, target + limit],
        labels=[f"{target + by:.{digits}%}" for by in (-limit, 0, limit)],
    )
    scale.outline.set_visible(False)
    scale.ax.text(1.06, 0.5, "share of zeros", transform=scale.ax.transAxes, va="center", fontsize=9)


def _heat_map(axes: Axes, shares: pd.DataFrame, target: float, limit: float) -> Any:
    """``shares``: (projections, blocks). Colours are centred on the target."""
    image = axes.pcolormesh(
        np.arange(shares.shape[1] + 1),
        np.arange(shares.shape[0] + 1),
        shares,
        cmap="PuOr_r",
        vmin=target - limit,
        vmax=target + limit,
        edgecolor=palette.PAPER,
        linewidth=0.6,
    )
    axes.set_yticks(np.arange(len(shares)) + 0.5, [name.rpartition(".")[2] for name in shares.index])
    every = max(1, shares.shape[1] // 10)
    axes.set_xticks(np.arange(0, shares.shape[1], every) + 0.5, [str(b) for b in shares.columns[::every]])
    axes.set(xlabel="Decoder block")
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return image


def _bars(axes: Axes, means: pd.Series, target: float) -> None:
    """Each projection's deviation from the target in percentage points, in the rows of the map."""
    away = 100 * (means.to_numpy() - target)
    axes.barh(np.arange(len(means)) + 0.5, away, height=0.62, color=palette.GRID)
    axes.axvline(0, color=palette.MUTED, linewidth=1)
    reach = max(0.5, float(np.abs(away).max())) * 1.2
    for at, (by, share) in enumerate(zip(away, means, strict=True)):
        axes.text(
            1.03, at + 0.5, f"{share:.1%}", va="center", fontsize=9, transform=axes.get_yaxis_transform()
        )
        axes.plot(by, at + 0.5, "o", color=palette.INK, markersize=4.5)
    axes.set(ylim=(len(means), 0), xlim=(-reach, reach), yticks=[], xlabel="Mean − target (points)")
    axes.spines["left"].set_visible(False)
