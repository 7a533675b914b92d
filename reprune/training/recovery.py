"""Recovery: training a compressed model again, the parts that compression replaced or low-rank adapters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from reprune.models.skeleton import find_blocks
from reprune.plan.recovery import Recovery
from reprune.training.instructions import Example, examples
from reprune.training.lora import attach, merge, rank_for_share, targeted
from reprune.training.loss import example_losses
from reprune.training.trainer import Schedule, TrainingError, train

Say = Callable[[int, int], None]


def recover(
    model: Any,
    tokenizer: Any,
    train_rows: Sequence[Mapping[str, str]],
    validation_rows: Sequence[Mapping[str, str]],
    settings: Recovery,
    replaced: Sequence[int],
    dense_parameters: int,
    seed: int,
    say: Say = lambda done, total: None,
) -> dict[str, Any]:
    """Train ``model`` in place, a frozen one in float32; what a checkpoint's facts tell of it.

    ``replaced`` are the blocks, by index, that recovery of that kind trains, all of their parameters;
    ``dense_parameters`` are those of which ``settings.trainable_share`` is a share. ``say`` counts examples,
    those of validation twice. Losses are means over scored tokens, in nats. Raises :class:`TrainingError` if
    there is nothing to train, or nothing to train on, or if training diverges.
    """
    lora = settings.kind == "lora"
    held_out = _examples(validation_rows, tokenizer, settings, "validation")
    chosen = _examples(train_rows, tokenizer, settings, "training")
    schedule = Schedule(
        settings.epochs, settings.batch_size, settings.learning_rate, settings.warmup, settings.weight_decay
    )
    parts = (len(held_out), schedule.epochs * len(chosen), len(held_out))
    with _adapters(model, settings, dense_parameters, seed) if lora else _blocks(model, replaced) as told:
        before = _mean_loss(model, held_out, "before training", _part(say, parts, 0))
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        losses = train(model, chosen, schedule, seed, _part(say, parts, 1))
    after = _mean_loss(model, held_out, "after training", _part(say, parts, 2))
    return {
        "kind": settings.kind,
        **told,
        "trainable": trainable,
        "merged": lora,
        "examples": len(chosen),
        "steps": len(losses),
        "tokens": schedule.epochs * sum(len(example.tokens) for example in chosen),
        "losses": losses,
        "validation_before": before,
        "validation_after": after,
    }


def _part(say: Say, parts: Sequence[int], index: int) -> Say:
    """What counts one of several parts of the work in its own unit, and tells how much of all is done."""
    before, size = sum(parts[:index]), parts[index]
    return lambda done, total: say(before + done * size // total, sum(parts))


@contextmanager
def _blocks(model: Any, indices: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Let all parameters of some blocks ask for gradients: weights, factors and gains of norms."""
    if not indices:
        raise TrainingError("the compression replaced no block, so there is nothing to train")
    _, blocks = find_blocks(model)
    for index in indices:
        blocks[index].requires_grad_(True)
    yield {}
    model.requires_grad_(False)


@contextmanager
def _adapters(model: Any, settings: Recovery, dense_parameters: int, seed: int) -> Iterator[dict[str, Any]]:
    """Put adapters beside layers, and merge them at the end; tells their rank."""
    layers, share = targeted(model, settings.targets), settings.trainable_share
    rank = settings.rank if share is None else rank_for_share(layers, share, dense_parameters)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapted = attach(model, layers, rank, settings.alpha, settings.dropout)
    yield {"rank": rank}
    merge(adapted)


def _examples(
    rows: Sequence[Mapping[str, str]], tokenizer: Any, settings: Recovery, what: str
) -> list[Example]:
    found = examples(rows, tokenizer, settings.length, settings.train_on_inputs)
    if not found:
        raise TrainingError(
            f"none of {len(rows)} {what} rows has a token to score within {settings.length}; raise `length`"
        )
    return found


def _mean_loss(model: Any, held_out: Sequence[Example], when: str, say: Say) -> float:
    total = math.fsum(example_losses(model, held_out, say))
    if not math.isfinite(total):
        raise TrainingError(f"the loss on the validation rows is not finite {when}")
    return total / sum(example.scored for example in held_out)
