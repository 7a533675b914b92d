"""How long a plan takes: floating-point operations over a speed measured on this machine before."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from reprune.plan import paths
from reprune.plan.grid import Run
from reprune.plan.plan import Plan

ASSUMED_FLOPS = 9e10  # per core and second: a recent server core, float32
JOB_START_S = 5.0  # importing torch and transformers, once per job


@dataclass(frozen=True)
class Estimate:
    """Core-seconds of some runs; ``measured`` says whether the speed was seen on this machine."""

    core_seconds: float
    measured: bool


def compress_flops(run: Run) -> float:
    """Operations of a run's compression: forward passes over its calibration tokens."""
    if run.calibration is None:
        return 0.0
    facts = run.model.facts
    body = facts.parameters - facts.vocab_size * facts.hidden_size * (1 if facts.tied_embeddings else 2)
    return 2.0 * body * run.calibration.tokens * run.method.cls.passes(run.settings)


def evaluate_flops(run: Run, groups: Iterable[str] | None = None) -> float:
    """Operations of a run's evaluation: one forward pass with logits over every scored token."""
    facts = run.model.facts
    looked_up = 0 if facts.tied_embeddings else facts.vocab_size * facts.hidden_size
    asked = run.groups if groups is None else [group for group in groups if group in run.groups]
    tokens = sum(suite.tokens for group in asked for suite in run.groups[group].values())
    return 2.0 * (facts.parameters - looked_up) * tokens


def estimate(plan: Plan, runs: list[Run], groups: Iterable[str], root: Path) -> Estimate:
    """The work of ``runs`` with the suites of ``groups`` in core-seconds."""
    file = root / paths.SPEED
    measured = json.loads(file.read_text(encoding="utf-8"))["flops"] if file.is_file() else None
    flops = sum(compress_flops(run) + evaluate_flops(run, groups) for run in runs)
    return Estimate(flops / (measured or ASSUMED_FLOPS) + 2 * JOB_START_S * len(runs), measured is not None)
