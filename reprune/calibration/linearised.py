"""A translation model as layer-wise relevance propagation (LRP) takes it: linear around what it computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from reprune.models.translation import attention_kinds


@contextmanager
def linearised(model: Any) -> Iterator[None]:
    """Let gradients take as constant what LRP does; outputs stay as they are, up to rounding.

    Constant are attention weights, the standard deviation in each layer norm (its mean is part of the linear
    map), and the ratio of every activation to its input. What is left is linear in all inputs and biases. So
    a neuron's value times the gradient of a logit is what the plain rule sends to it of that logit,
    R_u = Σ_v (w_uv u / v) R_v, where v contains its bias: biases keep their share, and values times
    gradients of inputs and biases add up to the logit.
    """
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if isinstance(module, nn.LayerNorm):
                stack.callback(module.register_forward_hook(_norm).remove)
            elif name.endswith("activation_fn"):
                stack.callback(module.register_forward_hook(_activation).remove)
        for attention in (module for layers in attention_kinds(model).values() for module in layers):
            for projection in ("q_proj", "k_proj"):  # attention weights are made of these alone
                if hasattr(attention, projection):
                    layer = getattr(attention, projection)
                    stack.callback(layer.register_forward_hook(_constant).remove)
        yield


def _norm(norm: nn.LayerNorm, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    (x,) = inputs
    scale = torch.rsqrt(x.var(-1, unbiased=False, keepdim=True) + norm.eps).detach()
    return (x - x.mean(-1, keepdim=True)) * scale * norm.weight + norm.bias


def _activation(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    (x,) = inputs
    return x * torch.where(x == 0, 0.0, output / x).detach()


def _constant(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    return output.detach()
