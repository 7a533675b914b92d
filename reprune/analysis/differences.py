"""Which differences of accuracy or BLEU are real: every row of a table against dense and its neighbours."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from reprune.analysis.bleu import BLEU
from reprune.analysis.measurements import Quantity
from reprune.analysis.names import AVERAGE, counted, listed, questions_of, task_title
from reprune.analysis.paired import Comparison, compare_rows, corrected, decimals, how_tested
from reprune.analysis.significance import LEVEL
from reprune.analysis.statistics import RESAMPLES
from reprune.analysis.unit import Row, Unit

Pair = tuple[Row, Row]


@dataclass(frozen=True)
class Differences:
    """The comparisons of a table, by pair and task."""

    tasks: tuple[str, ...]
    pairs: tuple[Pair, ...]
    found: dict[tuple[Row, Row, str], Comparison]

    @property
    def decimals(self) -> int:
        return decimals(list(self.found.values()))

    @property
    def compared(self) -> list[str]:
        """The tasks that at least one pair was compared on."""
        known = {c.task for c in self.found.values() if c.interval}
        return [task for task in self.tasks if task in known]

    @property
    def headline(self) -> str | None:
        """The task that stands for all: the average, or the only one."""
        return AVERAGE if AVERAGE in self.compared else self.compared[0] if len(self.compared) == 1 else None

    @property
    def details(self) -> list[str]:
        """The compared tasks but the headline."""
        return [task for task in self.compared if task != self.headline]

    def of(self, pair: Pair) -> list[Comparison]:
        """The comparisons of a pair, in the order of the tasks."""
        return [self.found[(*pair, task)] for task in self.tasks]

    def real(self, pair: Pair) -> Counter[str]:
        """On how many tasks a pair is higher and lower, the headline not counted."""
        return Counter(self.found[(*pair, task)].word for task in self.details)

    def pairs_of(self, rows: tuple[Row, ...]) -> list[Pair]:
        """The pairs of one of the groups."""
        return [pair for pair in self.pairs if pair[0] in rows]

    @property
    def groups(self) -> list[tuple[Row, ...]]:
        """The rows that are compared with one another: a model's at one target, dense first."""
        groups: dict[tuple[str, str], dict[Row, None]] = {}
        for left, right in self.pairs:
            groups.setdefault((left.model, left.target), {}).update({right: None, left: None})
        return [tuple(sorted(rows, key=lambda row: not row.dense)) for rows in groups.values()]


def has_differences(spec: dict[str, Any]) -> bool:
    """Whether a table is of right and wrong answers, or of translations."""
    return spec.get("metric") in ("accuracy", BLEU)


def differences(unit: Unit, spec: dict[str, Any]) -> Differences:
    """Every pair of rows of a table that share model and target, and every row against dense, on each task.

    The p-values of the averages are one family for Holm's correction, those of all tasks another.
    """
    pairs, tasks = _pairs(unit, spec), spec["tasks"]
    found = corrected(
        [compare_rows(unit, Quantity.of(spec, task), left, right) for left, right in pairs for task in tasks]
    )
    return Differences(tuple(tasks), tuple(pairs), {(c.left, c.right, c.task): c for c in found})


def _pairs(unit: Unit, spec: dict[str, Any]) -> list[Pair]:
    """(later row, earlier row); rows that were never run have nothing to compare."""
    rows = [row for row in unit.rows(spec["experiment"]) if any(run.run_id for run in row.runs)]
    dense, compressed = [r for r in rows if r.dense], [r for r in rows if not r.dense]
    against_dense = [(row, base) for row in compressed for base in dense if base.model == row.model]
    return against_dense + [
        (later, earlier)
        for earlier, later in combinations(compressed, 2)
        if (earlier.model, earlier.target) == (later.model, later.target)
    ]


def name_of(pair: Pair) -> str:
    return f"{pair[0].label} − {pair[1].label}"


def difference_notes(found: Differences) -> list[str]:
    """How the differences were tested, and what could not be compared."""
    tested = [c for c in found.found.values() if c.adjusted is not None]
    if not tested:
        return _holes(found)
    averages = sum(c.task == AVERAGE for c in tested)
    families = [counted(averages, "average")] * bool(averages)
    families += [f"{counted(len(tested) - averages, 'comparison')} on tasks"] * (len(tested) > averages)
    seeds = any(c.interval.seeds > 1 for c in tested)
    asked = questions_of(c.metric for c in tested)
    points = "Points of BLEU" if tested[0].metric == BLEU else "Percentage points"
    return [
        f"{points} on the same {asked}, with the paired 95 % interval: {RESAMPLES:,} resamples of "
        f"the {asked} within each task{', and of the seeds' if seeds else ''}.",
        how_tested(tested),
        f"p is corrected by Holm over the {', and apart over the '.join(families)}; intervals are not. "
        f"Higher or lower: p below {LEVEL} and an interval without zero. Not distinguishable is not equal: "
        f"a smaller difference would not show on so many {asked}.",
        *_holes(found),
    ]


def _holes(found: Differences) -> list[str]:
    """What was not compared: a task that no pair has, once; else each reason with its pairs."""
    whole = [task for task in found.tasks if task not in found.compared]
    notes = [f"Not compared on {listed(list(map(task_title, whole)))}."] if whole and found.pairs else []
    reasons: dict[str, list[Pair]] = {}
    for c in found.found.values():
        if c.reason and c.task not in whole:
            reasons.setdefault(c.reason, []).append((c.left, c.right))
    for reason, pairs in reasons.items():
        where = name_of(pairs[0]) if len(pairs) == 1 else counted(len(pairs), "comparison")
        notes.append(f"Not compared: {reason} ({where}).")
    return notes


def tidy_differences(spec: dict[str, Any], found: Differences) -> pd.DataFrame:
    """One line per comparison, unrounded, with the runs behind it."""
    return pd.DataFrame([_line(spec, c) for pair in found.pairs for c in found.of(pair)])


def _line(spec: dict[str, Any], c: Comparison) -> dict[str, Any]:
    means, interval, alone = c.means or (None, None), c.interval, c.alone or (None, None)
    return {
        "left": c.left.label,
        "right": c.right.label,
        "model": c.left.model,
        "target": c.left.target,
        "task": c.task,
        "metric": spec["metric"],
        "unit": "points",
        "protocol": spec["protocol"],
        "left_value": means[0],
        "right_value": means[1],
        "difference": interval and interval.estimate,
        "low": interval and interval.low,
        "high": interval and interval.high,
        "items": interval and interval.items,
        "seeds": interval and interval.seeds,
        "left_alone": alone[0],
        "right_alone": alone[1],
        "p": c.p,
        "p_holm": c.adjusted,
        "word": c.word,
        "reason": c.reason,
        "left_runs": _runs(c.left),
        "right_runs": _runs(c.right),
    }


def _runs(row: Row) -> str:
    return ";".join(run.run_id for run in row.runs if run.run_id)
