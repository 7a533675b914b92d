"""Gates on the structures of a language model: multiplied in while it runs, or folded into its weights.

Sheared-LLaMA (Xia et al., arXiv 2310.06694), section 2.1; official code ``llmshearing/models/l0_module.py``
and ``composer_llama.py``. Heads and intermediate channels are multiplied where the layer that joins them
reads them; blocks, their halves and hidden channels where a half writes into the hidden state; hidden
channels where a norm gives them as well. A norm takes its mean square over the channels whose gate is not
exactly 0, as the narrower model does. Neither embedding nor output head is multiplied, while running or when
folding.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from reprune.models.checkpoint import note_shape, tell_sizes
from reprune.models.parts import NoAttention, put
from reprune.models.skeleton import find_blocks, first_inputs, hidden_state
from reprune.surgery.coupling import NotTraceable, families
from reprune.surgery.halves import ATTENTION, MLP, UNITS, Half, Values, halves, hidden_channels
from reprune.surgery.layers import drop_blocks
from reprune.surgery.widths import features_of, remove

TINY = 1e-4  # rounding in the difference of two hidden states


class Gates:
    """The places for gates in ``model``.

    ``layers`` and ``hidden`` are how many blocks and hidden channels there are; ``heads`` (key-value heads
    with the query heads that read them) and ``intermediate`` how many units each block has.
    Raises :class:`~reprune.surgery.coupling.NotTraceable` for a model that cannot be taken apart so, or whose
    blocks pass what they write through a norm.
    """

    def __init__(self, model: Any) -> None:
        found = families(model)
        self.model, self.halves, self._channels = model, halves(found), hidden_channels(found)
        self.layers, self.hidden = len(find_blocks(model)[1]), self._channels.units
        self.heads, self.intermediate = self._counts(ATTENTION), self._counts(MLP)
        shared = [model.get_submodule(place.layer) for place in self._channels.members]
        self._norms = [module for module in shared if not isinstance(module, nn.Linear | nn.Embedding)]
        by_type = {type(norm): norm for norm in self._norms}
        self._inexact = [kind.__name__ for kind, norm in by_type.items() if not _narrows(norm)]
        self._require_proportional()

    def _counts(self, kind: str) -> list[int]:
        units = {half.block: half.family.units for half in self.halves if half.kind == kind}
        return [units.get(block, 0) for block in range(self.layers)]

    def _require_proportional(self) -> None:
        """Each half by itself must change the hidden state half as much with its gate at one half."""
        for kind, other in ((ATTENTION, MLP), (MLP, ATTENTION)):
            closed = {other: torch.zeros(self.layers)}
            changes = [self._changes({**closed, kind: torch.full((self.layers,), g)}) for g in (1.0, 0.5)]
            for block, (whole, halved) in enumerate(zip(*changes, strict=True)):
                if (2 * halved - whole).norm() > 0.1 * whole.norm() + TINY:
                    raise NotTraceable(
                        f"block {block} does not add to the hidden state what its {kind} writes"
                    )

    @torch.no_grad()
    def _changes(self, values: Values) -> list[Tensor]:
        """What each block adds to a random hidden state of two tokens."""
        blocks = list(find_blocks(self.model)[1])
        tokens = torch.zeros(1, 2, dtype=torch.int64, device=self.model.get_input_embeddings().weight.device)
        hidden, arguments = first_inputs(self.model, blocks, tokens, 1)
        hidden = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(0)).to(hidden)
        with self.applied(values):
            outputs = [block(hidden, **own) for block, own in zip(blocks, arguments, strict=True)]
        return [hidden_state(output) - hidden for output in outputs]

    def weights_per_unit(self, name: str) -> int:
        """The weights that a unit of the first block, a ``head`` or ``intermediate``, has per hidden channel.

        4 · head size for a head with keys of its own, 3 for a channel of a gated MLP.
        """
        half = next(half for half in self.halves if UNITS[half.kind] == name)
        return sum(own.shape[1] for own in half.family.members.values())

    @contextmanager
    def applied(self, values: Values) -> Iterator[None]:
        """Let the model run with gates; names that ``values`` lacks cost nothing.

        Every forward pass builds its own graph down to the given tensors, so with leaves several passes can
        be differentiated one after the other. Raises ValueError for gates that are not the model's, or if all
        hidden channels are closed; NotTraceable for gates on hidden channels of a model whose norms are not
        x / rms(x) · gain.
        """
        self._require(values)
        with ExitStack() as stack:
            for half in self.halves:
                for handle in _gate_half(self.model.get_submodule(half.layer), half, values):
                    stack.callback(handle.remove)
            for norm in self._norms if "hidden" in values else ():
                for handle in _gate_norm(norm, values["hidden"]):
                    stack.callback(handle.remove)
            yield

    def _require(self, values: Values) -> None:
        once = dict.fromkeys(("layer", ATTENTION, MLP), self.layers) | {"hidden": self.hidden}
        known = once | {UNITS[ATTENTION]: self.heads, UNITS[MLP]: self.intermediate}
        for name, own in values.items():
            if name not in known:
                raise ValueError(f"there are no gates '{name}', only {', '.join(known)}")
            found = len(own) if name in once else [len(row) for row in own]
            if found != known[name]:
                raise ValueError(f"gates '{name}': {found} given, the model has {known[name]}")
        if "hidden" in values:
            self._require_hidden(values["hidden"])

    def _require_hidden(self, hidden: Tensor) -> None:
        if self._inexact:
            raise NotTraceable(
                f"{', '.join(self._inexact)} is not x / rms(x) · gain: no gates on hidden channels"
            )
        if not hidden.any():
            raise ValueError("all hidden channels have a gate of 0; a model needs at least one")

    @torch.no_grad()
    def fold_and_cut(self, values: Values) -> None:
        """Multiply gates into the weights, and cut out what gates of exactly 0 leave without effect.

        Blocks that write nothing go, and heads, intermediate and hidden channels; a block may lose a half.
        The logits are those that :meth:`applied` gives. If all blocks are left alike, the configuration tells
        their sizes. What was cut is frozen; this object is of no use afterwards.
        Raises as :meth:`applied`, and ValueError if no block would be left.
        """
        self._require(values)
        layers = {half: self.model.get_submodule(half.layer) for half in self.halves}
        for half, layer in layers.items():
            _fold(layer, half.read(values), half.written(values))
        for norm in self._norms if "hidden" in values else ():
            _fold(norm, None, values["hidden"])
        silent = {half for half, layer in layers.items() if not any(p.any() for p in layer.parameters())}
        self._cut(values, silent)
        left = [half for half in self.halves if half not in silent and layers[half].in_features]
        first = {half.kind: layers[half] for half in reversed(left)}
        if len(first) == len(UNITS):
            hidden, inner = first[MLP].out_features, first[MLP].in_features
            tell_sizes(self.model, hidden, first[ATTENTION].in_features, inner)

    def _cut(self, values: Values, silent: set[Half]) -> None:
        """Cut units and hidden channels, all units of silent halves, then blocks of which all is silent."""
        closed = {
            half: list(range(half.family.units)) if half in silent else _closed(half.units(values))
            for half in self.halves
        }
        gone = [(half.family, units) for half, units in closed.items()]
        gone.append((self._channels, _closed(values.get("hidden"))))
        remove(self.model, [features_of(family, units) for family, units in gone if units])
        for half, units in closed.items():
            if half.kind == ATTENTION and len(units) == half.family.units:
                self._take_attention(half)
        blocks = {half.block for half in self.halves}
        drop_blocks(self.model, blocks - {half.block for half in self.halves if half not in silent})

    def _take_attention(self, half: Half) -> None:
        """Put :class:`NoAttention` in the place of a half without heads, which does not run without any."""
        layer = self.model.get_submodule(half.layer)
        writes = layer.bias is not None and bool(layer.bias.any())
        part = NoAttention(layer.out_features, writes)
        if writes:
            part.bias.copy_(layer.bias)
        prefix, _ = find_blocks(self.model)
        within = half.layer.removeprefix(f"{prefix}.{half.block}.")
        put(self.model, f"{prefix}.{half.block}.{within.partition('.')[0]}", part.requires_grad_(False))


def _closed(gates: Tensor | None) -> list[int]:
    return [] if gates is None else (gates == 0).nonzero().flatten().tolist()


def _fold(module: nn.Module, read: Tensor | None, written: Tensor | None) -> None:
    """Multiply columns by the gates of what a layer reads, rows and bias by those of what it writes."""
    if read is not None:
        module.weight.mul_(read)
    for parameter in module.parameters() if written is not None else ():
        parameter.mul_(written.reshape(-1, *[1] * (parameter.ndim - 1)))


def _gate_half(layer: nn.Module, half: Half, values: Values) -> Iterator[Any]:
    """Hooks on the layer that reads the units of a half and writes into the hidden state."""
    if half.read(values) is not None:
        yield layer.register_forward_pre_hook(lambda _, inputs: (_times(inputs[0], half.read(values)),))
    if half.written(values) is not None:
        yield layer.register_forward_hook(lambda _, inputs, output: _times(output, half.written(values)))


def _gate_norm(norm: nn.Module, hidden: Tensor) -> Iterator[Any]:
    """Hooks by which a norm over all d channels gives what one over the k channels with gates gives.

    With the others at 0 and these times √(d/k), the mean over d is that over k; the output is brought back.
    """
    kept = hidden.detach() != 0
    scale = math.sqrt(len(kept) / int(kept.sum()))
    if scale > 1:
        yield norm.register_forward_pre_hook(lambda _, inputs: (_times(inputs[0], scale * kept),))
    yield norm.register_forward_hook(lambda _, inputs, output: _times(output, hidden / scale))


def _times(features: Tensor, gates: Tensor) -> Tensor:
    """Gates do not change the dtype of what they multiply, which under autocast they would."""
    return features * gates.to(features)


@torch.no_grad()
def _narrows(norm: nn.Module) -> bool:
    """Whether gates on a norm give what the norm gives that they are folded into and cut out of."""
    wide, narrow = (copy.deepcopy(norm).float() for _ in range(2))
    hidden = torch.linspace(0, 1, len(norm.weight)).to(wide.weight)
    inputs = 1 + torch.randn(4, len(hidden), generator=torch.Generator().manual_seed(0)).to(hidden)
    _fold(narrow, None, hidden)
    for parameter in narrow.parameters():
        parameter.data = parameter.data[1:]
    note_shape(narrow)
    with ExitStack() as stack:
        for handle in _gate_norm(wide, hidden):
            stack.callback(handle.remove)
        return torch.allclose(wide(inputs)[:, 1:], narrow(inputs[:, 1:]), rtol=1e-3, atol=1e-4)
