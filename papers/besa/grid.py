"""Candidate sparsities, and the means a softmax over them can reach; without torch, for planning."""

from __future__ import annotations

import math


def candidates(step: float) -> list[float]:
    """The candidate sparsities 1, 1 − step, ..., 0 (official grid: both ends included)."""
    parts = round(1 / step)
    return [(parts - i) / parts for i in range(parts + 1)]


def tilt_towards(target: float, grid: list[float]) -> float:
    """k such that logits k·p_d give the mean sparsity ``target``, by bisection; at 0.5 it is 0.

    Added to the learnable logits it moves their starting point from 0.5 to the target.
    """
    if math.isclose(mean_sparsity(grid, [0.0] * len(grid)), target, rel_tol=1e-12):
        return 0.0
    low, high = -1e4, 1e4
    for _ in range(100):
        middle = (low + high) / 2
        if mean_sparsity(grid, [middle * p for p in grid]) < target:
            low = middle
        else:
            high = middle
    return middle


def reachable(grid: list[float], tilt: float, smooth: str) -> tuple[float, float]:
    """The open interval of mean sparsities that logits smooth(θ) + tilt·p_d can give.

    A sigmoid keeps its outputs in (0, 1). The mean is extreme when all candidates on one side of some cut
    stand at 1 and all others at 0.
    """
    if smooth == "none":
        return 0.0, 1.0

    def mean_at(cut: int, above: float) -> float:
        return mean_sparsity(grid, [tilt * p + (above if i < cut else 1 - above) for i, p in enumerate(grid)])

    places = range(len(grid) + 1)
    return min(mean_at(cut, 0.0) for cut in places), max(mean_at(cut, 1.0) for cut in places)


def mean_sparsity(grid: list[float], logits: list[float]) -> float:
    """Σ softmax(logits)_d · p_d in float64."""
    top = max(logits)
    weights = [math.exp(logit - top) for logit in logits]
    return math.fsum(w * p for w, p in zip(weights, grid, strict=True)) / math.fsum(weights)
