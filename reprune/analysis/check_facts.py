"""Checks on facts of runs: sparsities of layers, what methods told of layers and blocks, costs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from reprune.analysis.allocation import reported, sparsity_by
from reprune.analysis.check_metrics import Check
from reprune.analysis.evidence import (
    ABOVE,
    BELOW,
    FAILS,
    HOLDS,
    Part,
    limit,
    matched_rows,
    place,
    undecided,
    verdict,
)
from reprune.analysis.measurements import fact
from reprune.analysis.names import FACT_TITLES, layer_fact_noun
from reprune.analysis.noted import depth_of, noted
from reprune.analysis.samples import Undecided
from reprune.analysis.statistics import bootstrap
from reprune.analysis.unit import Row, Unit
from reprune.plan.identity import stream_seed

Measure = Callable[[Row], list[float]]


def spread(unit: Unit, check: Check) -> list[Part]:
    """The measured sparsity varies over projections, blocks or layers: standard deviation ``at_least``."""
    what = f"standard deviation of the sparsity over {check['over']}s"

    def deviations(row: Row) -> list[float]:
        return [np.std(shares) for shares in sparsity_by(unit, row, check["over"])]

    rows = matched_rows(unit, check, [check["method"]])
    return [_counted(unit, check, row, what, deviations, check["at_least"]) for (row,) in rows]


def near_target(unit: Unit, check: Check) -> list[Part]:
    """Every projection, block or layer has the target sparsity within ``tolerance``."""
    what = f"largest distance of a {check['over']}'s sparsity from the target"

    def distances(row: Row) -> list[float]:
        by_run = sparsity_by(unit, row, check["over"])
        return [np.max(np.abs(shares - row.target_requested)) for shares in by_run]

    rows = matched_rows(unit, check, [check["method"]])
    return [_counted(unit, check, row, what, distances, check["tolerance"], BELOW) for (row,) in rows]


def chosen_in(unit: Unit, check: Check) -> list[Part]:
    """All blocks that ``methods`` chose lie behind the share ``after`` of the depth, before the last block.

    A block's place is its index over the number of blocks. Blocks are the dense model's; every seed counts.
    """

    def first(row: Row) -> list[float]:
        return [min(chosen) / depth_of(unit, row.model) for chosen in noted(unit, row, "chosen").values()]

    def behind(row: Row) -> list[float]:
        chosen = noted(unit, row, "chosen").values()
        return [depth_of(unit, row.model) - 1 - max(blocks) for blocks in chosen]

    parts = []
    for row in (row for name in check["methods"] for (row,) in matched_rows(unit, check, [name])):
        asked = (
            (f"share of the depth before the first block that {row.label} chose", first, check["after"]),
            (f"blocks behind the last one that {row.label} chose", behind, 1),
        )
        parts += [_counted(unit, check, row, *question, together=min) for question in asked]
    return parts


def _counted(
    unit: Unit,
    check: Check,
    row: Row,
    what: str,
    measure: Measure,
    threshold: float,
    bound: str = ABOVE,
    together: Callable[[list[float]], float] = np.mean,
) -> Part:
    """A comparison of what was counted in each run: exact, so it has no interval."""
    where = place(unit, check, [row])
    try:
        counts = measure(row)
    except Undecided as reason:
        return undecided(where, reason)
    estimate = float(together(counts))
    holds = estimate <= threshold if bound == BELOW else estimate >= threshold
    return Part(
        where,
        HOLDS if holds else FAILS,
        what,
        estimate,
        threshold=threshold,
        bound=bound,
        seeds=len(counts),
        reason="exact count, no interval",
    )


def layer_fact(unit: Unit, check: Check) -> list[Part]:
    """The mean over layers of a fact that ``method`` told of each is ``at_most`` or ``at_least`` so much.

    The interval is over layers, and over seeds where there are several.
    """
    rows = matched_rows(unit, check, [check["method"]])
    return [_over_layers(unit, check, row) for (row,) in rows]


def _over_layers(unit: Unit, check: Check, row: Row) -> Part:
    where, (threshold, bound) = place(unit, check, [row]), limit(check)
    try:
        values = reported(unit, row, check["fact"])
    except Undecided as reason:
        return undecided(where, reason)
    seed = stream_seed("bootstrap", check, row.model, row.target)
    found = bootstrap([values[None, :, :, None]], lambda m: m[:, 0, 0], seed)
    return Part(
        where,
        verdict(found.low, found.high, threshold, bound),
        f"{layer_fact_noun(check['fact'])}, mean over layers",
        found.estimate,
        found.low,
        found.high,
        threshold,
        bound,
        found.items,
        found.seeds,
    )


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
