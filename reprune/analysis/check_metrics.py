"""Checks that compare a metric of rows with one another, on the items they share."""

from __future__ import annotations

from typing import Any

import numpy as np

from reprune.analysis.evidence import (
    ABOVE,
    WITHIN,
    Part,
    Question,
    matched_rows,
    over_tasks,
    place,
    undecided,
)
from reprune.analysis.measurements import fact, shown_fact
from reprune.analysis.names import metric_noun
from reprune.analysis.samples import Undecided
from reprune.analysis.unit import Row, Unit

Check = dict[str, Any]


def quantity(metric: str) -> str:
    """What differences of a metric are taken of, inside a sentence."""
    return "log-perplexity" if metric == "perplexity" else metric_noun(metric)


def difference(check: Check, low: str, high: str, threshold: float = 0.0, bound: str = ABOVE) -> Question:
    """How much the second row exceeds the first; of log-perplexity for perplexity."""
    what = f"{quantity(check['metric'])} of {high} minus {low}"
    return Question(what, lambda m: m[:, 1, 0] - m[:, 0, 0], threshold, bound)


def less(unit: Unit, check: Check) -> list[Part]:
    """``left`` has the lower metric than ``right``, on every task.

    Undecided where ``left`` has more of the fact ``no_more`` than ``right``, as in :func:`greater`.
    """
    return _differing(unit, check, check["left"], check["right"])


def greater(unit: Unit, check: Check) -> list[Part]:
    """``left`` has the higher metric than ``right``, on every task.

    Undecided where ``left`` has more of the fact ``no_more`` than ``right``: more heads, and it may be better
    by them alone.
    """
    return _differing(unit, check, check["right"], check["left"])


def times(unit: Unit, check: Check) -> list[Part]:
    """``left`` has more than ``at_least`` times the perplexity of ``right``, on every task."""
    if check["metric"] != "perplexity":
        raise Undecided(f"so many times is asked of perplexity, not of {check['metric']}")
    parts = []
    for rows in matched_rows(unit, check, [check["left"], check["right"]]):
        question = Question(
            f"perplexity of {rows[0].label} over {rows[1].label}",
            lambda m: np.exp(m[:, 0, 0] - m[:, 1, 0]),
            check["at_least"],
            unit="×",
        )
        parts += over_tasks(unit, check, rows, question)
    return parts


def not_less(unit: Unit, check: Check) -> list[Part]:
    """``left`` is at most ``margin`` below ``right``, on every task: a test of non-inferiority.

    Holds where the whole interval of left minus right lies above -``margin``, fails where it lies below.
    The 95 % interval makes it a one-sided test at 2.5 %, as in ICH E9, section 3.3.2. ``margin`` is in the
    unit of a difference (percentage points of accuracy) and is chosen before the results are seen.
    """
    return _differing(unit, check, check["right"], check["left"], -check["margin"])


def within(unit: Unit, check: Check) -> list[Part]:
    """``left`` and ``right`` differ by less than ``margin``, on every task: a test of equivalence.

    Holds where the whole interval of left minus right lies between -``margin`` and ``margin``, fails where
    it lies outside. The 95 % interval makes it two one-sided tests at 2.5 % each, as in ICH E9, section 3.3.2
    (Schuirmann, J. Pharmacokinet. Biopharm. 15, 1987).
    """
    return _differing(unit, check, check["right"], check["left"], check["margin"], WITHIN)


def _differing(
    unit: Unit, check: Check, low: str, high: str, threshold: float = 0.0, bound: str = ABOVE
) -> list[Part]:
    """The row ``high`` minus the row ``low`` is ``bound`` the threshold, on every task."""
    parts = []
    for rows in matched_rows(unit, check, [low, high]):
        names = {low: rows[0], high: rows[1]}
        if more := _more(unit, check, names[check["left"]], names[check["right"]]):
            parts.append(undecided(place(unit, check, rows), Undecided(more)))
            continue
        question = difference(check, rows[0].label, rows[1].label, threshold, bound)
        parts += over_tasks(unit, check, rows, question)
    return parts


def _more(unit: Unit, check: Check, left: Row, right: Row) -> str | None:
    """In words that ``left`` has more of the check's ``no_more`` than ``right``; None if it has not."""
    if "no_more" not in check:
        return None
    shown = shown_fact(check["no_more"], [left, right])
    values = [fact(unit, row, check["no_more"]) for row in (left, right)]
    if None in values:
        return f"{shown.title}: not known of {left.label} or {right.label}"
    own, other = values
    if own <= other:
        return None
    told = [f"{value * shown.factor:.{shown.decimals}f}" for value in values]
    return f"{left.label} has more than {right.label}, {shown.title.lower()}: {told[0]} against {told[1]}"


def closer(unit: Unit, check: Check) -> list[Part]:
    """The two rows of ``pair`` differ less than the two rows of ``than``, on every task."""
    parts = []
    for rows in matched_rows(unit, check, [*check["pair"], *check["than"]]):
        a, b, c, d = (row.label for row in rows)
        question = Question(
            f"{quantity(check['metric'])}: distance {c} to {d} minus distance {a} to {b}",
            lambda m: np.abs(m[:, 2, 0] - m[:, 3, 0]) - np.abs(m[:, 0, 0] - m[:, 1, 0]),
        )
        parts += over_tasks(unit, check, rows, question)
    return parts


def gain_ratio(unit: Unit, check: Check) -> list[Part]:
    """``middle`` gains on ``low``, and ``at_least`` so many times what ``high`` gains on ``middle``.

    A gain is a change of the metric for the better. Asked as a difference, first gain minus so many times the
    second, since a ratio has no interval where the second may be zero.
    """
    better = 1 if unit.higher_is_better(check["metric"]) else -1
    of, times = quantity(check["metric"]), check["at_least"]
    parts = []
    for rows in matched_rows(unit, check, [check["low"], check["middle"], check["high"]]):
        low, middle, high = (row.label for row in rows)
        first = Question(f"gain in {of} from {low} to {middle}", lambda m: better * (m[:, 1, 0] - m[:, 0, 0]))
        more = Question(
            f"gain in {of} from {low} to {middle} minus {times:g} times that from {middle} to {high}",
            lambda m: better * (m[:, 1, 0] - m[:, 0, 0] - times * (m[:, 2, 0] - m[:, 1, 0])),
        )
        parts += over_tasks(unit, check, rows, first) + over_tasks(unit, check, rows, more)
    return parts
