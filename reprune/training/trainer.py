"""A small trainer: AdamW over the parameters that ask for gradients, warm-up and decay to nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import nn

from reprune.training.instructions import Example
from reprune.training.loss import TOKENS_AT_ONCE, Teacher, grouped, summed_losses

CLIP = 1.0  # greatest norm of the gradient: the default of transformers' trainer, which the papers' codes use


class TrainingError(Exception):
    """Training that cannot begin, or that diverged; the message says why and where."""


@dataclass(frozen=True)
class Schedule:
    """How long to train and how fast. ``warmup`` counts steps; below 1 it is their share of all.

    ``batch_size`` examples make an optimiser step, however many of them share a forward pass. ``stop`` ends
    the training after so many of its steps, in the state that it passes through there when it goes on.
    ``decay`` is ``linear`` or ``cosine``.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    warmup: float = 0.0
    weight_decay: float = 0.0
    stop: int | None = None
    decay: str = "linear"

    def steps(self, examples: int) -> int:
        """The steps of the whole training on so many examples; the last one of an epoch may be smaller."""
        return self.epochs * math.ceil(examples / self.batch_size)

    def order(self, examples: Sequence[Example], seed: int) -> list[list[Example]]:
        """The examples of each step up to ``stop``, in a new order every epoch.

        Raises :class:`TrainingError` if the whole training has fewer steps.
        """
        steps = self.steps(len(examples))
        if self.stop is not None and self.stop > steps:
            raise TrainingError(f"stop after step {self.stop} is beyond the training's end, step {steps}")
        generator = torch.Generator().manual_seed(seed)
        epochs = (torch.randperm(len(examples), generator=generator) for _ in range(self.epochs))
        batches = (batch.tolist() for epoch in epochs for batch in epoch.split(self.batch_size))
        return [[examples[i] for i in batch] for batch in islice(batches, self.stop)]

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step 0, 1, …: it rises to its highest over the warm-up, then falls.

        transformers' ``get_linear_schedule_with_warmup`` or ``get_cosine_schedule_with_warmup``, but the
        first step is not lost to a rate of zero.
        """
        warmup = self.warmup if self.warmup >= 1 else round(self.warmup * steps)
        rising = (step + 1) / warmup if warmup else 1.0
        falling = min(1.0, (steps - step) / max(1, steps - warmup))
        if self.decay == "cosine":
            falling = (1 - math.cos(math.pi * falling)) / 2
        return self.learning_rate * min(rising, falling)


def train(
    model: Any,
    examples: Sequence[Example],
    schedule: Schedule,
    seed: int,
    say: Callable[[int, int], None] = lambda done, total: None,
    teacher: Teacher | None = None,
) -> list[float]:
    """Train the parameters of ``model`` that require gradients; the loss of every step, in nats per token.

    A step's loss is the mean over the scored tokens of its examples before the step, a teacher's share
    included. ``seed`` fixes order and dropout; ``say`` counts steps. The model is left in evaluation mode.
    Raises :class:`TrainingError` as soon as a loss or a gradient is not finite, or as :meth:`Schedule.order`.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(decayed(parameters, schedule.weight_decay), schedule.learning_rate)
    losses, steps = [], schedule.steps(len(examples))
    order = schedule.order(examples, seed)
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step, chosen in enumerate(order):
            losses.append(accumulate(model, chosen, teacher=teacher))
            norm = nn.utils.clip_grad_norm_(parameters, CLIP)
            if not (math.isfinite(losses[-1]) and torch.isfinite(norm)):
                raise TrainingError(
                    f"training diverged at step {step + 1} of {len(order)}: "
                    f"loss {losses[-1]:g}, gradient norm {norm:g}"
                )
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(step, steps)
            optimizer.step()
            optimizer.zero_grad()
            say(step + 1, len(order))
    model.eval()
    return losses


def accumulate(
    model: Any, examples: Sequence[Example], tokens: int = TOKENS_AT_ONCE, teacher: Teacher | None = None
) -> float:
    """Add the gradient of the mean loss per scored token of ``examples``; that loss.

    ``tokens`` bounds a forward pass and changes nothing else.
    """
    scored = sum(example.scored for example in examples)
    total = 0.0
    for group in grouped(examples, tokens):
        loss = summed_losses(model, [examples[i] for i in group], teacher).sum() / scored
        loss.backward()
        total += loss.item()
    return total


def decayed(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; gains and biases do not, as in transformers' trainer."""
    matrices = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
