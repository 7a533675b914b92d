"""A metric, or the setting that steers pruning, against how many attention heads are left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reprune.analysis import palette, style
from reprune.analysis.heads import retained
from reprune.analysis.labels import label_ends
from reprune.analysis.measurements import Measurement, Quantity, measure
from reprune.analysis.plot_curve import BOX, bars, footnote, lost, subject, value_title
from reprune.analysis.samples import Undecided
from reprune.analysis.statistics import stderr_of_mean
from reprune.analysis.unit import Row, Unit

MARGIN = 0.03  # of the largest number of heads, below none, so that its marker is whole
MARKERS = ("o", "s", "^", "D", "v", "p", "X", "P")


def draw_retained(unit: Unit, spec: dict[str, Any]) -> tuple[Figure, pd.DataFrame]:
    """Draw a line for each of the ``series``, lists of labels by name; returns it with its data.

    With ``metric``, that against the heads left; with ``setting``, the heads left against the setting. A row
    with several seeds is one point, with the standard error over them in both directions.
    """
    data, reasons = _points(unit, spec)
    references = _references(unit, spec) if "metric" in spec else data.iloc[:0]
    shown = _words(unit, spec, pd.concat([data, references], ignore_index=True), reasons)
    figure = style.new_figure(spec["title"], *shown, style.body_height(data))
    shades = palette.series(spec["series"])
    for axes, part in style.panels(unit, figure, data, BOX):
        _panel(axes, spec, part[part.status == "ok"], references[references.model.isin(part.model)], shades)
    return figure, data


def _points(unit: Unit, spec: dict[str, Any]) -> tuple[pd.DataFrame, list[str]]:
    lines, reasons = [], []
    for name, labels in spec["series"].items():
        for row in (row for label in labels for row in unit.select(spec["experiment"], label)):
            try:
                lines.append(_point(unit, spec, name, row))
            except Undecided as reason:
                reasons.append(str(reason))
    if not lines:
        raise Undecided("; ".join(reasons) or "no row has one of the labels")
    return pd.DataFrame(lines), reasons


def _point(unit: Unit, spec: dict[str, Any], name: str, row: Row) -> dict[str, Any]:
    counts = np.array(retained(unit, row), dtype=float)
    spread = stderr_of_mean(counts) if len(counts) > 1 else None
    where = {"series": name, "label": row.label, "model": row.model, "target": row.target}
    run_id = ";".join(run.run_id for run in row.runs if run.run_id)
    if "setting" not in spec:
        told = _measured(measure(unit, row, Quantity.of(spec, spec["task"])))
        return {**where, "x": counts.mean(), "x_stderr": spread, **told, "run_id": run_id}
    value = row.settings.get(spec["setting"])
    if value is None:
        raise Undecided(f"{row.name}: it has no setting '{spec['setting']}'")
    told = {"value": counts.mean(), "stderr": spread, "stderr_over": "seeds" if spread is not None else None}
    return {**where, "x": value, "x_stderr": None, **told, "status": "ok", "reason": None, "run_id": run_id}


def _measured(m: Measurement) -> dict[str, Any]:
    return {key: getattr(m, key) for key in ("value", "stderr", "stderr_over", "status", "reason")}


def _references(unit: Unit, spec: dict[str, Any]) -> pd.DataFrame:
    """The row that is a level of its own, such as the dense model's."""
    rows = unit.select(spec["experiment"], spec["reference"]) if "reference" in spec else ()
    found = [(row, _measured(measure(unit, row, Quantity.of(spec, spec["task"])))) for row in rows]
    lines = [
        {"series": row.label, "label": row.label, "model": row.model, "target": row.target, **told}
        for row, told in found
    ]
    return pd.DataFrame(lines, columns=["series", "label", "model", "target", *_measured(Measurement("ok"))])


def _words(unit: Unit, spec: dict[str, Any], data: pd.DataFrame, reasons: list[str]) -> tuple[str, str]:
    """The subtitle and the footnote."""
    if "metric" in spec:
        told = footnote(unit, spec, data)
        return f"{subject(unit, spec)}; {bars(data)}", "\n".join([told, *style.not_drawn(reasons)])
    told = [style.origin(unit, data.model), *lost(data), *style.not_drawn(reasons)]
    return f"Encoder heads left; {bars(data)}", "\n".join(told)


def _panel(
    axes: Axes, spec: dict[str, Any], good: pd.DataFrame, references: pd.DataFrame, shades: dict[str, str]
) -> None:
    for (name, shade), mark in zip(shades.items(), MARKERS * len(shades), strict=False):
        line = good[good.series == name].sort_values("x")
        axes.errorbar(
            line.x,
            line.value,
            yerr=line.stderr.astype(float).fillna(0.0),
            xerr=line.x_stderr.astype(float).fillna(0.0),
            color=shade,
            marker=mark,
            elinewidth=1.2,
            capsize=2.5,
            linewidth=1.6,
            markeredgecolor=palette.PAPER,
            markeredgewidth=0.8,
        )
    for level in references[references.status == "ok"].itertuples():
        axes.axhline(level.value, color=palette.MUTED, linewidth=1.3, linestyle=palette.line(1), zorder=1)
    if "setting" in spec:
        axes.set(xlabel=spec["setting"].replace("_", " ").capitalize() + " (log scale)")
        axes.set(ylabel="Encoder heads left", ylim=(-MARGIN * good.value.max(), None))
        style.log_scale(axes.xaxis)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    else:
        axes.set(xlabel="Encoder heads left", ylabel=value_title(spec), xlim=(-MARGIN * good.x.max(), None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.minorticks_off()
    ends = good.sort_values("x").groupby("series", sort=False).tail(1)
    levels = [(level.value, level.label, palette.MUTED) for level in references.itertuples()]
    # All at the edge: beside its last point the name of a short line would cover the points of a longer one.
    label_ends(axes, [*((end.value, end.series, shades[end.series]) for end in ends.itertuples()), *levels])
