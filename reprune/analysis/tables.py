"""Every table of a unit, written as CSV, Markdown, LaTeX and HTML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from reprune.analysis.differences import differences, has_differences, tidy_differences
from reprune.analysis.markup import to_html, to_latex, to_markdown
from reprune.analysis.measurements import Measurement, fact
from reprune.analysis.names import COUNT_TITLES, metric_of
from reprune.analysis.notes import origin_notes, reading_notes
from reprune.analysis.table import Column, Line, Table, build_table
from reprune.analysis.unit import Unit
from reprune.analysis.wins import judged_by
from reprune.plan.grammar import COUNTS, WIN_RATE

ORIGINS = {
    "measured": "measured",
    "published": "published",
    "difference": "measured minus published",
    "other": "published, other model",
    "fact": "measured",
}
OF_COUNTS = ORIGINS | {"counted": "counted", "difference": "counted minus published"}


def write_tables(unit: Unit, folder: Path) -> list[Path]:
    """Write ``<id>.csv``, ``.md``, ``.tex`` and ``.html`` for each table; returns the paths.

    A table of accuracies has its comparisons beside it, in ``<id>_differences.csv``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for spec in unit.declared("tables"):
        table = build_table(unit, spec)
        notes, origins = reading_notes(unit, spec, table), origin_notes(unit, spec, table)
        if spec.get("kind") != COUNTS:
            origins += unit.info["substitutions"]  # for what is counted nothing stands in
        everything = [*notes, *origins]
        texts = {
            "csv": tidy(unit, spec, table).to_csv(index=False),
            "md": to_markdown(table, everything),
            "tex": to_latex(table, everything, f"tab:{unit.name}-{table.id}"),
            "html": to_html(table, notes, origins, anchor(unit, table.id)),
        }
        for extension, text in texts.items():
            path = folder / f"{table.id}.{extension}"
            path.write_text(text, encoding="utf-8")
            paths.append(path)
        if has_differences(spec):
            paths.append(folder / f"{table.id}_differences.csv")
            tidy_differences(spec, differences(unit, spec)).to_csv(paths[-1], index=False)
    return paths


def anchor(unit: Unit, name: str) -> str:
    """The HTML id of a unit's table, plot or claim."""
    return f"{unit.name}-{name}".replace("_", "-")


def tidy(unit: Unit, spec: dict[str, Any], table: Table) -> pd.DataFrame:
    """One line per cell with a measurement, unrounded, with what it stands for and the runs behind it."""
    return pd.DataFrame(
        [
            {
                **_row_columns(line),
                **_cell_columns(unit, spec, line, column),
                **_value_columns(unit, spec, line, column, m),
                **_judge(unit, spec, column),
            }
            for line in table.lines
            for cell, column in zip(line.cells, table.columns, strict=True)
            if (m := cell.measurement)
        ]
    )


def _row_columns(line: Line) -> dict[str, Any]:
    row = line.row
    return {
        "label": row.label,
        "method": row.method,
        "target": row.target,
        "target_kind": row.target_kind,
        "target_requested": row.target_requested,
        "seeds": len(row.runs),
    }


def _cell_columns(unit: Unit, spec: dict[str, Any], line: Line, column: Column) -> dict[str, Any]:
    """Which model, task and metric a cell is about, and by which runs; printed values have no run.

    ``unit`` is that of measured and printed values, where they are not plain; facts are as recorded.
    """
    model, of_row = line.row.model, column.own or column.kind == "fact"
    task, metric, shown = _quantity(spec, column)
    return {
        "origin": (OF_COUNTS if spec.get("kind") else ORIGINS)[column.kind],
        "model": model if of_row else column.model or unit.published_name(model),
        "task": task,
        "metric": metric,
        "unit": shown,
        "protocol": spec.get("protocol") if column.kind == "measured" else None,
        "run_id": ";".join(run.run_id for run in line.row.runs if run.run_id) if of_row else None,
    }


def _judge(unit: Unit, spec: dict[str, Any], column: Column) -> dict[str, str | None]:
    """Whose judgement a win rate is; that of a printed one stands with its published table."""
    if spec.get("kind") != WIN_RATE:
        return {}
    return {"judged": judged_by(unit, spec["experiment"]) if column.own else None}


def _quantity(spec: dict[str, Any], column: Column) -> tuple[str | None, str, str | None]:
    """The task, the metric and the unit of a column."""
    if spec.get("kind") == COUNTS:
        return None, column.name, COUNT_TITLES[column.name].unit
    if column.kind == "fact":
        return None, column.name, None
    metric = spec.get("metric", spec.get("kind"))
    return column.name, metric, metric_of(metric).unit or None


def _value_columns(
    unit: Unit, spec: dict[str, Any], line: Line, column: Column, m: Measurement
) -> dict[str, Any]:
    of_run = column.kind == "fact"
    value = fact(unit, line.row, column.name, spec["protocol"]) if of_run else m.value
    return {
        "value": value,
        "stderr": m.stderr,
        "stderr_over": m.stderr_over,
        "n": m.n,
        "status": m.status,
        "reason": m.reason,
    }
