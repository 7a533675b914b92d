"""Gradients of the language-model loss with respect to weights, one forward-backward pass in all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from reprune.calibration.subject import Subject

TOKENS_AT_ONCE = 512  # a batch's activations and logits are held, at 49k words about a megabyte a token


def weight_gradients(
    subject: Subject,
    layers: dict[str, nn.Linear],
    update: Callable[[str, torch.Tensor], None],
    shift: int = 1,
    windows_at_once: int | None = None,
) -> float:
    """:func:`gradients` of the layers' weights, (outputs, inputs), without their biases."""
    return gradients(
        subject, {n: layer.weight for n, layer in layers.items()}, update, shift, windows_at_once
    )


def gradients(
    subject: Subject,
    parameters: dict[str, nn.Parameter],
    update: Callable[[str, torch.Tensor], None],
    shift: int = 1,
    windows_at_once: int | None = None,
) -> float:
    """Call ``update(name, gradient)`` for each parameter and batch of the calibration; returns the mean loss.

    The gradients of all batches, shaped as their parameters, add up to dL/dW, L the mean over windows of the
    mean cross-entropy of tokens ``shift`` places ahead, whatever the batches are: ``windows_at_once`` matters
    only to who looks at each. A gradient is freed as soon as ``update`` returns, so memory holds one batch's
    activations and what ``update`` keeps; nothing is computed below the first of ``parameters``.
    """
    hooks = []
    for name, parameter in parameters.items():
        parameter.requires_grad_(True)
        hooks.append(parameter.register_post_accumulate_grad_hook(_taker(name, update)))
    windows = subject.windows
    total = done = 0.0
    try:
        for batch in windows.split(windows_at_once or max(1, TOKENS_AT_ONCE // windows.shape[1])):
            loss = token_loss(subject.model, batch, shift) * (len(batch) / len(windows))
            loss.backward()
            total += loss.item()
            done += len(batch) / len(windows)
            subject.progress(done)
    finally:
        for hook in hooks:
            hook.remove()
        for parameter in parameters.values():
            parameter.requires_grad_(False)
    return total


def _taker(name: str, update: Callable[[str, torch.Tensor], None]) -> Callable[[torch.Tensor], None]:
    def take(weight: torch.Tensor) -> None:
        gradient, weight.grad = weight.grad, None
        with torch.no_grad():
            update(name, gradient)

    return take


def token_loss(model: Any, tokens: torch.Tensor, shift: int = 1) -> torch.Tensor:
    """Mean cross-entropy of the tokens ``shift`` places ahead, over (windows, length) tokens."""
    logits = model(input_ids=tokens, use_cache=False).logits[:, :-shift]
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, shift:].flatten())
