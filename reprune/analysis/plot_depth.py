"""A metric block by block: each method's mean over windows with a band."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reprune.analysis import palette, style
from reprune.analysis.labels import label_ends, with_targets
from reprune.analysis.measurements import Quantity
from reprune.analysis.names import counted
from reprune.analysis.noted import read_rows
from reprune.analysis.plot_curve import BOX, subject, value_title
from reprune.analysis.samples import Samples, Undecided, samples
from reprune.analysis.unit import Row, Unit


def draw_depth(unit: Unit, spec: dict[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Draw the plot; returns it with its data. Raises :class:`Undecided` if no method has items."""
    known, reasons = read_rows(
        unit, spec, spec["methods"], lambda row: _samples(unit, row, Quantity.of(spec))
    )
    data = pd.concat([_by_block(found) for _, found in known], ignore_index=True)
    tasks = unit.items.loc[(unit.items.protocol_name == spec["protocol"]).fillna(False), "task"].unique()
    windows = counted(int(data.windows.min()), "held-out window")
    figure = style.new_figure(
        spec["title"],
        f"{subject(unit, spec)}; mean over {windows}, band: ± standard error",
        "\n".join([style.origin(unit, data.model, spec["protocol"], tasks), *style.not_drawn(reasons)]),
        style.body_height(data),
    )
    for axes, part in style.panels(unit, figure, data, BOX):
        _panel(axes, spec, part)
    return figure, data


def _panel(axes: Axes, spec: dict[str, Any], data: pd.DataFrame) -> None:
    axes.set(
        xlabel="Decoder block",
        ylabel=value_title(spec),
        xlim=(data.block.min() - 0.4, data.block.max() + 0.4),
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    ranks = palette.ranks(data)
    for place, ((label, _), group) in enumerate(data.groupby(["label", "target"], sort=False)):
        _one_method(axes, group, ranks[label], place)
    if spec.get("log_y"):
        style.log_scale(axes.yaxis)
    else:
        axes.set_ylim(bottom=0.0)
    label_ends(
        axes,
        [
            (
                row.value,
                row.name,
                palette.colour(row.method, ranks[row.label]),
            )
            for row in with_targets(data[data.block == data.block.max()]).itertuples()
        ],
    )


def _one_method(axes: Axes, group: pd.DataFrame, rank: int, place: int) -> None:
    """A line with its band; each line has its markers at other blocks, so that none hides another."""
    method = group.method.iloc[0]
    shade = palette.colour(method, rank)
    axes.plot(
        group.block,
        group.value,
        color=shade,
        linestyle=palette.line(rank),
        marker=palette.marker(method),
        markevery=(2 + place, 7),
        markeredgecolor=palette.PAPER,
        markeredgewidth=0.9,
    )
    axes.fill_between(
        group.block,
        group.value - group.stderr,
        group.value + group.stderr,
        color=shade,
        alpha=0.18,
        linewidth=0,
    )


def _samples(unit: Unit, row: Row, quantity: Quantity) -> Samples:
    found = samples(unit, row, quantity)
    if found.diverged:
        raise Undecided(f"{row.name}: diverged")
    return found


def _by_block(found: Samples) -> pd.DataFrame:
    """One line per block: mean over windows (of the mean over seeds) and its standard error."""
    frames = [items.values for items in found.by_seed.values()]
    mean = sum(frames[1:], frames[0]) / len(frames)
    return pd.DataFrame(
        {
            "label": found.row.label,
            "method": found.row.method,
            "model": found.row.model,
            "target": found.row.target,
            "block": mean.columns,
            "value": mean.mean().to_numpy(),
            "stderr": (mean.std(ddof=1) / np.sqrt(len(mean))).fillna(0.0).to_numpy(),
            "windows": len(mean),
            "run_id": ";".join(str(run.run_id) for run in found.row.runs),
        }
    )
