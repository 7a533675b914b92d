"""The stage that gathers a unit's records, per-item values, layer facts and notes into its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from reprune.plan.grammar import WIN_RATE
from reprune.plan.identity import canonical
from reprune.plan.paths import failure_file, judgement_failure
from reprune.records.files import read_json, whole, write_json
from reprune.records.provenance import provenance
from reprune.records.schema import COLUMNS, ITEM_COLUMNS, record
from reprune.stages.job import Job, JobError

LAYER_COLUMNS = ("run_id", "block", "layer", "size", "nonzeros")


def run(job: Job) -> None:
    """Write records.parquet, records.csv, items.parquet, layers.parquet, notes.json and unit.json."""
    evaluations = {read_run(path): read_json(Path(path)) for path in job.input.get("evaluations", [])}
    facts = {read_run(path): read_json(Path(path)) for path in job.input.get("facts", [])}
    records = [row for evaluation in evaluations.values() for row in evaluation["records"]]
    judged = {Path(path).stem: read_json(Path(path)) for path in job.input.get("judgements", [])}
    records += [row for judgement in judged.values() for row in judgement["records"]]
    records += _holes(job, set(evaluations)) + _unjudged(job, set(judged))
    records += [record(**provenance(), **row) for row in job.params["skipped"]]
    items = [item for evaluation in evaluations.values() for item in evaluation["items"]]
    items += [item for judgement in judged.values() for item in judgement["items"]]
    layers = [{"run_id": run_id, **layer} for run_id, fact in facts.items() for layer in fact["layers"]]
    frame = _frame(records, COLUMNS)
    write_frame(job.output["records"], frame)
    with whole(job.output["csv"]) as temporary:
        frame.to_csv(temporary, index=False)
    write_frame(job.output["per_item"], _frame(items, ITEM_COLUMNS))
    write_frame(job.output["layers"], _frame(layers, LAYER_COLUMNS))
    write_json(job.output["notes"], _notes(facts, evaluations))
    write_json(job.output["unit"], job.params["info"])


def _notes(facts: dict[str, dict], evaluations: dict[str, dict]) -> dict[str, dict[str, Any]]:
    """What a method noted of each run, the examples of what the model wrote, and what else suites told."""
    notes = {run_id: dict(fact["notes"]) for run_id, fact in facts.items()}
    for run_id, evaluation in evaluations.items():
        for key, name in (("examples", "examples"), ("told", "measured")):
            if evaluation[key]:
                notes.setdefault(run_id, {})[name] = evaluation[key]
    return {run_id: told for run_id, told in notes.items() if told}


def read_run(path: str) -> str:
    """The run a file of ``results/runs/<run>/`` belongs to."""
    return Path(path).parent.name


def _holes(job: Job, measured: set[str]) -> list[dict[str, Any]]:
    """One row for each run without an evaluation, with the reason its job left; only in partial mode."""
    missing = {run_id: columns for run_id, columns in job.params["runs"].items() if run_id not in measured}
    if missing and not job.params["partial"]:
        raise JobError(f"no evaluation of {', '.join(sorted(missing))}")
    rows = []
    for run_id, columns in missing.items():
        failure = _failure(job, run_id)
        rows.append(record(**provenance(), **columns, suite="all", settings=canonical({}), **failure))
    return rows


def _unjudged(job: Job, judged: set[str]) -> list[dict[str, Any]]:
    """One row for each comparison that was not made, with the reason its job left; only in partial mode."""
    missing = {j: columns for j, columns in job.params["judgements"].items() if j not in judged}
    if missing and not job.params["partial"]:
        raise JobError(f"no judgement {', '.join(sorted(missing))}")
    return [
        record(**provenance(), **columns, metric=WIN_RATE, **_unmade(judgement_failure(judgement)))
        for judgement, columns in missing.items()
    ]


def _unmade(note: Path) -> dict[str, str]:
    """What a failed job left in ``note``."""
    return read_json(note) if note.is_file() else {"status": "failed", "reason": "not computed yet"}


def _failure(job: Job, run: str) -> dict[str, str]:
    """The reason that a job of a run left, or one of what it goes on from."""
    note, base = failure_file(run), job.params["bases"].get(run)
    return _failure(job, base) if base and not note.is_file() else _unmade(note)


def _frame(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    extra = [name for name in frame.columns if name not in columns]
    return frame.reindex(columns=[*columns, *extra])


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """A parquet file, whole; columns without any value stay null columns."""
    with whole(path) as temporary:
        frame.to_parquet(temporary, index=False)
