"""Wanda: prune by weight times the norm of its input activation, inside each output row.

Sun et al., "A Simple and Effective Pruning Approach for Large Language Models" (arXiv 2306.11695),
section 3; official code ``lib/prune.py: prune_wanda`` of locuslab/wanda.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reprune.lazy import LazyModule, torch
from reprune.method import BlockMethod, ModelFacts, Target, Unsupported, setting

if TYPE_CHECKING:
    from reprune.calibration.block import Block

masks = LazyModule("reprune.surgery.masks")
statistics = LazyModule("reprune.calibration.statistics")


@dataclass(frozen=True)
class Settings:
    metric: str = setting(
        "wanda",
        "score of a weight: |w| times the norm of its input, or |w| alone",
        choices=("wanda", "magnitude"),
    )
    group: str = setting(
        "row",
        "unstructured targets: which weights compete (row is the paper's; layer and column ablate it)",
        choices=("row", "layer", "column"),
    )
    variant: str = setting(
        "uniform",
        "uniform: the same count in every row; cumulative: the same share of the row's score "
        "(the official --use_variant)",
        choices=("uniform", "cumulative"),
    )


class Wanda(BlockMethod):
    """Score, compare, set to zero; no weight is updated."""

    Settings = Settings
    kinds = ("unstructured", "n:m")

    @classmethod
    def supports(cls, facts: ModelFacts, target: Target, settings: Settings) -> Unsupported | None:
        unstructured = f"{target.sparsity:.0%}"
        if settings.variant == "cumulative" and settings.group != "row":
            return Unsupported("variant 'cumulative' is defined inside rows only; set group to 'row'")
        if target.kind == "n:m" and settings.variant == "cumulative":
            return Unsupported("n:m fixes every group's count, variant 'cumulative' varies it", unstructured)
        if target.kind == "n:m" and settings.group != "row":
            return Unsupported(f"n:m compares inside rows, not by {settings.group}", unstructured)
        return super().supports(facts, target, settings)

    @classmethod
    def passes(cls, settings: Settings) -> float:
        return 2.0 if settings.metric == "wanda" else 1.0

    def prune_block(self, block: Block) -> None:
        scores = self.own_score(block)
        for done, (name, layer) in enumerate(block.linears.items(), start=1):
            masks.prune(layer, self.mask(scores.pop(name)))
            block.progress(done / len(block.linears))

    def own_score(self, block: Block) -> dict[str, torch.Tensor]:
        """The score of every layer's weights, (rows, columns), from the still dense block."""
        norms: dict[str, torch.Tensor | None] = dict.fromkeys(block.linears)
        if self.settings.metric == "wanda":
            norms = {name: found.norms for name, found in block.statistics(statistics.SquaredNorms).items()}
        return {name: wanda_scores(layer.weight, norms[name]) for name, layer in block.linears.items()}

    def mask(self, scores: torch.Tensor) -> torch.Tensor:
        """The weights of one layer to prune, (rows, columns) bool."""
        rows, columns = scores.shape
        sparsity = self.target.sparsity
        if self.target.kind == "n:m":
            return masks.lowest_n_of_m(scores, self.target.n, self.target.m)
        if self.settings.variant == "cumulative":
            return cumulative_mask(scores, sparsity)
        if self.settings.group == "layer":
            return masks.lowest_overall(scores, int(rows * columns * sparsity))
        if self.settings.group == "column":
            return masks.lowest_per_row(scores.T, int(rows * sparsity)).T
        return masks.lowest_per_row(scores, int(columns * sparsity))


def wanda_scores(weight: torch.Tensor, norms: torch.Tensor | None) -> torch.Tensor:
    """|W_ij| · ‖X_j‖ (paper, equation 1), or |W_ij| without ``norms``; (rows, columns)."""
    size = weight.detach().abs()
    return size if norms is None else size * norms


def cumulative_counts(ordered: torch.Tensor, fraction: float) -> torch.Tensor:
    """(rows,) how many of a row's ascending scores sum to at most ``fraction`` of the row's total."""
    limit = ordered.sum(dim=1, keepdim=True) * fraction
    return (ordered.cumsum(dim=1) <= limit).sum(dim=1)


def cumulative_mask(scores: torch.Tensor, sparsity: float) -> torch.Tensor:
    """Every row loses the same fraction of its total score; bisection finds the fraction.

    Start 0.4 in [0, 0.8], until the layer's sparsity is within 0.001 of ``sparsity`` or the interval is
    shorter than 0.001 (official code, ``--use_variant``): the target is met only to that tolerance.
    """
    ordered = scores.sort(dim=1).values
    low, fraction, high = 0.0, 0.4, 0.8
    counts = cumulative_counts(ordered, fraction)
    while abs(reached := int(counts.sum()) / scores.numel() - sparsity) > 0.001 and high - low >= 0.001:
        if reached > 0:
            fraction, high = (fraction + low) / 2, fraction
        else:
            fraction, low = (fraction + high) / 2, fraction
        counts = cumulative_counts(ordered, fraction)
    return masks.lowest_per_row(scores, counts)
