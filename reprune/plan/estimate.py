"""How long a plan takes: floating-point operations over a speed measured on this machine before."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from reprune.method import ModelFacts
from reprune.plan import paths
from reprune.plan.grid import Run
from reprune.plan.judging import Judgement
from reprune.plan.plan import Plan
from reprune.plan.protocols import ITEM_TOKENS

ASSUMED_FLOPS = 9e10  # per core and second: a recent server core, float32
BACKWARD = 2.0  # a backward pass over one forward pass
JOB_START_S = 5.0  # importing torch and transformers, once per job


@dataclass(frozen=True)
class Estimate:
    """Core-seconds of some runs; ``measured`` says whether the speed was seen on this machine."""

    core_seconds: float
    measured: bool


def compress_flops(run: Run) -> float:
    """Operations of a run's compression: forward passes over its calibration, training on its mixture."""
    flops = 0.0
    if run.calibration:
        body = run.model.facts.parameters - run.model.facts.embedding_parameters
        flops += 2.0 * body * run.calibration.tokens * run.method.cls.passes(run.settings)
    if run.parallel:
        tokens = run.method.cls.parallel_work(run.settings)
        flops += (1 + BACKWARD) * _scoring_flops(run) * tokens
    if run.mixture:
        trained, measured = run.method.cls.mixture_work(run.settings)
        tokens = (1 + BACKWARD) * trained * run.mixture.length + measured * run.mixture.held_out_tokens
        flops += _scoring_flops(run) * tokens
    return flops


def made_flops(run: Run) -> float:
    """Operations of the job that makes a run's checkpoint."""
    return recover_flops(run) if run.recovery else compress_flops(run)


def recover_flops(run: Run) -> float:
    """Operations of a run's last recovery: passes forward and backward over its training tokens.

    Those that are read only to measure a loss, or by a teacher, pass forward. The compressed model counts as
    large as the dense one.
    """
    how, data = run.recoveries[-1]
    work = how.work(data)
    return _scoring_flops(run) * ((1 + BACKWARD) * work.trained + work.read)


def evaluate_flops(run: Run, groups: Iterable[str] | None = None) -> float:
    """Operations of a run's evaluation: one forward pass with logits over every scored token."""
    asked = run.groups if groups is None else [group for group in groups if group in run.groups]
    tokens = sum(suite.tokens for group in asked for suite in run.groups[group].values())
    return _scoring_flops(run) * tokens


def judge_flops(judgement: Judgement) -> float:
    """Operations of a comparison: both answers of every prompt are read, at worst in both orders."""
    content = judgement.suite.content
    prompts = sum(spec["rows"] for spec in content["tasks"].values())
    tokens = 2 * prompts * (ITEM_TOKENS + 2 * content["new_tokens"])
    return _token_flops(judgement.model.facts) * tokens


def _scoring_flops(run: Run) -> float:
    return _token_flops(run.model.facts)


def _token_flops(facts: ModelFacts) -> float:
    """Operations of one token's logits; an embedding that is no head as well is only looked up."""
    looked_up = 0 if facts.tied_embeddings else facts.vocab_size * facts.hidden_size
    return 2.0 * (facts.parameters - looked_up)


def estimate(plan: Plan, runs: list[Run], groups: Iterable[str], root: Path) -> Estimate:
    """The work of ``runs`` with the suites of ``groups`` in core-seconds."""
    file = root / paths.SPEED
    measured = json.loads(file.read_text(encoding="utf-8"))["flops"] if file.is_file() else None
    flops = sum(made_flops(run) + evaluate_flops(run, groups) for run in runs)
    return Estimate(flops / (measured or ASSUMED_FLOPS) + 2 * JOB_START_S * len(runs), measured is not None)
