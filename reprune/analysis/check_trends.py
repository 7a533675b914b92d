"""Checks on how a metric changes along the targets of a method, and along the blocks of a model."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from reprune.analysis.check_metrics import Check, difference, quantity
from reprune.analysis.evidence import (
    Part,
    Question,
    compare,
    limit,
    matched_rows,
    over_tasks,
)
from reprune.analysis.samples import Undecided
from reprune.analysis.unit import Row, Unit


def increasing(unit: Unit, check: Check) -> list[Part]:
    """The metric rises from each target of ``method`` to the next higher one, on every task."""
    return [
        part
        for rows in _by_target(unit, check)
        for pair in pairwise(rows)
        for part in over_tasks(unit, check, pair, difference(check, pair[0].target, pair[1].target))
    ]


def step_ratio(unit: Unit, check: Check) -> list[Part]:
    """The largest factor by which perplexity rises from one target of ``method`` to the next, on every task.

    ``at_most`` asks that no step is larger, a steady decline; ``at_least`` that some step is, a cliff.
    """
    if check["metric"] != "perplexity":
        raise Undecided(f"a factor between targets is asked of perplexity, not of {check['metric']}")
    question = Question(
        "largest factor of perplexity from one target to the next", _largest_step, *limit(check), unit=""
    )
    return [part for rows in _by_target(unit, check) for part in over_tasks(unit, check, rows, question)]


def _largest_step(means: np.ndarray) -> np.ndarray:
    """(resamples,) from log-perplexities (resamples, targets, parts); two infinite ones make no step."""
    steps = np.exp(np.diff(means[:, :, 0], axis=1))
    return np.fmax.reduce(steps, axis=1)


def _by_target(unit: Unit, check: Check) -> list[tuple[Row, ...]]:
    """The rows of ``method`` by rising target, for each model with several.

    Raises :class:`Undecided` if there is none.
    """
    rows = [row for (row,) in matched_rows(unit, check, [check["method"]])]
    models = dict.fromkeys(row.model for row in rows)
    every = [
        tuple(sorted((row for row in rows if row.model == model), key=lambda row: row.target_requested))
        for model in models
    ]
    several = [rows for rows in every if len(rows) > 1]
    if not several:
        raise Undecided(f"{check['method']} has a single target")
    return several


def depth_less(unit: Unit, check: Check) -> list[Part]:
    """``left`` is below ``right`` at more than ``share`` of the blocks, and on the mean over blocks."""
    parts = []
    for rows in matched_rows(unit, check, [check["left"], check["right"]]):
        left, right = rows[0].label, rows[1].label
        mean = Question(
            f"{quantity(check['metric'])} of {right} minus {left}, mean over blocks",
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
        f"{quantity(check['metric'])}, last quarter of the blocks minus first",
        lambda m: _last_minus_first(m[:, 0]),
    )
    return [compare(unit, check, rows, question) for rows in matched_rows(unit, check, [check["method"]])]


def _last_minus_first(by_block: np.ndarray) -> np.ndarray:
    quarter = max(1, by_block.shape[-1] // 4)
    return by_block[:, -quarter:].mean(axis=-1) - by_block[:, :quarter].mean(axis=-1)
