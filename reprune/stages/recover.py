"""The stage that trains a compressed model again on instructions."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from reprune.data.instructions import draw_rows, read_instructions
from reprune.models.checkpoint import load_model, save_model, structure
from reprune.models.folder import ModelFolder
from reprune.plan.identity import stream_seed
from reprune.plan.recovery import Recovery
from reprune.records.files import read_json, whole
from reprune.records.progress import Progress
from reprune.records.provenance import peak_rss_mb
from reprune.stages.facts import write_facts
from reprune.stages.job import Job
from reprune.training.recovery import recover


def run(job: Job) -> None:
    """Train, write the checkpoint whole, and measure what was written."""
    torch.set_num_threads(job.threads)
    spec = job.params
    source, base = _base(job)
    settings = Recovery.of(spec["recovery"])
    model, replaced = load_model(source.path), _replaced(source.path)
    start = time.monotonic()
    facts = recover(
        model,
        _tokenizer(job),
        *_rows(job, settings),
        settings,
        replaced,
        spec["dense"]["parameters"],
        stream_seed("recover", spec["data"], spec["seed"]),  # the same order for all rows of a table
        Progress(spec["label"], "examples", job.log),
        load_model(Path(job.input["model"])) if settings.distil else None,
    )
    seconds = time.monotonic() - start
    with whole(job.output["checkpoint"]) as temporary:
        temporary.mkdir()
        save_model(model, source, temporary, getattr(torch, spec["dtype"]), replaced)
    told = {
        "compress_s": base["compress_s"],
        "recover_s": seconds,
        "notes": {**base["notes"], "recovery": facts},
        "peak_rss_mb": peak_rss_mb(),
        "threads": job.threads,
    }
    write_facts(job.output["facts"], ModelFolder(job.output["checkpoint"]), spec, told, {})


def _base(job: Job) -> tuple[ModelFolder, dict[str, Any]]:
    """The compressed checkpoint and its facts."""
    source, facts = ModelFolder(Path(job.input["base"])), read_json(Path(job.input["base_facts"]))
    source.check(facts["hash"])
    return source, facts


def _replaced(folder: Path) -> list[int]:
    """The blocks whose parameters a recovery may train, by their index in the compressed model."""
    return [int(name.rpartition(".")[2]) for name in structure(folder).get("replaced", [])]


def _rows(job: Job, settings: Recovery) -> tuple[list[dict], list[dict]]:
    """The rows to train on and those for validation: the same for every run of one seed and data."""
    rows = read_instructions(Path(job.input["instructions"]))
    seed = stream_seed("rows", job.params["data"], job.params["seed"])
    return draw_rows(rows, *settings.split(len(rows)), seed)


def _tokenizer(job: Job) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(job.input["model"], trust_remote_code=False)
