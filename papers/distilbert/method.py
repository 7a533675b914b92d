"""DistilBERT: start a student from every second layer of its teacher.

Sanh, Debut, Chaumond, Wolf, "DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter"
(arXiv 1910.01108, section 3); official code ``examples/research_projects/distillation`` of
huggingface/transformers, ``scripts/extract.py``. The student is trained by recovery, its loss is
:mod:`reprune.training.loss`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reprune.lazy import LazyModule
from reprune.method import ModelFacts, StructuralMethod, Target, Unsupported, leaves_a_block, setting

if TYPE_CHECKING:
    from reprune.calibration.subject import Subject

layers = LazyModule("reprune.surgery.layers")


@dataclass(frozen=True)
class Settings:
    every: int | None = setting(
        None, "keep as many as one block out of so many; none: the number nearest to the target", minimum=2
    )
    spacing: str = setting(
        "even",
        "even: from the first block on, for a half one out of two; official: the first, the last, and evenly "
        "between them",
        choices=("even", "official"),
    )


class DistilBERT(StructuralMethod):
    """Keep every second decoder block, or as many as the target asks, evenly spaced; nothing is measured."""

    Settings = Settings
    kinds = ("layer",)
    requires_calibration = False

    @classmethod
    def supports(cls, facts: ModelFacts, target: Target, settings: Settings) -> Unsupported | None:
        return super().supports(facts, target, settings) or leaves_a_block(facts, target)

    def compress(self, subject: Subject) -> None:
        total, every = subject.facts.layers, self.settings.every
        count = math.ceil(total / every) if every else total - subject.facts.blocks_for(self.target.sparsity)
        kept = official(total, count) if self.settings.spacing == "official" else even(total, count)
        subject.notes["chosen"] = sorted(set(range(total)) - set(kept))
        layers.keep_blocks(subject.model, kept)


def even(total: int, count: int) -> list[int]:
    """``count`` of ``total`` blocks, evenly spaced from the first: 0, 2, 4, … for a half, odd totals too."""
    return [math.ceil(i * total / count) for i in range(count)]


def official(total: int, count: int) -> list[int]:
    """``count`` of ``total`` blocks with the first, the last, and those nearest to even spacing between.

    For 6 of 12 these are 0, 2, 4, 7, 9, 11, which the official code names. A half rounds up.
    """
    gaps = max(1, count - 1)
    return [(2 * i * (total - 1) + gaps) // (2 * gaps) for i in range(count)]
