"""One decoder block with its calibration inputs, as a block method sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from reprune.calibration.statistics import InputStatistic, collect_statistics
from reprune.models.skeleton import hidden_state


@dataclass
class Block:
    """A decoder block, its prunable linear layers and its inputs.

    ``inputs`` and ``dense_inputs`` have shape (windows, length, hidden size): the block's inputs along
    the pruned path (earlier blocks compressed) and the dense path; the latter is None unless the
    method asked for it. ``linears`` maps the layer's name inside the block to the module. The
    generator is seeded from the run's identity and the block's index. ``report`` takes one line of
    facts per layer that the method wants to be recorded.
    """

    index: int
    module: nn.Module
    linears: dict[str, nn.Linear]
    inputs: torch.Tensor | None
    dense_inputs: torch.Tensor | None
    arguments: dict[str, Any]
    generator: torch.Generator
    batch_size: int = 1
    progress: Callable[[float], None] = lambda fraction: None
    report: dict[str, dict[str, float]] = field(default_factory=dict)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """The block's output for a batch of inputs, both (batch, length, hidden size)."""
        return hidden_state(self.module(inputs, **self.arguments))

    def batches(self, inputs: torch.Tensor) -> Iterator[torch.Tensor]:
        """``inputs`` in their order, ``batch_size`` windows at a time."""
        yield from inputs.split(self.batch_size)

    @torch.no_grad()
    def outputs(self, inputs: torch.Tensor) -> torch.Tensor:
        """The block's output for all windows, of the same shape as ``inputs``."""
        result = torch.empty_like(inputs)
        for source, place in zip(self.batches(inputs), result.split(self.batch_size), strict=True):
            place.copy_(self.forward(source))
        return result

    def statistics(self, make: Callable[[int], InputStatistic]) -> dict[str, InputStatistic]:
        """Statistics of every linear layer's inputs, from one pass of the present block on ``inputs``.

        ``make(in_features)`` builds an empty statistic. Layers that read the same tensor (query, key
        and value; gate and up) share one object. The pass ends at the input of the last layer, whose
        output no statistic needs.
        """
        return collect_statistics(self, make)
