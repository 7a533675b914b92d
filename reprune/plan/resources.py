"""Memory and time a job asks for, from model facts: for clusters, and for honest scheduling."""

from __future__ import annotations

from reprune.method import ModelFacts, StructuralMethod
from reprune.plan.estimate import (
    ASSUMED_FLOPS,
    JOB_START_S,
    compress_flops,
    evaluate_flops,
    judge_flops,
    recover_flops,
)
from reprune.plan.grid import Run
from reprune.plan.judging import Judgement

BASE_MB = 900  # torch and transformers imported
FLOAT = 4
DIFFERENTIATED_AT_ONCE = 512  # tokens of one forward pass whose gradients are only looked at
KEPT = 10  # vectors of hidden size that a decoder block keeps of a token for its backward pass


def compress_resources(run: Run) -> dict[str, int]:
    """``mem_mb`` and ``runtime`` (minutes) of a compression.

    A structural method holds the model, the gradients of its weights, at worst their squares, or where it
    trains on a mixture both moments of AdamW, and what a backward pass needs; any other one block, the
    embeddings and the activations.
    """
    facts = run.model.facts
    if issubclass(run.method.cls, StructuralMethod):
        numbers = (4 if run.mixture else 3) * facts.parameters
        tokens = max(DIFFERENTIATED_AT_ONCE, run.mixture.length if run.mixture else 0)
        mem = BASE_MB + (numbers + _kept(facts, tokens)) * FLOAT / 1e6
        return {"mem_mb": int(mem), "runtime": _minutes(compress_flops(run))}
    block = facts.parameters / facts.layers * FLOAT
    embeddings = facts.vocab_size * facts.hidden_size * FLOAT * 2
    tokens = run.calibration.tokens if run.calibration else 0
    activations = tokens * facts.hidden_size * FLOAT * 4
    mem = BASE_MB + (8 * block + embeddings + activations) / 1e6
    return {"mem_mb": int(mem), "runtime": _minutes(compress_flops(run))}


def recover_resources(run: Run) -> dict[str, int]:
    """``mem_mb`` and ``runtime`` (minutes) of a recovery.

    The model, at worst all of it trained with its gradients and both moments of AdamW; what a backward pass
    needs of every layer; the logits with their gradients; and a teacher with its own logits.
    """
    facts, (how, data) = run.model.facts, run.recoveries[-1]
    tokens = max(how.at_once, how.longest(data))
    teacher = facts.parameters + 3 * tokens * facts.vocab_size if how.teacher else 0
    mem = BASE_MB + (4 * facts.parameters + _kept(facts, tokens) + teacher) * FLOAT / 1e6
    return {"mem_mb": int(mem), "runtime": _minutes(recover_flops(run))}


def made_resources(run: Run) -> dict[str, int]:
    """The resources of the job that makes a run's checkpoint."""
    return recover_resources(run) if run.recovery else compress_resources(run)


def evaluate_resources(run: Run) -> dict[str, int]:
    """``mem_mb`` and ``runtime`` (minutes) of an evaluation: two whole models and one window's logits."""
    facts = run.model.facts
    window = max((suite.longest for suite in run.suites), default=1)
    mem = BASE_MB + (2 * facts.parameters * FLOAT + 4 * window * facts.vocab_size * FLOAT) / 1e6
    return {"mem_mb": int(mem), "runtime": _minutes(evaluate_flops(run))}


def judge_resources(judgement: Judgement) -> dict[str, int]:
    """``mem_mb`` and ``runtime`` (minutes) of a comparison: one whole model and a text's logits."""
    facts, tokens = judgement.model.facts, judgement.suite.longest
    mem = BASE_MB + (facts.parameters + 2 * tokens * facts.vocab_size) * FLOAT / 1e6
    return {"mem_mb": int(mem), "runtime": _minutes(judge_flops(judgement))}


def _kept(facts: ModelFacts, tokens: int) -> int:
    """Numbers held for a backward pass over some tokens: every layer's, and the logits with gradients."""
    layer = KEPT * facts.hidden_size + 4 * facts.intermediate_size
    return tokens * (facts.layers * layer + 3 * facts.vocab_size)


def _minutes(flops: float) -> int:
    return 10 + int(5 * (flops / ASSUMED_FLOPS + JOB_START_S) / 60)
