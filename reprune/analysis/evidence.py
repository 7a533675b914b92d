"""From rows to a verdict: one comparison of a check, with its estimate and its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reprune.analysis.bleu import summary_of
from reprune.analysis.measurements import Quantity
from reprune.analysis.names import metric_of, task_title
from reprune.analysis.samples import Samples, Undecided, lined_up, samples
from reprune.analysis.statistics import Statistic, bootstrap
from reprune.analysis.unit import Row, Unit
from reprune.plan.identity import stream_seed

HOLDS, FAILS, UNDECIDED = "holds", "fails", "undecided"
ABOVE, BELOW, WITHIN = "above", "below", "within"
"""Where an estimate must lie to speak for a claim: on one side of a threshold, or nearer to 0 than it."""


@dataclass(frozen=True)
class Part:
    """One comparison of a check. It speaks for the claim where ``estimate`` is ``bound`` its ``threshold``.

    ``low`` and ``high`` are None where there is no interval; ``what`` says what the estimate is.
    """

    where: str
    verdict: str
    what: str = ""
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    threshold: float = 0.0
    bound: str = ABOVE
    items: int | None = None
    seeds: int | None = None
    reason: str | None = None
    unit: str = ""

    @property
    def margin(self) -> float:
        """How far the less favourable end of the interval is on the claim's side."""
        if self.estimate is None:
            return math.inf if self.verdict == HOLDS else -math.inf
        ends = [self.estimate] if self.low is None else [self.low, self.high]
        return min(_room(end, self.threshold, self.bound) for end in ends)


@dataclass(frozen=True)
class Question:
    """What is asked of rows: a statistic of their means that must be ``bound`` its ``threshold``.

    ``unit`` is the statistic's, by default that of a difference in the check's metric.
    """

    what: str
    statistic: Statistic
    threshold: float = 0.0
    bound: str = ABOVE
    unit: str | None = None


def limit(check: dict[str, Any]) -> tuple[float, str]:
    """The threshold of a check with ``at_most`` or ``at_least``, and where its estimate must lie."""
    return (check["at_most"], BELOW) if "at_most" in check else (check["at_least"], ABOVE)


def undecided(where: str, reason: Undecided) -> Part:
    return Part(where, UNDECIDED, reason=str(reason))


def matched_rows(unit: Unit, check: dict[str, Any], names: Sequence[str]) -> list[tuple[Row, ...]]:
    """The rows called ``names``, model by model and target by target.

    A dense row fits every target. So does one at the only target of its name, where the names have none in
    common: GRASP at 20 % of parameters stands beside Wanda at 2:4. Raises :class:`Undecided` if a name has
    no row, or none at a target the others have, or several.
    """
    if check["experiment"] not in unit.info["experiments"]:
        raise Undecided(f"experiment '{check['experiment']}' was not run")
    chosen = [unit.select(check["experiment"], name, check.get("target")) for name in names]
    for name, rows in zip(names, chosen, strict=True):
        if not rows:
            raise Undecided(f"no row is called '{name}'")
    models = dict.fromkeys(row.model for row in chosen[0])
    return [
        tuple(_only(rows, name, target) for rows, name in zip(of_model, names, strict=True))
        for of_model in ([[row for row in rows if row.model == model] for rows in chosen] for model in models)
        for target in _targets([rows for rows in of_model if rows])
    ]


def _targets(chosen: Sequence[Sequence[Row]]) -> list[str]:
    """The targets that every compressed name has, else those that all with several have."""
    by_name = [list(dict.fromkeys(row.target for row in rows)) for rows in chosen if not rows[0].dense]
    several = [targets for targets in by_name if len(targets) > 1]
    for every in filter(None, (by_name, several)):
        shared = [target for target in every[0] if all(target in other for other in every)]
        if shared:
            return shared
    if several:
        raise Undecided("the rows have no target in common")
    return [chosen[0][0].target]


def _only(rows: Sequence[Row], name: str, target: str) -> Row:
    alone = len({row.target for row in rows}) == 1
    fitting = [row for row in rows if alone or row.dense or row.target == target]
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
        along = " → " if len({r.label for r in compressed}) == 1 else " and "
        words.append(along.join(dict.fromkeys(r.target for r in compressed)))
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
    found = bootstrap(values, question.statistic, seed, summary=summary_of(check["metric"]))
    return Part(
        where,
        verdict(found.low, found.high, question.threshold, question.bound),
        question.what,
        found.estimate,
        found.low,
        found.high,
        question.threshold,
        question.bound,
        found.items,
        found.seeds,
        unit=metric_of(check["metric"]).difference if question.unit is None else question.unit,
    )


def verdict(low: float, high: float, threshold: float, bound: str = ABOVE) -> str:
    """Holds where all of an interval is ``bound`` the threshold, fails where none is, else undecided."""
    inmost = min(max(low, 0.0), high)
    rooms = [_room(value, threshold, bound) for value in (low, high, inmost)]
    if min(rooms) > 0:
        return HOLDS
    return FAILS if max(rooms) < 0 else UNDECIDED


def _room(value: float, threshold: float, bound: str) -> float:
    """How far a value is on the claim's side of a threshold; negative on the other side."""
    return {ABOVE: value - threshold, BELOW: threshold - value, WITHIN: threshold - abs(value)}[bound]


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
    return Part(
        where, verdict(answer, answer, question.threshold, question.bound), question.what, reason=reason
    )


def over_tasks(unit: Unit, check: dict[str, Any], rows: Sequence[Row], question: Question) -> list[Part]:
    """The question about rows on each of the check's tasks."""
    return [compare(unit, check, rows, question, task) for task in check["tasks"]]
