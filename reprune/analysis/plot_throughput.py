"""Speed over batch sizes and lengths: bars for each row, a panel for each of the two."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reprune.analysis import palette, style
from reprune.analysis.labels import with_targets
from reprune.analysis.measurements import Quantity, measure
from reprune.analysis.plot_curve import bars, lost, subject, value_title
from reprune.analysis.provenance import protocols_called
from reprune.analysis.samples import Undecided
from reprune.analysis.unit import Row, Unit

LEFT, BETWEEN, WIDTH = 0.72, 0.45, 3.1
TITLE, TOP, HEIGHT, FOOT = 0.3, 0.1, 2.4, 0.62
"""Inches: a model's title, what is free above and below a line of the legend, the bars, the axis below."""
AXES = {
    "batch": "Sequences at once, {new_tokens} new tokens each",
    "new_tokens": "New tokens each, {batch} at once",
}
BARS = 0.8  # the room of a group's bars


def draw_throughput(unit: Unit, spec: dict[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Draw the plot; returns it with its data.

    Raises :class:`Undecided` if the protocol varies neither batch size nor length, or nothing was timed.
    """
    data = _data(unit, spec)
    several = data.model.nunique() > 1
    parts = [
        (unit.model_title(str(m)) if several else "", part) for m, part in data.groupby("model", sort=False)
    ]
    heights = [_height(title, part) for title, part in parts]
    figure = style.new_figure(
        spec["title"],
        f"{subject(unit, spec)}; {bars(data).replace('bars', 'thin lines')}",
        "\n".join([style.origin(unit, data.model, spec["protocol"]), *lost(data)]),
        sum(heights),
    )
    for index, (title, part) in enumerate(parts):
        _panels(figure, sum(heights[:index]), title, spec, part)
    return figure, data


def _data(unit: Unit, spec: dict[str, Any]) -> pd.DataFrame:
    """One line per axis, row and size."""
    frames = [_points(unit, spec, axis, tasks) for axis, tasks in _axes(unit, spec["protocol"])]
    data = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    if data.empty or not (data.status == "ok").any():
        reasons = data.reason.dropna().unique() if len(data) else ["it has no such tasks"]
        raise Undecided(f"{spec['protocol']} over batch sizes or lengths: {'; '.join(reasons)}")
    return with_targets(data)


def _height(title: str, data: pd.DataFrame) -> float:
    return TITLE * bool(title) + _legend_height(data) + HEIGHT + FOOT


def _legend_height(data: pd.DataFrame) -> float:
    return style.LEGEND_LINE * len(style.legend_lines(data.name.unique(), LEFT)) + TOP


def _axes(unit: Unit, protocol: str) -> Iterator[tuple[str, dict[str, int]]]:
    """What the protocol's generation tasks vary, in words, with the tasks and their sizes on that axis.

    The other sizes, told as well, are those that most tasks share.
    """
    contents = protocols_called(unit, protocol).values()
    timed = {task: spec for content in contents for task, spec in content["tasks"].items()}
    made = {task: spec for task, spec in timed.items() if spec["kind"] == "generate"}
    for axis in AXES:
        groups: dict[tuple, dict[str, int]] = {}
        for task, spec in made.items():
            held = tuple(value for key, value in sorted(spec.items()) if key != axis)
            groups.setdefault(held, {})[task] = spec[axis]
        largest = max(groups.values(), key=len, default={})
        if len(largest) > 1:
            title = AXES[axis].format(**made[next(iter(largest))])
            yield title, dict(sorted(largest.items(), key=lambda item: item[1]))


def _points(unit: Unit, spec: dict[str, Any], axis: str, tasks: dict[str, int]) -> pd.DataFrame:
    """One line per row and size."""
    measured = [
        (row, size, measure(unit, row, Quantity.of(spec, task)))
        for row in _rows(unit, spec)
        for task, size in tasks.items()
    ]
    return pd.DataFrame(
        [
            {
                "label": row.label,
                "method": row.method,
                "model": row.model,
                "target": row.target,
                "axis": axis,
                "size": size,
                "value": m.value,
                "stderr": m.stderr,
                "stderr_over": m.stderr_over,
                "status": m.status,
                "reason": m.reason,
                "run_id": ";".join(run.run_id for run in row.runs if run.run_id),
            }
            for row, size, m in measured
        ]
    )


def _rows(unit: Unit, spec: dict[str, Any]) -> list[Row]:
    """The rows asked for, by default all; a speed-up over dense says nothing of a dense row."""
    names = spec.get("methods") or list(dict.fromkeys(row.label for row in unit.rows(spec["experiment"])))
    rows = [row for name in names for row in unit.select(spec["experiment"], name, spec.get("target"))]
    return [row for row in rows if not (row.dense and spec["metric"] == "speedup")]


def _panels(figure: Figure, top: float, title: str, spec: dict[str, Any], data: pd.DataFrame) -> None:
    """A panel for each axis on one scale, with the names of the rows above."""
    highest = float((data.value + data.stderr.astype(float).fillna(0.0)).max()) * 1.05
    ranks = palette.ranks(data, "name")
    shades = {
        name: palette.colour(of.method.iloc[0], ranks[name]) for name, of in data.groupby("name", sort=False)
    }
    for place, axis in enumerate(data.axis.unique()):
        body = top + TITLE * bool(title) + _legend_height(data)
        axes = style.add_axes(figure, LEFT + place * (WIDTH + BETWEEN), body, WIDTH, HEIGHT)
        style.quiet(axes)
        axes.set(xlabel=axis, ylim=(0, highest), ylabel="" if place else value_title(spec))
        _bars(axes, data[data.axis == axis], shades)
        if spec["metric"] == "speedup":
            axes.axhline(1.0, color=palette.MUTED, linewidth=1.3, linestyle=palette.line(1))
    style.heading(figure, LEFT, top, title)
    style.legend(figure, LEFT, top + TITLE * bool(title), shades)


def _bars(axes: Axes, data: pd.DataFrame, shades: dict[str, str]) -> None:
    """Groups of bars, one for each size, in the order of the rows."""
    width, sizes = BARS / len(shades), list(data["size"].unique())
    for index, (name, group) in enumerate(data.groupby("name", sort=False)):
        good = group[group.status == "ok"]
        at = good["size"].map(sizes.index) - BARS / 2 + (index + 0.5) * width
        axes.bar(at, good.value, 0.9 * width, color=shades[name])
        axes.errorbar(at, good.value, good.stderr.fillna(0.0), fmt="none", ecolor=palette.INK, elinewidth=1)
    axes.set_xticks(range(len(sizes)), [f"{size:g}" for size in sizes])
    axes.tick_params(axis="x", length=0)
