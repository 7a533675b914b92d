"""Sheared-LLaMA: masks are trained with the weights until the model has exactly the asked shape.

Xia, Gao, Zeng, Chen (ICLR 2024, arXiv 2310.06694), section 2.1; official code princeton-nlp/LLM-Shearing at
b87218b. Continued pre-training of what is left (section 2.2) is a recovery of kind ``pretrain``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reprune.lazy import LazyModule
from reprune.method import ModelFacts, StructuralMethod, Target, Unsupported, setting
from reprune.models import sizes
from reprune.models.counts import Shape
from reprune.training.mask_settings import MaskSettings

if TYPE_CHECKING:
    from reprune.calibration.subject import Subject

masks = LazyModule("reprune.training.masks")


@dataclass(frozen=True)
class Settings(MaskSettings, sizes.SizeSettings):
    """The sizes to reach, how masks are learned, and what exactly is constrained."""

    constraint: str = setting(
        "fractions", "shares of open masks, or as the paper counts of them", choices=("fractions", "counts")
    )


class ShearedLlama(StructuralMethod):
    """Learn which blocks, heads, intermediate and hidden channels to keep, together with the weights."""

    Settings = Settings
    kinds = ("mixed",)
    requires_calibration = False
    requires_mixture = True
    trial = {"steps": 8, "batch_size": 2, "evaluate_every": 4}

    @classmethod
    def supports(cls, facts: ModelFacts, target: Target, settings: Settings) -> Unsupported | None:
        return super().supports(facts, target, settings) or sizes.refusal(facts, target, settings)

    @classmethod
    def shape(cls, facts: ModelFacts, target: Target, settings: Settings) -> Shape:
        return sizes.shape(facts, sizes.wanted(facts, target, settings))

    @classmethod
    def mixture_work(cls, settings: Settings) -> tuple[int, int]:
        return settings.work

    def compress(self, subject: Subject) -> None:
        facts = subject.facts
        wanted = sizes.wanted(facts, self.target, self.settings)
        learned = masks.TargetedMasks(
            subject.model, shapes(facts), kept(facts, wanted), self.settings, subject.draw_seed()
        )
        masks.learn(subject, learned, self.settings)
        learned.cut()
        subject.notes |= wanted._asdict()


def shapes(facts: ModelFacts) -> dict[str, tuple[int, int]]:
    """(rows, units) of each kind of mask: one row in all, or one in every block."""
    return {
        "layer": (1, facts.layers),
        "hidden": (1, facts.hidden_size),
        "head": (facts.layers, facts.kv_heads),
        "intermediate": (facts.layers, facts.intermediate_size),
    }


def kept(facts: ModelFacts, wanted: sizes.Sizes) -> dict[str, int]:
    """How many units of every row stay; heads are key-value heads, each with its query heads."""
    return {
        "layer": wanted.layers,
        "hidden": wanted.hidden_size,
        "head": sizes.kv_heads(facts, wanted),
        "intermediate": wanted.intermediate_size,
    }
