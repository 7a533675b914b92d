"""Recovery on instructions, a part of the stage ``recover``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reprune.data.instructions import draw_rows, read_instructions
from reprune.models.checkpoint import load_model
from reprune.models.folder import load_tokenizer
from reprune.plan.identity import stream_seed
from reprune.plan.recovery import Recovery
from reprune.records.progress import Progress
from reprune.stages.job import Job
from reprune.stages.recover import Base
from reprune.training.recovery import recover


def train(job: Job, base: Base) -> tuple[dict[str, Any], float]:
    """Train the model in place; what its facts tell of it, and no shared seconds."""
    spec = job.params
    settings = Recovery.of(spec["recovery"])
    facts = recover(
        base.model,
        load_tokenizer(job.input["model"]),
        *_rows(job, settings),
        settings,
        base.replaced,
        spec["dense"]["parameters"],
        base.seed,
        Progress(spec["label"], "examples", job.log),
        load_model(Path(job.input["model"])) if settings.distil else None,
    )
    return facts, 0.0


def _rows(job: Job, settings: Recovery) -> tuple[list[dict], list[dict]]:
    """The rows to train on and those for validation: the same for every run of one seed and data."""
    rows = read_instructions(Path(job.input["instructions"]))
    seed = stream_seed("rows", job.params["data"], job.params["seed"])
    return draw_rows(rows, *settings.split(len(rows)), seed)
