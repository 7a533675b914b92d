"""A table of ``paper.yaml`` as cells: measured values with errors, published ones beside, facts of runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from reprune.analysis.measurements import Measurement, fact, shown_fact
from reprune.analysis.names import FACT_TITLES, RECOVERIES
from reprune.analysis.published import Published, find_published, other_models, published_tables
from reprune.analysis.unit import Row, Unit
from reprune.analysis.values import Values, values_of


@dataclass(frozen=True)
class Column:
    """A column: ``kind`` is measured, counted, published, difference, other or fact.

    ``group`` is the heading that spans neighbours.
    """

    kind: str
    group: str
    title: str
    name: str
    read: Callable[[Row], Measurement | None]
    model: str | None = None

    @property
    def own(self) -> bool:
        """Whether it holds what the table is about, of the row's own runs or model."""
        return self.kind in ("measured", "counted")


@dataclass(frozen=True)
class Cell:
    """What stands in one place: a measurement or nothing; ``mark`` refers to the note on its problem."""

    measurement: Measurement | None
    best: bool = False
    mark: str | None = None


@dataclass(frozen=True)
class Line:
    """A row of the table: its headings, its cells, and the experiment's row behind it.

    ``problem`` is the mark of what keeps all its own cells from having a value.
    """

    row: Row
    heads: tuple[str, ...]
    cells: tuple[Cell, ...]
    problem: str | None = None


@dataclass(frozen=True)
class Table:
    """A whole table. ``problems`` maps marks to reasons; notes are added by :mod:`notes`."""

    id: str
    title: str
    heads: tuple[str, ...]
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    problems: dict[str, str]


def build_table(unit: Unit, spec: dict[str, Any]) -> Table:
    """The table a paper declares, every row of its experiment or its own included, in the order there."""
    values = values_of(unit, spec)
    rows = values.rows
    columns = (*_own(values), *_published(unit, spec, values), *_facts(unit, spec, rows))
    read = [[column.read(row) for column in columns] for row in rows]
    problems: dict[str, str] = {}
    best = set() if values.higher is None else _best(rows, columns, read, values.higher)
    heads, texts = _heads(unit, rows, values.first)
    lines = []
    for i, (row, text, measured) in enumerate(zip(rows, texts, read, strict=True)):
        cells = tuple(Cell(m, (i, j) in best, _mark(m, problems)) for j, m in enumerate(measured))
        lines.append(Line(row, text, cells, _shared_problem(cells, columns)))
    return Table(spec["id"], spec["title"], heads, columns, tuple(lines), problems)


def _own(values: Values) -> list[Column]:
    return [
        Column(values.kind, values.group, values.title(task), task, partial(values.of, task))
        for task in values.tasks
    ]


def _published(unit: Unit, spec: dict[str, Any], values: Values) -> list[Column]:
    """Columns for the rows' own models and the difference to them, then one group per other model."""
    tables = published_tables(unit, spec)
    tasks = [*values.tasks, *spec.get("published", {}).get("tasks", [])]
    beside = (
        ("published", "Published", _value),
        ("difference", f"{values.kind.capitalize()} − published", _difference),
    )
    columns = [
        *(
            _beside(kind, group, unit, tables, values, task, of)
            for kind, group, of in beside
            for task in tasks
        ),
        *(
            Column(
                "other",
                f"{model}, published",
                values.title(task),
                task,
                partial(_printed_for, tables, model, task),
                model,
            )
            for model in other_models(unit, spec, values.rows)
            for task in tasks
        ),
    ]
    return [column for column in columns if any(column.read(row) for row in values.rows)]


def _beside(
    kind: str,
    group: str,
    unit: Unit,
    tables: list[dict[str, Any]],
    values: Values,
    task: str,
    of: Callable[[Published, Measurement], Measurement | None],
) -> Column:
    """A column on the number printed for the row's own model; empty where its model has no name in print."""

    def read(row: Row) -> Measurement | None:
        model = unit.published_name(row.model)
        printed = find_published(tables, row, model, task) if model else None
        return of(printed, values.of(task, row)) if printed else None

    return Column(kind, group, values.title(task), task, read)


