"""Perplexity over windows, with its standard error and every window's own value."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

CHUNK = 64  # positions whose logits are held at once
TOKENS_AT_ONCE = 512  # of short windows several share a pass: products over 128 tokens run at half speed
PROBE = 8  # tokens on which a plain head is recognised


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
    """Mean cross-entropy of each window's tokens 2…L given those before, in nats; logits in float32.

    At least ``batch_size`` windows share a pass.
    """
    logits_of = _chunked_logits if _head_is_plain(model, windows[:1, :PROBE]) else _whole_logits
    losses: list[float] = []
    for batch in windows.split(max(batch_size, TOKENS_AT_ONCE // windows.shape[1])):
        total = torch.zeros(len(batch), dtype=torch.float64)
        for first, logits in logits_of(model, batch):
            targets = batch[:, first + 1 : first + 1 + logits.shape[1]]
            kept = logits[:, : targets.shape[1]].float()
            loss = functional.cross_entropy(kept.flatten(0, 1), targets.flatten(), reduction="none")
            total += loss.view_as(targets).double().sum(dim=1)
        losses += (total / (batch.shape[1] - 1)).tolist()
        say(len(losses), len(windows))
    return losses


def _whole_logits(model: Any, batch: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """The logits of all positions at once, from position 0."""
    yield 0, model(input_ids=batch, use_cache=False).logits


def _chunked_logits(model: Any, batch: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """The same logits, some positions at a time, each with the position it starts at.

    A window's logits over 49,152 words are 100 MB, three times: fresh pages for them cost a tenth of the
    evaluation's time.
    """
    hidden = model.get_decoder()(input_ids=batch, use_cache=False).last_hidden_state
    positions = max(1, CHUNK // len(batch))
    for first in range(0, batch.shape[1], positions):
        yield first, model.get_output_embeddings()(hidden[:, first : first + positions])


def _head_is_plain(model: Any, probe: torch.Tensor) -> bool:
    """Whether the model's logits are its head applied to its last hidden state, and nothing more."""
    logits = model(input_ids=probe, use_cache=False).logits
    hidden = model.get_decoder()(input_ids=probe, use_cache=False).last_hidden_state
    return torch.equal(logits, model.get_output_embeddings()(hidden))


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
