"""Per-item values of rows, lined up so that equal items and equal seeds stand beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from reprune.analysis.measurements import Quantity, item_metric
from reprune.analysis.names import AVERAGE, metric_of, task_title
from reprune.analysis.provenance import averaged
from reprune.analysis.unit import Row, Run, Unit

ITEM = ["task", "item"]
QUESTION = ["doc_hash", "prompt_hash"]


class Undecided(Exception):
    """A question the results cannot answer; the message is the reason shown to the reader."""


@dataclass(frozen=True)
class Items:
    """A run's values, (task, item) by part in the metric's shown unit, and the hashes of what was asked."""

    values: pd.DataFrame
    questions: pd.DataFrame


@dataclass(frozen=True)
class Samples:
    """A row's items by seed; none if a seed diverged. ``strata`` are the tasks of an average."""

    row: Row
    by_seed: dict[int, Items]
    diverged: bool = False
    strata: tuple[str, ...] = ()

    def of_seed(self, seed: int) -> Items:
        """The items of a seed; those of the only run stand for every seed."""
        return self.by_seed[seed] if len(self.by_seed) > 1 else next(iter(self.by_seed.values()))


def samples(unit: Unit, row: Row, wanted: Quantity) -> Samples:
    """The items of a row, for an average those of its tasks.

    Raises :class:`Undecided` if none of its runs has all of them.
    """
    tasks = _tasks(unit, wanted)
    strata = tuple(tasks) if wanted.task == AVERAGE else ()
    if any(_diverged(unit, run, wanted, tasks) for run in row.runs):
        return Samples(row, {}, diverged=True, strata=strata)
    every = {run.seed: _items(unit, run, wanted, tasks) for run in row.runs}
    known = {
        seed: items for seed, items in every.items() if len(items.values) and not _lacking(items, strata)
    }
    if not known:
        lacking = _lacking(every[row.runs[0].seed], strata)
        missed = replace(wanted, task=lacking[0]) if lacking else wanted
        raise Undecided(f"{row.name}: {_why_missing(unit, row.runs[0], missed)}")
    return Samples(row, known, strata=strata)


def lined_up(columns: Sequence[Samples]) -> list[np.ndarray]:
    """(rows, seeds, items, parts) values on the items all rows have, an array for each task of an average.

    Rows with several seeds must share some; a row with a single run stands beside every seed. Raises
    :class:`Undecided` if nothing is shared, or if equal items are different questions.
    """
    seeds = _shared_seeds(columns)
    rows = [[column.of_seed(seed) for seed in seeds] for column in columns]
    index, parts = rows[0][0].values.index, rows[0][0].values.columns
    for items in (items for row in rows for items in row):
        index, parts = index.intersection(items.values.index), parts.intersection(items.values.columns)
    tasks = index.get_level_values("task")
    groups = {task: index[tasks == task].sort_values() for task in columns[0].strata} or {
        None: index.sort_values()
    }
    for task, group in groups.items():
        if len(group) < 2 or parts.empty:
            of_task = f" of {task_title(task)}" if task else ""
            raise Undecided(f"the rows share {len(group)} items{of_task}, an interval needs two")
    _same_questions(columns, rows, index)
    return [
        np.array([[items.values.loc[group, parts].to_numpy(dtype=float) for items in row] for row in rows])
        for group in groups.values()
    ]


def _same_questions(columns: Sequence[Samples], rows: list[list[Items]], index: pd.MultiIndex) -> None:
    """Raises :class:`Undecided` if rows were asked something else under one number."""
    first = rows[0][0].questions.loc[index]
    for column, items in ((c, items) for c, row in zip(columns, rows, strict=True) for items in row):
        other = items.questions.loc[index]
        differ = ((first != other) & first.notna() & other.notna()).any(axis=1)
        if differ.any():
            tasks = " and ".join(map(task_title, differ.index[differ].unique("task")))
            raise Undecided(
                f"{column.row.name} and {columns[0].row.name} were not asked the same: {differ.sum()} of "
                f"{len(index)} questions ({tasks}) differ in text, prompt or order"
            )


def _shared_seeds(columns: Sequence[Samples]) -> list[int]:
    several = [set(c.by_seed) for c in columns if len(c.by_seed) > 1]
    shared = sorted(set.intersection(*several)) if several else [0]
    if not shared:
        raise Undecided("the rows have no seed in common")
    return shared


def _tasks(unit: Unit, wanted: Quantity) -> list[str] | None:
    """The tasks whose items answer for a quantity; None for all of its protocol."""
    if wanted.task != AVERAGE:
        return wanted.task and [wanted.task]
    tasks = averaged(unit, wanted.protocol)
    if not tasks:
        raise Undecided(f"protocol {wanted.protocol} has no average over one set of tasks")
    return tasks


def _items(unit: Unit, run: Run, wanted: Quantity, tasks: list[str] | None) -> Items:
    items = unit.items_of(run.run_id)
    metric = item_metric(wanted.metric)
    chosen = items[(items.protocol_name == wanted.protocol) & (items.metric == metric)]
    if tasks is not None:
        chosen = chosen[chosen.task.isin(tasks)]
    values = chosen.assign(
        part=chosen.part.fillna(0).astype(int), value=chosen.value * metric_of(wanted.metric).factor
    ).pivot(index=ITEM, columns="part", values="value")
    return Items(values.sort_index(), chosen.drop_duplicates(ITEM).set_index(ITEM).reindex(columns=QUESTION))


def _lacking(items: Items, strata: Sequence[str]) -> list[str]:
    """The tasks of an average without items."""
    known = set(items.values.index.get_level_values("task"))
    return [task for task in strata if task not in known]


def _records(unit: Unit, run: Run, wanted: Quantity, tasks: list[str] | None) -> pd.DataFrame:
    """The records that speak of a quantity: its own, and those of a suite or run that ended early."""
    records = unit.records_of(run.run_id)
    same = records.protocol_name.isna() | (records.protocol_name == wanted.protocol).fillna(False)
    same &= records.metric.isna() | (records.metric == wanted.metric)
    if tasks is not None:
        same &= records.task.isna() | records.task.isin(tasks)
    return records[same]


def _diverged(unit: Unit, run: Run, wanted: Quantity, tasks: list[str] | None) -> bool:
    records = _records(unit, run, wanted, tasks)
    return bool(((records.status == "diverged") | np.isinf(records.value.astype(float))).any())


def _why_missing(unit: Unit, run: Run, wanted: Quantity) -> str:
    if run.status == "skipped":
        return f"skipped ({run.reason})"
    records = _records(unit, run, wanted, _tasks(unit, wanted))
    ended = records[records.status != "ok"]
    if len(ended):
        return f"{ended.iloc[0].status} ({ended.iloc[0].reason})"
    return "not measured" if records.empty else "no values per item"
