"""Gates on the heads of a translation model, and their removal.

Voita et al., "Analyzing Multi-Head Self-Attention" (arXiv 1905.09418), section 6.1: one scalar multiplies
what a head gives before all heads are projected together, the same for all sentences and positions.
A pattern of heads is ``{kind: rows}`` by :data:`reprune.models.translation.KINDS`; a row has one entry for
each head that the layer has now. Where all layers have as many, the rows may be a tensor (layers, heads).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from reprune.models.checkpoint import note_shapes
from reprune.models.parts import NoAttention, NoSelfAttention, put
from reprune.models.translation import attention_kinds

Rows = Mapping[str, Sequence[Tensor] | Tensor]
"""Values of heads by kind of attention, in rows by layer."""


def retained_heads(model: Any) -> dict[str, list[int]]:
    """How many heads each layer has, by kind of attention."""
    return {
        kind: [getattr(attention, "num_heads", 0) for attention in layers]
        for kind, layers in attention_kinds(model).items()
    }


class HeadGates:
    """The places for gates on the heads of ``model``, those of ``kinds`` of attention.

    ``heads`` are how many each layer has, by kind. Gates of exactly 1 leave every output as it is.
    """

    def __init__(self, model: Any, kinds: Sequence[str] = ("encoder",)) -> None:
        self.heads = {kind: retained_heads(model)[kind] for kind in kinds}
        self._layers = {kind: attention_kinds(model)[kind] for kind in kinds}
        self._applied = ExitStack()

    def put(self, values: Rows) -> None:
        """Let the model run with gates, instead of those it may have, until :meth:`release`.

        Every forward pass builds its own graph down to the given tensors. Kinds that ``values`` lacks have no
        gates. Raises ValueError for gates that are not the model's.
        """
        _require(values, self.heads)
        self.release()
        for kind, rows in values.items():
            for attention, row in zip(self._layers[kind], rows, strict=True):
                if len(row):
                    hook = attention.out_proj.register_forward_pre_hook(_multiply(row))
                    self._applied.callback(hook.remove)

    def release(self) -> None:
        """Take the gates off the model."""
        self._applied.close()

    @contextmanager
    def applied(self, values: Rows) -> Iterator[None]:
        """Let the model run with gates while the context lasts; see :meth:`put`."""
        self.put(values)
        try:
            yield
        finally:
            self.release()


def _multiply(row: Tensor) -> Callable[[nn.Module, tuple[Tensor]], tuple[Tensor]]:
    def multiply(_: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        """(…, heads · head size) times a gate for each head; autocast's dtype stays."""
        heads = inputs[0].unflatten(-1, (len(row), -1))
        return ((heads * row.to(heads).unsqueeze(-1)).flatten(-2),)

    return multiply


@torch.no_grad()
def remove_heads(model: Any, kept: Rows) -> None:
    """Cut heads out of the projections of their layers where ``kept`` is False; what was cut is frozen.

    Outputs are those with gates of 0. A layer without heads becomes a part that writes the bias of its output
    projection. Kinds that ``kept`` lacks stay whole. Raises ValueError for a pattern that is not the model's.
    """
    _require(kept, retained_heads(model))
    layers = attention_kinds(model)
    names = {module: name for name, module in model.named_modules()}
    for kind, rows in kept.items():
        for attention, row in zip(layers[kind], rows, strict=True):
            if row.all():  # also a row of no heads
                continue
            if row.any():
                _cut(attention, row)
            else:
                put(model, names[attention], _emptied(attention, kind))
    note_shapes(model)


def _require(rows: Rows, heads: Mapping[str, list[int]]) -> None:
    for kind, own in rows.items():
        if kind not in heads:
            raise ValueError(f"there are no heads '{kind}', only {', '.join(heads)}")
        found = [len(row) for row in own]
        if found != heads[kind]:
            raise ValueError(f"heads '{kind}': {found} given, the model has {heads[kind]}")


def _cut(attention: nn.Module, row: Tensor) -> None:
    features = row.repeat_interleave(attention.head_dim).nonzero().flatten()
    projections = [attention.q_proj, attention.k_proj, attention.v_proj]
    pieces = [(part, name, 0) for part in projections for name, _ in part.named_parameters()]
    for part, name, dimension in [*pieces, (attention.out_proj, "weight", 1)]:
        old = getattr(part, name)
        cut = old.index_select(dimension, features.to(old.device))
        setattr(part, name, nn.Parameter(cut, requires_grad=False))


def _emptied(attention: nn.Module, kind: str) -> NoAttention:
    bias = attention.out_proj.bias
    size, biased = attention.out_proj.out_features, bias is not None
    if kind == "decoder":
        part = NoSelfAttention(size, biased, attention.layer_idx)
    else:
        part = NoAttention(size, biased)
    if biased:
        part.bias.copy_(bias)
    return part.requires_grad_(False).train(attention.training)
