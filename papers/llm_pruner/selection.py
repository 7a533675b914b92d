"""Which structures go: the lowest scores of each family, or of all families together.

LLM-Pruner, section 3.2 and appendix C.2; official code, ``metapruner.py`` in ``LLMPruner/torch_pruning``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reprune.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def lowest(scores: Tensor, count: int) -> list[int]:
    """The units with the ``count`` lowest scores; of equal ones the first."""
    return scores.argsort(stable=True)[:count].sort().values.tolist()


def lowest_of_all(scores: list[Tensor], costs: list[int], remove: float) -> list[list[int]]:
    """Units of all families by rising score until ``remove`` parameters are gone, as near as units allow.

    ``costs`` are the parameters of a unit by family. The last unit of a family stays.
    """
    gone: list[list[int]] = [[] for _ in scores]
    half = min(costs) / 2
    for family, unit in _rising(scores):
        if costs[family] <= remove + half and len(gone[family]) + 1 < len(scores[family]):
            gone[family].append(unit)
            remove -= costs[family]
    return [sorted(units) for units in gone]


def lowest_by_count(scores: list[Tensor], count: int) -> list[list[int]]:
    """The ``count`` lowest units of all families, whatever they cost, and those that score no higher.

    The official code's global ranking: a head and a channel both count one, and a family of which nothing
    would be left is not cut at all.
    """
    if count == 0:
        return [[] for _ in scores]
    threshold = torch.cat(scores).kthvalue(count).values
    chosen = [(own <= threshold).nonzero().flatten().tolist() for own in scores]
    return [[] if len(units) == len(own) else units for units, own in zip(chosen, scores, strict=True)]


def _rising(scores: list[Tensor]) -> list[tuple[int, int]]:
    """(family, unit) of all units by rising score."""
    owners = [(family, unit) for family, own in enumerate(scores) for unit in range(len(own))]
    return [owners[i] for i in torch.cat(scores).argsort(stable=True).tolist()]
