"""A table's own numbers: what runs measured, or what shapes of models tell without a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from reprune.analysis.measurements import Measurement, Quantity, measure
from reprune.analysis.names import COUNT_TITLES, metric_heading, task_title
from reprune.analysis.published import published_tables
from reprune.analysis.relations import COLUMNS, relations
from reprune.analysis.shares import shares
from reprune.analysis.unit import Row, Unit
from reprune.analysis.wins import heading, win_rate_of, winners
from reprune.models.counts import Shape, macs, memory_mib, parameters
from reprune.plan.grammar import COUNTS, RELATIONS, SHARES, WIN_RATE


@dataclass(frozen=True)
class Values:
    """The rows of a table with ``of(task, row)``, its own number for a row in the unit shown.

    ``kind`` is that of its columns, measured or counted, ``tasks`` are what they hold, ``group`` the heading
    above them, ``title`` gives that of a task's column, ``first`` that of the rows' labels. ``higher`` says
    whether more is better, None where rows are not rivals.
    """

    kind: str
    tasks: tuple[str, ...]
    rows: tuple[Row, ...]
    group: str
    title: Callable[[str], str]
    of: Callable[[str, Row], Measurement]
    higher: bool | None = None
    first: str = "Method"


def values_of(unit: Unit, spec: dict[str, Any]) -> Values:
    """The numbers of a table of ``paper.yaml``."""
    return KINDS[spec.get("kind")](unit, spec)


def _measured(unit: Unit, spec: dict[str, Any]) -> Values:
    higher = unit.higher_is_better(spec["metric"])
    return Values(
        "measured",
        tuple(spec["tasks"]),
        unit.rows(spec["experiment"]),
        f"{metric_heading(spec['metric'])} {'↑' if higher else '↓'}",
        task_title,
        lambda task, row: measure(unit, row, Quantity.of(spec, task)),
        higher,
    )


def _counted(unit: Unit, spec: dict[str, Any]) -> Values:
    tables = published_tables(unit, spec)
    held = {row: counts(shape, dense, spec["tokens"]) for row, shape, dense in unit.counted_rows(spec["id"])}

    def of(task: str, row: Row) -> Measurement:
        value = held[row][task] * COUNT_TITLES[task].factor
        return Measurement("ok", value, decimals=_decimals(tables, task))

    return Values(
        "counted",
        tuple(spec["tasks"]),
        tuple(held),
        "From the configuration",
        lambda task: COUNT_TITLES[task].heading,
        of,
    )


def _drawn(unit: Unit, spec: dict[str, Any]) -> Values:
    held = shares(unit, spec)
    lost = Quantity("", SHARES)  # has no records of its own: all they can tell is why a run ended

    def of(domain: str, row: Row) -> Measurement:
        if not held[row]:
            return measure(unit, row, lost)
        return held[row].get(domain, Measurement("missing", reason="no domain of the mixture"))

    return Values("counted", tuple(spec["tasks"]), tuple(held), metric_heading(SHARES), task_title, of)


def _pointed(unit: Unit, spec: dict[str, Any]) -> Values:
    held = relations(unit, spec)
    return Values(
        "measured",
        tuple(COLUMNS),
        tuple(held),
        metric_heading(RELATIONS),
        COLUMNS.__getitem__,
        lambda task, row: held[row][task],
        first="Relation",
    )


def _won(unit: Unit, spec: dict[str, Any]) -> Values:
    experiment = spec["experiment"]
    return Values(
        "measured",
        tuple(spec["tasks"]),
        winners(unit, experiment),
        heading(unit, experiment),
        str,
        partial(win_rate_of, unit, experiment),
        higher=True,
    )


KINDS: dict[str | None, Callable[[Unit, dict[str, Any]], Values]] = {
    None: _measured,
    COUNTS: _counted,
    RELATIONS: _pointed,
    SHARES: _drawn,
    WIN_RATE: _won,
}


def counts(shape: Shape, dense: int, tokens: int) -> dict[str, float]:
    """What a model of ``shape`` holds; ``kept`` is the share of the ``dense`` model's parameters."""
    own = parameters(shape)
    return {
        "params": own,
        "kept": own / dense,
        "macs": macs(shape, tokens),
        "memory": memory_mib(shape),
    }


def _decimals(tables: list[dict[str, Any]], task: str) -> int:
    """As many as a published table prints of the task; the usual ones where none has it."""
    printed = [table["decimals"] for table in tables if any(row["task"] == task for row in table["rows"])]
    return printed[0] if printed else COUNT_TITLES[task].decimals
