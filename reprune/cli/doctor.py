"""`reprune doctor`: versions, processor, memory, disk, git and inputs, and what of it is broken."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from reprune.cli.text import ROOT, counted, plan_of
from reprune.plan import paths
from reprune.plan.hardware import evaluation_dtype, processor
from reprune.plan.plan import Plan
from reprune.plan.problems import ConfigError
from reprune.plan.resources import evaluate_resources, made_resources
from reprune.records.provenance import commit, machine
from reprune.stages.job import THREAD_VARIABLES

FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
WEIGHT_BYTES = 2  # checkpoints are kept in 16 bits
WORKING_GB = 0.5  # packages, progress and files being written


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    name: str
    text: str
    broken: bool = False

    def __str__(self) -> str:
        return f"{self.name:<12}{'BROKEN: ' if self.broken else ''}{self.text}"


def examine() -> list[Finding]:
    """Everything looked at, in order; a configuration that cannot be used is a finding too."""
    findings = [Finding("python", platform.python_version()), *_packages(), *_torch(), _processor(), _git()]
    try:
        plan = plan_of()
    except ConfigError as error:
        return [*findings, *(Finding("config", line, broken=True) for line in str(error).splitlines())]
    return [
        *findings,
        _threads(plan),
        _evaluation(plan),
        _memory(plan),
        _disk(plan),
        _sources(plan),
        *_inputs(plan),
    ]


def _packages() -> Iterator[Finding]:
    """The versions of what Reprune requires; what is absent or too old is broken."""
    from packaging.requirements import Requirement

    found = []
    for text in importlib.metadata.requires("reprune") or []:
        required = Requirement(text)
        if required.marker and not required.marker.evaluate():
            continue
        try:
            version = importlib.metadata.version(required.name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(required.name, "is not installed", broken=True)
            continue
        if not required.specifier.contains(version, prereleases=True):
            yield Finding(required.name, f"{version}, needed {required.specifier}", broken=True)
        found.append(f"{required.name} {version}")
    yield Finding("packages", ", ".join(found))


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:  # a broken installation raises many kinds
        yield Finding("torch", f"cannot be imported: {type(error).__name__}: {error}", broken=True)
        return
    kernels = torch.backends.cpu.get_cpu_capability()
    yield Finding(
        "torch",
        f"{torch.__version__}, {kernels} kernels, {counted(torch.get_num_threads(), 'thread')} if left alone",
    )


def _processor() -> Finding:
    name, flags = processor()
    has = [feature for feature in FEATURES if feature in flags]
    return Finding(
        "processor",
        f"{name or 'unknown'}, {counted(machine()['cores'], 'core')}, "
        + (", ".join(has) or "features unknown"),
    )


def _git() -> Finding:
    head, dirty = commit()
    if head is None:
        return Finding("git", "no commit; records will name none")
    return Finding("git", f"commit {head[:12]}" + (", files changed, so records say dirty" if dirty else ""))


def _threads(plan: Plan) -> Finding:
    named = [f"{name}={os.environ[name]}" for name in THREAD_VARIABLES if name in os.environ]
    here = ", ".join(named) or "no variable set"
    return Finding("threads", f"{plan.threads} for each job; in this shell {here}")


def _evaluation(plan: Plan) -> Finding:
    has = "has" if evaluation_dtype("auto") == "bfloat16" else "lacks"
    return Finding(
        "evaluation",
        f"{plan.evaluate['dtype']} at scale {plan.scale}; this processor {has} "
        "amx_bf16, without which bfloat16 is slower than float32",
    )


def _memory(plan: Plan) -> Finding:
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    runs = plan.runs_of(plan.default_units)
    largest = (
        max(
            (r["mem_mb"] for run in runs for r in (made_resources(run), evaluate_resources(run))),
            default=0,
        )
        / 1e3
    )
    return Finding(
        "memory",
        f"{machine()['memory_gb']} GB, {pages:.1f} GB free; the largest job of scale "
        f"{plan.scale} asks for {largest:.1f} GB",
        broken=largest > machine()["memory_gb"],
    )


def _disk(plan: Plan) -> Finding:
    free = shutil.disk_usage(ROOT).free / 1e9
    checkpoints = sum(
        run.model.facts.parameters * WEIGHT_BYTES
        for run in plan.runs_of(plan.default_units)
        if not (ROOT / paths.RUNS / run.id / "checkpoint").is_dir()
    )
    needed = WORKING_GB + checkpoints / 1e9
    return Finding(
        "disk", f"{free:.1f} GB free; what is still to be made takes {needed:.1f} GB", broken=free < needed
    )


def _sources(plan: Plan) -> Finding:
    mirror = f"mirror {plan.mirror}" if plan.mirror else "no mirror named"
    return Finding("sources", f"{mirror}; {'offline' if plan.inputs.offline else 'the hub may be asked'}")


def _inputs(plan: Plan) -> Iterator[Finding]:
    """Every model and corpus of the scale: here, to be fetched, or not to be had."""
    wanted = [(model, paths.MODELS / model.id) for model in plan.models.values()]
    wanted += [(corpus, paths.CORPORA / f"{corpus.id}.parquet") for corpus in plan.corpora.values()]
    wanted += [(data, paths.TASKS / data.id) for data in plan.tasks.values()]
    for item, place in wanted:
        if item.missing:
            yield Finding("input", item.missing, broken=True)
            continue
        state = "here" if _exists(ROOT / place) else "to be fetched"
        yield Finding("input", f"{item.name}: {state}, {item.label}")


def _exists(path: Path) -> bool:
    return path.is_dir() or path.is_file()
