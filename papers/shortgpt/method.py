"""ShortGPT: delete the decoder blocks that change the hidden state least.

Men et al., "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect" (arXiv 2403.03853);
unofficial code sramshetty/ShortGPT; as a baseline of GRASP ``baseline/run_shortgpt.py`` of LyoAI/GRASP. The
angular form is that of Gromov et al. (arXiv 2403.17887).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reprune.lazy import LazyModule, torch
from reprune.method import ModelFacts, StructuralMethod, Target, Unsupported, leaves_a_block, setting

if TYPE_CHECKING:
    from reprune.calibration.subject import Subject

layers = LazyModule("reprune.surgery.layers")
similarity = LazyModule("reprune.calibration.similarity")


@dataclass(frozen=True)
class Settings:
    metric: str = setting(
        "cosine",
        "cosine: the blocks with the least 1 - mean cos of their input and output; angular: the run of "
        "consecutive blocks over which the last token turns least",
        choices=("cosine", "angular"),
    )
    last_hidden: str = setting(
        "pre_norm",
        "the state after the last block: itself, or after the final norm (GRASP's code)",
        choices=("pre_norm", "post_norm"),
    )
    layers: int | None = setting(
        None, "how many blocks to delete; none: the number nearest to the target", minimum=1
    )


class ShortGPT(StructuralMethod):
    """Delete the decoder blocks of least influence on the hidden state; no weight is changed."""

    Settings = Settings
    kinds = ("layer",)

    @classmethod
    def supports(cls, facts: ModelFacts, target: Target, settings: Settings) -> Unsupported | None:
        if settings.layers and settings.layers >= facts.layers:
            return Unsupported(f"the model has {facts.layers} layers", f"layers {facts.layers - 1}")
        return super().supports(facts, target, settings) or leaves_a_block(facts, target)

    @classmethod
    def passes(cls, settings: Settings) -> float:
        return 1.0

    def compress(self, subject: Subject) -> None:
        count = self.settings.layers or subject.facts.blocks_for(self.target.sparsity)
        together = self.settings.metric == "angular"
        values = self.similarities(subject, count if together else 1)
        chosen = most_alike_run(values, count) if together else most_alike(values, count)
        subject.notes |= {"similarity": values.tolist(), "chosen": chosen}
        layers.drop_blocks(subject.model, chosen)

    def similarities(self, subject: Subject, span: int) -> torch.Tensor:
        """(blocks + 1 - span,) how alike the states ``span`` blocks apart are, by the first block."""
        metric, last = self.settings.metric, self.settings.last_hidden
        compare = similarity.last_angles if metric == "angular" else similarity.cosines

        def measure() -> dict[str, torch.Tensor]:
            return {metric: similarity.similarities(subject, (span,), last, compare)[span]}

        return subject.remember(f"{metric}-{span}-{last}", measure)[metric]


def most_alike(values: torch.Tensor, count: int) -> list[int]:
    """The blocks with the most similar input and output, which have the least influence, in this order.

    Of equal ones the lower index comes first.
    """
    return values.argsort(descending=True, stable=True)[:count].tolist()


def most_alike_run(values: torch.Tensor, count: int) -> list[int]:
    """``count`` consecutive blocks, the first being the one with the highest of ``values``."""
    start = int(values.argmax())
    return list(range(start, start + count))
