"""The stage that compresses a model with one method."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from reprune.calibration.mixture import read_mixture
from reprune.calibration.subject import Subject
from reprune.calibration.walk import MethodFault, Walk
from reprune.data.parallel import read_pairs
from reprune.discovery import load_method
from reprune.method import BlockMethod, Method, ModelFacts, StructuralMethod, Target
from reprune.models.checkpoint import load_model, save_model
from reprune.models.folder import ModelFolder, load_tokenizer
from reprune.plan.identity import stream_seed
from reprune.records.files import read_json, whole
from reprune.records.progress import Progress
from reprune.records.provenance import peak_rss_mb
from reprune.records.store import Store, sha256
from reprune.stages.facts import write_facts
from reprune.stages.job import Job
from reprune.training.keeping import Keeper


def run(job: Job) -> None:
    """Compress, write the checkpoint whole, and measure what was written."""
    torch.set_num_threads(job.threads)
    spec = job.params
    cls = load_method(Path(spec["method_file"])).cls
    method = cls(cls.Settings(**spec["settings"]), Target(**spec["target"]))
    windows = load_file(job.input["calibration"])["tokens"] if job.input.get("calibration") else None
    compress = _restructure if isinstance(method, StructuralMethod) else _walk
    told, reports = compress(job, method, windows)
    told |= {"peak_rss_mb": peak_rss_mb(), "threads": job.threads}
    write_facts(job.output["facts"], ModelFolder(job.output["checkpoint"]), spec, told, reports)


def _walk(job: Job, method: Method, windows: torch.Tensor | None) -> tuple[dict, dict]:
    """Change weights block by block; a killed walk goes on at its next block."""
    spec = job.params
    walk = Walk(
        ModelFolder(Path(job.input["model"])),
        Store(Path(spec["store"])),
        {"run": spec["run"], **_inputs(job)},
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
    walk.forget()
    return {"compress_s": seconds, "notes": {}}, reports


def _restructure(job: Job, method: StructuralMethod, windows: torch.Tensor | None) -> tuple[dict, dict]:
    """Take parts out of the whole model."""
    spec, source = job.params, ModelFolder(Path(job.input["model"]))
    mixture, inputs, store = job.input.get("mixture"), _inputs(job), Store(Path(spec["store"]))
    keeper = Keeper(store, {"run": spec["run"], **inputs})
    subject = Subject(
        load_model(source.path),
        ModelFacts(**spec["dense"]),
        windows,
        torch.Generator().manual_seed(stream_seed(spec["run"])),
        store,
        inputs,
        spec["batch_size"],
        _share(Progress(spec["label"], "percent", job.log)),
        read_mixture(Path(mixture)) if mixture else None,
        keeper,
        **_translations(job, source),
    )
    start = time.monotonic()
    method.compress(subject)
    seconds = time.monotonic() - start + subject.shared_seconds + keeper.earlier_seconds
    _check(subject.model)
    with whole(job.output["checkpoint"]) as temporary:
        temporary.mkdir()
        save_model(subject.model, source, temporary, getattr(torch, spec["dtype"]), subject.replaced)
    keeper.drop()
    return {"compress_s": seconds, "notes": subject.notes}, subject.report


def _translations(job: Job, source: ModelFolder) -> dict[str, Any]:
    """The tokenizer of a translation model and the pairs it is trained and validated on."""
    file = job.input.get("parallel")
    if file is None:
        return {}
    pairs = {part: read_pairs(Path(file), part) for part in ("train", "validation")}
    return {"tokenizer": load_tokenizer(source.path), "pairs": pairs}


def _share(say: Progress) -> Callable[[float], None]:
    return lambda fraction: say(100 * fraction, 100)


def _inputs(job: Job) -> dict[str, Any]:
    """What the result depends on besides the run's settings."""
    calibration, mixture = job.input.get("calibration"), job.input.get("mixture")
    parallel = job.input.get("parallel")
    return {
        "code": job.params["code"],
        "model": read_json(Path(job.input["model_facts"]))["hash"],
        "calibration": sha256(Path(calibration)) if calibration else None,
        **({"mixture": sha256(Path(mixture))} if mixture else {}),
        **({"parallel": sha256(Path(parallel))} if parallel else {}),
    }


def _check(model: torch.nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter.sum(dtype=torch.float32)):
            raise MethodFault(f"{name} is not finite after compression")
