"""FWSVD: factors that spare the weights on which the loss depends, by the Fisher information of their inputs.

Hsu et al., "Language model compression with weighted low-rank factorization" (arXiv 2207.00112); the
Fisher information as in ``act_aware_utils.py: calib_fisher_info`` of hahnyuan/ASVD4LLM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reprune.lazy import LazyModule, torch
from reprune.method import ModelFacts, StructuralMethod, Target, Unsupported, keeps_a_rank, setting

if TYPE_CHECKING:
    from reprune.calibration.subject import Subject

gradients = LazyModule("reprune.calibration.gradients")
low_rank = LazyModule("reprune.surgery.low_rank")


@dataclass(frozen=True)
class Settings:
    alpha: float = setting(
        1.0, "power of an input's root Fisher information; 1 is FWSVD, 0 plain SVD", minimum=0.0
    )
    floor: float = setting(
        1e-6, "added to the scale of every input, the largest being 1, so that none is zero", minimum=1e-12
    )


class FWSVD(StructuralMethod):
    """Weigh every input of a matrix by the gradients of its weights, keep the largest singular groups."""

    Settings = Settings
    kinds = ("low_rank",)

    @classmethod
    def supports(cls, facts: ModelFacts, target: Target, settings: Settings) -> Unsupported | None:
        return super().supports(facts, target, settings) or keeps_a_rank(facts, target)

    @classmethod
    def passes(cls, settings: Settings) -> float:
        return 4.0

    def compress(self, subject: Subject) -> None:
        shapes = {name: layer.weight.shape for name, layer in subject.linears().items()}
        self.factor(subject, low_rank.even_ranks(shapes, self.target.sparsity * subject.parameters))

    def factor(self, subject: Subject, ranks: dict[str, int]) -> None:
        """Put factors of these ranks in the place of linear layers, by name."""
        fisher = subject.remember("fisher", lambda: measured(subject)) if ranks else {}
        linears = subject.linears()
        for name, rank in ranks.items():
            scale = input_scale(fisher[name], self.settings.alpha, self.settings.floor)
            up, down = low_rank.scaled_factors(linears[name].weight, scale)
            subject.factor(name, up[:, :rank], down[:rank])


def measured(subject: Subject) -> dict[str, torch.Tensor]:
    """The Fisher information of every layer's inputs, from one forward-backward pass over the calibration."""
    windows: dict[str, list[torch.Tensor]] = {name: [] for name in subject.linears()}

    def add(name: str, gradient: torch.Tensor) -> None:
        windows[name].append(input_fisher(gradient * len(subject.windows)))  # of this window's own mean loss

    gradients.weight_gradients(subject, subject.linears(), add, windows_at_once=1)
    return {name: torch.stack(found).mean(dim=0) for name, found in windows.items()}


def input_fisher(gradient: torch.Tensor) -> torch.Tensor:
    """(inputs,) what one window tells: Σ_i (dL/dW_ij)² of its gradient, (outputs, inputs)."""
    return gradient.square().sum(dim=0)


def input_scale(fisher: torch.Tensor, alpha: float, floor: float) -> torch.Tensor:
    """(inputs,) √f to the power ``alpha``, relative to the largest, plus ``floor``.

    A common factor changes no result, so that the floor means the same for every layer.
    """
    relative = fisher / fisher.max().clamp_min(torch.finfo(fisher.dtype).tiny)
    return relative.sqrt() ** alpha + floor
