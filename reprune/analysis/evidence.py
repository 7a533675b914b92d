"""From rows to a verdict: one comparison of a check, with its estimate and its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reprune.analysis.measurements import Quantity
from reprune.analysis.names import metric_of, task_title
from reprune.analysis.samples import Samples, Undecided, lined_up, samples
from reprune.analysis.statistics import Statistic, bootstrap
from reprune.analysis.unit import Row, Unit
from reprune.plan.identity import stream_seed

HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"


@dataclass(frozen=True)
class Part:
    """One comparison of a check. It speaks for the claim where ``estimate`` exceeds ``threshold``.

    With ``at_most`` it does where the estimate stays below. ``low`` and ``high`` are None where there is
    no interval; ``what`` says what the estimate is.
    """

    where: str
    verdict: str
    what: str = ""
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    threshold: float = 0.0
    at_most: bool = False
    items: int | None = None
    seeds: int | None = None
    reason: str | None = None
    unit: str = ""

    @property
    def margin(self) -> float:
        """How far the less favourable end of the interval is on the claim's side."""
        if self.estimate is None:
            return math.inf if self.verdict == HOLDS else -math.inf
        if self.at_most:
            return self.threshold - self.estimate
        return (self.estimate if self.low is None else self.low) - self.threshold


@dataclass(frozen=True)
class Question:
    """What is asked of rows: a statistic of their means that must exceed ``threshold``."""

    what: str
    statistic: Statistic
    threshold: float = 0.0


def undecided(where: str, reason: Undecided) -> Part:
    return Part(where, UNDECIDED, reason=str(reason))


def matched_rows(unit: Unit, check: dict[str, Any], names: Sequence[str]) -> list[tuple[Row, ...]]:
    """The rows called ``names``, model by model and target by target; a dense row fits every target.

    Raises :class:`Undecided` if a name has no row, or none at a target the others have, or several.
    """
    if check["experiment"] not in unit.info["experiments"]:
        raise Undecided(f"experiment '{check['experiment']}' was not run")
    chosen = [unit.select(check["experiment"], name, check.get("target")) for name in names]
    for name, rows in zip(names, chosen, strict=True):
        if not rows:
            raise Undecided(f"no row is called '{name}'")
    return [
        tuple(_only(rows, name, model, target) for rows, name in zip(chosen, names, strict=True))
        for model in dict.fromkeys(row.model for row in chosen[0])
        for target in _targets(chosen, model)
    ]


def _targets(chosen: Sequence[Sequence[Row]], model: str) -> list[str]:
    """The targets of a model that every compressed name has, in the order of the first."""
    compressed = [[r.target for r in rows if r.model == model] for rows in chosen if not rows[0].dense]
    if not compressed:
        return [chosen[0][0].target]
    shared = [t for t in dict.fromkeys(compressed[0]) if all(t in other for other in compressed)]
    if not shared:
        raise Undecided("the rows have no target in common")
    return shared


def _only(rows: Sequence[Row], name: str, model: str, target: str) -> Row:
    fitting = [r for r in rows if r.model == model and (r.dense or r.target == target)]
    if len(fitting) != 1:
        labels = ", ".join(r.label for r in fitting) or "none"
        raise Undecided(f"'{name}' means {len(fitting)} rows at {target} ({labels}); use a label")
    return fitting[0]


def place(unit: Unit, check: dict[str, Any], rows: Sequence[Row], task: str | None = None) -> str:
    """Where a comparison stands: its task, and model and target where the experiment has several."""
    experiment = unit.rows(check["experiment"])
    compressed = [r for r in rows if not r.dense]
    words = [task_title(task)] if task else []
    if compressed and len({r.target for r in experiment if not r.dense}) > 1:
        words.append(" → ".join(dict.fromkeys(r.target for r in compressed)))
    if len({r.model for r in experiment}) > 1:
        words.append(unit.model_title(rows[0].model))
    return ", ".join(words)


def compare(
    unit: Unit, check: dict[str, Any], rows: Sequence[Row], question: Question, task: str | None = None
) -> Part:
    """Answer a question about rows on one task or on the average, without a task on all items together."""
    where = place(unit, check, rows, task)
    try:
        columns = [samples(unit, row, Quantity.of(check, task)) for row in rows]
        if any(column.diverged for column in columns):
            return _by_divergence(unit, check, where, columns, question)
        values = lined_up(columns)
    except Undecided as reason:
        return undecided(where, reason)
    seed = stream_seed("bootstrap", check, task, [[row.model, row.target] for row in rows])
    found = bootstrap(values, question.statistic, seed)
    return Part(
        where,
        verdict(found.low, found.high, question.threshold),
        question.what,
        found.estimate,
        found.low,
        found.high,
        question.threshold,
        items=found.items,
        seeds=found.seeds,
        unit=metric_of(check["metric"]).difference,
    )


def verdict(low: float, high: float, threshold: float) -> str:
    """Holds above the threshold, fails below it, undecided where the interval reaches it."""
    if low > threshold:
        return HOLDS
    return FAILS if high < threshold else UNDECIDED


def _by_divergence(
    unit: Unit, check: dict[str, Any], where: str, columns: Sequence[Samples], question: Question
) -> Part:
    """A diverged run has the worst value there is, which decides unless another diverged as well."""
    worst = -math.inf if unit.higher_is_better(check["metric"]) else math.inf
    means = np.array([[[worst if column.diverged else 0.0] for column in columns]])
    with np.errstate(invalid="ignore"):
        answer = float(question.statistic(means)[0])
    names = " and ".join(dict.fromkeys(c.row.name for c in columns if c.diverged))
    reason = f"{names} diverged, which counts as infinitely bad"
    if math.isnan(answer):
        return Part(where, UNDECIDED, question.what, reason=reason)
    return Part(where, HOLDS if answer > question.threshold else FAILS, question.what, reason=reason)


def over_tasks(unit: Unit, check: dict[str, Any], rows: Sequence[Row], question: Question) -> list[Part]:
    """The question about rows on each of the check's tasks."""
    return [compare(unit, check, rows, question, task) for task in check["tasks"]]
