"""Which share of the data each domain had in continued pre-training, counted in windows drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from reprune.analysis.histories import CONTINUED, History, histories
from reprune.analysis.measurements import Measurement
from reprune.analysis.names import metric_of
from reprune.analysis.samples import Undecided
from reprune.analysis.statistics import stderr_of_mean
from reprune.analysis.unit import Row, Unit
from reprune.plan.grammar import SHARES

if TYPE_CHECKING:
    from reprune.analysis.table import Table

START = "At the start"
METRIC = metric_of(SHARES)


def shares(unit: Unit, spec: dict[str, Any]) -> dict[Row, dict[str, Measurement]]:
    """The shares by domain of the rows that are pre-trained further, empty for a row that was not.

    Before the first row that began with them stand the proportions of its first training, once for a model.
    """
    held: dict[Row, dict[str, Measurement]] = {}
    begun: set[tuple] = set()
    for row in unit.rows(spec["experiment"]):
        if not any(settings["kind"] == "pretrain" for settings in row.recoveries):
            continue
        runs = _continued(unit, row)
        weights = runs[0].stages[0].measured[0]["weights"] if runs else {}
        if runs and (row.model, *weights.items()) not in begun:
            begun.add((row.model, *weights.items()))
            held[_start(row, spec)] = {d: _share([share]) for d, share in weights.items()}
        drawn = [_drawn(run) for run in runs]
        held[row] = {domain: _share([run[domain] for run in drawn]) for domain in weights}
    return held


def _continued(unit: Unit, row: Row) -> list[History]:
    try:
        runs = histories(unit, row)
    except Undecided:
        return []
    return [run for run in runs if any(stage.name == CONTINUED for stage in run.stages)]


def _start(row: Row, spec: dict[str, Any]) -> Row:
    """A line of no run, for what the training of ``row`` began with."""
    return Row(START, "", row.model, "", "none", 0.0, {}, tuple(spec.get("start_as", ())), ())


def _drawn(run: History) -> dict[str, float]:
    """The domains' shares of all windows of the continuation."""
    last = run.stage(CONTINUED).measured[-1]
    windows = sum(last["seen"].values())
    return {domain: last["seen"].get(domain, 0) / windows for domain in last["losses"]}


def _share(values: list[float]) -> Measurement:
    """The mean over runs, in percent, with its error over them where there are several."""
    mean, decimals = METRIC.factor * float(np.mean(values)), METRIC.decimals
    if len(values) == 1:
        return Measurement("ok", mean, decimals=decimals)
    error = METRIC.factor * stderr_of_mean(np.array(values))
    return Measurement("ok", mean, error, "seeds", seeds=len(values), decimals=decimals)


def share_notes(spec: dict[str, Any], table: Table) -> list[str]:
    """What the numbers are."""
    return [
        "Counted in windows that continued pre-training drew, all of one length, without those of pruning. "
        f"{START}: the proportions that the first training of the rows below began with."
    ]
