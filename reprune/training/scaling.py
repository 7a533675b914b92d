"""Scaling laws: the loss that a model of another size of the same family would have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

STEEPEST = 64.0  # no exponent beyond is looked for


class Law(NamedTuple):
    """loss(N) = A / N^α + E in nats per token, A the ``scale``, α the ``exponent``, E the ``limit``.

    N are all parameters, embeddings too. Sheared-LLaMA (arXiv 2310.06694), appendix B: models of one family
    see the same number of tokens, so the data's term of Hoffmann et al.'s law is part of E, which may be
    negative.
    """

    scale: float
    exponent: float
    limit: float

    def loss(self, parameters: float) -> float:
        """The loss of a model with so many parameters."""
        return self.scale / parameters**self.exponent + self.limit


def through(points: Sequence[tuple[float, float]]) -> Law:
    """The law through three points (parameters, loss), which it meets exactly.

    Raises ValueError if there is none: sizes must differ, losses fall with size, and ever more slowly in the
    logarithm of it.
    """
    ordered = sorted(points)
    if len(ordered) != 3 or len({size for size, _ in ordered}) != 3:
        raise ValueError(f"a scaling law needs three models of different sizes, not {ordered}")
    sizes, losses = zip(*ordered, strict=True)
    if min(sizes) <= 0 or not losses[0] > losses[1] > losses[2]:
        raise ValueError(f"a scaling law needs losses that fall as models grow, not {ordered}")
    steps = [math.log(sizes[i + 1] / sizes[i]) for i in range(2)]
    exponent = _exponent(steps, (losses[0] - losses[1]) / (losses[1] - losses[2]))
    scale = (losses[0] - losses[2]) / (sizes[0] ** -exponent - sizes[2] ** -exponent)
    return Law(scale, exponent, losses[0] - scale * sizes[0] ** -exponent)


def _exponent(steps: Sequence[float], ratio: float) -> float:
    """The α > 0 at which the loss falls ``ratio`` times as far over the first of two steps in log N.

    With x for the steps, (exp(α x₁) − 1) / (1 − exp(−α x₂)) grows with α from x₁ / x₂ without bound.
    """
    from scipy.optimize import brentq

    def surplus(exponent: float) -> float:
        return math.expm1(exponent * steps[0]) / -math.expm1(-exponent * steps[1]) - ratio

    steepest = min(STEEPEST, 700 / steps[0])  # beyond, the power overflows
    if surplus(1e-9) >= 0 or surplus(steepest) <= 0:
        raise ValueError(
            f"no scaling law A / N^α + E falls {ratio:.3g} times as far over the first step in size as over "
            f"the second; it must be more than the steps' ratio in log N, {steps[0] / steps[1]:.3g}"
        )
    return brentq(surplus, 1e-9, steepest, xtol=1e-14)
