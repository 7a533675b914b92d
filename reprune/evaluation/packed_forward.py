"""Forward passes over laid-out blocks of tokens, without padding, where attention can be exchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from reprune.evaluation.packing import Block, Group, batches
from reprune.models.attention import attention_as

ATTENTION = "reprune_packed"
HARMLESS = {"position_ids", "use_cache", "output_attentions", "output_hidden_states", "output_router_logits"}


@dataclass
class Trunk:
    """Keys and values (1, key heads, tokens, head size) of a shared beginning, by attention module."""

    length: int
    layers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)


@dataclass
class _Segment:
    """One block's place in the packed line; ``allowed`` (nodes, nodes) is None where causal is right."""

    start: int
    end: int
    depths: Tensor
    allowed: Tensor | None


class Attention(Protocol):
    """What is put in the place of a model's attention while a forward pass runs."""

    def attend(
        self,
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float | None,
        window: int | None,
    ) -> Tensor:
        """(1, heads or key heads, tokens, size) in, (1, heads, tokens, value size) out."""


@dataclass
class _Pass:
    """Attention within each block and to the trunk."""

    segments: list[_Segment]
    trunk: Trunk | None
    keep: Trunk | None
    masks: dict[tuple[int, int | None], Tensor | None] = field(default_factory=dict)

    def attend(
        self,
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float | None,
        window: int | None,
    ) -> Tensor:
        if self.keep is not None:
            self.keep.layers[id(module)] = (key, value)
        key, value = _for_all_heads((key, value), query)
        trunk = _for_all_heads(self.trunk.layers[id(module)], query) if self.trunk else None
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        for number, segment in enumerate(self.segments):
            part = slice(segment.start, segment.end)
            keys, values = key[:, :, part], value[:, :, part]
            if trunk is not None:
                keys, values = torch.cat([trunk[0], keys], dim=2), torch.cat([trunk[1], values], dim=2)
            mask = self.mask(number, window, query.dtype)
            out[:, :, part] = scaled_dot_product_attention(
                query[:, :, part],
                keys,
                values,
                attn_mask=None if mask is None else mask.to(query.device),
                is_causal=mask is None,
                scale=scaling,
            )
        return out

    def mask(self, number: int, window: int | None, dtype: torch.dtype) -> Tensor | None:
        """The additive mask (nodes, trunk + nodes) of a segment, made once for all layers of a window."""
        key = (number, window)
        if key not in self.masks:
            self.masks[key] = self._mask(self.segments[number], window, dtype)
        return self.masks[key]

    def _mask(self, segment: _Segment, window: int | None, dtype: torch.dtype) -> Tensor | None:
        before = self.trunk.length if self.trunk else 0
        near = window is None or int(segment.depths.max()) < window
        if segment.allowed is None and not before and near:
            return None
        size = segment.end - segment.start
        own = segment.allowed
        if own is None:
            own = torch.ones(size, size, dtype=torch.bool).tril()
        allowed = torch.cat([torch.ones(size, before, dtype=torch.bool), own.cpu()], dim=1)
        if not near:
            places = torch.cat([torch.arange(before), segment.depths])
            allowed &= segment.depths[:, None] - places[None, :] < window
        return torch.zeros(allowed.shape, dtype=dtype).masked_fill_(~allowed, torch.finfo(dtype).min)


_RUNNING: list[Attention] = []


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Let the running pass attend; what models call in the place of their own attention.

    Takes (1, heads, tokens, size), gives (1, tokens, heads, size). Raises TypeError if the model asks for
    anything else, such as capped scores, sinks or a mask of its own.
    """
    unknown = [name for name, value in others.items() if value is not None and name not in HARMLESS]
    if unknown or attention_mask is not None or is_causal is False:
        raise TypeError(f"{type(module).__name__} asks attention for {', '.join(unknown) or 'its own mask'}")
    out = _RUNNING[-1].attend(module, query, key, value, scaling, sliding_window)
    return out.transpose(1, 2), None


def _for_all_heads(kept: tuple[Tensor, Tensor], query: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values repeated for the heads that share them."""
    groups = query.shape[1] // kept[0].shape[1]
    if groups == 1:
        return kept
    return kept[0].repeat_interleave(groups, dim=1), kept[1].repeat_interleave(groups, dim=1)


@contextmanager
def packed_attention(model: Any):
    """Exchange the model's attention for the packed one, and put the old one back afterwards."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, _attend)
    with attention_as(model, ATTENTION):
        yield


def passes(
    groups: Sequence[Group], limit: int, trunk_of: Callable[[Group], Trunk]
) -> Iterator[tuple[list[Block], Trunk | None]]:
    """(blocks, trunk) of every forward pass of at most ``limit`` tokens; trunks are made when needed."""
    alone = [block for group in groups if not group.trunk for block in group.blocks]
    for blocks in batches(alone, limit):
        yield blocks, None
    for group in (group for group in groups if group.trunk):
        trunk = trunk_of(group)
        for blocks in batches(group.blocks, limit):
            yield blocks, trunk


def packed_logits(
    model: Any, blocks: Sequence[Block], wanted: Sequence[int], trunk: Trunk | None, keep: Trunk | None
) -> Tensor:
    """Logits (len(wanted), vocabulary) after the nodes ``wanted``, counted through all blocks in turn.

    ``trunk`` holds what the blocks hang below, ``keep`` takes the keys and values of this pass.
    Must run inside :func:`packed_attention`.
    """
    tokens = [token for block in blocks for token in block.tokens]
    places = [depth for block in blocks for depth in block.depths]
    return line_logits(model, tokens, places, wanted, _Pass(_segments(blocks), trunk, keep))


@torch.inference_mode()
def line_logits(
    model: Any, tokens: Sequence[int], places: Sequence[int], wanted: Sequence[int], attention: Attention
) -> Tensor:
    """Logits (len(wanted), vocabulary) of a line of tokens at their ``places``, by an attention of one's own.

    Must run inside :func:`packed_attention`.
    """
    device = model.get_input_embeddings().weight.device
    _RUNNING.append(attention)
    try:
        return model(
            input_ids=torch.tensor([tokens], device=device),
            position_ids=torch.tensor([places], device=device),
            use_cache=False,
            logits_to_keep=torch.tensor(wanted, device=device),
        ).logits[0]
    finally:
        _RUNNING.pop()


def _segments(blocks: Sequence[Block]) -> list[_Segment]:
    segments, start = [], 0
    for block in blocks:
        end = start + len(block.tokens)
        depths = torch.tensor(block.depths)
        segments.append(_Segment(start, end, depths, None if block.chain else _ancestors(block)))
        start = end
    return segments


def _ancestors(block: Block) -> Tensor:
    """(nodes, nodes) whether the second node is the first or one of its ancestors."""
    allowed = torch.eye(len(block.tokens), dtype=torch.bool)
    for node, parent in enumerate(block.parents):
        if parent >= 0:
            allowed[node] |= allowed[parent]
    return allowed
