"""The stage that writes a unit's tables."""

from __future__ import annotations

from pathlib import Path

from reprune.analysis.tables import write_tables
from reprune.analysis.unit import load_unit
from reprune.records.files import whole
from reprune.stages.job import Job


def run(job: Job) -> None:
    """Write every table as csv, md, tex and html."""
    unit = load_unit(job.output["folder"].parent, Path(job.params["papers"]))
    with whole(job.output["folder"]) as temporary:
        temporary.mkdir()
        write_tables(unit, temporary)
