"""The stage that decides a unit's claims."""

from __future__ import annotations

from pathlib import Path

from reprune.analysis.claims import check_claims
from reprune.analysis.unit import load_unit
from reprune.records.files import write_json
from reprune.stages.job import Job


def run(job: Job) -> None:
    """Write every claim's verdict with its estimates and intervals."""
    unit = load_unit(job.output["file"].parent, Path(job.params["papers"]))
    write_json(job.output["file"], check_claims(unit))
