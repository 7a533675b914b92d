"""How much a structure matters: scores of channels at each place, and of whole structures.

LLM-Pruner, section 3.2; official code ``LLMPruner/pruner/hf_llama_pruner.py``, classes ``TaylorImportance``
and ``MagnitudeImportance``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from reprune.lazy import LazyModule, torch

if TYPE_CHECKING:
    from torch import Tensor

    from reprune.calibration.subject import Subject
    from reprune.surgery.coupling import Place

gradients = LazyModule("reprune.calibration.gradients")
widths = LazyModule("reprune.surgery.widths")

SECOND_ORDER = ("element2", "element12")
CHANNELS = 64  # scored at once
AGGREGATIONS: dict[str, Callable[[Any], Any]] = {
    "sum": lambda scores: scores.sum(dim=0),
    "mean": lambda scores: scores.mean(dim=0),
    "product": lambda scores: scores.prod(dim=0),
    "max": lambda scores: scores.amax(dim=0),
    "last": lambda scores: scores[-1],
}


def from_gradients(subject: Subject, places: Iterable[Place], second: bool) -> dict[str, Tensor]:
    """The scores of every channel at ``places`` by every estimator that reads gradients, (channels,) each.

    One pass over the calibration, window by window, gives the gradient g of the mean loss and Σ_j g_j², g_j
    that of window j; the official code makes a pass for each. Without ``second`` order the squares, as many
    as weights, are left out. Names are those of :func:`named`.
    """
    where = {place: widths.names_at(subject.model, place) for place in places}
    names = {name for entries in where.values() for name, _ in entries}
    weights = {name: subject.model.get_parameter(name) for name in names}
    tables = (weights, *accumulated(subject, weights, second))
    scores = {}
    for place, entries in where.items():
        found = scores_at(tables, entries, len(subject.windows))
        scores |= {named(estimator, place): score for estimator, score in found.items()}
    return scores


def scores_at(
    tables: tuple[dict[str, Tensor], ...], entries: list[tuple[str, int]], samples: int
) -> dict[str, Tensor]:
    """The scores by all estimators, (channels,) each, some channels at a time, which bounds their products.

    ``tables`` are weights, gradients and sums of squared gradients by name.
    """
    name, dimension = entries[0]
    parts = []
    for first in range(0, tables[0][name].shape[dimension], CHANNELS):
        cut = [
            by_channel((narrowed(table[name], dimension, first), dimension) for name, dimension in entries)
            for table in tables
        ]
        w, g, squares = (*cut, None)[:3]
        parts.append(taylor(w, g, squares, samples))
    return {estimator: torch.cat([part[estimator] for part in parts]) for estimator in parts[0]}


def narrowed(tensor: Tensor, dimension: int, first: int) -> Tensor:
    """:data:`CHANNELS` of a tensor from the ``first`` on, or those that are left."""
    return tensor.narrow(dimension, first, min(CHANNELS, tensor.shape[dimension] - first))


def without_gradients(subject: Subject, place: Place, kind: str) -> Tensor:
    """(channels,) scores by the size of weights, or by chance."""
    parameters = widths.parameters_at(subject.model, place)
    weights = by_channel(parameters)
    if kind == "random":
        return torch.rand(len(weights), generator=subject.generator)
    return magnitude(weights, kind)


def named(estimator: str, place: Place) -> str:
    """What the scores of one estimator at one place are called."""
    return f"{estimator}:{place.layer}:{place.side}"


def accumulated(subject: Subject, parameters: dict[str, Any], second: bool) -> list[dict[str, Tensor]]:
    """g of every parameter, and Σ_j g_j² if asked, in float32 (in float16 most squares would vanish)."""
    sums = [{n: torch.zeros_like(p) for n, p in parameters.items()} for _ in range(1 + second)]
    windows = len(subject.windows)

    def add(name: str, gradient: Tensor) -> None:
        sums[0][name] += gradient
        if second:
            sums[1][name] += gradient.mul_(windows).square_()  # of this window's own mean loss

    gradients.gradients(subject, parameters, add, windows_at_once=1)
    return sums


def by_channel(pieces: Iterable[tuple[Tensor, int]]) -> Tensor:
    """(channels, entries) from tensors with the dimension that counts channels: a weight with its bias."""
    flat = [tensor.movedim(dimension, 0).reshape(tensor.shape[dimension], -1) for tensor, dimension in pieces]
    return flat[0] if len(flat) == 1 else torch.cat(flat, dim=1)


def taylor(w: Tensor, g: Tensor, squares: Tensor | None, samples: int) -> dict[str, Tensor]:
    """The scores (channels,) of weights (channels, entries) by all estimators from gradients.

    ``g`` is the gradient of the mean loss and ``squares`` Σ_j g_j² over ``samples`` samples. ``vector`` is
    the first term of Eq. 3, ``element1`` and ``element2`` are one term of Eq. 5 each, ``element12`` is all of
    it, |g w - ½ Σ_j (g_j w)²|; with ``-mean`` the sum over samples is a mean, as in the official code.
    """
    first = w * g
    found = {"vector": first.sum(dim=1).abs(), "element1": first.abs().sum(dim=1)}
    if squares is None:
        return found
    second = w.square() * squares
    return found | {
        "element2": second.sum(dim=1) / 2,
        "element2-mean": second.sum(dim=1) / samples,
        "element12": (first - second / 2).abs().sum(dim=1),
        "element12-mean": (first - second / (2 * samples)).abs().sum(dim=1),
    }


def magnitude(w: Tensor, kind: str) -> Tensor:
    """(channels,) Σ |w| for ``l1`` and Σ w², without a root, for ``l2``; weights (channels, entries)."""
    return w.abs().sum(dim=1) if kind == "l1" else w.square().sum(dim=1)


def folded(scores: Tensor, features: Tensor, width: int, kv_fold: str) -> Tensor:
    """(units, width) of a place that may have several channels for each of ``width``.

    With grouped heads a structure has more query channels than key channels: those of its own query heads are
    added up, ``groups``. The official code takes every n-th head of the layer instead, of other structures.
    """
    units, own = features.shape
    if kv_fold == "official":
        return scores[features.flatten().sort().values].view(own // width, units, width).sum(dim=0)
    return scores[features].view(units, own // width, width).sum(dim=1)


def structure_scores(
    scores: list[Tensor], features: list[Tensor], aggregation: str, order: str, kv_fold: str
) -> Tensor:
    """(units,) the scores of structures from those of the channels, (channels,), at each of their places.

    ``features`` are (units, channels of a unit) for each place, in order of execution. The paper adds up the
    channels of a structure at each place and then aggregates over places; the ``official`` order aggregates
    each channel over places before it adds up channels. They agree for sums.
    """
    width = min(own.shape[1] for own in features)
    each = torch.stack(
        [folded(s, own, width, kv_fold) for s, own in zip(scores, features, strict=True)]
    )  # (places, units, width)
    aggregate = AGGREGATIONS[aggregation]
    return aggregate(each).sum(dim=1) if order == "official" else aggregate(each.sum(dim=2))
