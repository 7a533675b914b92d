"""Perplexity over windows, with its standard error and every window's own value."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional


@dataclass(frozen=True)
class Perplexity:
    """exp of the mean over windows of the mean loss; ``stderr`` by the delta method over windows.

    ``losses`` are nats per predicted token, one number per window.
    """

    value: float
    stderr: float
    losses: list[float]


@torch.inference_mode()
def window_losses(
    model: Any,
    windows: torch.Tensor,
    batch_size: int,
    say: Callable[[int, int], None] = lambda done, total: None,
) -> list[float]:
    """Mean cross-entropy of each window's tokens 2…L given those before, in nats; logits in float32."""
    losses: list[float] = []
    for batch in windows.split(batch_size):
        logits = model(input_ids=batch, use_cache=False).logits
        for row, tokens in zip(logits, batch, strict=True):
            losses.append(functional.cross_entropy(row[:-1].float(), tokens[1:]).item())
        say(len(losses), len(windows))
    return losses


def summarise(losses: list[float]) -> Perplexity:
    """Perplexity of window losses (BESA, Wanda and SparseGPT codes: mean over windows, then exp).

    Not finite if a loss is not: divergence is a result, the caller records it as such.
    """
    mean = math.fsum(losses) / len(losses)
    if not math.isfinite(mean) or mean > 700:
        return Perplexity(math.inf, math.nan, losses)
    value = math.exp(mean)
    if len(losses) == 1:
        return Perplexity(value, math.nan, losses)
    variance = math.fsum((loss - mean) ** 2 for loss in losses) / (len(losses) - 1)
    return Perplexity(value, value * math.sqrt(variance / len(losses)), losses)
