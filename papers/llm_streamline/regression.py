"""Training one block to map given states to others: LLM-Streamline's layer replacement."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reprune.calibration.block import Block
from reprune.models.parts import FeedForwardBlock

CLIP = 5.0  # greatest norm of the gradient (official code, train_lightweightnetwork.py)
LEAST_RATE = 0.25  # of the highest learning rate, where the cosine ends (official: 2e-4 to 5e-5)
HELD_OUT = 8  # every eighth window only measures the error


@dataclass(frozen=True)
class Schedule:
    """How long to train by AdamW and how fast; ``batch_size`` windows make a step."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float


def new_feed_forward(
    hidden_size: int, intermediate_size: int, dropout: float, generator: torch.Generator
) -> FeedForwardBlock:
    """A feed-forward block that does nothing yet: ``up`` is random as ever, ``down`` zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_seed(generator))
        block = FeedForwardBlock(hidden_size, intermediate_size, dropout)
    nn.init.zeros_(block.down.weight)
    nn.init.zeros_(block.down.bias)
    return block.eval().requires_grad_(False)


def fit(block: Block, targets: Tensor, schedule: Schedule, progress: Callable[[float], None]) -> list[float]:
    """Train ``block.module`` to map ``block.inputs`` to ``targets``, both (windows, length, hidden size).

    The learning rate falls along a cosine over all steps. Of the states before training and after each epoch
    the one with the least mean squared error on the windows held out is kept; returns these errors.
    Raises ValueError if there is but one window.
    """
    if len(targets) < 2:
        raise ValueError("training needs a second calibration window to measure its error on")
    module, held = block.module, torch.arange(len(targets)) % HELD_OUT == 0
    rows = (~held).nonzero().flatten()
    steps = schedule.epochs * len(rows.split(schedule.batch_size))
    optimiser = torch.optim.AdamW(
        module.requires_grad_(True).parameters(), schedule.learning_rate, weight_decay=schedule.weight_decay
    )
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimiser, max(steps, 1), LEAST_RATE * schedule.learning_rate
    )
    errors, best = [error(block, targets, held)], copy.deepcopy(module.state_dict())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_seed(block.generator))  # of dropout
        for epoch in range(schedule.epochs):
            for chosen in rows[torch.randperm(len(rows))].split(schedule.batch_size):
                _step(block, targets, chosen, optimiser)
                rates.step()
            errors.append(error(block, targets, held))
            if errors[-1] == min(errors):
                best = copy.deepcopy(module.state_dict())
            progress((epoch + 1) / schedule.epochs)
    module.load_state_dict(best)
    module.requires_grad_(False)
    return errors


def _step(block: Block, targets: Tensor, chosen: Tensor, optimiser: torch.optim.Optimizer) -> None:
    block.module.train()
    optimiser.zero_grad()
    F.mse_loss(block.forward(block.inputs[chosen]), targets[chosen]).backward()
    nn.utils.clip_grad_norm_(block.module.parameters(), CLIP)
    optimiser.step()
    block.module.eval()


def error(block: Block, targets: Tensor, rows: Tensor) -> float:
    """Mean squared error of the block's outputs for the windows ``rows``."""
    return F.mse_loss(block.outputs(block.inputs[rows]), targets[rows]).item()


def _seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=generator))
