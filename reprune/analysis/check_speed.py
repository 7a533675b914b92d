"""The check that one model is so many times as fast as another, from what an efficiency protocol timed."""

from __future__ import annotations

import numpy as np

from reprune.analysis.check_metrics import Check
from reprune.analysis.evidence import ABOVE, Part, matched_rows, place, undecided, verdict
from reprune.analysis.measurements import Quantity
from reprune.analysis.samples import Undecided, samples
from reprune.analysis.statistics import bootstrap_apart
from reprune.analysis.unit import Row, Unit
from reprune.plan.identity import stream_seed

SPEEDUP = "speedup"


def faster(unit: Unit, check: Check) -> list[Part]:
    """``left`` is more than ``at_least`` times as fast as ``right``, on every task.

    Every repeat times a model in turns with the dense one, so a row is compared by its speed-ups over dense:
    with dense itself by their mean, with another row by the ratio of the two means, repeats drawn apart.
    """
    return [
        _compared(unit, check, rows, task)
        for rows in matched_rows(unit, check, [check["left"], check["right"]])
        for task in check["tasks"]
    ]


def _compared(unit: Unit, check: Check, rows: tuple[Row, ...], task: str) -> Part:
    where, (left, right) = place(unit, check, rows, task), rows
    timed_rows = [left] if right.dense else [left, right]
    try:
        timed = [_speedups(unit, row, check["protocol"], task) for row in timed_rows]
    except Undecided as reason:
        return undecided(where, reason)
    seed = stream_seed("bootstrap", check, task, [[row.model, row.target] for row in rows])
    found = bootstrap_apart(timed, _over, seed)
    return Part(
        where,
        verdict(found.low, found.high, check["at_least"]),
        f"speed of {left.label} over {right.label}",
        found.estimate,
        found.low,
        found.high,
        check["at_least"],
        ABOVE,
        found.items,
        min(len(row.runs) for row in timed_rows),
        unit="×",
    )


def _speedups(unit: Unit, row: Row, protocol: str, task: str) -> np.ndarray:
    """(repeats of all runs,) how many times as fast as dense a row was on a task."""
    found = samples(unit, row, Quantity(protocol, SPEEDUP, task))
    values = np.concatenate([items.values.to_numpy(dtype=float).ravel() for items in found.by_seed.values()])
    if len(values) < 2:
        raise Undecided(f"{row.name}: {len(values)} repeats, an interval needs two")
    return values


def _over(means: np.ndarray) -> np.ndarray:
    """(resamples,) from (resamples, 1 or 2) mean speed-ups: the first, over the second if there is one."""
    return means[:, 0] / means[:, 1] if means.shape[1] == 2 else means[:, 0]
