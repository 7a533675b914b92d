"""Voita et al.: gates on attention heads, learned under a penalty until most of them are closed.

"Analyzing Multi-Head Self-Attention: Specialized Heads Do the Heavy Lifting, the Rest Can Be Pruned", ACL
2019 (arXiv 1905.09418), section 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reprune.lazy import LazyModule
from reprune.method import HEADS, ModelFacts, StructuralMethod, Target, Unsupported
from reprune.plan.translation_settings import TranslationSettings
from reprune.training.head_mask_settings import HeadMaskSettings

if TYPE_CHECKING:
    from reprune.calibration.subject import Subject

masks = LazyModule("reprune.training.head_masks")
sentences = LazyModule("reprune.calibration.sentences")
translation = LazyModule("reprune.training.translation")
models = LazyModule("reprune.models.translation")


@dataclass(frozen=True)
class Settings(TranslationSettings, HeadMaskSettings):
    """The gates' settings, and those of the training that learns them, by the paper or its code."""


class VoitaHeads(StructuralMethod):
    """Learn which heads of a translation model to keep, and remove the others."""

    Settings = Settings
    kinds = (HEADS,)
    requires_calibration = False
    requires_parallel = True
    trial = {
        "steps": 12,
        "batch_tokens": 400,
        "scale": 0.3,
        "warmup": 4,
        "evaluate_every": 4,
        "mask_rate": 0.4,
        "penalty": 0.005,
    }

    @classmethod
    def supports(cls, facts: ModelFacts, target: Target, settings: Settings) -> Unsupported | None:
        if target.kind == HEADS and target.n:
            return Unsupported("finds the number of heads by its penalty", "learned heads")
        return super().supports(facts, target, settings)

    @classmethod
    def parallel_work(cls, settings: Settings) -> int:
        return settings.steps * settings.batch_tokens

    def compress(self, subject: Subject) -> None:
        settings, model = self.settings, subject.model
        longest = sentences.readable(model, settings.max_length)
        train, held_out = (
            sentences.encode(subject.tokenizer, subject.pairs[part], longest)
            for part in ("train", "validation")
        )
        gates = masks.HeadMasks(model, settings, subject.draw_seed())
        history = translation.train_translation(
            model,
            train,
            held_out,
            translation.TranslationCourse.of(settings),
            subject.draw_seed(),
            self._trained(model),
            gates,
            subject.keeper,
            lambda done, total: subject.progress(done / total),
        )
        kept = {kind: rows.tolist() for kind, rows in gates.finish().items()}
        subject.notes |= {"heads": {"kept": kept}, "gates": history, "penalty_in_code": gates.penalty_in_code}

    def _trained(self, model: Any) -> Any:
        """With gates in the encoder alone the encoder alone learns (section 6.2), else everything."""
        return [*models.encoder_parameters(model).values()] if self.settings.gated == "encoder" else None
