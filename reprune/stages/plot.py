"""The stage that draws a unit's plots."""

from __future__ import annotations

from pathlib import Path

from reprune.analysis.plots import write_plots
from reprune.analysis.unit import load_unit
from reprune.records.files import whole
from reprune.stages.job import Job


def run(job: Job) -> None:
    """Draw every plot as svg and png, with its data beside it."""
    unit = load_unit(job.output["folder"].parent, Path(job.params["papers"]))
    with whole(job.output["folder"]) as temporary:
        temporary.mkdir()
        write_plots(unit, temporary)
