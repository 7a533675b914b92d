"""A small trainer: AdamW over the parameters that ask for gradients, linear warm-up and decay."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from reprune.training.instructions import Example
from reprune.training.loss import TOKENS_AT_ONCE, grouped, summed_losses

CLIP = 1.0  # greatest norm of the gradient: the default of transformers' trainer, which the papers' codes use


class TrainingError(Exception):
    """Training that cannot begin, or that diverged; the message says why and where."""


@dataclass(frozen=True)
class Schedule:
    """How long to train and how fast. ``warmup`` counts steps; below 1 it is their share of all.

    ``batch_size`` examples make an optimiser step, however many of them share a forward pass.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    warmup: float = 0.0
    weight_decay: float = 0.0

    def steps(self, examples: int) -> int:
        """The steps that training on so many examples takes; the last one of an epoch may be smaller."""
        return self.epochs * math.ceil(examples / self.batch_size)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step 0, 1, …: it rises to its highest over the warm-up, then falls.

        transformers' ``get_linear_schedule_with_warmup``, but the first step is not lost to a rate of zero.
        """
        warmup = self.warmup if self.warmup >= 1 else round(self.warmup * steps)
        rising = (step + 1) / warmup if warmup else 1.0
        falling = (steps - step) / max(1, steps - warmup)
        return self.learning_rate * min(1.0, rising, falling)


def train(
    model: Any,
    examples: Sequence[Example],
    schedule: Schedule,
    seed: int,
    say: Callable[[int, int], None] = lambda done, total: None,
) -> list[float]:
    """Train the parameters of ``model`` that require gradients; the loss of every step, in nats per token.

    A step's loss is the mean over the scored tokens of its examples before the step. ``seed`` fixes order and
    dropout; ``say`` counts steps. The model is left in evaluation mode. Raises :class:`TrainingError` as soon
    as a loss or a gradient is not finite.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(_decayed(parameters, schedule.weight_decay), schedule.learning_rate)
    losses, steps = [], schedule.steps(len(examples))
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step, chosen in enumerate(_order(examples, schedule, seed)):
            losses.append(accumulate(model, chosen))
            norm = nn.utils.clip_grad_norm_(parameters, CLIP)
            if not (math.isfinite(losses[-1]) and torch.isfinite(norm)):
                raise TrainingError(
                    f"training diverged at step {step + 1} of {steps}: "
                    f"loss {losses[-1]:g}, gradient norm {norm:g}"
                )
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(step, steps)
            optimizer.step()
            optimizer.zero_grad()
            say(step + 1, steps)
    model.eval()
    return losses


def accumulate(model: Any, examples: Sequence[Example], tokens: int = TOKENS_AT_ONCE) -> float:
    """Add the gradient of the mean loss per scored token of ``examples``; that loss.

    ``tokens`` bounds a forward pass and changes nothing else.
    """
    scored = sum(example.scored for example in examples)
    total = 0.0
    for group in grouped(examples, tokens):
        loss = summed_losses(model, [examples[i] for i in group]).sum() / scored
        loss.backward()
        total += loss.item()
    return total


def _order(examples: Sequence[Example], schedule: Schedule, seed: int) -> Iterator[list[Example]]:
    """The examples of each step, in a new order every epoch."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(schedule.epochs):
        for positions in torch.randperm(len(examples), generator=generator).split(schedule.batch_size):
            yield [examples[i] for i in positions.tolist()]


def _decayed(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; gains and biases do not, as in transformers' trainer."""
    matrices = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
