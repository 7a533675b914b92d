"""What a training on a mixture of domains is told: its course, its loading, and what is trained along."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from reprune.training.loading import updated


@dataclass(frozen=True)
class Course:
    """How long to train and how fast.

    ``batch_size`` windows make a step. ``warmup`` counts steps; below 1 it is their share of all. ``final``
    is the share of the learning rate that the cosine ends at. ``dtype`` is that of forward passes,
    ``float32`` or ``bfloat16`` by autocast; weights, moments and losses are float32 in any case.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup: float
    evaluate_every: int
    final: float = 0.1
    weight_decay: float = 0.0
    dtype: str = "float32"

    def share(self, step: int) -> float:
        """The share of its highest rate that every group has at step 0, 1, …; the first is not lost to 0."""
        warmup = self.warmup if self.warmup >= 1 else round(self.warmup * self.steps)
        if step < warmup:
            return (step + 1) / warmup
        falling = (1 + math.cos(math.pi * (step - warmup) / (self.steps - warmup))) / 2
        return self.final + (1 - self.final) * falling

    def rate(self, step: int) -> float:
        """The learning rate of the weights at a step."""
        return self.learning_rate * self.share(step)

    def evaluates(self, step: int) -> bool:
        """Whether the held-out loss is measured after so many steps: at the start, at times, at the end."""
        return step % self.evaluate_every == 0 or step == self.steps


@dataclass(frozen=True)
class Loading:
    """How domains' weights go on: ``constant``, or ``dynamic`` by :func:`reprune.training.loading.updated`.

    ``references`` are the losses to reach, nats per token by domain; only dynamic loading reads them.
    """

    kind: str
    references: Mapping[str, float] = field(default_factory=dict)
    clipped: bool = True
    floor: float = 0.0

    def after(self, weights: dict[str, float], losses: Mapping[str, float]) -> dict[str, float]:
        """The weights that follow a measurement of the held-out losses."""
        if self.kind == "constant":
            return weights
        return updated(weights, losses, self.references, clipped=self.clipped, floor=self.floor)


class Partner:
    """What is trained along with the weights, such as masks; this one is nothing.

    Its parameters are kept and resumed with the weights, ``state`` is for what else it draws from.
    """

    def groups(self) -> list[dict[str, Any]]:
        """Optimiser groups, each with its own ``lr``, the highest it gets, and ``maximize`` for an ascent."""
        return []

    def prepare(self, step: int) -> Tensor:
        """Make the model ready for the forward passes of a step; what is added to its loss, once."""
        return torch.zeros(())

    def settled(self) -> AbstractContextManager[None]:
        """The model as it is measured, while the context lasts."""
        return nullcontext()

    def told(self) -> dict[str, Any]:
        """Facts for the history at a measurement, as JSON; asked for while the model is settled."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """What is needed to go on beside the parameters of its groups."""
        return {}

    def resume(self, state: dict[str, Tensor]) -> None:
        """Go on from a :meth:`state`."""
