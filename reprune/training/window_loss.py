"""The loss of windows of text, (windows, length): cross-entropy of all their tokens but the first of each."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

TOKENS_AT_ONCE = 512  # of one forward pass


@torch.inference_mode()
def held_out_losses(model: Any, held_out: Mapping[str, Tensor], dtype: str = "float32") -> dict[str, float]:
    """The mean loss of each domain's windows, (windows, length), nats per token."""
    losses = {}
    for domain, windows in held_out.items():
        parts = (summed_loss(model, part, dtype).item() for part in passes(windows))
        losses[domain] = math.fsum(parts) / scored(windows)
    return losses


def summed_loss(model: Any, windows: Tensor, dtype: str) -> Tensor:
    """Cross-entropy in nats, summed over all tokens of ``windows``, (windows, length), but the first of each.

    A causal model needs the last token of a window for nothing, so it does not see it.
    """
    with torch.autocast(windows.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
        logits = model(input_ids=windows[:, :-1], use_cache=False).logits
    return functional.cross_entropy(logits.float().flatten(0, 1), windows[:, 1:].flatten(), reduction="sum")


def passes(windows: Tensor) -> tuple[Tensor, ...]:
    """The windows of each forward pass: of short ones several share one, which changes rounding alone."""
    return windows.split(max(1, TOKENS_AT_ONCE // windows.shape[1]))


def scored(windows: Tensor) -> int:
    """How many tokens of ``windows`` count in a loss."""
    return len(windows) * (windows.shape[1] - 1)
