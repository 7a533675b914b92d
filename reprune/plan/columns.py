"""How runs and rows are written down: the columns of their records, and the facts in a unit's file."""

from __future__ import annotations

import dataclasses
from typing import Any

from reprune.plan.grid import Row, Run
from reprune.plan.identity import canonical
from reprune.plan.judging import Judgement
from reprune.plan.training import written


def columns(run: Run) -> dict[str, Any]:
    """The record columns that say what a run is, apart from its settings."""
    told = [{**how.settings, "data": data.id} for how, data in run.recoveries]
    return {
        "run_id": run.id,
        "papers": canonical(sorted(run.papers)),
        "model": run.model.name,
        "method": run.method.id,
        "target_kind": run.target.kind,
        "target_requested": run.target.sparsity,
        "recovery": canonical(written(told)) if told else None,
        "seed": run.seed,
        "calibration": _drawn(run),
    }


def _drawn(run: Run) -> str | None:
    """What the compression learned from: its calibration, or the mixture or parallel text it trained on."""
    drawn = run.calibration or run.mixture or run.parallel
    return drawn.id if drawn else None


def judged_columns(judgement: Judgement) -> dict[str, Any]:
    """The record columns that say whose answers were compared, and by whom.

    The record is the left run's; its task is the right run, its variant the judge.
    """
    return {
        **columns(judgement.left),
        "suite": "judged",
        "protocol": judgement.suite.protocol,
        "task": judgement.right.id,
        "variant": judgement.judge.name,
        "settings": canonical(dataclasses.asdict(judgement.left.settings)),
    }


def skipped_columns(paper: str, row: Row) -> dict[str, Any]:
    """The record of a row of ``paper`` that is not run, with its reason."""
    return {
        "papers": canonical([paper]),
        "model": row.model,
        "method": row.method,
        "settings": canonical(row.settings),
        "target_kind": row.target.kind,
        "target_requested": row.target.sparsity,
        "recovery": canonical(_recovery(row)) if row.recoveries else None,
        "seed": row.seed,
        "suite": "all",
        "status": "skipped",
        "reason": row.reason,
    }


def row_facts(row: Row) -> dict[str, Any]:
    """A row of an experiment for the unit's file."""
    return {
        "label": row.label,
        "method": row.method,
        "run_id": row.run,
        "seed": row.seed,
        "model": row.model,
        "target": row.target.label,
        "target_kind": row.target.kind,
        "target_requested": row.target.sparsity,
        "settings": row.settings,
        "recovery": _recovery(row),
        "published_as": list(row.published_as),
        "status": "skipped" if row.reason else "planned",
        "reason": row.reason,
    }


def _recovery(row: Row) -> dict[str, Any] | None:
    return written([how.settings for how in row.recoveries])
