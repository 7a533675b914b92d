"""From scratch: a regular model of the asked size with random weights, to compare pruned models with.

Not a paper of its own. LLM-Pruner (arXiv 2305.11627, Table 9) and other papers on pruning compare with a
model of equal size that inherits nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reprune.lazy import LazyModule, torch
from reprune.method import ModelFacts, StructuralMethod, Target, Unsupported
from reprune.models import sizes
from reprune.models.counts import Shape

if TYPE_CHECKING:
    from reprune.calibration.subject import Subject

transformers = LazyModule("transformers")


class FromScratch(StructuralMethod):
    """A smaller model with random weights, by itself of the same depth: noise, until recovery trains it."""

    Settings = sizes.SizeSettings
    kinds = ("width",)
    requires_calibration = False

    @classmethod
    def supports(cls, facts: ModelFacts, target: Target, settings: sizes.SizeSettings) -> Unsupported | None:
        return super().supports(facts, target, settings) or sizes.refusal(facts, target, settings)

    @classmethod
    def shape(cls, facts: ModelFacts, target: Target, settings: sizes.SizeSettings) -> Shape:
        return sizes.shape(facts, sizes.wanted(facts, target, settings))

    def compress(self, subject: Subject) -> None:
        wanted = sizes.wanted(subject.facts, self.target, self.settings)
        subject.notes |= wanted._asdict()
        config = sizes.configured(subject.model.config, subject.facts, wanted)
        seed = subject.draw_seed()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        subject.model = model.eval().requires_grad_(False)