def _value(printed: Published, _: Measurement) -> Measurement:
    return Measurement("ok", printed.value, decimals=printed.decimals)


def _difference(printed: Published, own: Measurement) -> Measurement | None:
    if not (printed.decides and own.ok):
        return None
    return Measurement("ok", own.value - printed.value, decimals=printed.decimals)


def _printed_for(tables: list[dict[str, Any]], model: str, task: str, row: Row) -> Measurement | None:
    printed = find_published(tables, row, model, task)
    return Measurement("ok", printed.value, decimals=printed.decimals) if printed else None


def _facts(unit: Unit, spec: dict[str, Any], rows: tuple[Row, ...]) -> list[Column]:
    return [
        Column("fact", "", shown_fact(name, rows).heading, name, partial(_fact, unit, spec, name, rows))
        for name in spec.get("facts", [])
    ]


def _fact(unit: Unit, spec: dict[str, Any], name: str, rows: tuple[Row, ...], row: Row) -> Measurement | None:
    value, shown = fact(unit, row, name, spec["protocol"]), shown_fact(name, rows)
    if value is None or row.dense and shown != FACT_TITLES[name]:
        return None  # of the dense model zeros are counted, which is not what the others' ratio is a share of
    return Measurement("ok", value * shown.factor, decimals=shown.decimals)


def _heads(unit: Unit, rows: tuple[Row, ...], first: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings and texts of the leading columns; all but the ``first`` only where they tell rows apart."""
    texts = {
        first: [row.label for row in rows],
        "Target": [row.target for row in rows],
        "Model": [unit.model_title(row.model) for row in rows],
        "Recovery": [_recovery(row) for row in rows],
        "Settings": [", ".join(f"{key} {value}" for key, value in row.settings.items()) for row in rows],
    }
    alike = len(set(zip(texts[first], texts["Target"], texts["Model"], strict=True))) < len(rows)
    shown = {
        first: True,
        "Target": len({row.target for row in rows if not row.dense}) > 1,
        "Model": len({row.model for row in rows}) > 1,
        "Recovery": len({_recovery(row) for row in rows if not row.dense}) > 1,
        "Settings": alike,
    }
    heads = tuple(head for head in texts if shown[head])
    return heads, list(zip(*(texts[head] for head in heads), strict=True))


def _recovery(row: Row) -> str:
    """What each training after compression trained, in their order."""
    return ", then ".join(RECOVERIES[settings["kind"]] for settings in row.recoveries)


def _best(
    rows: tuple[Row, ...], columns: tuple[Column, ...], read: list[list[Measurement | None]], higher: bool
) -> set[tuple[int, int]]:
    """Places of the best measured values, among the compressed rows of each model and target.

    Where all are equal none is the best.
    """
    groups: dict[tuple, list[tuple[float, tuple[int, int]]]] = {}
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            value = read[i][j]
            if column.kind == "measured" and not row.dense and value and value.ok:
                groups.setdefault((j, row.model, row.target), []).append((value.value, (i, j)))
    choose = max if higher else min
    return {
        place
        for group in groups.values()
        if len({value for value, _ in group}) > 1
        for value, place in group
        if value == choose(group)[0]
    }


def _shared_problem(cells: tuple[Cell, ...], columns: tuple[Column, ...]) -> str | None:
    """The mark that all of a row's own cells share, if none of them has a value."""
    own = [cell for cell, column in zip(cells, columns, strict=True) if column.own]
    marks = {cell.mark for cell in own}
    return marks.pop() if len(marks) == 1 and not any(cell.measurement.ok for cell in own) else None


def _mark(measurement: Measurement | None, problems: dict[str, str]) -> str | None:
    """The letter of the note that explains a value that is missing; equal problems share one."""
    if measurement is None or measurement.reason is None:
        return None
    text = measurement.reason if measurement.ok else f"{measurement.status}: {measurement.reason}"
    for mark, known in problems.items():
        if known == text:
            return mark
    mark = chr(ord("a") + len(problems))
    problems[mark] = text
    return mark
