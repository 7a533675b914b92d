"""One number of a row: the value of a metric on a task, with its error or the reason it is missing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from reprune.analysis.names import (
    AVERAGE,
    FACT_TITLES,
    HEADS_LEFT,
    MEASURED_BESIDE,
    Fact,
    metric_of,
    perplexity_item,
)
from reprune.analysis.statistics import perplexity_stderr, stderr_of_mean
from reprune.analysis.unit import Row, Run, Unit


@dataclass(frozen=True)
class Quantity:
    """What is measured: a metric by a protocol (its name without version), on a task or on all of its."""

    protocol: str
    metric: str
    task: str | None = None
    suite: str | None = None
    variant: str | None = None

    @classmethod
    def of(cls, spec: dict[str, Any], task: str | None = None) -> Quantity:
        """The quantity that a table, plot or check asks for."""
        return cls(spec["protocol"], spec["metric"], task, spec.get("suite"), spec.get("variant"))


def item_metric(metric: str) -> str:
    """The metric under which items lie.

    Perplexity is the mean of windows' negative log-likelihoods, BLEU that of sentences' counted n-grams.
    """
    return {"perplexity": "nll", "bleu": "bleu_statistics"}.get(metric, metric)


@dataclass(frozen=True)
class Measurement:
    """A value with its standard error, in the metric's shown unit.

    ``stderr_over`` says over what: windows, rows, items or seeds. ``status`` is that of the records, or
    ``missing``; ``value`` is None unless it is ``ok``. ``reason`` says why there is no value, or what a
    reader must know of it. ``decimals`` are the fewest shown, without an error the ones shown.
    """

    status: str
    value: float | None = None
    stderr: float | None = None
    stderr_over: str | None = None
    n: int | None = None
    seeds: int = 1
    reason: str | None = None
    decimals: int | None = None

    @property
    def ok(self) -> bool:
        return self.status == "ok"


def measure(unit: Unit, row: Row, quantity: Quantity) -> Measurement:
    """The row's value: of its one run, or the mean over its seeds with the standard error over them.

    A diverged seed makes the row diverged; other seeds without a value are left out and named.
    """
    single = [_measure_run(unit, run, quantity) for run in row.runs]
    if len(single) == 1:
        return single[0]
    diverged = sum(m.status == "diverged" for m in single)
    good = [m for m in single if m.ok]
    if diverged:
        reason = f"{diverged} of {len(single)} seeds diverged"
        return Measurement("diverged", seeds=len(single), reason=reason)
    if not good:
        return single[0]
    return _over_seeds(good, len(single))


def fact(unit: Unit, row: Row, column: str, protocol: str | None = None) -> float | None:
    """A run's cost or size from its records, the mean over seeds; None if no record has it.

    ``protocol``, a name without version, restricts the evaluation time to one suite. Numbers of heads are in
    a run's notes.
    """
    if column in HEADS_LEFT:
        noted = [unit.notes.get(str(run.run_id), {}).get("heads", {}) for run in row.runs]
        known = [told.get("retained", {}).get(HEADS_LEFT[column]) for told in noted]
    else:
        known = [_fact(unit.records_of(run.run_id), column, protocol) for run in row.runs]
    values = [value for value in known if value is not None]
    return float(np.mean(values)) if values else None


def shown_fact(name: str, rows: Iterable[Row]) -> Fact:
    """How a fact of rows is written: what the achieved ratio is a share of is theirs to say."""
    structural = {row.structural for row in rows if not row.dense}
    if name != "ratio_achieved" or True not in structural:
        return FACT_TITLES[name]
    return FACT_TITLES[name]._replace(
        title="Zero or removed" if False in structural else "Parameters removed"
    )


def _fact(records: pd.DataFrame, column: str, protocol: str | None) -> float | None:
    """The value that all records of a run repeat; evaluation time is each task's own and adds up.

    What a suite measured beside is a mean over its tasks.
    """
    if column == "evaluate_s":
        by = records[(records.protocol_name == protocol).fillna(False)] if protocol else records
        tasks = by[by.task != AVERAGE].drop_duplicates(["protocol", "task"])
        return float(tasks[column].sum()) if tasks[column].notna().any() else None
    if column in MEASURED_BESIDE:
        values = records[records.metric == column].value.dropna()
        return float(values.mean()) if len(values) else None
    values = records[column].dropna()
    return float(values.iloc[0]) if len(values) else None


def _over_seeds(good: list[Measurement], asked: int) -> Measurement:
    values = np.array([m.value for m in good])
    missing = asked - len(good)
    reason = f"{missing} of {asked} seeds have no value" if missing else good[0].reason
    if len(good) == 1:
        return replace(good[0], reason=reason)
    return replace(
        good[0],
        value=float(values.mean()),
        stderr=stderr_of_mean(values),
        stderr_over="seeds",
        seeds=len(good),
        reason=reason,
    )


def _measure_run(unit: Unit, run: Run, quantity: Quantity) -> Measurement:
    if run.status == "skipped":
        return Measurement("skipped", reason=run.reason)
    records = unit.records_of(run.run_id)
    found = records[_matches(records, quantity)]
    if len(found) > 1:
        raise ValueError(
            f"{run.run_id}: {len(found)} values of {quantity.metric} on {quantity.task} by "
            f"{quantity.protocol}; choose one by 'variant'"
        )
    if found.empty:
        return _without_value(records, quantity)
    record = found.iloc[0]
    if record.status != "ok" or not _finite(record.value):
        status = "diverged" if record.status == "ok" else record.status
        return Measurement(status, reason=_text(record.reason) or f"{quantity.metric} is not finite")
    return _with_error(unit, run, quantity, record)


def _matches(records: pd.DataFrame, quantity: Quantity) -> pd.Series:
    matches = (
        (records.protocol_name == quantity.protocol)
        & (records.metric == quantity.metric)
        & (records.task == quantity.task)
    )
    for column in ("suite", "variant"):
        if getattr(quantity, column) is not None:
            matches &= records[column] == getattr(quantity, column)
    return matches.fillna(False).astype(bool)


def _without_value(records: pd.DataFrame, quantity: Quantity) -> Measurement:
    """Why a run has no such record: its suite, or the whole run, ended early, or nothing ran yet."""
    of_protocol = records.protocol_name.isna() | (records.protocol_name == quantity.protocol)
    ended = records[(records.status != "ok") & records.task.isna() & of_protocol.fillna(True)]
    if len(ended):
        return Measurement(ended.iloc[0].status, reason=_text(ended.iloc[0].reason))
    return Measurement("missing", reason="not measured")


def _with_error(unit: Unit, run: Run, quantity: Quantity, record: pd.Series) -> Measurement:
    items = unit.items_of(run.run_id)
    losses = items[
        (items.protocol_name == quantity.protocol) & (items.task == quantity.task) & (items.metric == "nll")
    ].value.to_numpy(dtype=float)
    if quantity.metric == "perplexity" and len(losses):
        stderr, over, n = perplexity_stderr(losses), perplexity_item(quantity.task) + "s", len(losses)
    else:
        stderr, over = record.stderr, metric_of(quantity.metric).over
        n = None if pd.isna(record.n) else int(record.n)
    metric, note = metric_of(quantity.metric), _text(record.reason)
    found = Measurement("ok", float(record.value) * metric.factor, n=n, reason=note, decimals=metric.decimals)
    if not _finite(stderr):
        return found
    return replace(found, stderr=float(stderr) * metric.factor, stderr_over=over)


def _finite(value: Any) -> bool:
    return not pd.isna(value) and math.isfinite(value)


def _text(value: Any) -> str | None:
    return None if pd.isna(value) else str(value)
