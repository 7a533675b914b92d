"""LaCo: collapse rear layers into the ones before them while the model's output stays alike.

Yang et al., "LaCo: Large Language Model Pruning via Layer Collapse" (arXiv 2402.11187), Algorithm 1; official
code ``laco_llama-13b.ipynb`` of yangyifei729/LaCo.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from papers.laco.loop import Search, collapse, reach
from reprune.lazy import LazyModule
from reprune.method import ModelFacts, StructuralMethod, Target, Unsupported, leaves_a_block, setting

if TYPE_CHECKING:
    from reprune.calibration.subject import Subject

layers = LazyModule("reprune.surgery.layers")
trials = LazyModule("papers.laco.trials")

MERGED_SHARE = 7 / 32  # C over the depth in GRASP's run on LLaMA-2-7B
OFFICIAL_THRESHOLD = 0.45


@dataclass(frozen=True)
class Settings:
    merge: str = setting(
        "telescoping",
        "projections of a merged layer: those of the last one (official code), or the first one's plus the "
        "sum of all differences from it (rdsc_sum, the paper's formula)",
        choices=("telescoping", "rdsc_sum"),
    )
    merged_layers: int | None = setting(
        None, "C, how many layers become one; none: 7 of 32, at least 2", minimum=2
    )
    highest: int | None = setting(
        None, "H, the loop starts at layer H - C; none: one less than the depth", minimum=2
    )
    lowest: int = setting(0, "L, the loop ends below this layer", minimum=0)
    interval: int = setting(1, "I, how many layers down after a merge", minimum=1)
    threshold: float | None = setting(
        None,
        "T, a merge needs an output more similar than this; none: the highest that lets the asked share go, "
        "or with `stop: threshold` 0.45, as in the official notebook and GRASP's run",
        minimum=-1,
        maximum=1,
    )
    stop: str = setting(
        "target",
        "target: when the asked share is gone, T being lowered if that needs it; threshold: the official "
        "loop, which knows no target",
        choices=("target", "threshold"),
    )
    sentences: int = setting(5, "how many calibration windows the outputs are compared on", minimum=1)
    sentence_length: int = setting(32, "how many tokens of each", minimum=1)


class LaCo(StructuralMethod):
    """Merge runs of layers from the top down wherever the last hidden state stays similar."""

    Settings = Settings
    kinds = ("layer",)

    @classmethod
    def supports(cls, facts: ModelFacts, target: Target, settings: Settings) -> Unsupported | None:
        search = search_of(facts.layers, settings)
        if search.highest > facts.layers:
            return Unsupported(f"the model has {facts.layers} layers", f"highest {facts.layers}")
        refused = super().supports(facts, target, settings) or leaves_a_block(facts, target)
        return refused or out_of_reach(facts, target, settings, search)

    @classmethod
    def passes(cls, settings: Settings) -> float:
        return 2.0

    def compress(self, subject: Subject) -> None:
        goal = subject.facts.blocks_for(self.target.sparsity) if self.settings.stop == "target" else None
        search, threshold = search_of(len(subject.blocks), self.settings, goal), self.settings.threshold
        tried = trials.Trials(
            subject,
            subject.windows[: self.settings.sentences, : self.settings.sentence_length],
            self.settings.merge,
        )
        if goal is None:
            threshold = OFFICIAL_THRESHOLD if threshold is None else threshold
            found = collapse(search, threshold, tried.similarity)
        else:
            found, threshold = reach(search, 1.0 if threshold is None else threshold, tried.similarity)
        subject.notes |= {"merged_layers": search.merged, "threshold": threshold, **tried.told(found.merges)}
        left = tried.layers(found.merges)
        for layer in left:
            subject.blocks[layer.members[0]] = layer.module
        layers.keep_blocks(subject.model, [layer.members[0] for layer in left])
        subject.replaced |= {index for index, layer in enumerate(left) if len(layer.members) > 1}


def out_of_reach(facts: ModelFacts, target: Target, settings: Settings, search: Search) -> Unsupported | None:
    """Whether too few layers would go even if every merge was kept."""
    most = collapse(search, 0.0, lambda *_: 1.0).removed
    if most >= (facts.blocks_for(target.sparsity) if settings.stop == "target" else 1):
        return None
    return Unsupported(
        f"C {search.merged}, H {search.highest}, L {search.lowest} and I {search.interval} let at most "
        f"{most} of {facts.layers} layers go",
        f"{int(100 * most * facts.block_parameters / facts.parameters)}% of parameters",
    )


def search_of(depth: int, settings: Settings, goal: int | None = None) -> Search:
    """The loop's range in a model of ``depth`` layers."""
    return Search(
        depth,
        settings.merged_layers or max(2, round(depth * MERGED_SHARE)),
        settings.highest or depth - 1,
        settings.lowest,
        settings.interval,
        goal,
    )
