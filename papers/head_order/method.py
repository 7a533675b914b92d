"""Encoder heads removed in an order: by chance, confidence, relevance or the gradient of their gates.

The importances that Voita et al. (arXiv 1905.09418, sections 3 and 4) look at without pruning by them, and
that of Michel et al. (arXiv 1905.10650), who prune: controls for learned gates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reprune.lazy import LazyModule, torch
from reprune.method import HEADS, ModelFacts, StructuralMethod, Target, Unsupported, setting

if TYPE_CHECKING:
    from reprune.calibration.subject import Subject

importance = LazyModule("reprune.calibration.head_importance")
sentences = LazyModule("reprune.calibration.sentences")
surgery = LazyModule("reprune.surgery.head_gates")

ORDERS = ("random", "confidence", "relevance", "gradient")


@dataclass(frozen=True)
class Settings:
    """By what heads are put in order, and how many sentences of the validation text it is measured on."""

    order: str = setting("random", "what says that a head matters", choices=ORDERS)
    sentences: int = setting(200, "sentences that the importance is measured on", minimum=1)


class HeadOrder(StructuralMethod):
    """Keep the encoder heads that matter most, wherever they are, and remove the others."""

    Settings = Settings
    kinds = (HEADS,)
    requires_calibration = False
    requires_parallel = True

    @classmethod
    def supports(cls, facts: ModelFacts, target: Target, settings: Settings) -> Unsupported | None:
        heads = facts.layers * facts.heads
        if target.kind == HEADS and not 0 < target.n <= heads:
            nearest = Target.of_heads(heads if target.n else 1)
            return Unsupported(f"keeps a number of heads from 1 to {heads}", nearest.label)
        return super().supports(facts, target, settings)

    def compress(self, subject: Subject) -> None:
        measured = {name: torch.stack(rows) for name, rows in self._measured(subject).items()}
        kept = highest(measured["scores"], self.target.n)
        surgery.remove_heads(subject.model, {"encoder": kept})
        told = {name: values.tolist() for name, values in measured.items()}
        subject.notes |= {"heads": {"kept": {"encoder": kept.tolist()}, **told}}

    def _measured(self, subject: Subject) -> dict[str, Any]:
        """What every encoder head is worth, a row (heads,) for each layer, and what is told beside it."""
        if self.settings.order == "random":
            counts = surgery.retained_heads(subject.model)["encoder"]
            return {"scores": [torch.rand(heads, generator=subject.generator) for heads in counts]}
        pairs = subject.pairs["validation"][: self.settings.sentences]
        encoded = sentences.encode(subject.tokenizer, pairs, subject.model.config.max_position_embeddings)
        batches = sentences.batches(subject.model, encoded)
        measure = getattr(importance, self.settings.order)
        found = measure(subject.model, batches, ("encoder",))
        if self.settings.order == "relevance":
            return {"scores": found.absolute["encoder"], "signed": found.signed["encoder"]}
        return {"scores": found["encoder"]}


def highest(scores: Any, kept: int) -> Any:
    """Booleans (layers, heads) like ``scores``: the ``kept`` highest of all, the first among equals."""
    order = scores.flatten().argsort(descending=True, stable=True)
    chosen = torch.zeros(scores.numel(), dtype=torch.bool)
    chosen[order[:kept]] = True
    return chosen.reshape(scores.shape)
