"""Checks on trainings on a mixture of domains: sums of their histories, and losses at equal tokens.

An interval is over seeds, so a single run has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from reprune.analysis.check_metrics import Check
from reprune.analysis.evidence import Part, Question, limit, matched_rows, place, undecided, verdict
from reprune.analysis.histories import History, histories
from reprune.analysis.samples import Undecided
from reprune.analysis.statistics import bootstrap
from reprune.analysis.trained import QUANTITIES
from reprune.analysis.unit import Row, Unit
from reprune.plan.identity import stream_seed


def history_value(unit: Unit, check: Check) -> list[Part]:
    """A ``quantity`` of the training of ``method`` is ``at_most`` or ``at_least`` so much."""
    read = QUANTITIES[check["quantity"]]
    parts = []
    for rows in matched_rows(unit, check, [check["method"]]):
        what = f"{read.noun}, {rows[0].label}"
        question = Question(what, lambda m: m[:, 0, 0], *limit(check), unit=read.unit)
        parts.append(_asked(unit, check, rows, question))
    return parts


def history_ratio(unit: Unit, check: Check) -> list[Part]:
    """A ``quantity`` of ``left`` is ``at_most`` or ``at_least`` so many times that of ``right``."""
    read = QUANTITIES[check["quantity"]]
    parts = []
    for rows in matched_rows(unit, check, [check["left"], check["right"]]):
        what = f"{read.noun}, {rows[0].label} over {rows[1].label}"
        question = Question(what, lambda m: m[:, 0, 0] / m[:, 1, 0], *limit(check), unit="×")
        parts.append(_asked(unit, check, rows, question))
    return parts


def history_falls(unit: Unit, check: Check) -> list[Part]:
    """A ``quantity`` falls along the rows ``order``, from each to the next."""
    read = QUANTITIES[check["quantity"]]
    parts = []
    for pair in (pair for rows in matched_rows(unit, check, check["order"]) for pair in pairwise(rows)):
        what = f"{read.noun}, {pair[0].label} minus {pair[1].label}"
        question = Question(what, lambda m: m[:, 0, 0] - m[:, 1, 0], unit=read.unit)
        parts.append(_asked(unit, check, pair, question))
    return parts


def history_below(unit: Unit, check: Check) -> list[Part]:
    """The mean loss of ``left`` is below that of ``right`` wherever both were measured at equal tokens.

    Asked behind the share ``after`` of all tokens, which must be equal and include those of pruning; and only
    of the last training of each, for before it ``left`` may not have its size yet.
    """
    parts = []
    for rows in matched_rows(unit, check, [check["left"], check["right"]]):
        where, (left, right) = place(unit, check, rows), rows
        what = f"least lead of {left.label} over {right.label} at equal tokens, mean over domains"
        try:
            gaps = [_gaps(*pair, check["after"]) for pair in zip(*_paired(unit, check, rows), strict=True)]
        except Undecided as reason:
            parts.append(undecided(where, reason))
            continue
        least = np.array([[min(gap) for gap in gaps]])
        question = Question(what, lambda m: m[:, 0, 0], unit="nats")
        parts.append(_judged(check, where, rows, least, question, min(map(len, gaps))))
    return parts


def _gaps(left: History, right: History, after: float) -> list[float]:
    """How far ``left`` is below ``right`` at each of the numbers of tokens they share."""
    own, other = _curve(left), _curve(right)
    if max(own) != max(other):
        told = " and ".join(f"{max(c):,} ({r.row.label})" for c, r in ((own, left), (other, right)))
        raise Undecided(f"trained on different numbers of tokens, {told}")
    return [other[tokens] - own[tokens] for tokens in own if tokens in other and tokens > after * max(own)]


def _curve(run: History) -> dict[int, float]:
    """The loss in the last training, mean over domains, by tokens of all trainings."""
    stage = run.stages[-1]
    return {stage.before + m["tokens"]: float(np.mean([*m["losses"].values()])) for m in stage.measured}


def _asked(unit: Unit, check: Check, rows: Sequence[Row], question: Question) -> Part:
    where, read = place(unit, check, rows), QUANTITIES[check["quantity"]].of
    try:
        values = np.array([[read(run) for run in runs] for runs in _paired(unit, check, rows)])
    except Undecided as reason:
        return undecided(where, reason)
    return _judged(check, where, rows, values, question)


def _paired(unit: Unit, check: Check, rows: Sequence[Row]) -> list[list[History]]:
    """The histories of each row by the seeds that all rows with several have; a single run serves every one.

    Raises :class:`Undecided` if a row has no history, or rows no seed in common.
    """
    beside = (*rows, *unit.rows(check["experiment"]))
    found = [{run.seed: run for run in histories(unit, row, beside)} for row in rows]
    several = [set(runs) for runs in found if len(runs) > 1]
    seeds = sorted(set.intersection(*several)) if several else [None]
    if not seeds:
        raise Undecided("the rows have no seed in common")
    return [[runs[seed] if len(runs) > 1 else next(iter(runs.values())) for seed in seeds] for runs in found]


def _judged(
    check: Check,
    where: str,
    rows: Sequence[Row],
    values: np.ndarray,
    question: Question,
    items: int | None = None,
) -> Part:
    """A comparison of ``values``, (rows, seeds), of which :class:`Question` gets the means."""
    seed = stream_seed("bootstrap", check, [[row.model, row.target] for row in rows])
    with np.errstate(divide="ignore", invalid="ignore"):
        found = bootstrap([values[:, :, None, None]], question.statistic, seed)
    if not np.isfinite(found.estimate):
        return undecided(where, Undecided(f"{question.what} is not a number"))
    single = values.shape[1] == 1
    return Part(
        where,
        verdict(found.low, found.high, question.threshold, question.bound),
        question.what,
        found.estimate,
        None if single else found.low,
        None if single else found.high,
        question.threshold,
        question.bound,
        items,
        found.seeds,
        "no interval" if single else None,
        question.unit or "",
    )
