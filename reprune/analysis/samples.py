"""Per-item values of rows, lined up so that equal items and equal seeds stand beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reprune.analysis.measurements import Quantity, item_metric
from reprune.analysis.unit import Row, Run, Unit


class Undecided(Exception):
    """A question the results cannot answer; the message is the reason shown to the reader."""


@dataclass(frozen=True)
class Samples:
    """A row's items by seed, frames of (task, item) by part; no frames if a seed diverged."""

    row: Row
    by_seed: dict[int, pd.DataFrame]
    diverged: bool = False


def samples(unit: Unit, row: Row, wanted: Quantity) -> Samples:
    """The items of a row. Raises :class:`Undecided` if none of its runs has any."""
    if any(_diverged(unit, run, wanted) for run in row.runs):
        return Samples(row, {}, diverged=True)
    frames = {run.seed: _items(unit, run, wanted) for run in row.runs}
    known = {seed: frame for seed, frame in frames.items() if len(frame)}
    if not known:
        raise Undecided(f"{row.name}: {_why_missing(unit, row.runs[0], wanted)}")
    return Samples(row, known)


def lined_up(columns: Sequence[Samples]) -> np.ndarray:
    """(rows, seeds, items, parts) values on the items all rows have.

    Rows with several seeds must share some; a row with a single run stands beside every seed.
    Raises :class:`Undecided` if nothing is shared.
    """
    seeds = _shared_seeds(columns)
    frames = [
        [
            c.by_seed[s] if s in c.by_seed and len(c.by_seed) > 1 else next(iter(c.by_seed.values()))
            for s in seeds
        ]
        for c in columns
    ]
    index = frames[0][0].index
    parts = frames[0][0].columns
    for frame in (f for row in frames for f in row):
        index, parts = index.intersection(frame.index), parts.intersection(frame.columns)
    if len(index) < 2 or parts.empty:
        raise Undecided(f"the rows share {len(index)} items, an interval needs two")
    index = index.sort_values()
    return np.array([[f.loc[index, parts].to_numpy(dtype=float) for f in row] for row in frames])


def _shared_seeds(columns: Sequence[Samples]) -> list[int]:
    several = [set(c.by_seed) for c in columns if len(c.by_seed) > 1]
    shared = sorted(set.intersection(*several)) if several else [0]
    if not shared:
        raise Undecided("the rows have no seed in common")
    return shared


def _items(unit: Unit, run: Run, wanted: Quantity) -> pd.DataFrame:
    items = unit.items_of(run.run_id)
    chosen = items[
        (items.protocol_name == wanted.protocol)
        & (items.metric == item_metric(wanted.metric, wanted.variant))
    ]
    if wanted.task is not None:
        chosen = chosen[chosen.task == wanted.task]
    return (
        chosen.assign(part=chosen.part.fillna(0).astype(int))
        .pivot(index=["task", "item"], columns="part", values="value")
        .sort_index()
    )


def _records(unit: Unit, run: Run, wanted: Quantity) -> pd.DataFrame:
    records = unit.records_of(run.run_id)
    same_protocol = records.protocol_name.isna() | (records.protocol_name == wanted.protocol).fillna(False)
    same_task = records.task.isna() | (records.task == wanted.task) if wanted.task else True
    return records[same_protocol & same_task]


def _diverged(unit: Unit, run: Run, wanted: Quantity) -> bool:
    records = _records(unit, run, wanted)
    infinite = (records.metric == wanted.metric) & np.isinf(records.value.astype(float))
    return bool(((records.status == "diverged") | infinite).any())


def _why_missing(unit: Unit, run: Run, wanted: Quantity) -> str:
    if run.status == "skipped":
        return f"skipped ({run.reason})"
    records = _records(unit, run, wanted)
    ended = records[records.status != "ok"]
    if len(ended):
        return f"{ended.iloc[0].status} ({ended.iloc[0].reason})"
    return "not measured" if records.empty else "no values per item"
