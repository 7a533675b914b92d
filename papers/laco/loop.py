"""LaCo's search as arithmetic on layer numbers; the model enters only through a function."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple


class Merge(NamedTuple):
    """``count`` layers after layer ``base`` go into it; numbers are those of the model as it then is."""

    base: int
    count: int


Similarity = Callable[[tuple[Merge, ...], Merge], float]
"""(merges already made, one more to try) to the similarity with the original model."""


@dataclass(frozen=True)
class Search:
    """Where the loop goes: ``merged`` layers (C) become one, from ``highest`` (H) down to ``lowest`` (L).

    ``interval`` (I) is how far down it goes after a merge, ``depth`` the original model's. At most ``goal``
    layers are removed, or as many as the loop finds if that is None.
    """

    depth: int
    merged: int
    highest: int
    lowest: int = 0
    interval: int = 1
    goal: int | None = None


@dataclass
class Outcome:
    """The merges made, in order, and the similarities of those that were refused."""

    merges: tuple[Merge, ...] = ()
    refused: list[float] = field(default_factory=list)

    @property
    def removed(self) -> int:
        return sum(merge.count for merge in self.merges)


def collapse(search: Search, threshold: float, similarity: Similarity) -> Outcome:
    """The loop of the official code: merge wherever the similarity stays above ``threshold``.

    Besides below ``lowest`` it ends when ``goal`` layers are gone; the last merge takes no more than are
    missing. The official reset to the top, for a position beyond the model's end, is not needed: a merge
    leaves its base, and the next position is below that.
    """
    found, base = Outcome(), search.highest - search.merged
    while base >= search.lowest and found.removed != search.goal:
        above = search.depth - found.removed - base - 1
        missing = above if search.goal is None else search.goal - found.removed
        merge = Merge(base, min(search.merged - 1, above, missing))
        value = similarity(found.merges, merge)
        if value > threshold:
            found.merges += (merge,)
            base -= search.interval
        else:
            found.refused.append(value)
            base -= 1
    return found


def reach(search: Search, highest: float, similarity: Similarity) -> tuple[Outcome, float]:
    """What the loop finds at the highest threshold, at most ``highest``, at which ``goal`` layers go.

    Returns that threshold as well. Each round's is just below the best similarity that the round before
    refused: at any in between, the loop would have done the same. (More layers may go at a higher threshold
    than at a lower one, so bisection would miss it.) Raises ValueError if all merges together are too few.
    """
    found = collapse(search, highest, similarity)
    while found.removed != search.goal:
        if not found.refused:
            raise ValueError(f"the loop removes {found.removed} layers at most, asked are {search.goal}")
        highest = math.nextafter(max(found.refused), -math.inf)
        found = collapse(search, highest, similarity)
    return found, highest
