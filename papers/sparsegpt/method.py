"""SparseGPT: prune column by column; the columns still to come absorb the error.

Frantar and Alistarh, "SparseGPT: Massive Language Models Can be Accurately Pruned in One-Shot"
(arXiv 2301.00774), Algorithm 1; official code ``sparsegpt.py: fasterprune`` of IST-DASLab/sparsegpt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reprune.lazy import LazyModule, torch
from reprune.method import BlockMethod, ModelFacts, Target, Unsupported, setting

if TYPE_CHECKING:
    from reprune.calibration.block import Block
    from reprune.calibration.statistics import SecondMoment

masks = LazyModule("reprune.surgery.masks")
statistics = LazyModule("reprune.calibration.statistics")


@dataclass(frozen=True)
class Settings:
    blocksize: int = setting(
        128, "columns whose mask is chosen together (no effect on n:m targets)", minimum=1
    )
    percdamp: float = setting(
        0.01, "damping of the Hessian, as a share of its mean diagonal", minimum=1e-6, maximum=1.0
    )
    count: str = setting(
        "exact",
        "unstructured targets: exact removes int(weights * sparsity) of the layer; official removes "
        "every score <= threshold in each block of columns (one too many per block)",
        choices=("exact", "official"),
    )
    sequential: bool = setting(
        False,
        "collect statistics anew after each group of layers that read the same input "
        "(the official --true-sequential)",
    )


class SparseGPT(BlockMethod):
    """Masks by w² / U_jj², weight update by the rows of U."""

    Settings = Settings
    kinds = ("unstructured", "n:m")

    @classmethod
    def supports(cls, facts: ModelFacts, target: Target, settings: Settings) -> Unsupported | None:
        if target.kind == "n:m" and settings.blocksize % target.m:
            return Unsupported(
                f"groups of {target.m} would straddle blocks of {settings.blocksize} columns; "
                f"make blocksize a multiple of {target.m}",
                f"{target.sparsity:.0%}",
            )
        return super().supports(facts, target, settings)

    @classmethod
    def passes(cls, settings: Settings) -> float:
        return 9.0 if settings.sequential else 3.0

    def prune_block(self, block: Block) -> None:
        done = 0
        with torch.no_grad():
            for names, statistic in self.groups(block):
                factor, damping = masks.inverse_cholesky(statistic.hessian, self.settings.percdamp)
                dead = statistic.hessian.diagonal() == 0
                for name in names:
                    weight = block.linears[name].weight
                    weight[:, dead] = 0
                    pruned, loss = sweep(
                        weight,
                        factor,
                        self.target,
                        self.settings.blocksize,
                        official=self.settings.count == "official",
                    )
                    weight.copy_(pruned)
                    block.report[name] = {"loss": loss, "damping": damping}
                    done += 1
                    block.progress(done / len(block.linears))

    def groups(self, block: Block) -> Iterator[tuple[list[str], SecondMoment]]:
        """Layers that read the same input, in the order of their calls, with their Hessian."""
        found = block.statistics(statistics.SecondMoment)
        by_input: dict[int, list[str]] = {}
        for name, statistic in found.items():
            by_input.setdefault(id(statistic), []).append(name)
        for index, names in enumerate(by_input.values()):
            if index and self.settings.sequential:
                found = block.statistics(statistics.SecondMoment)
            yield names, found[names[0]]


def sweep(
    weight: torch.Tensor, factor: torch.Tensor, target: Target, blocksize: int = 128, official: bool = False
) -> tuple[torch.Tensor, float]:
    """Prune ``weight`` (rows, columns) from left to right; the new weight and its loss.

    ``factor`` is U, upper triangular with UᵀU = H⁻¹ (``masks.inverse_cholesky``). The loss is
    Σ ½ (w − q)² / U_jj², equal to ½ trace(ΔW H ΔWᵀ).

    The paper subtracts each column's error from all later columns; here each column collects the errors
    of all earlier ones when its turn comes. The sums are the same, and every error is written once.
    """
    rows, columns = weight.shape
    # A column of the layer is a contiguous row of w.
    w = weight.T.contiguous()
    errors = torch.zeros_like(w)
    diagonal = factor.diagonal().unsqueeze(1)
    pruned = 0
    for start in range(0, columns, blocksize):
        stop = min(start + blocksize, columns)
        _absorb(w, errors, factor, 0, start, stop)
        # n:m chooses afresh at every m-th column, from weights updated so far (section 3.3).
        unit = target.m if target.kind == "n:m" else blocksize
        for first in range(start, stop, unit):
            last = min(first + unit, stop)
            _absorb(w, errors, factor, start, first, last)
            scores = (w[first:last] / diagonal[first:last]).square()
            if target.kind == "n:m":
                mask = masks.lowest_per_row(scores.T, target.n).T
            elif official:
                mask = scores <= scores.flatten().kthvalue(int(scores.numel() * target.sparsity) + 1).values
            else:
                # Counted from the layer's start, so that rounding does not add up over the blocks.
                quota = int(rows * last * target.sparsity) - pruned
                mask = masks.lowest_overall(scores, quota)
                pruned += quota
            share = mask / diagonal[first:last]
            for column in range(first, last):
                if column > first:
                    w[column].addmv_(errors[first:column].T, factor[first:column, column], alpha=-1)
                torch.mul(w[column], share[column - first], out=errors[column])
            w[first:last].masked_fill_(mask, 0.0)
    return w.T, 0.5 * errors.square().sum().item()


def _absorb(
    w: torch.Tensor, errors: torch.Tensor, factor: torch.Tensor, since: int, first: int, last: int
) -> None:
    """Bring columns ``first:last`` up to date with the errors of columns ``since:first``."""
    if first > since:
        w[first:last].addmm_(factor[since:first, first:last].T, errors[since:first], alpha=-1)
