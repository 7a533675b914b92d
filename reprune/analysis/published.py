"""The numbers a paper prints, found for a row; they count only for the very model they were printed for.

Values are in the unit a metric is shown in: accuracies in percent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from reprune.analysis.unit import Row, Unit


@dataclass(frozen=True)
class Published:
    """A printed value: to how many decimals, and whether its table may decide a comparison."""

    value: float
    decimals: int | None
    decides: bool


def published_tables(unit: Unit, spec: dict[str, Any]) -> list[dict[str, Any]]:
    """The published tables that a table of ``paper.yaml`` names.

    Raises KeyError for an unknown id, and ValueError for one of another metric.
    """
    tables = [unit.published[name] for name in spec.get("published", {}).get("tables", [])]
    for table in tables:
        metric = spec.get("metric", spec.get("kind"))
        if table["metric"] != metric:
            raise ValueError(
                f"table {spec['id']} is about {metric}, published table {table['id']} about {table['metric']}"
            )
    return tables


def find_published(tables: list[dict[str, Any]], row: Row, model: str, task: str) -> Published | None:
    """The value printed for ``row``'s method and target under ``model`` on ``task``; the first match."""
    for table, printed in _lines_of(tables, row, [model]):
        if printed["task"] == task:
            return Published(float(printed["value"]), table.get("decimals"), bool(table.get("decides")))
    return None


def _same_line(row: Row, printed: dict[str, Any]) -> bool:
    """Whether a printed line is this method at this target; what it leaves out is not compared.

    A line has ``sparsity`` and ``pattern``, or ``parameters``, the share of all parameters removed.
    """
    if printed["method"] not in row.published_as:
        return False
    of_others = "sparsity" if row.structural else "parameters"
    if of_others in printed and not row.dense:
        return False
    pattern, share = printed.get("pattern"), printed.get("parameters", printed.get("sparsity"))
    expected = row.target if row.target_kind == "n:m" else row.target_kind
    return pattern in (None, expected) and (share is None or abs(share - row.target_requested) < 1e-9)


def stands_beside(tables: list[dict[str, Any]], row: Row, models: list[str]) -> list[str]:
    """The printed lines of ``models`` that are taken for a row, by the names they have in print."""
    return list(dict.fromkeys(printed["method"] for _, printed in _lines_of(tables, row, models)))


def _lines_of(
    tables: list[dict[str, Any]], row: Row, models: list[str]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each printed line of ``models`` that is this row, after its table."""
    for table in tables:
        for printed in table["rows"]:
            if printed["model"] in models and _same_line(row, printed):
                yield table, printed


def other_models(unit: Unit, spec: dict[str, Any], rows: tuple[Row, ...]) -> list[str]:
    """The models of a table's published columns that none of its rows was measured on."""
    measured = {unit.published_name(row.model) for row in rows}
    return [model for model in spec.get("published", {}).get("models", []) if model not in measured]
