"""The stage that trains a compressed model again, in the way that the recovery's own module does."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from reprune.models.checkpoint import load_model, save_model, structure
from reprune.models.folder import ModelFolder
from reprune.plan.identity import stream_seed
from reprune.plan.training import noted
from reprune.records.files import read_json, whole
from reprune.records.provenance import peak_rss_mb
from reprune.records.store import Store, sha256
from reprune.stages.facts import write_facts
from reprune.stages.job import Job
from reprune.training.keeping import Keeper


@dataclass(frozen=True)
class Base:
    """What a recovery goes on from: the ``model``, frozen in float32, and its checkpoint's facts.

    ``replaced`` are the blocks whose parameters compression put in, by index. ``seed`` fixes the training: it
    is the same for all rows of a table. ``keeper`` holds what a killed job left of it.

    The module that trains has a function ``train(job, base)``, which gives the facts to note and the seconds
    that what it shares with other runs would have cost, less those that it took.
    """

    model: Any
    replaced: list[int]
    facts: dict[str, Any]
    seed: int
    keeper: Keeper


def run(job: Job) -> None:
    """Train, write the checkpoint whole, and measure what was written."""
    torch.set_num_threads(job.threads)
    spec = job.params
    source, facts = _source(job)
    base = _base(job, source, facts)
    start = time.monotonic()
    trained, shared = importlib.import_module(f"reprune.stages.{spec['stage']}").train(job, base)
    seconds = time.monotonic() - start + base.keeper.earlier_seconds + shared
    with whole(job.output["checkpoint"]) as temporary:
        temporary.mkdir()
        save_model(base.model, source, temporary, getattr(torch, spec["dtype"]), base.replaced)
    base.keeper.drop()
    told = {
        "compress_s": facts["compress_s"],
        "recover_s": facts.get("recover_s", 0.0) + seconds,
        "notes": with_trained(facts["notes"], trained),
        "peak_rss_mb": peak_rss_mb(),
        "threads": job.threads,
    }
    write_facts(job.output["facts"], ModelFolder(job.output["checkpoint"]), spec, told, {})


def with_trained(notes: dict[str, Any], trained: dict[str, Any]) -> dict[str, Any]:
    """The notes of what a recovery goes on from, and its own: ``recovery``, after ``earlier_recoveries``."""
    earlier = noted(notes)
    return {**notes, "recovery": trained, **({"earlier_recoveries": earlier} if earlier else {})}


def _source(job: Job) -> tuple[ModelFolder, dict[str, Any]]:
    """The checkpoint to go on from, and its facts."""
    source, facts = ModelFolder(Path(job.input["base"])), read_json(Path(job.input["base_facts"]))
    source.check(facts["hash"])
    return source, facts


def _base(job: Job, source: ModelFolder, facts: dict[str, Any]) -> Base:
    spec = job.params
    again = [spec["earlier"]] if spec["earlier"] else []  # a second recovery sees its data in another order
    return Base(
        load_model(source.path),
        _replaced(source.path),
        facts,
        stream_seed("recover", spec["data"], spec["seed"], *again),
        Keeper(
            Store(Path(spec["store"])),
            {
                "run": spec["run"],
                "code": spec["code"],
                "base": facts["hash"],
                "data": sha256(Path(job.input[spec["file"]])),
            },
        ),
    )


def _replaced(folder: Path) -> list[int]:
    """The blocks whose parameters a recovery may train, by their index in the compressed model."""
    return [int(name.rpartition(".")[2]) for name in structure(folder).get("replaced", [])]
