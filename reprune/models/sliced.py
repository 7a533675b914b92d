"""Decoder blocks whose hidden state is narrower than the model's (SliceGPT, arXiv 2401.15024).

Each half of such a block works in a basis of its own, so a matrix on the residual path leads from one to the
next, and its norms have no gain, which would not commute with a change of basis.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.utils import skip_init


class PlainRMSNorm(nn.Module):
    """x / √(Σ x² / features + eps), without a gain.

    ``features`` is the width of the state before it was sliced: what was cut off counts as zeros (official
    code, ``modules.py: RMSN``). No parameters.
    """

    kind: ClassVar[str] = "plain_rms_norm"

    def __init__(self, features: int, eps: float) -> None:
        super().__init__()
        self.features, self.eps = features, eps

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(…, at most ``features``) to the same shape; computed in float32, as transformers' norms."""
        wide = inputs.float()
        mean = wide.square().sum(dim=-1, keepdim=True) / self.features
        return (wide * torch.rsqrt(mean + self.eps)).to(inputs.dtype)

    def spec(self) -> dict[str, Any]:
        """What :meth:`rebuild` needs; there are no weights."""
        return {"features": self.features, "eps": self.eps}

    @classmethod
    def rebuild(cls, spec: dict[str, Any], old: nn.Module) -> PlainRMSNorm:
        """The norm again; ``old`` is the one with gains that it stands for."""
        return cls(**spec)


class SlicedBlock(nn.Module):
    """A pre-norm decoder block with a matrix on each half of its residual path.

    It takes over the four children of ``old``, a block wired as Llama's, under their names;
    ``attn_shortcut`` and ``mlp_shortcut`` lead the residual from ``inputs`` to ``middle`` to ``outputs``
    features, their weights yet to be set.
    """

    kind: ClassVar[str] = "sliced_block"

    def __init__(self, old: nn.Module, inputs: int, middle: int, outputs: int) -> None:
        super().__init__()
        self.input_layernorm = old.input_layernorm
        self.self_attn = old.self_attn
        self.post_attention_layernorm = old.post_attention_layernorm
        self.mlp = old.mlp
        self.attn_shortcut = skip_init(nn.Linear, inputs, middle, bias=False)
        self.mlp_shortcut = skip_init(nn.Linear, middle, outputs, bias=False)

    def forward(self, hidden_states: torch.Tensor, **arguments: Any) -> torch.Tensor:
        """(windows, length, ``inputs``) to (windows, length, ``outputs``)."""
        return self.feed_forward(self.attend(hidden_states, **arguments))

    def attend(self, hidden_states: torch.Tensor, **arguments: Any) -> torch.Tensor:
        """x S + attention(norm(x)): (windows, length, ``inputs``) to (windows, length, ``middle``)."""
        attended, _ = self.self_attn(hidden_states=self.input_layernorm(hidden_states), **arguments)
        return self.attn_shortcut(hidden_states) + attended

    def feed_forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """x S + mlp(norm(x)): (windows, length, ``middle``) to (windows, length, ``outputs``)."""
        return self.mlp_shortcut(hidden_states) + self.mlp(self.post_attention_layernorm(hidden_states))

    def spec(self) -> dict[str, Any]:
        """What :meth:`rebuild` needs besides the weights and the parts inside, which follow by themselves."""
        return {
            "inputs": self.attn_shortcut.in_features,
            "middle": self.attn_shortcut.out_features,
            "outputs": self.mlp_shortcut.out_features,
        }

    @classmethod
    def rebuild(cls, spec: dict[str, Any], old: nn.Module) -> SlicedBlock:
        """The block with empty weights, around the children of ``old``, the dense block it stands for."""
        return cls(old, **spec)
