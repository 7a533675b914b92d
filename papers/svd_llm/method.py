"""SVD-LLM: factors with the least error of a layer's output on the calibration, by whitening its inputs.

Wang et al., "SVD-LLM: Truncation-aware Singular Value Decomposition for Large Language Model Compression"
(arXiv 2403.07378); official code ``SVDLLM.py`` of AIoT-MLSys-Lab/SVD-LLM.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reprune.lazy import LazyModule, torch
from reprune.method import ModelFacts, StructuralMethod, Target, Unsupported, keeps_a_rank, setting

if TYPE_CHECKING:
    from reprune.calibration.block import Block
    from reprune.calibration.subject import Subject

low_rank = LazyModule("reprune.surgery.low_rank")
statistics = LazyModule("reprune.calibration.statistics")

SHIFT = 1e-6  # beyond the smallest eigenvalue, where XXᵀ is not positive definite (official code)


@dataclass(frozen=True)
class Settings:
    update: str = setting(
        "none",
        "sequential: refit each output-side factor, on the inputs that come out of the blocks compressed "
        "before, to what the dense layer makes of them (official step 2)",
        choices=("none", "sequential"),
    )


class SvdLlm(StructuralMethod):
    """Keep the singular groups of W L, L Lᵀ = X Xᵀ: dropping one costs its singular value in the output."""

    Settings = Settings
    kinds = ("low_rank",)

    @classmethod
    def supports(cls, facts: ModelFacts, target: Target, settings: Settings) -> Unsupported | None:
        return super().supports(facts, target, settings) or keeps_a_rank(facts, target)

    @classmethod
    def passes(cls, settings: Settings) -> float:
        return 3.0 if settings.update == "none" else 6.0

    def compress(self, subject: Subject) -> None:
        shapes = {name: layer.weight.shape for name, layer in subject.linears().items()}
        self.factor(subject, low_rank.even_ranks(shapes, self.target.sparsity * subject.parameters))

    def factor(self, subject: Subject, ranks: dict[str, int]) -> None:
        """Put factors of these ranks in the place of linear layers, by name."""
        if self.settings.update == "sequential":
            return self.factor_in_turn(subject, ranks)
        known = subject.remember("whitened", lambda: whitened(subject)) if ranks else {}
        for name, rank in ranks.items():
            subject.factor(name, known[f"{name}.up"][:, :rank], known[f"{name}.down"][:rank])

    def factor_in_turn(self, subject: Subject, ranks: dict[str, int]) -> None:
        """The same, each block refitted to what comes out of those before it."""
        for dense, compressed in zip(subject.stream("dense"), subject.stream("compressed"), strict=False):
            place = f"{subject.prefix}.{dense.index}."
            wanted = {name: ranks[place + name] for name in dense.linears if place + name in ranks}
            for name, (up, down) in block_factors(dense, compressed, wanted).items():
                subject.factor(place + name, up, down)


def whitened(subject: Subject) -> dict[str, torch.Tensor]:
    """``up`` and ``down`` of every linear layer with all singular groups: a sweep takes the first of them."""
    found = {}
    for block in subject.stream("dense"):
        full = {name: min(layer.weight.shape) for name, layer in block.linears.items()}
        for name, (up, down) in block_factors(block, None, full).items():
            layer = f"{subject.prefix}.{block.index}.{name}"
            found |= {f"{layer}.up": up.float().contiguous(), f"{layer}.down": down.float().contiguous()}
    return found


def block_factors(
    dense: Block, compressed: Block | None, ranks: dict[str, int]
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Factors of a still dense block's layers, whitened by its dense inputs and refitted to the others."""
    grams = dense.statistics(statistics.Gram)
    current = compressed.statistics(statistics.Gram) if compressed else {}
    root = functools.cache(lambda gram: lower_root(gram.sum))  # one for all layers that read the same input
    found = {}
    for name, rank in ranks.items():
        weight = dense.linears[name].weight
        up, down = whitened_factors(weight, root(grams[name]))
        up, down = up[:, :rank], down[:rank]
        found[name] = (refitted(weight, down, current[name].sum) if current else up, down)
    return found


def lower_root(gram: torch.Tensor) -> torch.Tensor:
    """Lower triangular L with L Lᵀ = X Xᵀ, from the sums ``gram`` over tokens, (inputs, inputs); in float64.

    Where that is not positive definite, (10⁻⁶ − its smallest eigenvalue) is added to the diagonal first, as
    in the official code, and ten times as much until rounding leaves it positive definite.
    """
    gram = gram.double()
    lower, failed = torch.linalg.cholesky_ex(gram)
    shift = max(SHIFT, float(SHIFT - torch.linalg.eigvalsh(gram)[0])) if failed else 0.0
    while failed:
        lower, failed = torch.linalg.cholesky_ex(gram + shift * torch.eye(len(gram), dtype=gram.dtype))
        shift *= 10
    return lower


def whitened_factors(weight: torch.Tensor, lower: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``up`` = U √Σ (outputs, k) and ``down`` = √Σ Vᵀ L⁻¹ (k, inputs) with U Σ Vᵀ = W L.

    Their first r columns and rows are the W' of rank r with the least ‖(W − W') X‖_F, whose square is the sum
    of the squares of the singular values left out.
    """
    up, down = low_rank.balanced(*low_rank.svd(weight.to(lower.dtype) @ lower))
    return up, torch.linalg.solve_triangular(lower, down, upper=False, left=False)


def refitted(weight: torch.Tensor, down: torch.Tensor, gram: torch.Tensor) -> torch.Tensor:
    """``up`` (outputs, rank) with the least ‖W X − up · down X‖_F for inputs X with ``gram`` = X Xᵀ.

    The least squares solution W XXᵀ downᵀ (down XXᵀ downᵀ)⁺, in float64; of several the smallest.
    """
    seen = down @ gram.to(down.dtype)
    return weight.to(down.dtype) @ seen.T @ torch.linalg.pinv(seen @ down.T, hermitian=True)
