"""Recovery: training a compressed model again, all of it, what compression replaced, or adapters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn

from reprune.models.skeleton import find_blocks
from reprune.plan.recovery import Recovery
from reprune.training.instructions import Example, examples
from reprune.training.lora import attach, merge, rank_for_share, targeted
from reprune.training.loss import Teacher, example_losses
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
    dense: Any = None,
) -> dict[str, Any]:
    """Train ``model`` in place, a frozen one in float32; what a checkpoint's facts tell of it.

    ``replaced`` are the blocks, by index, that recovery of that kind trains, all of their parameters;
    ``dense_parameters`` are those of which ``settings.trainable_share`` is a share. ``say`` counts examples,
    those of validation twice. ``dense`` is the model that ``settings.distil`` learns from, frozen in float32.
    Losses are means over scored tokens, in nats; those of validation are cross-entropy alone. Raises
    :class:`TrainingError` if there is nothing to train, or nothing to train on, if training ends before
    ``settings.stop``, or if it diverges.
    """
    held_out = _examples(validation_rows, tokenizer, settings, "validation")
    chosen = _examples(train_rows, tokenizer, settings, "training")
    schedule = _schedule(settings)
    seen = [example for step in schedule.order(chosen, seed) for example in step]
    parts = (len(held_out), len(seen), len(held_out))
    teacher = Teacher(dense, settings.distil) if settings.distil else None
    with _trained(model, settings, replaced, dense_parameters, seed) as told:
        before = _mean_loss(model, held_out, "before training", _part(say, parts, 0))
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        losses = train(model, chosen, schedule, seed, _part(say, parts, 1), teacher)
    after = _mean_loss(model, held_out, "after training", _part(say, parts, 2))
    return {
        "kind": settings.kind,
        **told,
        "trainable": trainable,
        "merged": settings.kind == "lora",
        "examples": len(chosen),
        "steps": len(losses),
        "scheduled_steps": schedule.steps(len(chosen)),
        "tokens": sum(len(example.tokens) for example in seen),
        "losses": losses,
        "validation_before": before,
        "validation_after": after,
    }


def _part(say: Say, parts: Sequence[int], index: int) -> Say:
    """What counts one of several parts of the work in its own unit, and tells how much of all is done."""
    before, size = sum(parts[:index]), parts[index]
    return lambda done, total: say(before + done * size // total, sum(parts))


def _schedule(settings: Recovery) -> Schedule:
    return Schedule(
        settings.epochs,
        settings.batch_size,
        settings.learning_rate,
        settings.warmup,
        settings.weight_decay,
        settings.stop,
        settings.decay,
    )


def _trained(
    model: Any, settings: Recovery, replaced: Sequence[int], dense_parameters: int, seed: int
) -> AbstractContextManager[dict[str, Any]]:
    """What recovery of this kind trains asks for gradients, and nothing else; gives facts of it."""
    if settings.kind == "lora":
        return _adapters(model, settings, dense_parameters, seed)
    if settings.kind == "full":
        return _unfrozen([model])
    if not replaced:
        raise TrainingError("the compression replaced no block, so there is nothing to train")
    _, blocks = find_blocks(model)
    return _unfrozen([blocks[index] for index in replaced])


@contextmanager
def _unfrozen(modules: Sequence[nn.Module]) -> Iterator[dict[str, Any]]:
    """Let all parameters of some modules ask for gradients: weights, factors and gains of norms."""
    for module in modules:
        module.requires_grad_(True)
    yield {}
    for module in modules:
        module.requires_grad_(False)


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
    found = examples(rows, tokenizer, settings.length, settings.train_on_inputs, settings.prompt)
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
