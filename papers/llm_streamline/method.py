"""LLM-Streamline: replace consecutive layers that change the hidden state little by one small network.

Chen et al., "Streamlining Redundant Layers to Compress Large Language Models" (arXiv 2403.19135); official
code RUCKBReasoning/LLM-Streamline; as a baseline of GRASP ``baseline/run_LLMStreamline.py`` of LyoAI/GRASP.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reprune.lazy import LazyModule, torch
from reprune.method import ModelFacts, StructuralMethod, Target, Unsupported, leaves_a_block, setting

if TYPE_CHECKING:
    from reprune.calibration.block import Block
    from reprune.calibration.subject import Subject

layers = LazyModule("reprune.surgery.layers")
regression = LazyModule("papers.llm_streamline.regression")
similarity = LazyModule("reprune.calibration.similarity")

DROPOUT = 0.1


@dataclass(frozen=True)
class Settings:
    variant: str = setting(
        "layer",
        "what takes the layers' place: the first of them (official code), a feed-forward network, or nothing",
        choices=("layer", "ffn", "none"),
    )
    train: str = setting(
        "mse",
        "mse: train it to map the state before the layers to the state after them; none: leave that to "
        "recovery of kind `replaced`, as GRASP's table does",
        choices=("mse", "none"),
    )
    last_hidden: str = setting(
        "pre_norm",
        "the state after the last layer, in the choice of layers: itself, or after the final norm (official "
        "code)",
        choices=("pre_norm", "post_norm"),
    )
    window: int | None = setting(
        None,
        "how many layers are replaced; none: so many that the net share is nearest to the target",
        minimum=1,
    )
    epochs: int = setting(10, "times each calibration window is trained on", minimum=1)
    batch_size: int = setting(1, "calibration windows of one step", minimum=1)
    learning_rate: float = setting(2e-3, "highest learning rate of AdamW", minimum=0)
    weight_decay: float = setting(1e-3, "weight decay of AdamW", minimum=0)


class LLMStreamline(StructuralMethod):
    """Replace the most alike run of layers by one trained layer, a feed-forward network, or nothing."""

    Settings = Settings
    kinds = ("layer",)

    @classmethod
    def supports(cls, facts: ModelFacts, target: Target, settings: Settings) -> Unsupported | None:
        least, most = windows(facts, settings.variant)
        if settings.window and not least <= settings.window <= most:
            return Unsupported(
                f"of {facts.layers} layers variant '{settings.variant}' can replace {least} to {most}",
                f"window {min(max(settings.window, least), most)}",
            )
        added = added_parameters(facts, "ffn") if settings.variant == "ffn" else 0.0
        return super().supports(facts, target, settings) or leaves_a_block(facts, target, added)

    @classmethod
    def passes(cls, settings: Settings) -> float:
        return 2.0 + (0.1 * settings.epochs if settings.train == "mse" else 0.0)

    def compress(self, subject: Subject) -> None:
        settings = self.settings
        window = settings.window or window_for(subject.facts, settings.variant, self.target.sparsity)
        values = self.similarities(subject, window)
        start = int(values.argmax())
        gone = range(start, start + window)
        subject.notes |= {"similarity": values.tolist(), "chosen": list(gone)}
        if settings.variant != "none":
            subject.blocks[start] = self.replacement(subject, gone)
            subject.replaced.add(start)
            gone = gone[1:]
        layers.drop_blocks(subject.model, gone)

    def similarities(self, subject: Subject, window: int) -> torch.Tensor:
        """(layers + 1 - window,) mean cosine of the states before and after as many layers, by the first."""
        last = self.settings.last_hidden

        def measure() -> dict[str, torch.Tensor]:
            return {"cosine": similarity.similarities(subject, (window,), last)[window]}

        return subject.remember(f"cosine-{window}-{last}", measure)["cosine"]

    def replacement(self, subject: Subject, gone: range) -> torch.nn.Module:
        """What stands for the layers ``gone``, trained if it shall be."""
        facts, settings, module = subject.facts, self.settings, subject.blocks[gone[0]]
        if settings.variant == "ffn":
            module = regression.new_feed_forward(
                facts.hidden_size, facts.intermediate_size, DROPOUT, subject.generator
            )
        if settings.train == "mse":
            first, targets = around(subject, gone)
            schedule = regression.Schedule(
                settings.epochs, settings.batch_size, settings.learning_rate, settings.weight_decay
            )
            first = dataclasses.replace(first, module=module)
            subject.notes["errors"] = regression.fit(first, targets, schedule, subject.progress)
        return module


def around(subject: Subject, gone: range) -> tuple[Block, torch.Tensor]:
    """The first of some layers with its inputs, and what the last gives, (windows, length, hidden size)."""
    for block in subject.stream():
        if block.index == gone[0]:
            first = block
        if block.index == gone[-1]:
            return first, block.outputs(block.inputs)
    raise IndexError(f"no layers {gone[0]} to {gone[-1]}")


def added_parameters(facts: ModelFacts, variant: str) -> float:
    """The weights of what takes the layers' place; a feed-forward network has three vectors besides."""
    if variant == "ffn":
        return facts.hidden_size * (2 * facts.intermediate_size + 3)
    return facts.block_parameters if variant == "layer" else 0.0


def windows(facts: ModelFacts, variant: str) -> tuple[int, int]:
    """The least and the greatest number of layers to replace: something must go, one with attention stays."""
    least = 1 + int(added_parameters(facts, variant) / facts.block_parameters)
    return least, facts.layers - (variant != "layer")


def window_for(facts: ModelFacts, variant: str, share: float) -> int:
    """How many layers to replace so that the net removal is nearest to ``share`` of all parameters."""
    least, most = windows(facts, variant)
    wanted = share * facts.parameters + added_parameters(facts, variant)
    return max(least, min(most, round(wanted / facts.block_parameters)))
