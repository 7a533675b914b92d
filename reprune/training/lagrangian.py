"""Constraints on how many gates stay open, as penalties with Lagrange multipliers.

The model and its gates descend on a penalty, its two multipliers ascend on it: the first grows or falls with
the sign of the excess, the second only grows. Sheared-LLaMA (arXiv 2310.06694), section 2.1, and CoFiPruning
(arXiv 2204.00408), section 3.2; official code of both: ``models/l0_module.py``.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

Multipliers = Iterable[Tensor]
"""λ₁ and λ₂ (λ and φ in Sheared-LLaMA's paper), scalars that begin at 0."""


def warmed(final: float, step: int, steps: int) -> float:
    """The target at ``step`` 0, 1, …: it rises evenly from 0 to ``final``, which it has from ``steps`` on."""
    return final * min(1.0, step / steps) if steps else final


def sparsity(opened: Tensor) -> Tensor:
    """The expected share of closed gates in each row of opening probabilities, (…, units) to (…)."""
    return 1 - opened.mean(-1)


def fraction_penalty(sparsities: Tensor, target: float, multipliers: Multipliers) -> Tensor:
    """λ₁ (s − t) + λ₂ (s − t)², its mean over the rows: the official codes' form.

    ``sparsities`` are those of :func:`sparsity`, of any shape, or one of a whole model, ``target`` is t.
    """
    return _penalty(sparsities - target, multipliers).mean()


def count_penalty(counts: Tensor, target: float, multipliers: Multipliers) -> Tensor:
    """λ (Σz − t) + φ (Σz − t)², summed over the rows: the form of Sheared-LLaMA's paper.

    ``counts`` are the open gates of each row, drawn or expected, ``target`` is how many to keep.
    """
    return _penalty(counts - target, multipliers).sum()


def _penalty(excess: Tensor, multipliers: Multipliers) -> Tensor:
    first, second = multipliers
    return first * excess + second * excess.square()


def expected_size(
    hidden: Tensor,
    attention: Tensor,
    head: Tensor,
    mlp: Tensor,
    intermediate: Tensor,
    per_head: int,
    per_channel: int,
) -> Tensor:
    """The expected number of weights in heads and intermediate channels, all gates taken as independent.

    Opening probabilities: ``hidden`` (d,), ``attention`` and ``mlp`` (L,), which are one tensor where a block
    has one gate, ``head`` (L, H), ``intermediate`` (L, m). ``per_head`` and ``per_channel`` are the weights
    that a unit has for each hidden channel (4 · head size, and 3 with a gated MLP). CoFiPruning, section 3.2;
    ``get_expected_num_params``.
    """
    heads = (attention * head.sum(-1)).sum()
    channels = (mlp * intermediate.sum(-1)).sum()
    return hidden.sum() * (per_head * heads + per_channel * channels)
