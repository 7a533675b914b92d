"""The stage that writes the report and the same results as plain text for the terminal."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd

from reprune.analysis.report import write_report
from reprune.analysis.terminal import print_tables
from reprune.analysis.unit import load_unit
from reprune.records.files import whole, write_text
from reprune.records.provenance import commit, machine, now, versions
from reprune.stages.job import Job


def run(job: Job) -> None:
    """Write report.html, report.txt and, for the report of everything, records.csv."""
    units = [load_unit(Path(u["folder"]), Path(u["papers"])) for u in job.params["units"]]
    records = _records([unit.records for unit in units])
    head, dirty = commit()
    made = records.drop_duplicates("run_id")
    # Rows with and without recovery share one compression, and so its seconds.
    seconds = made.compress_s.drop_duplicates().sum() + made.recover_s.sum() + records.evaluate_s.sum()
    summary = {
        "title": job.params["title"],
        "scale": job.params["scale"],
        "created": now(),
        "machine": machine(),
        "commit": head,
        "dirty": dirty,
        "versions": json.loads(versions()),
        "seconds": float(seconds),
        "command": job.params["command"],
    }
    with whole(job.output["html"]) as temporary:
        write_report(units, summary, temporary)
    text = io.StringIO()
    print_tables(units, text)
    write_text(job.output["text"], text.getvalue())
    if "records" in job.output:
        with whole(job.output["records"]) as temporary:
            records.to_csv(temporary, index=False)


def _records(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """All rows once: a run that two papers use has equal rows in both."""
    together = pd.concat(frames, ignore_index=True).drop(columns="protocol_name")
    keys = ["run_id", "protocol", "task", "metric", "method", "reason"]
    return together.drop_duplicates(subset=keys, ignore_index=True)
