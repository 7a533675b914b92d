"""Checks on attention heads and their roles (Voita et al. 2019)."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from reprune.analysis.check_metrics import Check
from reprune.analysis.evidence import (
    FAILS,
    HOLDS,
    UNDECIDED,
    Part,
    matched_rows,
    place,
    undecided,
    verdict,
)
from reprune.analysis.heads import ENCODER, PLACE, ROLES, head_scores, kept_heads, roles_of
from reprune.analysis.names import metric_noun, metric_of
from reprune.analysis.samples import Undecided
from reprune.analysis.statistics import bootstrap_apart
from reprune.analysis.unit import Row, Run, Unit
from reprune.plan.identity import stream_seed

SHUFFLES = 10_000
LEVEL = 0.05  # of an exact test, as of the intervals of other checks
NORMAL = 1.96  # standard errors to either end of a 95 % interval


def enriched(unit: Unit, check: Check) -> list[Part]:
    """Heads with a role in ``than`` are a larger share of those that ``method`` keeps than of all.

    Decided by a permutation test, that of the roles being any other heads': of a single seed that is the
    hypergeometric test. Several seeds cut one dense model, so each deal of its roles meets all of them.
    """
    return _asked(unit, check, [check["method"], check["than"]], _enriched)


def _enriched(unit: Unit, check: Check, rows: tuple[Row, ...], task: str) -> Part:
    row, dense = rows
    roles = roles_of(unit, dense, dense.runs[0], check["protocol"], task)
    labelled = (roles.functions > 0).to_numpy()
    kept = _kept(unit, row, roles.index)
    drawn = int(kept.sum())
    if not drawn:
        raise Undecided(f"{row.name}: no head is left")
    found, above, below = chance_of_more(labelled, kept.sum(0), _draws(check, rows, task))
    counted = f"{found:.0f} of {drawn} kept, {labelled.sum()} of {len(roles)} in all"
    return Part(
        place(unit, check, rows, task),
        _by_chances(above, below),
        f"share of heads with a role among those kept by {row.label} minus that in {dense.label}",
        100 * (found / drawn - labelled.mean()),
        seeds=len(kept),
        reason=f"{counted}, permutation test, p = {above:.2g}",
        unit="points",
    )


def _kept(unit: Unit, row: Row, places: pd.MultiIndex) -> np.ndarray:
    """(runs, ``places``) which heads each run of a row kept.

    Raises :class:`Undecided` if it has none that was made.
    """
    made = [run for run in row.runs if run.run_id]
    kept = [kept_heads(unit, row, run) for run in made or row.runs]
    return np.array([[head in own for head in places] for own in kept])


def _draws(check: Check, rows: tuple[Row, ...], *task: str) -> np.random.Generator:
    """The chance of a permutation test, the same for the same question."""
    return np.random.default_rng(
        stream_seed("permutation", check, *task, [[r.model, r.target] for r in rows])
    )


def _by_chances(above: float, below: float) -> str:
    """The verdict of an exact test: chance rarely has at least as much, or at most as much."""
    return HOLDS if above <= LEVEL else FAILS if below <= LEVEL else UNDECIDED


def kept_are_higher(unit: Unit, check: Check) -> list[Part]:
    """Heads that ``method`` keeps have on the mean a higher metric in ``than`` than those it removes.

    Decided by a permutation test, that of the values being any other heads'. The lead is a mean over seeds,
    which cut one dense model, so each deal of its values meets all of them.
    """
    return _asked(unit, check, [check["method"], check["than"]], _kept_are_higher)


def _kept_are_higher(unit: Unit, check: Check, rows: tuple[Row, ...], task: str) -> Part:
    (row, dense), metric = rows, metric_of(check["metric"])
    heads = roles_of(unit, dense, dense.runs[0], check["protocol"], task)[check["metric"]]
    values = metric.factor * heads.dropna()
    kept = _kept(unit, row, values.index)
    if kept.all(1).any() or not kept.any(1).all():
        raise Undecided(f"{row.name}: it keeps all heads, or none, and nothing is to be compared")
    weights = kept / kept.sum(1, keepdims=True) - ~kept / (~kept).sum(1, keepdims=True)
    estimate, above, below = chance_of_more(values.to_numpy(), weights.mean(0), _draws(check, rows, task))
    return Part(
        place(unit, check, rows, task),
        _by_chances(above, below),
        f"{metric_noun(check['metric'])} in {dense.label}, heads kept by {row.label} minus heads removed",
        estimate,
        items=len(values),
        seeds=len(kept),
        reason=f"{' and '.join(str(own.sum()) for own in kept)} kept, permutation test, p = {above:.2g}",
        unit=metric.difference,
    )


def chance_of_more(
    values: np.ndarray, weights: np.ndarray, rng: np.random.Generator
) -> tuple[float, float, float]:
    """The weighted sum of ``values``, and how often it is at least, and at most, as much by chance.

    Chance deals the values, (heads,), to other heads, whose ``weights``, (heads,), stay.
    """
    dealt = rng.permuted(np.broadcast_to(values.astype(float), (SHUFFLES, len(values))), axis=-1)
    return _chances(float(weights @ values), dealt @ weights)


def heads_greater(unit: Unit, check: Check) -> list[Part]:
    """The metric of heads is on the mean higher in ``left`` than in ``right``, which may have others.

    The interval is over heads of both. What several seeds say of one head is averaged: they began with one
    model, and its head says much the same in each.
    """
    return _asked(unit, check, [check["left"], check["right"]], _heads_greater)


def _heads_greater(unit: Unit, check: Check, rows: tuple[Row, ...], task: str) -> Part:
    values = [_values(unit, check, row, task) for row in rows]
    seed = stream_seed("bootstrap", check, task, [[row.model, row.target] for row in rows])
    found = bootstrap_apart(values, lambda m: m[:, 0] - m[:, 1], seed)
    what = f"{metric_noun(check['metric'])} of {rows[0].label} minus {rows[1].label}, mean over heads"
    return Part(
        place(unit, check, rows, task),
        verdict(found.low, found.high, 0.0),
        what,
        found.estimate,
        found.low,
        found.high,
        items=found.items,
        unit=metric_of(check["metric"]).difference,
    )


def _values(unit: Unit, check: Check, row: Row, task: str) -> np.ndarray:
    factor = metric_of(check["metric"]).factor
    tables = [roles_of(unit, row, run, check["protocol"], task) for run in row.runs]
    by_head = pd.concat(tables)[check["metric"]].dropna().groupby(level=PLACE)
    return factor * by_head.mean().to_numpy()


def role_above_median(unit: Unit, check: Check) -> list[Part]:
    """Every head with ``role`` has a higher metric than the median head of ``method``."""
    return _asked(unit, check, [check["method"]], _role_above_median)


def _role_above_median(unit: Unit, check: Check, rows: tuple[Row, ...], task: str) -> Part:
    (row,), role = rows, check["role"]
    metric = metric_of(check["metric"])
    leads, counts = [], []
    for run in row.runs:
        heads = roles_of(unit, row, run, check["protocol"], task)
        own = heads.loc[heads[role] > 0, check["metric"]]
        if own.empty:
            raise Undecided(f"{row.name}: no head's role is {ROLES[role]}")
        leads.append(metric.factor * (own.min() - heads[check["metric"]].median()))
        counts.append(len(own))
    estimate = float(np.mean(leads))
    noun = metric_noun(check["metric"])
    return Part(
        place(unit, check, rows, task),
        HOLDS if min(leads) > 0 else FAILS,
        f"least {noun} of heads whose role is {ROLES[role]} minus that of the median head",
        estimate,
        items=min(counts),
        seeds=len(leads),
        reason="exact count, no interval",
        unit=metric.difference,
    )


def above_chance(unit: Unit, check: Check) -> list[Part]:
    """The best head of ``layer``, counted from 0, has ``at_least`` so many times the share of ``chance``.

    The interval is over sentences; that the best of several heads is taken, it does not know.
    """
    return _asked(unit, check, [check["method"]], _above_chance)


def _above_chance(unit: Unit, check: Check, rows: tuple[Row, ...], task: str) -> Part:
    (row,), metric = rows, check["metric"]
    times, errors = [], []
    for run in row.runs:
        heads = roles_of(unit, row, run, check["protocol"], task)
        layer = heads[heads.index.get_level_values("layer") == check["layer"]].dropna(subset=[metric])
        records = unit.records_of(run.run_id)
        chance = records[(records.metric == check["chance"]) & (records.task == task)].value.dropna()
        if layer.empty or chance.empty:
            raise Undecided(f"{row.name}: {metric_noun(metric)} is not known there")
        best = layer.loc[layer[metric].idxmax()]
        times.append(best[metric] / chance.iloc[0])
        errors.append(best[f"{metric}_stderr"] / chance.iloc[0])
    estimate = float(np.mean(times))
    margin = NORMAL * math.sqrt(float(np.sum(np.square(errors)))) / len(errors)
    return Part(
        place(unit, check, rows, task),
        verdict(estimate - margin, estimate + margin, check["at_least"]),
        f"{metric_noun(metric)} of the best head in layer {check['layer'] + 1} of {row.label} over chance",
        estimate,
        estimate - margin,
        estimate + margin,
        check["at_least"],
        seeds=len(times),
        unit="×",
    )


def gates_polarise(unit: Unit, check: Check) -> list[Part]:
    """In the end a share ``at_least`` of the gates is nearly always 0, or 1, and more than before."""
    parts = []
    for (row,) in matched_rows(unit, check, [check["method"]]):
        where = place(unit, check, [row])
        try:
            first, last = np.mean([_polarised(unit, row, run) for run in row.runs], 0)
        except Undecided as reason:
            parts.append(undecided(where, reason))
            continue
        what = f"share of polarised gates of {row.label}"
        exact = {"seeds": len(row.runs), "reason": "exact count, no interval"}
        held = HOLDS if last >= check["at_least"] else FAILS
        parts.append(Part(where, held, f"{what} at the end", last, threshold=check["at_least"], **exact))
        parts.append(
            Part(where, HOLDS if last > first else FAILS, f"{what}, end minus start", last - first, **exact)
        )
    return parts


def _polarised(unit: Unit, row: Row, run: Run) -> tuple[float, float]:
    measured = unit.notes.get(str(run.run_id), {}).get("gates", {}).get("evaluations", ())
    if not measured:
        raise Undecided(f"{row.name}: {run.reason or 'no gates were noted'}")
    return measured[0]["polarised"][ENCODER], measured[-1]["polarised"][ENCODER]


def scores_agree(unit: Unit, check: Check) -> list[Part]:
    """Two rows' scores put heads of one layer in like orders, on the mean of the layers behind ``after``.

    Spearman's rank correlation, decided by a permutation test; of the first run of each row, since what a
    dense model's heads are worth is no matter of seeds.
    """
    parts = []
    for rows in matched_rows(unit, check, [check["left"], check["right"]]):
        where = place(unit, check, rows)
        try:
            left, right = (head_scores(unit, row, row.runs[0])[check["after"] :] for row in rows)
        except Undecided as reason:
            parts.append(undecided(where, reason))
            continue
        estimate, above, below = ranks_agree(left, right, _draws(check, rows))
        parts.append(
            Part(
                where,
                _by_chances(above, below),
                f"rank correlation of {rows[0].label} and {rows[1].label} within layers, mean",
                estimate,
                items=len(left),
                reason=f"permutation test, p = {above:.2g}",
            )
        )
    return parts


def ranks_agree(left: np.ndarray, right: np.ndarray, rng: np.random.Generator) -> tuple[float, float, float]:
    """Spearman's correlation of rows, their mean, and how often chance has at least, and at most, as much.

    ``left`` and ``right`` are (rows, columns) without ties in a row.
    """
    own, other = (_standard_ranks(values) for values in (left, right))
    shuffled = rng.permuted(np.broadcast_to(other, (SHUFFLES, *other.shape)), axis=-1)
    estimate, drawn = (own * other).mean(), (own * shuffled).mean((1, 2))
    return _chances(float(estimate), drawn)


def _chances(estimate: float, drawn: np.ndarray) -> tuple[float, float, float]:
    """``estimate``, and how often ``drawn`` by chance is at least, and at most, as much."""
    tolerance = 1e-9
    above, below = drawn >= estimate - tolerance, drawn <= estimate + tolerance
    return estimate, (1 + above.sum()) / (1 + len(drawn)), (1 + below.sum()) / (1 + len(drawn))


def _standard_ranks(values: np.ndarray) -> np.ndarray:
    """The ranks in each row, with mean 0 and variance 1."""
    ranks = values.argsort(-1).argsort(-1).astype(float)
    return (ranks - ranks.mean(-1, keepdims=True)) / ranks.std(-1, keepdims=True)


def _asked(
    unit: Unit,
    check: Check,
    names: list[str],
    answer: Callable[[Unit, Check, tuple[Row, ...], str], Part],
) -> list[Part]:
    """An answer for each match of rows and task, with the reason where there is none."""
    parts = []
    for rows in matched_rows(unit, check, names):
        for task in check["tasks"]:
            try:
                parts.append(answer(unit, check, rows, task))
            except Undecided as reason:
                parts.append(undecided(place(unit, check, rows, task), reason))
    return parts
