"""Magnitude pruning: remove the weights of least absolute value; no data, no update.

The layer-wise form is the baseline of SparseGPT (Tables 1, 3 and 4) and of Wanda (Table 3; official code
``lib/prune.py: prune_magnitude``). The model-wide form compares all linear weights of all blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reprune.lazy import LazyModule, torch
from reprune.method import ModelFacts, ModelMethod, Target, Unsupported, setting

if TYPE_CHECKING:
    from reprune.calibration.block import Block
    from reprune.calibration.walk import Walk

masks = LazyModule("reprune.surgery.masks")

LOW_BITS = 16


@dataclass(frozen=True)
class Settings:
    scope: str = setting(
        "layer",
        "where weights compete: inside each layer, or over all layers of the model",
        choices=("layer", "model"),
    )
    count: str = setting(
        "exact",
        "unstructured targets: exact removes int(weights * sparsity), ties by position; official "
        "removes every |w| <= the next one, as Wanda's code does (one too many, and all ties)",
        choices=("exact", "official"),
    )


class Magnitude(ModelMethod):
    """Layer-wise or model-wide magnitude pruning."""

    Settings = Settings
    kinds = ("unstructured", "n:m")
    requires_calibration = False
    competes_in = "layer"

    @classmethod
    def supports(cls, facts: ModelFacts, target: Target, settings: Settings) -> Unsupported | None:
        if target.kind == "n:m" and settings.scope == "model":
            return Unsupported(
                "n:m compares inside groups of one row, scope 'model' across layers", f"{target.sparsity:.0%}"
            )
        return super().supports(facts, target, settings)

    def compress(self, model: Walk) -> None:
        shared = None
        if self.settings.scope == "model":
            shared = self.cut(lambda: _weights(model))
        for block in model.rewrite():
            for layer in block.linears.values():
                masks.prune(layer, self.mask(layer.weight, shared))

    def own_score(self, block: Block) -> dict[str, torch.Tensor]:
        """|w| of every layer, (rows, columns)."""
        return {name: layer.weight.detach().abs() for name, layer in block.linears.items()}

    def mask(self, weight: torch.Tensor, shared: Cut | None) -> torch.Tensor:
        """The weights of one layer to prune, (rows, columns) bool."""
        if self.target.kind == "n:m":
            return masks.lowest_n_of_m(weight.detach().abs(), self.target.n, self.target.m)
        return (shared or self.cut(lambda: [weight])).mask(weight)

    def cut(self, weights: Callable[[], Iterable[torch.Tensor]]) -> Cut:
        return find_cut(weights, self.target.sparsity, official=self.settings.count == "official")


@dataclass
class Cut:
    """Where pruning stops: below ``threshold``, plus the next ``ties`` weights equal to it.

    ``threshold`` is a bit pattern of :func:`magnitude_bits`. Each mask uses up the ties it takes, so the
    order of calls decides which of several equal weights go.
    """

    threshold: int
    ties: int

    def mask(self, weight: torch.Tensor) -> torch.Tensor:
        bits = magnitude_bits(weight)
        mask = bits < self.threshold
        equal = (bits == self.threshold).flatten().nonzero().flatten()[: self.ties]
        mask.view(-1)[equal] = True
        self.ties -= len(equal)
        return mask


def magnitude_bits(weight: torch.Tensor) -> torch.Tensor:
    """|w| as int32 bit patterns; non-negative floats are ordered as their bits are."""
    return weight.detach().float().abs().view(torch.int32)


def find_cut(weights: Callable[[], Iterable[torch.Tensor]], sparsity: float, official: bool = False) -> Cut:
    """The cut that prunes ``int(total * sparsity)`` of all weights, from two passes over ``weights()``.

    A histogram over the high half of the bit patterns finds the decisive bin, one over the low half
    inside this bin the exact value, so no more than one layer is ever held. ``official`` includes the
    weight at that rank and everything equal to it.
    """
    high = _histogram(magnitude_bits(w) >> LOW_BITS for w in weights())
    total = int(high.sum())
    count = int(total * sparsity)
    top, above = _bin_of(high, count)
    inside = (bits[bits >> LOW_BITS == top] for bits in map(magnitude_bits, weights()))
    low, ties = _bin_of(_histogram(bits & (1 << LOW_BITS) - 1 for bits in inside), above)
    return Cut(top << LOW_BITS | low, total if official else ties)


def _histogram(patterns: Iterable[torch.Tensor]) -> torch.Tensor:
    counts = torch.zeros(1 << LOW_BITS, dtype=torch.int64)
    for pattern in patterns:
        counts += torch.bincount(pattern.flatten(), minlength=1 << LOW_BITS)
    return counts


def _bin_of(counts: torch.Tensor, rank: int) -> tuple[int, int]:
    """The bin that holds the entry of this 0-based rank, and its rank inside the bin."""
    ends = counts.cumsum(0)
    place = int(torch.searchsorted(ends, rank, right=True))
    return place, rank - int(ends[place] - counts[place])


def _weights(model: Walk) -> Iterator[torch.Tensor]:
    for block in model.blocks():
        yield from (layer.weight for layer in block.linears.values())
