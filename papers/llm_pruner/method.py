"""LLM-Pruner: cut out coupled structures, heads and channels, on which the loss depends least.

Ma, Fang and Wang, "LLM-Pruner: On the Structural Pruning of Large Language Models" (arXiv 2305.11627);
official code horseee/LLM-Pruner, ``hf_prune.py`` and ``llama3.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from papers.llm_pruner import importance, selection, shapes
from reprune.lazy import LazyModule
from reprune.method import ModelFacts, StructuralMethod, Target, Unsupported, setting

if TYPE_CHECKING:
    from torch import Tensor

    from reprune.calibration.subject import Subject
    from reprune.models.counts import Shape
    from reprune.surgery.coupling import Family, Place

coupling = LazyModule("reprune.surgery.coupling")
widths = LazyModule("reprune.surgery.widths")

FROM_WEIGHTS = ("l1", "l2")
FROM_GRADIENTS = ("vector", "element1", "element2", "element12")


@dataclass(frozen=True)
class Settings:
    importance: str = setting(
        "element1",
        "score of a channel: first order by weight (element1), second order (element2), both (element12), "
        "first order of a whole row or column (vector), size of weights, or chance",
        choices=(*FROM_GRADIENTS, *FROM_WEIGHTS, "random"),
    )
    aggregation: str = setting(
        "sum",
        "score of a structure from those at its places; magnitudes are averaged, as in the official code",
        choices=("sum", "product", "max", "last"),
    )
    order: str = setting(
        "paper",
        "add up the channels of a structure at each place before aggregating over places, or after",
        choices=("paper", "official"),
    )
    kv_fold: str = setting(
        "groups",
        "query heads count for the key head they belong to, or for another one (official code)",
        choices=("groups", "official"),
    )
    fisher: str = setting(
        "sum",
        "second order: sum over samples (Eq. 5) or their mean (official code)",
        choices=("sum", "mean"),
    )
    strategy: str = setting(
        "block",
        "cut heads and intermediate channels of the inner blocks, or hidden channels through all",
        choices=("block", "channel"),
    )
    ranking: str = setting(
        "local", "compare structures within each layer or of all layers", choices=("local", "global")
    )
    counting: str = setting(
        "parameters",
        "so many structures that the asked share of all parameters goes, or a share of each family's "
        "structures, truncated (official code)",
        choices=("parameters", "official"),
    )
    steps: int = setting(1, "how often to score and cut until the target is reached", minimum=1)
    coupled: bool = setting(True, "remove structures, or rows and columns of each matrix by its own score")
    keep_first: int | None = setting(
        None, "blocks at the beginning that are not cut; none: an eighth, at higher targets fewer", minimum=0
    )
    keep_last: int | None = setting(
        None, "blocks at the end that are not cut; none: a sixteenth, at higher targets fewer", minimum=0
    )
    group_ratio: float | None = setting(
        None, "share of each family's structures to remove; none: what the target asks", minimum=0, maximum=1
    )
    only_depth: float | None = setting(
        None, "cut only the block at this share of the depth, 0 the first, 1 the last", minimum=0, maximum=1
    )


class LLMPruner(StructuralMethod):
    """Cut out the heads and channels with the least first-order effect on the loss."""

    Settings = Settings
    kinds = ("width",)

    @classmethod
    def supports(cls, facts: ModelFacts, target: Target, settings: Settings) -> Unsupported | None:
        return super().supports(facts, target, settings) or shapes.refused(facts, target, settings)

    @classmethod
    def shape(cls, facts: ModelFacts, target: Target, settings: Settings) -> Shape:
        return shapes.shape(facts, target, settings)

    @classmethod
    def passes(cls, settings: Settings) -> float:
        return 4.0 * settings.steps if settings.importance in FROM_GRADIENTS else 0.0

    def compress(self, subject: Subject) -> None:
        budget = None
        for step in range(1, self.settings.steps + 1):
            traced = coupling.families(subject.model)
            families = self.families(subject, traced)
            budget = budget or self.budget(subject, families)
            scores = self.channel_scores(subject, traced, families, dense=step == 1)
            units = self.units(subject, families, scores, budget, step / self.settings.steps)
            widths.remove(subject.model, self.removals(families, scores, units))
            subject.progress(step / self.settings.steps)
        for family, gone in zip(families, units, strict=True):
            report(subject, family, family.units - len(gone), budget.whole[last(family)].units)

    def families(self, subject: Subject, traced: list[Family]) -> list[Family]:
        """The structures that may be cut: of the blocks that are not protected, or the hidden channels."""
        if self.settings.strategy == "channel":
            return [family for family in traced if family.block is None]
        cut = shapes.blocks_to_cut(subject.facts.layers, self.target.sparsity, self.settings)
        return [family for family in traced if family.block in cut]

    def budget(self, subject: Subject, families: list[Family]) -> Budget:
        """What goes in all: the asked share of all parameters, or of what ``families`` hold."""
        whole = {
            last(family): shapes.Family(
                family.units,
                widths.cost(subject.model, family),
                min(own.shape[1] for own in family.members.values()),
            )
            for family in families
        }
        capacity = sum(family.units * family.cost for family in whole.values())
        of_all = self.target.sparsity, subject.facts.parameters, capacity, self.settings
        return Budget(shapes.asked(*of_all), shapes.share_of_families(*of_all), whole)

    def channel_scores(
        self, subject: Subject, traced: list[Family], families: list[Family], dense: bool
    ) -> dict[Place, Tensor]:
        """The importance of every channel, (channels,), at every place of ``families``.

        Those from gradients of the dense model serve all runs of a strategy. Every weight is in a hidden
        channel: there the second order, whose sums are as large as the model, is measured only if asked for.
        """
        kind, places = self.settings.importance, [place for family in families for place in family.members]
        if kind in (*FROM_WEIGHTS, "random"):
            return {place: importance.without_gradients(subject, place, kind) for place in places}
        of_blocks = self.settings.strategy == "block"
        second = of_blocks or kind in importance.SECOND_ORDER
        if dense:
            every = [
                p for family in traced if (family.block is not None) == of_blocks for p in family.members
            ]
            found = subject.remember(
                f"taylor-{self.settings.strategy}-{1 + second}",
                lambda: importance.from_gradients(subject, every, second),
            )
        else:
            found = importance.from_gradients(subject, places, second)
        averaged = self.settings.fisher == "mean" and kind in importance.SECOND_ORDER
        return {
            place: found[importance.named(f"{kind}-mean" if averaged else kind, place)] for place in places
        }

    def units(
        self,
        subject: Subject,
        families: list[Family],
        scores: dict[Place, Tensor],
        budget: Budget,
        share: float,
    ) -> list[list[int]]:
        """Which structures of each family go, so that ``share`` of the budget has gone afterwards."""
        settings = self.settings
        ranked = [self.scores_of(family, scores) for family in families]
        if settings.ranking == "global" and settings.counting == "parameters":
            costs = [widths.cost(subject.model, family) for family in families]
            left = share * budget.parameters - (subject.facts.parameters - subject.parameters)
            return selection.lowest_of_all(ranked, costs, left)
        if settings.ranking == "global":
            there, whole = sum(map(len, ranked)), sum(family.units for family in budget.whole.values())
            return selection.lowest_by_count(ranked, there - int(whole * (1 - share * budget.ratio)))
        counts = self.counts(families, budget, share)
        return [selection.lowest(own, count) for own, count in zip(ranked, counts, strict=True)]

    def counts(self, families: list[Family], budget: Budget, share: float) -> list[int]:
        """How many structures of each family go next: in all so many as a single step would take by then."""
        whole = [budget.whole[last(family)] for family in families]
        if self.settings.counting == "official":
            return [
                shapes.official_count(family.units, *dense[::2], share * budget.ratio)
                for family, dense in zip(families, whole, strict=True)
            ]
        gone = shapes.apportion([dense[:2] for dense in whole], share * budget.parameters)
        return [
            max(0, count - (dense.units - family.units))
            for family, dense, count in zip(families, whole, gone, strict=True)
        ]

    def scores_of(self, family: Family, scores: dict[Place, Tensor]) -> Tensor:
        """(units,) the importance of the structures of ``family``."""
        settings = self.settings
        averaged = settings.importance in FROM_WEIGHTS and settings.aggregation == "sum"
        return importance.structure_scores(
            [scores[place] for place in family.members],
            list(family.members.values()),
            "mean" if averaged else settings.aggregation,
            settings.order,
            settings.kv_fold,
        )

    def removals(
        self, families: list[Family], scores: dict[Place, Tensor], units: list[list[int]]
    ) -> list[dict[Place, Tensor]]:
        """What goes at each place: the structures, or as many of each matrix by its own scores alone."""
        if self.settings.coupled:
            return [widths.features_of(f, gone) for f, gone in zip(families, units, strict=True)]
        return [
            widths.features_of(alone, selection.lowest(self.scores_of(alone, scores), len(gone)))
            for family, gone in zip(families, units, strict=True)
            for alone in coupling.apart(family)
        ]


@dataclass(frozen=True)
class Budget:
    """What goes in all steps: parameters, their share of what may go, and the families of the dense model."""

    parameters: float
    ratio: float
    whole: dict[Place, shapes.Family]


def last(family: Family) -> Place:
    """The place that reads what the structures of a family give: it names the family."""
    return list(family.members)[-1]


def report(subject: Subject, family: Family, kept: int, whole: int) -> None:
    """Tell for a block's layer how many structures are left."""
    if family.block is None:
        subject.notes |= {"hidden_size": kept}
        return
    layer = last(family).layer.removeprefix(f"{subject.prefix}.{family.block}.")
    subject.report.setdefault(family.block, {})[layer] = {
        "structures": kept,
        "structures_share": kept / whole,
    }
