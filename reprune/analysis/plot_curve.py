"""A metric along the target or a setting, one line per row label, with error bars."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reprune.analysis import palette, style
from reprune.analysis.labels import label_last
from reprune.analysis.measurements import Quantity, fact, measure, shown_fact
from reprune.analysis.names import FACT_TITLES, metric_heading, metric_title, task_title
from reprune.analysis.unit import Row, Unit

BOX = (0.72, 0.05, 5.43, 2.9)
STEPS = "recovery_steps"


def points(unit: Unit, spec: dict[str, Any]) -> pd.DataFrame:
    """One line per row of the experiment: x, value, stderr, or the status and reason it lacks them."""
    quantity = Quantity.of(spec, spec["task"])
    measured = [(row, measure(unit, row, quantity)) for row in unit.rows(spec["experiment"])]
    return pd.DataFrame(
        [
            {
                "label": row.label,
                "method": row.method,
                "model": row.model,
                "target": row.target,
                "dense": row.dense,
                "x": position(unit, row, spec["x"]),
                "value": m.value,
                "stderr": m.stderr,
                "stderr_over": m.stderr_over,
                "status": m.status,
                "reason": m.reason,
                "run_id": ";".join(run.run_id for run in row.runs if run.run_id),
            }
            for row, m in measured
        ]
    )


def position(unit: Unit, row: Row, x: str) -> float | None:
    """A row's place on an axis: its target, a fact as shown, or a value of its settings or calibration.

    ``recovery_steps`` are those that its training took: 0 without any, None where it did not run.
    """
    kind, _, name = x.partition(".")
    if x == STEPS:
        told = unit.notes.get(row.runs[0].run_id, {}).get("recovery", {})
        return told.get("steps") if row.recoveries else 0
    if kind == "settings":
        return row.settings.get(name)
    if kind == "calibration":
        drawn = unit.records_of(row.runs[0].run_id).calibration.dropna()
        return unit.info["calibrations"].get(drawn.iloc[0], {}).get(name) if len(drawn) else None
    if x == "target_requested":
        return row.target_requested
    value = fact(unit, row, x)
    return None if value is None else value * FACT_TITLES[x].factor


def axis_title(unit: Unit, spec: dict[str, Any]) -> str:
    """The name of a plot's ``x``, with its unit; that of a ratio depends on what the rows were asked for."""
    x, rows = spec["x"], unit.rows(spec["experiment"])
    if x in FACT_TITLES:
        return shown_fact(x, rows).heading
    if x == "target_requested":
        structural = {row.structural for row in rows if not row.dense}
        kinds = {frozenset([True]): "Target, parameters removed", frozenset([False]): "Target sparsity"}
        return kinds.get(frozenset(structural), "Target")
    return x.rpartition(".")[2].replace("_", " ").capitalize()


def draw_curve(unit: Unit, spec: dict[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Draw the plot, a panel for each model; returns it with its data."""
    data = points(unit, spec)
    figure = style.new_figure(
        spec["title"],
        f"{subject(unit, spec)}; {bars(data)}",
        footnote(unit, spec, data),
        style.body_height(data),
    )
    for axes, part in style.panels(unit, figure, data, BOX):
        axes.set(xlabel=axis_title(unit, spec), ylabel=value_title(spec))
        _panel(axes, spec, part.assign(line=spec.get("join", part.label)))
    return figure, data


def _panel(axes: Axes, spec: dict[str, Any], data: pd.DataFrame) -> None:
    curves = data[~data.dense & data.x.notna()]
    ranks = palette.ranks(curves, "line")
    for name, group in curves.groupby("line", sort=False):
        _one_line(axes, group[group.status == "ok"].sort_values("x"), ranks[name])
    references = data[
        (data.status == "ok")
        & ((data.label == spec.get("reference")) | (data.method == spec.get("reference")))
    ]
    for row in references.itertuples():
        axes.axhline(row.value, color=palette.MUTED, linewidth=1.3, linestyle=palette.line(1), zorder=1)
    _scale(axes, spec, curves)
    _label(axes, curves[curves.status == "ok"], ranks, references)
    _mark_diverged(axes, curves)


def subject(unit: Unit, spec: dict[str, Any]) -> str:
    """What a plot shows and which way is better."""
    better = "higher" if unit.higher_is_better(spec["metric"]) else "lower"
    task = f" on {task_title(spec['task'])}" if "task" in spec else ""
    return f"{metric_title(spec['metric'])}{task}, {better} is better"


def value_title(spec: dict[str, Any]) -> str:
    return metric_heading(spec["metric"]) + (" (log scale)" if spec.get("log_y") else "")


def footnote(unit: Unit, spec: dict[str, Any], data: pd.DataFrame) -> str:
    return "\n".join([style.origin(unit, data.model, spec["protocol"], [spec["task"]]), *lost(data)])


def bars(data: pd.DataFrame) -> str:
    """What the error bars of a plot are."""
    over = [str(word) for word in data.stderr_over.dropna().unique()]
    return f"bars: ± standard error over {' or '.join(over)}" if over else "no error known"


def lost(data: pd.DataFrame) -> list[str]:
    """Rows that cannot be drawn, with their reasons, on one line of the footnote."""
    gone = data[data.status != "ok"]
    return style.not_drawn(f"{r.label} at {r.target}: {r.status} ({r.reason})" for r in gone.itertuples())


def _one_line(axes: Axes, good: pd.DataFrame, rank: int) -> None:
    if len(good):
        method = good.method.iloc[0]
        axes.errorbar(
            good.x,
            good.value,
            yerr=good.stderr.astype(float).fillna(0.0),
            elinewidth=1.2,
            color=palette.colour(method, rank),
            marker=palette.marker(method),
            linestyle=palette.line(rank),
            capsize=2.5,
            markeredgecolor=palette.PAPER,
            markeredgewidth=0.8,
        )


def _label(axes: Axes, good: pd.DataFrame, ranks: dict[str, int], references: pd.DataFrame) -> None:
    """Names at the right edge, or behind the last point of a line that ends before it."""
    ends = good.sort_values("x").groupby("line", sort=False).tail(1)
    label_last(
        axes,
        [
            (row.x, row.value, row.line, palette.colour(row.method, ranks[row.line]))
            for row in ends.itertuples()
        ],
        (good.x.min(), good.x.max()),
        [(row.value, row.label, palette.MUTED) for row in references.itertuples()],
    )


def _scale(axes: Axes, spec: dict[str, Any], curves: pd.DataFrame) -> None:
    if spec.get("log_y"):
        style.log_scale(axes.yaxis)
    if spec.get("log_x"):
        style.log_scale(axes.xaxis)
    if spec["x"] not in (*FACT_TITLES, STEPS):  # measured values differ from row to row: no tick at each
        ticks = sorted(curves.x.unique())
        percent = spec["x"] == "target_requested"
        axes.set_xticks(ticks, [f"{tick:.0%}" if percent else f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def _mark_diverged(axes: Axes, curves: pd.DataFrame) -> None:
    """A word above the upper edge where a run diverged."""
    for x, group in curves[curves.status == "diverged"].groupby("x"):
        for height, row in enumerate(group.itertuples()):
            axes.annotate(
                f"{row.label} diverged ↑",
                (x, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 5 + 11 * height),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=8,
                color=palette.colour(row.method),
            )
