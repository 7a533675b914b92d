"""How many structures LLM-Pruner cuts in which blocks, and the shape that is left: no weights, no torch.

LLM-Pruner, section 4.1 and appendix B (ratios and protected layers); official code ``hf_prune.py`` and
``LLMPruner/torch_pruning/pruner/algorithms/metapruner.py`` (truncation, schedule).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from reprune.method import ModelFacts, Target, Unsupported
from reprune.models.counts import BlockShape, Shape

if TYPE_CHECKING:
    from papers.llm_pruner.method import Settings

PUBLISHED_BLOCKS = 32  # of LLaMA-7B; the first and last that are kept whole are published for it
MANY = 0.35  # from here on as at 50 %, below as at 20 %


class Family(NamedTuple):
    """Structures alike: how many, the parameters and the channels of each; of a head those of its keys."""

    units: int
    cost: int
    width: int


def shape(facts: ModelFacts, target: Target, settings: Settings) -> Shape | None:
    """What is left of a model; None with a global ranking, which lets the scores decide where to cut.

    Raises ValueError for a model that is not of LLaMA's form.
    """
    if settings.ranking == "global":
        return None
    dense, gone = Shape.of(facts), removed(facts, target, settings)
    if settings.strategy == "channel":
        return replace(dense, hidden_size=dense.hidden_size - gone[0])
    blocks, group = list(dense.blocks), facts.heads // facts.kv_heads
    cut = blocks_to_cut(facts.layers, target.sparsity, settings)
    for index, heads, channels in zip(cut, gone[::2], gone[1::2], strict=True):
        whole = blocks[index]
        blocks[index] = BlockShape(
            whole.heads - heads * group, whole.kv_heads - heads, whole.intermediate_size - channels
        )
    return replace(dense, blocks=tuple(blocks))


def refused(facts: ModelFacts, target: Target, settings: Settings) -> Unsupported | None:
    """Every family keeps a structure: what asks for more, or leaves no block to cut, is refused."""
    if not target.structural:
        return None
    if settings.strategy == "channel":
        idle = [
            name for name in ("keep_first", "keep_last", "only_depth") if getattr(settings, name) is not None
        ]
        if idle:
            return Unsupported(
                f"hidden channels run through all blocks, so {idle[0]} has no meaning", "block"
            )
        if settings.aggregation == "product":
            return Unsupported("a product of hundreds of scores is zero for every hidden channel", "sum")
    if settings.only_depth is not None and (settings.keep_first, settings.keep_last) != (None, None):
        return Unsupported(
            "only_depth names the one block that is cut, nothing is left to keep", "only_depth"
        )
    every = families(facts, target.sparsity, settings)
    if not every:
        return Unsupported(f"all {facts.layers} blocks are protected", "a smaller keep_first or keep_last")
    most = sum((family.units - 1) * family.cost for family in every) / facts.parameters
    if settings.group_ratio is None and target.sparsity > most:
        return Unsupported(
            f"one structure of every family must stay, then {most:.1%} of the parameters are gone",
            f"{int(100 * most)}% of parameters",
        )
    gone = removed(facts, target, settings)
    if any(count >= family.units for count, family in zip(gone, every, strict=True)):
        return Unsupported("a family would lose all its structures", "a smaller group_ratio")
    return None


def blocks_to_cut(layers: int, share: float, settings: Settings) -> range:
    """The indices of the blocks that are cut when ``share`` of all parameters is to go.

    The published runs keep the first 4 and last 2 of 32 blocks whole at 20 %. At 50 % their parameters
    and multiply-accumulates are those of 3 and 1 kept blocks, where the text has one more at the end.
    """
    if settings.only_depth is not None:
        only = round(settings.only_depth * (layers - 1))
        return range(only, only + 1)
    usual = (4, 2) if share < MANY else (3, 1)
    first, last = (
        round(layers * blocks / PUBLISHED_BLOCKS) if kept is None else kept
        for kept, blocks in zip((settings.keep_first, settings.keep_last), usual, strict=True)
    )
    return range(first, layers - last)


def families(facts: ModelFacts, share: float, settings: Settings) -> list[Family]:
    """What can be cut: of every block heads, then intermediate channels; or the hidden channels.

    With grouped heads a structure is a key-value head with its query heads.
    """
    hidden = facts.hidden_size
    if settings.strategy == "channel":
        return [Family(hidden, facts.parameters // hidden, 1)]
    group = facts.heads // facts.kv_heads
    heads = Family(facts.kv_heads, 2 * facts.head_dim * (group + 1) * hidden, facts.head_dim)
    channels = Family(facts.intermediate_size, 3 * hidden, 1)
    return [heads, channels] * len(blocks_to_cut(facts.layers, share, settings))


def removed(facts: ModelFacts, target: Target, settings: Settings) -> list[int]:
    """How many structures of each of the :func:`families` go."""
    every = families(facts, target.sparsity, settings)
    capacity = sum(family.units * family.cost for family in every)
    if settings.counting == "parameters":
        remove = asked(target.sparsity, facts.parameters, capacity, settings)
        return apportion([(family.units, family.cost) for family in every], remove)
    ratio = share_of_families(target.sparsity, facts.parameters, capacity, settings)
    return [official_count(family.units, family.units, family.width, ratio) for family in every]


def asked(share: float, parameters: int, capacity: int, settings: Settings) -> float:
    """How many parameters are to go: ``share`` of all, or the setting ``group_ratio`` of the ``capacity``."""
    return share * parameters if settings.group_ratio is None else settings.group_ratio * capacity


def share_of_families(share: float, parameters: int, capacity: int, settings: Settings) -> float:
    """The share of every family's structures that goes, so that ``share`` of all ``parameters`` does.

    ``capacity`` is what all structures have that may be cut; the setting ``group_ratio`` comes before it.
    """
    return share * (parameters / capacity) if settings.group_ratio is None else settings.group_ratio


def apportion(families: Sequence[tuple[int, int]], remove: float) -> list[int]:
    """How many units of each family of (units, cost of each) go, so that they cost ``remove`` together.

    Every family gives about the same share. Those of costly units come first and round to whole units; what
    they miss goes to the next, so that the cheapest set it right to half a unit. One unit of each stays.
    """
    counts, capacity = [0] * len(families), sum(units * cost for units, cost in families)
    for index in sorted(range(len(families)), key=lambda index: -families[index][1]):
        units, cost = families[index]
        counts[index] = min(max(round(remove / capacity * units), 0), units - 1)
        remove -= counts[index] * cost
        capacity -= units * cost
    return counts


def official_count(units: int, original: int, width: int, ratio: float) -> int:
    """How many of ``units`` structures, ``width`` channels each, the official code cuts next.

    So many that ``ratio`` of the channels of the ``original`` ones are gone, what stays truncated to a whole
    channel and what goes to whole structures: of 32 heads of 128 at 0.6, 1638 channels of 4096 would stay, so
    2458 or 19 heads go.
    """
    return (units * width - int(original * width * (1 - ratio))) // width
