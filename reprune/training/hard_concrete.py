"""Gates that are 0, 1 or between with chances that gradients reach: the hard concrete distribution.

Louizos et al., "Learning Sparse Neural Networks through L0 Regularization" (arXiv 1712.01312), section 2.2,
as Sheared-LLaMA uses it (arXiv 2310.06694, section 2.1; official code ``llmshearing/models/l0_module.py``)
and, with test-time gates of their own, Voita et al. (arXiv 1905.09418, section 6.1).
A gate has a logit log α; gates stand in rows of equal size, the last dimension of every tensor here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from reprune.surgery.masks import lowest_per_row

LEAST, MOST = -0.1, 1.1  # the interval (γ, ζ) to which the concrete distribution is stretched
SMALL = 1e-6  # uniform draws and probabilities keep this distance from 0 and 1
TEMPERATURE = 2 / 3  # β of the official codes; Sheared-LLaMA's paper says 0.83
SHARPNESS = 0.8  # of settled gates: the official codes' ``magical_number``
BOUNDS = (math.log(1e-2), math.log(1e2))  # of log α: ±4.60517
MEAN, SPREAD = 5.0, 0.01  # of log α at the start, which the bounds then cut


def initial(shape: tuple[int, ...], generator: torch.Generator, mean: float = MEAN) -> Tensor:
    """log α at the start, normal around ``mean`` with standard deviation 0.01."""
    return mean + SPREAD * torch.randn(shape, generator=generator)


@torch.no_grad()
def bound(log_alpha: Tensor) -> None:
    """Bring log α back between its bounds, in place; the official codes do it before every forward pass."""
    log_alpha.clamp_(*BOUNDS)


def open_probability(log_alpha: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """P(gate > 0) of every gate, in log α's shape: the expected L0 norm is their sum."""
    shift = temperature * math.log(-LEAST / MOST)
    return torch.sigmoid(log_alpha - shift).clamp(SMALL, 1 - SMALL)


def fully_open_probability(log_alpha: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """P(gate = 1) of every gate, in log α's shape; those not closed either lie between."""
    shift = temperature * math.log(-LEAST / MOST)
    return torch.sigmoid(log_alpha + shift).clamp(SMALL, 1 - SMALL)


def hardened(log_alpha: Tensor) -> Tensor:
    """Which gates stay, booleans in log α's shape: those with P(gate = 1) > P(gate = 0), a tie is closed.

    Voita et al. (arXiv 1905.09418), section 6.1. The stretch is even on both sides, so this is log α > 0.
    """
    return log_alpha > 0


def undrawn(log_alpha: Tensor) -> Tensor:
    """Gates in [0, 1] without a draw or temperature: the stretched sigmoid of log α, in its shape.

    The test-time gates of Louizos et al., section 2.2, and of Voita et al.'s official code
    (``lib/layers/concrete_gate.py``), which counts a head as open where they are not 0: log α > −ln 11.
    """
    return (torch.sigmoid(log_alpha) * (MOST - LEAST) + LEAST).clamp(0, 1)


def uniform_draws(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draws for :func:`sampled`, uniform between 1e-6 and 1 − 1e-6."""
    return SMALL + (1 - 2 * SMALL) * torch.rand(shape, generator=generator)


def sampled(log_alpha: Tensor, uniform: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Gates in [0, 1] for ``uniform`` draws of log α's shape; gradients pass those strictly between."""
    concrete = torch.sigmoid((uniform.logit() + log_alpha) / temperature)
    return (concrete * (MOST - LEAST) + LEAST).clamp(0, 1)


def expected_kept(log_alpha: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """How many gates of each row are open by expectation, int64 in log α's shape without the last dimension.

    The size less the expected number of closed ones, rounded (official codes, ``_deterministic_z``).
    """
    size = log_alpha.shape[-1]
    return size - (size - open_probability(log_alpha, temperature).sum(-1)).round().long()


@torch.no_grad()
def settled(log_alpha: Tensor, kept: int | Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """The gates to evaluate and to export: ``kept`` of each row have a soft value, the lowest are exactly 0.

    ``kept`` is one number for all rows or a number for each, in log α's shape without the last dimension.
    A kept gate is sigmoid(0.8 log α / β), about 0.996 at the upper bound. Of equal logits the first go.
    """
    size = log_alpha.shape[-1]
    gone = torch.as_tensor(size - kept).expand(log_alpha.shape[:-1]).reshape(-1)
    closed = lowest_per_row(log_alpha.reshape(-1, size), gone).view_as(log_alpha)
    return torch.sigmoid(SHARPNESS * log_alpha / temperature).masked_fill(closed, 0.0)
