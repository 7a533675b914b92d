"""Win rates: which share of its comparisons with another row a row wins, as the experiment's judge has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from reprune.analysis.measurements import Measurement
from reprune.analysis.names import metric_heading, metric_of
from reprune.analysis.samples import Undecided
from reprune.analysis.statistics import stderr_of_mean
from reprune.analysis.unit import Row, Run, Unit
from reprune.plan.grammar import AGAINST, WIN_RATE

METRIC = metric_of(WIN_RATE)


def judged(unit: Unit, experiment: str) -> dict[str, Any]:
    """Who judged which answers of an experiment, as planning wrote it; empty where nobody did."""
    return unit.info["experiments"].get(experiment, {}).get("judged", {})


def judged_by(unit: Unit, experiment: str) -> str:
    """What stands beside every win rate: ``judged by likelihood under the source model, a stand-in …``."""
    return f"judged by {judged(unit, experiment).get('title', 'nobody')}"


def heading(unit: Unit, experiment: str) -> str:
    """What stands over a table's win rates, the judge included."""
    return f"{metric_heading(WIN_RATE)} ↑, {judged_by(unit, experiment)}"


def winners(unit: Unit, experiment: str) -> tuple[Row, ...]:
    """The rows that are compared with others, in the experiment's order."""
    lefts = {left for left, _ in judged(unit, experiment).get("pairs", [])}
    return tuple(row for row in unit.rows(experiment) if row.label in lefts)


def won(unit: Unit, left: Row, opponents: Sequence[Row]) -> np.ndarray:
    """The comparisons of ``left`` with ``opponents``, (seeds, prompts, orders), 100 where it wins.

    Of several opponents, the same row on other models or at other targets, only one was compared with it.
    Raises :class:`Undecided` if nothing was, or if seeds answered different prompts.
    """
    against = [run.run_id for row in opponents for run in row.runs if run.run_id]
    found = [_shown(unit, run, against) for run in left.runs]
    known = [shown for shown in found if len(shown)]
    if not known:
        raise Undecided(_why_nothing(unit, left, opponents, against))
    if any(not shown.index.equals(known[0].index) for shown in known):
        raise Undecided(f"the seeds of {left.name} did not answer the same prompts")
    return METRIC.factor * np.array([shown.to_numpy(dtype=float) for shown in known])


def _shown(unit: Unit, run: Run, against: Sequence[str]) -> pd.DataFrame:
    """A run's comparisons: prompts, by their hash, by order."""
    items = unit.items_of(run.run_id)
    chosen = items[(items.metric == WIN_RATE) & items.task.isin(against)]
    return chosen.pivot(index=["item", "prompt_hash"], columns="part", values="value").sort_index()


def _why_nothing(unit: Unit, left: Row, opponents: Sequence[Row], against: Sequence[str]) -> str:
    skipped = [row for row in (left, *opponents) if row.runs[0].status == "skipped"]
    if skipped:
        return f"{skipped[0].name}: skipped ({skipped[0].runs[0].reason})"
    records = unit.records_of(left.runs[0].run_id)
    ended = records[(records.status != "ok") & (records.task.isin(against) | records.task.isna())]
    if len(ended):
        return f"{left.name}: {ended.iloc[0].status} ({ended.iloc[0].reason})"
    return f"the answers of {left.name} were not compared"


def win_rate_of(unit: Unit, experiment: str, task: str, left: Row) -> Measurement:
    """The share of its comparisons that a row wins against the row that ``task`` names, in percent.

    Its error is over prompts, each the mean of both orders, or over seeds where there are several.
    """
    label = task.removeprefix(AGAINST)
    rows = [row for row in unit.rows(experiment) if row.label == label and row.model == left.model]
    try:
        by_seed = won(unit, left, rows).mean(axis=2)
    except Undecided as reason:
        return Measurement("missing", reason=str(reason))
    seeds, prompts = by_seed.shape
    over_seeds = seeds > 1
    error = stderr_of_mean(by_seed.mean(axis=1) if over_seeds else by_seed[0])
    told = {} if np.isnan(error) else {"stderr": error, "stderr_over": "seeds" if over_seeds else METRIC.over}
    value = float(by_seed.mean())
    return Measurement("ok", value, n=prompts, seeds=seeds, decimals=METRIC.decimals, **told)


def win_notes(unit: Unit, experiment: str) -> list[str]:
    """What the numbers are, and whose judgement."""
    return [
        f"Which of two answers is better is {judged_by(unit, experiment)}. Each pair is shown in both orders "
        "and both count; a tie counts half. A judge's win rates compare with no other judge's."
    ]
