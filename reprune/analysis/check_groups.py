"""Checks of one row, or of several together, against a group of others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reprune.analysis.check_metrics import Check, quantity
from reprune.analysis.evidence import Part, Question, matched_rows, over_tasks
from reprune.analysis.names import listed
from reprune.analysis.samples import Undecided
from reprune.analysis.unit import Row, Unit


def mean_greater(unit: Unit, check: Check) -> list[Part]:
    """The rows ``left`` have on their mean a higher metric than the rows ``right``, on every task.

    Of perplexity the logarithms are averaged.
    """
    first, parts = len(check["left"]), []
    for rows in matched_rows(unit, check, [*check["left"], *check["right"]]):
        question = Question(
            f"{quantity(check['metric'])} of {_names(rows[:first])} minus {_names(rows[first:])}, means",
            lambda m: m[:, :first, 0].mean(axis=1) - m[:, first:, 0].mean(axis=1),
        )
        parts += over_tasks(unit, check, rows, question)
    return parts


def not_best(unit: Unit, check: Check) -> list[Part]:
    """One of the rows ``others`` is better than ``method``, on every task.

    Every resample takes the best of the others anew, so where all are alike the interval leans to the
    claim's side.
    """
    return _beside(unit, check, lowest=not unit.higher_is_better(check["metric"]))


def not_worst(unit: Unit, check: Check) -> list[Part]:
    """One of the rows ``others`` is worse than ``method``, on every task; as :func:`not_best`."""
    return _beside(unit, check, lowest=unit.higher_is_better(check["metric"]))


def _beside(unit: Unit, check: Check, lowest: bool) -> list[Part]:
    """How far ``method`` lies above the lowest of ``others``, or below the highest, on every task.

    Rows that planning skipped do not count.
    """
    parts = []
    for method, *others in matched_rows(unit, check, [check["method"], *check["others"]]):
        there = [row for row in others if any(run.run_id for run in row.runs)]
        if not there:
            raise Undecided(f"{_names(others)}: skipped ({others[0].runs[0].reason})")
        of = quantity(check["metric"])
        question = (
            Question(f"{of} of {method.label} minus the lowest of {_names(there)}", _above_lowest)
            if lowest
            else Question(f"{of} of the highest of {_names(there)} minus {method.label}", _below_highest)
        )
        parts += over_tasks(unit, check, (method, *there), question)
    return parts


def _above_lowest(means: np.ndarray) -> np.ndarray:
    """(resamples,) from means (resamples, rows, parts): the first row less the lowest of the others."""
    return means[:, 0, 0] - means[:, 1:, 0].min(axis=1)


def _below_highest(means: np.ndarray) -> np.ndarray:
    """(resamples,) from means (resamples, rows, parts): the highest of the other rows less the first."""
    return means[:, 1:, 0].max(axis=1) - means[:, 0, 0]


def _names(rows: Sequence[Row]) -> str:
    return listed([row.label for row in rows])
