"""Parts that stand in compressed models where a dense one has a plain layer or block.

A checkpoint describes its parts in ``reprune.json``; :mod:`reprune.models.checkpoint` builds them again.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from reprune.models.sliced import PlainRMSNorm, SlicedBlock


def empty_linear(in_features: int, out_features: int, bias: bool) -> nn.Linear:
    """A linear layer whose weights are to be given: it draws none, so no global random state moves."""
    return nn.utils.skip_init(nn.Linear, in_features, out_features, bias=bias)


class LowRank(nn.Module):
    """A linear layer as two factors: y = up(down(x)), the bias on ``up``.

    ``down.weight`` is (rank, inputs), ``up.weight`` (outputs, rank): rank·(inputs + outputs) weights.
    """

    kind: ClassVar[str] = "low_rank"

    def __init__(self, in_features: int, out_features: int, rank: int, bias: bool) -> None:
        super().__init__()
        self.in_features, self.out_features, self.rank = in_features, out_features, rank
        self.down = empty_linear(in_features, rank, bias=False)
        self.up = empty_linear(rank, out_features, bias=bias)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(…, inputs) to (…, outputs)."""
        return self.up(self.down(inputs))

    def spec(self) -> dict[str, Any]:
        """What :meth:`rebuild` needs besides the weights."""
        bias = self.up.bias is not None
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "rank": self.rank,
            "bias": bias,
        }

    @classmethod
    def rebuild(cls, spec: dict[str, Any], old: nn.Module) -> LowRank:
        """The part with empty weights; ``old`` is the layer it stands for."""
        return cls(**spec)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The dense layer with the same output, (outputs, inputs) weights."""
        dense = empty_linear(self.in_features, self.out_features, bias=self.up.bias is not None)
        dense.weight.copy_(self.up.weight @ self.down.weight)
        if self.up.bias is not None:
            dense.bias.copy_(self.up.bias)
        return dense.requires_grad_(False)


class FeedForwardBlock(nn.Module):
    """Stands for decoder blocks: x + down(dropout(relu(up(norm(x))))), without attention or cache.

    LLM-Streamline's feed-forward network as GRASP runs it (``baseline/run_LLMStreamline.py``): ``norm`` is a
    LayerNorm, ``up.weight`` (inner, hidden) without a bias, ``down.weight`` (hidden, inner) with one. Dropout
    acts in training mode only.
    """

    kind: ClassVar[str] = "feed_forward_block"

    def __init__(self, hidden_size: int, intermediate_size: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden_size)
        self.up = nn.Linear(hidden_size, intermediate_size, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.down = nn.Linear(intermediate_size, hidden_size)

    def forward(self, hidden_states: torch.Tensor, **arguments: Any) -> torch.Tensor:
        """(windows, length, hidden size) to the same shape; a block's other arguments are of no use here."""
        inner = torch.relu(self.up(self.norm(hidden_states)))
        return hidden_states + self.down(self.dropout(inner))

    def spec(self) -> dict[str, Any]:
        """What :meth:`rebuild` needs besides the weights."""
        return {
            "hidden_size": self.up.in_features,
            "intermediate_size": self.up.out_features,
            "dropout": self.dropout.p,
        }

    @classmethod
    def rebuild(cls, spec: dict[str, Any], old: nn.Module) -> FeedForwardBlock:
        """The block with empty weights; ``old`` is the decoder block whose place it takes."""
        return cls(**spec)


class NoAttention(nn.Module):
    """Stands for attention with no head left: it writes its ``bias`` into the hidden state, or nothing."""

    kind: ClassVar[str] = "no_attention"

    def __init__(self, hidden_size: int, bias: bool) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.bias = nn.Parameter(torch.empty(hidden_size)) if bias else None

    def forward(
        self, hidden_states: torch.Tensor, *others: Any, **arguments: Any
    ) -> tuple[torch.Tensor, None]:
        """(windows, length, hidden size) to the same shape, and no attention weights."""
        nothing = torch.zeros_like(hidden_states)
        return (nothing if self.bias is None else nothing + self.bias), None

    def spec(self) -> dict[str, Any]:
        """What :meth:`rebuild` needs besides the weights."""
        return {"hidden_size": self.hidden_size, "bias": self.bias is not None}

    @classmethod
    def rebuild(cls, spec: dict[str, Any], old: nn.Module) -> NoAttention:
        """The part with empty weights; ``old`` is the attention that it stands for."""
        return cls(**spec)


class NoSelfAttention(NoAttention):
    """The same in a decoder with attention to an encoder, where it keeps its place in the key-value cache.

    Such a decoder asks the place ``layer_idx`` 0 how many tokens the cache holds, also if no block has heads
    for its own tokens any more. So one number that means nothing stands there for each token.
    """

    kind: ClassVar[str] = "no_self_attention"

    def __init__(self, hidden_size: int, bias: bool, layer_idx: int) -> None:
        super().__init__(hidden_size, bias)
        self.layer_idx = layer_idx

    def forward(
        self, hidden_states: torch.Tensor, *others: Any, past_key_values: Any = None, **arguments: Any
    ) -> tuple[torch.Tensor, None]:
        """(sentences, length, hidden size) to the same shape, and no attention weights."""
        if past_key_values is not None:
            counted = hidden_states.new_zeros(len(hidden_states), 1, hidden_states.shape[1], 1)
            past_key_values.self_attention_cache.update(counted, counted, self.layer_idx)
        return super().forward(hidden_states)

    def spec(self) -> dict[str, Any]:
        """What :meth:`rebuild` needs besides the weights."""
        return {**super().spec(), "layer_idx": self.layer_idx}


PARTS: dict[str, Any] = {
    part.kind: part
    for part in (LowRank, FeedForwardBlock, NoAttention, NoSelfAttention, SlicedBlock, PlainRMSNorm)
}


def put(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put ``module`` in the place called ``name``."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
