"""Attention and MLP of every block as halves that write into the hidden state, known by what is coupled."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reprune.surgery.coupling import IN, OUT, Family, NotTraceable, Place

ATTENTION, MLP = "attention", "mlp"
UNITS = {ATTENTION: "head", MLP: "intermediate"}  # what the units of a half are called
Values = Mapping[str, Any]
"""Gates by name: ``layer``, ``attention`` and ``mlp`` (blocks,), ``hidden`` (hidden size,), and for each
block a row (units,) of ``head`` and of ``intermediate``."""


@dataclass(frozen=True, eq=False)
class Half:
    """Attention or MLP of a block: ``layer`` reads the units of ``family``, writes into the hidden state."""

    block: int
    kind: str
    layer: str
    family: Family

    @functools.cached_property
    def unit_of(self) -> Tensor:
        """(inputs of ``layer``,) the head or channel that each of them belongs to."""
        features = self.family.members[Place(self.layer, IN)]
        units = torch.empty(features.numel(), dtype=torch.int64)
        units[features] = torch.arange(len(features)).unsqueeze(1)
        return units

    def units(self, values: Values) -> Tensor | None:
        """(units,) their gates, None if ``values`` has none."""
        name = UNITS[self.kind]
        return values[name][self.block] if name in values else None

    def read(self, values: Values) -> Tensor | None:
        """(inputs of ``layer``,) the gates of the units that they belong to, None if there are none."""
        units = self.units(values)
        return None if units is None else units.index_select(0, self.unit_of.to(units.device))

    def written(self, values: Values) -> Tensor | None:
        """() or (hidden size,) the gates of what ``layer`` writes, multiplied, None if there are none."""
        factors = [values[name][self.block] for name in ("layer", self.kind) if name in values]
        factors += [values["hidden"]] if "hidden" in values else []
        return functools.reduce(torch.mul, factors) if factors else None


def hidden_channels(found: Sequence[Family]) -> Family:
    """The family of the hidden channels, which are numbered alike at all of its places.

    Raises :class:`NotTraceable` if the model has none, or hidden channels of several kinds.
    """
    shared = [family for family in found if family.block is None]
    if len(shared) != 1:
        raise NotTraceable(f"hidden channels form {len(shared)} families, gates need one")
    order = torch.arange(shared[0].units).unsqueeze(1)
    if not all(torch.equal(own, order) for own in shared[0].members.values()):
        raise NotTraceable("hidden channels are numbered differently from place to place")
    return shared[0]


def halves(found: Sequence[Family]) -> list[Half]:
    """The halves of all blocks, by the families of a model, in its order.

    A head holds several features at each place, an intermediate channel one. Raises :class:`NotTraceable` if
    units are read by another layer than the one that writes into the hidden state, or a block has two
    families of one kind.
    """
    writers = {place.layer for place in hidden_channels(found).members if place.side == OUT}
    made = [_half(family, writers) for family in found if family.block is not None]
    for what in ({(half.block, half.kind) for half in made}, {half.layer for half in made}):
        if len(what) != len(made):
            raise NotTraceable("heads or channels of a block form several families, gates need one")
    return made


def _half(family: Family, writers: set[str]) -> Half:
    readers = [place for place in family.members if place.side == IN]
    if len(readers) != 1 or readers[0].layer not in writers:
        names = ", ".join(place.layer for place in family.members)
        raise NotTraceable(f"no single layer of {names} reads all and writes into the hidden state")
    reader = readers[0]
    kind = MLP if family.members[reader].shape[1] == 1 else ATTENTION
    return Half(family.block, kind, reader.layer, family)
