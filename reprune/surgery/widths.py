"""Taking features out of layers: rows, columns and gains, so that the model becomes narrower."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from reprune.models.checkpoint import note_shapes
from reprune.surgery.coupling import Family, Place, pieces

Removal = Mapping[Place, Tensor]
"""The features, (any number,), that go at each place."""


def features_of(family: Family, units: Iterable[int]) -> dict[Place, Tensor]:
    """What goes at each place when these units of ``family`` are removed."""
    chosen = torch.tensor(list(units), dtype=torch.int64)
    return {place: own[chosen].flatten() for place, own in family.members.items()}


def names_at(model: nn.Module, place: Place) -> list[tuple[str, int]]:
    """The names of the parameters with an entry for each feature of ``place``, and in which dimension."""
    own = pieces(model.get_submodule(place.layer), place.side)
    return [(f"{place.layer}.{name}", dimension) for name, dimension in own]


def parameters_at(model: nn.Module, place: Place) -> list[tuple[nn.Parameter, int]]:
    """The parameters with an entry for each feature of ``place``, and in which dimension."""
    return [(model.get_parameter(name), dimension) for name, dimension in names_at(model, place)]


def cost(model: nn.Module, family: Family) -> int:
    """How many parameters go with one unit of ``family``."""
    return sum(
        own.shape[1] * (parameter.numel() // parameter.shape[dimension])
        for place, own in family.members.items()
        for parameter, dimension in parameters_at(model, place)
    )


@torch.no_grad()
def remove(model: Any, removals: Iterable[Removal]) -> None:
    """Cut features out of weights and biases, at no place twice; tied weights stay tied.

    Removing a head or an intermediate channel equals setting its weights to zero. Removing a hidden channel
    does not: norms then average over fewer channels (LLM-Pruner, groups of type C).
    """
    cut: dict[int, Tensor] = {}
    for place, features in (item for removal in removals for item in removal.items()):
        for old, dimension in parameters_at(model, place):
            now = cut.get(id(old), old)
            kept = torch.ones(now.shape[dimension], dtype=torch.bool)
            kept[features] = False
            cut[id(old)] = now.index_select(dimension, kept.nonzero().flatten().to(now.device))
    _exchange(model, cut)
    note_shapes(model)


def _exchange(model: nn.Module, cut: Mapping[int, Tensor]) -> None:
    """Put new parameters in the place of old ones, by identity, one for all that share one."""
    made = {old: nn.Parameter(tensor, requires_grad=False) for old, tensor in cut.items()}
    owners = [(module, name, id(p)) for module in model.modules() for name, p in module._parameters.items()]
    for module, name, old in owners:
        if old in made:
            module._parameters[name] = made[old]


@torch.no_grad()
def silence(model: Any, removals: Iterable[Removal]) -> None:
    """Set the same weights to zero instead, the model keeps its shape."""
    for place, features in (item for removal in removals for item in removal.items()):
        for parameter, dimension in parameters_at(model, place):
            parameter.index_fill_(dimension, features.to(parameter.device), 0.0)
