"""CoFiPruning on a decoder, as Sheared-LLaMA compares with it: one constraint on the whole model's size.

Xia, Zhong, Chen (ACL 2022, arXiv 2204.00408); Sheared-LLaMA (arXiv 2310.06694), section 4.2 and Table 4;
official code princeton-nlp/LLM-Shearing at b87218b, ``models/l0_module.py`` without a target model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reprune.lazy import LazyModule
from reprune.method import ModelFacts, StructuralMethod, Target, Unsupported
from reprune.training.mask_settings import MaskSettings

if TYPE_CHECKING:
    from reprune.calibration.subject import Subject

masks = LazyModule("reprune.training.masks")
overall = LazyModule("papers.cofi.masks")


class Cofi(StructuralMethod):
    """Learn which attention, MLPs, heads and intermediate channels to keep; each block ends as it may."""

    Settings = MaskSettings
    kinds = ("mixed",)
    requires_calibration = False
    requires_mixture = True
    trial = {"steps": 320, "batch_size": 1, "evaluate_every": 160}  # until the asked size is met

    @classmethod
    def supports(cls, facts: ModelFacts, target: Target, settings: MaskSettings) -> Unsupported | None:
        refused = super().supports(facts, target, settings)
        if refused or share_of_blocks(facts, target) < 1:
            return refused
        most = facts.layers * facts.block_parameters / facts.parameters
        return Unsupported(
            f"heads and channels have {most:.1%} of the parameters, and some must stay",
            f"{int(100 * most) - 1}% of parameters",
        )

    @classmethod
    def mixture_work(cls, settings: MaskSettings) -> tuple[int, int]:
        return settings.work

    def compress(self, subject: Subject) -> None:
        facts = subject.facts
        learned = overall.OverallMasks(
            subject.model,
            shapes(facts),
            (overall.ALL,),
            self.settings,
            subject.draw_seed(),
            share=share_of_blocks(facts, self.target),
        )
        masks.learn(subject, learned, self.settings)
        learned.cut()


def share_of_blocks(facts: ModelFacts, target: Target) -> float:
    """The share of the blocks' parameters that goes, so that the target's share of all parameters does."""
    return target.sparsity * facts.parameters / (facts.layers * facts.block_parameters)


def shapes(facts: ModelFacts) -> dict[str, tuple[int, int]]:
    """(rows, units) of each kind of mask; heads are key-value heads, each with its query heads."""
    return {
        "attention": (1, facts.layers),
        "mlp": (1, facts.layers),
        "head": (facts.layers, facts.kv_heads),
        "intermediate": (facts.layers, facts.intermediate_size),
    }
