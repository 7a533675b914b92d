"""Linear layers as two factors: singular values, ranks, and putting factors in a layer's place."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from reprune.models.parts import LowRank, put


def svd(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """U (rows, k), S (k,) falling, Vᵀ (k, columns) of a matrix, k the smaller side; in float32 or float64.

    Decomposed with the longer side as rows, which costs half as much for a wide matrix.
    """
    if weight.shape[0] < weight.shape[1]:
        u, s, vt = svd(weight.T)
        return vt.T, s, u.T
    return torch.linalg.svd(weight, full_matrices=False)


def rank_for(rows: int, columns: int, removed: float) -> int:
    """The rank whose factors have at most the share 1 − ``removed`` of a matrix's weights, at least 1.

    int(rows · columns · (1 − removed) / (rows + columns)), in double precision and in this order, as GRASP's
    and SVD-LLM's official codes compute it.
    """
    return max(1, int(rows * columns * (1 - removed) / (rows + columns)))


def factored_size(rows: int, columns: int, rank: int) -> int:
    """How many weights two factors of ``rank`` have."""
    return rank * (rows + columns)


def even_ranks(shapes: Mapping[str, tuple[int, int]], remove: float) -> dict[str, int]:
    """Ranks with which factors in the place of all matrices hold ``remove`` weights less, by name.

    Every matrix loses the same share of its weights: its rank is :func:`rank_for` that share, or one more,
    as what truncation takes beyond ``remove`` is given back where it took most. ``remove`` is exceeded by
    less than one rank of one matrix. A matrix whose factors would not be smaller is left out, to stay dense.
    """
    if remove <= 0:
        return {}
    share = remove / sum(math.prod(shape) for shape in shapes.values())
    ranks = {name: rank_for(*shape, share) for name, shape in shapes.items()}
    taken = {n: (1 - share) * math.prod(shapes[n]) - factored_size(*shapes[n], ranks[n]) for n in shapes}
    spare = sum(taken.values())
    for name in sorted(taken, key=taken.__getitem__, reverse=True):
        if sum(shapes[name]) <= spare:
            ranks[name] += 1
            spare -= sum(shapes[name])
    return {n: k for n, k in ranks.items() if factored_size(*shapes[n], k) < math.prod(shapes[n])}


def scaled_factors(weight: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``up`` (rows, k) and ``down`` (k, columns), k the smaller side, with W = up · down.

    Their first r columns and rows are the W' of rank r with the least ‖(W − W') diag(scale)‖_F, for a
    positive ``scale`` (columns,) of the inputs.
    """
    up, down = balanced(*svd(weight * scale))
    return up, down / scale


@torch.no_grad()
def factorise(linear: nn.Linear, up: torch.Tensor, down: torch.Tensor) -> LowRank:
    """The layer with weight ``up`` (outputs, rank) @ ``down`` (rank, inputs) and the bias of ``linear``."""
    part = LowRank(linear.in_features, linear.out_features, down.shape[0], linear.bias is not None)
    part.down.weight.copy_(down)
    part.up.weight.copy_(up)
    if linear.bias is not None:
        part.up.bias.copy_(linear.bias)
    return part.to(linear.weight.dtype).requires_grad_(False)


def balanced(u: torch.Tensor, s: torch.Tensor, vt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``up`` = U √S and ``down`` = √S Vᵀ: neither factor's weights are much larger than the other's."""
    root = s.sqrt()
    return u * root, root.unsqueeze(1) * vt


def merge_low_rank(model: nn.Module) -> None:
    """Put dense layers in the place of all factors: the same outputs, nothing saved."""
    for name, part in [(n, m) for n, m in model.named_modules() if isinstance(m, LowRank)]:
        put(model, name, part.merged())
