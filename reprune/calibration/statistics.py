"""Statistics of the inputs of linear layers, gathered while a block runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import torch
from torch import nn

if TYPE_CHECKING:
    from reprune.calibration.block import Block


class InputStatistic(Protocol):
    """What a statistic is: it takes batches of shape (windows, length, features)."""

    def update(self, inputs: torch.Tensor) -> None: ...


class SquaredNorms:
    """Mean over windows of the sum over tokens of x_j², per input feature, in float32.

    Wanda's running statistic (official code, ``lib/layerwrapper.py``): its square root is the norm
    ‖X_j‖₂ up to the factor 1/√windows, which does not change any ranking.
    """

    def __init__(self, features: int) -> None:
        self.mean = torch.zeros(features)
        self.windows = 0

    def update(self, inputs: torch.Tensor) -> None:
        sums = (
            inputs.float().square().sum(dim=(0, 1))
            if inputs.dim() == 3
            else inputs.float().square().sum(dim=0)
        )
        windows = inputs.shape[0] if inputs.dim() == 3 else 1
        self.mean *= self.windows / (self.windows + windows)
        self.windows += windows
        self.mean += sums / self.windows

    @property
    def norms(self) -> torch.Tensor:
        """(features,) √mean, the activation norm of Wanda's score."""
        return self.mean.sqrt()


class SecondMoment:
    """Running mean H = (2/windows) Σ XᵀX over windows, (features, features), float32.

    SparseGPT's Hessian as its official code accumulates it (``sparsegpt.py: add_batch``).
    """

    def __init__(self, features: int) -> None:
        self.hessian = torch.zeros(features, features)
        self.windows = 0

    def update(self, inputs: torch.Tensor) -> None:
        windows = inputs.shape[0] if inputs.dim() == 3 else 1
        rows = inputs.reshape(-1, inputs.shape[-1]).float()
        self.hessian *= self.windows / (self.windows + windows)
        self.windows += windows
        self.hessian.addmm_(rows.T, rows, alpha=2 / self.windows)


class Gram:
    """XᵀX summed over tokens, (features, features), float32 (SVD-LLM's official code)."""

    def __init__(self, features: int) -> None:
        self.sum = torch.zeros(features, features)

    def update(self, inputs: torch.Tensor) -> None:
        rows = inputs.reshape(-1, inputs.shape[-1]).float()
        self.sum.addmm_(rows.T, rows)


class AbsoluteMean:
    """Mean over tokens of |x_j|, (features,), float32."""

    def __init__(self, features: int) -> None:
        self.sum = torch.zeros(features)
        self.tokens = 0

    def update(self, inputs: torch.Tensor) -> None:
        rows = inputs.reshape(-1, inputs.shape[-1]).float()
        self.sum += rows.abs().sum(dim=0)
        self.tokens += len(rows)

    @property
    def value(self) -> torch.Tensor:
        return self.sum / self.tokens


class AbsoluteMaximum:
    """Largest |x_j| of all tokens, (features,), float32."""

    def __init__(self, features: int) -> None:
        self.value = torch.zeros(features)

    def update(self, inputs: torch.Tensor) -> None:
        largest = inputs.reshape(-1, inputs.shape[-1]).float().abs().amax(dim=0)
        self.value = torch.maximum(self.value, largest)


class _LastInputSeen(Exception):
    """Ends a pass that is run only for its statistics."""


@torch.no_grad()
def collect_statistics(block: Block, make: Callable[[int], InputStatistic]) -> dict[str, InputStatistic]:
    """See :meth:`reprune.calibration.block.Block.statistics`."""
    leaders, last = _shared_inputs(block)
    found = {name: make(block.linears[name].in_features) for name in set(leaders.values())}
    hooks = []
    for name, statistic in found.items():
        hooks.append(
            block.linears[name].register_forward_pre_hook(
                lambda _, args, statistic=statistic: statistic.update(args[0])
            )
        )
    hooks.append(block.linears[last].register_forward_pre_hook(_stop))
    try:
        for batch in block.batches(block.inputs):
            try:
                block.forward(batch)
            except _LastInputSeen:
                continue
    finally:
        for hook in hooks:
            hook.remove()
    return {name: found[leader] for name, leader in leaders.items()}


def _stop(module: nn.Module, args: tuple) -> None:
    raise _LastInputSeen


def _shared_inputs(block: Block) -> tuple[dict[str, str], str]:
    """Which layer first receives the tensor each layer reads, and which layer is called last."""
    seen: list[tuple[torch.Tensor, str]] = []
    leaders: dict[str, str] = {}

    def note(name: str) -> Callable:
        def hook(_: nn.Module, args: tuple) -> None:
            leader = next((n for x, n in seen if x is args[0]), name)
            leaders.pop(name, None)
            leaders[name] = leader
            seen.append((args[0], name))

        return hook

    hooks = [module.register_forward_pre_hook(note(name)) for name, module in block.linears.items()]
    try:
        block.forward(block.inputs[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return leaders, next(reversed(leaders))
