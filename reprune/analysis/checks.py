"""The kinds of check a claim is made of: each takes a unit and a check to its comparisons."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from reprune.analysis.allocation import sparsity_by
from reprune.analysis.evidence import (
    FAILS,
    HOLDS,
    Part,
    Question,
    compare,
    matched_rows,
    over_tasks,
    place,
    undecided,
)
from reprune.analysis.measurements import fact
from reprune.analysis.names import FACT_TITLES, metric_noun
from reprune.analysis.samples import Undecided
from reprune.analysis.unit import Row, Unit

Check = dict[str, Any]


def _quantity(metric: str) -> str:
    return "log-perplexity" if metric == "perplexity" else metric_noun(metric)


def _difference(check: Check, low: str, high: str, threshold: float = 0.0) -> Question:
    """How much the second row exceeds the first; of log-perplexity for perplexity."""
    what = f"{_quantity(check['metric'])} of {high} minus {low}"
    return Question(what, lambda m: m[:, 1, 0] - m[:, 0, 0], threshold)


def less(unit: Unit, check: Check) -> list[Part]:
    """``left`` has the lower metric than ``right``, on every task."""
    return _ordered(unit, check, check["left"], check["right"])


def greater(unit: Unit, check: Check) -> list[Part]:
    """``left`` has the higher metric than ``right``, on every task."""
    return _ordered(unit, check, check["right"], check["left"])


def not_less(unit: Unit, check: Check) -> list[Part]:
    """``left`` is at most ``margin`` below ``right``, on every task: a test of non-inferiority.

    Holds where the whole interval of left minus right lies above -``margin``, fails where it lies below.
    The 95 % interval makes it a one-sided test at 2.5 %, as in ICH E9, section 3.3.2. ``margin`` is in the
    unit of a difference (percentage points of accuracy) and is chosen before the results are seen.
    """
    return _ordered(unit, check, check["right"], check["left"], -check["margin"])


def _ordered(unit: Unit, check: Check, low: str, high: str, threshold: float = 0.0) -> list[Part]:
    """The row ``high`` exceeds the row ``low`` by more than ``threshold``, on every task."""
    return [
        part
        for rows in matched_rows(unit, check, [low, high])
        for part in over_tasks(unit, check, rows, _difference(check, rows[0].label, rows[1].label, threshold))
    ]


def closer(unit: Unit, check: Check) -> list[Part]:
    """The two rows of ``pair`` differ less than the two rows of ``than``, on every task."""
    parts = []
    for rows in matched_rows(unit, check, [*check["pair"], *check["than"]]):
        a, b, c, d = (row.label for row in rows)
        question = Question(
            f"{_quantity(check['metric'])}: distance {c} to {d} minus distance {a} to {b}",
            lambda m: np.abs(m[:, 2, 0] - m[:, 3, 0]) - np.abs(m[:, 0, 0] - m[:, 1, 0]),
        )
        parts += over_tasks(unit, check, rows, question)
    return parts


def increasing(unit: Unit, check: Check) -> list[Part]:
    """The metric rises from each target of ``method`` to the next higher one, on every task."""
    rows = [r for (r,) in matched_rows(unit, check, [check["method"]])]
    pairs = [
        pair
        for model in dict.fromkeys(r.model for r in rows)
        for pair in pairwise(sorted((r for r in rows if r.model == model), key=lambda r: r.target_requested))
    ]
    if not pairs:
        raise Undecided(f"{check['method']} has a single target")
    return [
        part
        for low, high in pairs
        for part in over_tasks(unit, check, (low, high), _difference(check, low.target, high.target))
    ]


def spread(unit: Unit, check: Check) -> list[Part]:
    """The measured sparsity varies over projections, blocks or layers: standard deviation ``at_least``."""
    what = f"standard deviation of the sparsity over {check['over']}s"
    rows = matched_rows(unit, check, [check["method"]])
    return [
        _counted(unit, check, row, what, lambda shares, _: np.std(shares), check["at_least"])
        for (row,) in rows
    ]


def near_target(unit: Unit, check: Check) -> list[Part]:
    """Every projection, block or layer has the target sparsity within ``tolerance``."""
    what = f"largest distance of a {check['over']}'s sparsity from the target"
    rows = matched_rows(unit, check, [check["method"]])
    return [
        _counted(
            unit,
            check,
            row,
            what,
            lambda shares, target: np.max(np.abs(shares - target)),
            check["tolerance"],
            at_most=True,
        )
        for (row,) in rows
    ]


def _counted(
    unit: Unit,
    check: Check,
    row: Row,
    what: str,
    measure: Callable[[np.ndarray, float], float],
    threshold: float,
    at_most: bool = False,
) -> Part:
    """A comparison of counted weights: exact, so it has no interval; the mean over seeds."""
    where = place(unit, check, [row])
    try:
        shares = sparsity_by(unit, row, check["over"])
    except Undecided as reason:
        return undecided(where, reason)
    estimate = float(np.mean([measure(run, row.target_requested) for run in shares]))
    holds = estimate <= threshold if at_most else estimate >= threshold
    return Part(
        where,
        HOLDS if holds else FAILS,
        what,
        estimate,
        threshold=threshold,
        at_most=at_most,
        seeds=len(shares),
        reason="exact count, no interval",
    )


def depth_less(unit: Unit, check: Check) -> list[Part]:
    """``left`` is below ``right`` at more than ``share`` of the blocks, and on the mean over blocks."""
    parts = []
    for rows in matched_rows(unit, check, [check["left"], check["right"]]):
        left, right = rows[0].label, rows[1].label
        mean = Question(
            f"{_quantity(check['metric'])} of {right} minus {left}, mean over blocks",
            lambda m: (m[:, 1] - m[:, 0]).mean(axis=-1),
        )
        share = Question(
            f"share of blocks where {left} is below {right}",
            lambda m: _share(m[:, 1] - m[:, 0]),
            check["share"],
        )
        parts += [compare(unit, check, rows, mean), compare(unit, check, rows, share)]
    return parts


def _share(differences: np.ndarray) -> np.ndarray:
    """(resamples,) share of blocks with a positive difference; NaN where two diverged runs meet."""
    return np.where(np.isnan(differences), np.nan, differences > 0).mean(axis=-1)


def rises_with_depth(unit: Unit, check: Check) -> list[Part]:
    """The metric is higher over the last quarter of the blocks than over the first."""
    question = Question(
        f"{_quantity(check['metric'])}, last quarter of the blocks minus first",
        lambda m: _last_minus_first(m[:, 0]),
    )
    return [compare(unit, check, rows, question) for rows in matched_rows(unit, check, [check["method"]])]


def _last_minus_first(by_block: np.ndarray) -> np.ndarray:
    quarter = max(1, by_block.shape[-1] // 4)
    return by_block[:, -quarter:].mean(axis=-1) - by_block[:, :quarter].mean(axis=-1)


def cost_order(unit: Unit, check: Check) -> list[Part]:
    """A cost rises along ``order``: measured costs have no interval."""
    return [
        _costlier(unit, check, pair)
        for rows in matched_rows(unit, check, check["order"])
        for pair in pairwise(rows)
    ]


def _costlier(unit: Unit, check: Check, pair: tuple[Row, Row]) -> Part:
    where, cost = place(unit, check, pair), FACT_TITLES[check["fact"]]
    what = f"{cost.title.lower()} of {pair[1].label} minus {pair[0].label}"
    costs = [fact(unit, row, check["fact"]) for row in pair]
    for row, value in zip(pair, costs, strict=True):
        if value is None:
            return undecided(where, Undecided(f"{row.name}: {cost.title.lower()} is not known"))
    estimate = (costs[1] - costs[0]) * cost.factor
    return Part(
        where,
        HOLDS if estimate > 0 else FAILS,
        what,
        estimate,
        seeds=min(len(row.runs) for row in pair),
        reason="no interval",
        unit=cost.unit,
    )


KINDS: dict[str, Callable[[Unit, Check], list[Part]]] = {
    function.__name__: function
    for function in (
        less,
        greater,
        not_less,
        closer,
        increasing,
        spread,
        near_target,
        depth_less,
        rises_with_depth,
        cost_order,
    )
}
