"""The stage that compresses a model with one method."""

from __future__ import annotations

import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from reprune.calibration.walk import Walk
from reprune.discovery import load_method
from reprune.evaluation.checkpoint_facts import measure_checkpoint
from reprune.method import BlockMethod, Target
from reprune.models.folder import ModelFolder
from reprune.records.files import read_json, whole, write_json
from reprune.records.progress import Progress
from reprune.records.provenance import peak_rss_mb
from reprune.records.store import Store, sha256
from reprune.stages.job import Job


def run(job: Job) -> None:
    """Compress, write the checkpoint whole, and measure what was written."""
    torch.set_num_threads(job.threads)
    spec = job.params
    cls = load_method(Path(spec["method_file"])).cls
    method = cls(cls.Settings(**spec["settings"]), Target(**spec["target"]))
    windows = load_file(job.input["calibration"])["tokens"] if job.input.get("calibration") else None
    model_hash = read_json(Path(job.input["model_facts"]))["hash"]
    walk = Walk(
        ModelFolder(Path(job.input["model"])),
        Store(Path(spec["store"])),
        {
            "run": spec["run"],
            "code": spec["code"],
            "model": model_hash,
            "calibration": sha256(Path(job.input["calibration"])) if windows is not None else None,
        },
        getattr(torch, spec["dtype"]),
        spec["batch_size"],
        Progress(spec["label"], "blocks", job.log),
    )
    start = time.monotonic()
    if isinstance(method, BlockMethod):
        walk.prune_blocks(method, windows)
    else:
        method.compress(walk)
    seconds = time.monotonic() - start + walk.earlier_seconds
    with whole(job.output["checkpoint"]) as temporary:
        temporary.mkdir()
        reports = walk.write_checkpoint(temporary)
    _write_facts(job, seconds, reports)
    walk.forget()


def _write_facts(job: Job, seconds: float, reports: dict) -> None:
    """The facts of a compression; sparsity is counted in the saved files, not taken from the method."""
    peak = peak_rss_mb()
    folder = ModelFolder(job.output["checkpoint"])
    facts = measure_checkpoint(folder)
    layers = [{**vars(layer), **reports.get(layer.block, {}).get(layer.layer, {})} for layer in facts.layers]
    write_json(
        job.output["facts"],
        {
            "compress_s": seconds,
            "peak_rss_mb": peak,
            "threads": job.threads,
            "hash": folder.hash(),
            **facts.summary(),
            "layers": layers,
        },
    )
