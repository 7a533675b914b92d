"""Masks over weights: which entries of a score matrix are the lowest, counted exactly.

Every function returns a boolean tensor of the scores' shape, True where a weight is *pruned*. Ties are
broken by position (stable order), so equal scores give the same mask on every machine.
"""

from __future__ import annotations

import torch
from torch import nn


def lowest_per_row(scores: torch.Tensor, count: int | torch.Tensor) -> torch.Tensor:
    """The ``count`` lowest scores of each row; ``count`` is one number or (rows,) numbers."""
    if torch.is_tensor(count):
        return ascending_ranks(scores) < count.unsqueeze(1)
    if count == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    # Selecting costs a third of sorting; only rows with ties at the threshold need their order.
    mask = scores <= scores.kthvalue(count, dim=1, keepdim=True).values
    tied = mask.sum(dim=1) > count
    if tied.any():
        mask[tied] = ascending_ranks(scores[tied]) < count
    return mask


def lowest_overall(scores: torch.Tensor, count: int) -> torch.Tensor:
    """The ``count`` lowest scores of the whole matrix."""
    if count == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    threshold = scores.flatten().kthvalue(count).values
    mask = (scores < threshold).contiguous()
    ties = (scores == threshold).flatten().nonzero().flatten()
    mask.view(-1)[ties[: count - int(mask.sum())]] = True
    return mask


def lowest_n_of_m(scores: torch.Tensor, n: int, m: int) -> torch.Tensor:
    """The ``n`` lowest scores in each group of ``m`` consecutive columns of each row.

    Raises ValueError if the number of columns is not a multiple of ``m``.
    """
    rows, columns = scores.shape
    if columns % m:
        raise ValueError(f"{columns} columns do not divide into groups of {m}")
    groups = scores.reshape(rows * columns // m, m)
    return lowest_per_row(groups, n).view(rows, columns)


def ascending_ranks(scores: torch.Tensor) -> torch.Tensor:
    """(rows, columns) rank of each entry in its row, 0 the lowest; stable."""
    order = torch.sort(scores, dim=1, stable=True).indices
    ranks = torch.empty_like(order)
    return ranks.scatter_(1, order, torch.arange(scores.shape[1]).expand_as(order))


@torch.no_grad()
def prune(layer: nn.Linear, mask: torch.Tensor) -> None:
    """Set the weights of ``layer`` to zero where ``mask`` is True."""
    layer.weight.masked_fill_(mask, 0.0)


def inverse_cholesky(hessian: torch.Tensor, percdamp: float) -> tuple[torch.Tensor, float]:
    """U, upper triangular with UᵀU = H⁻¹, and the damping that was needed.

    ``percdamp`` times the mean diagonal is added to the diagonal of ``hessian`` (columns, columns), whose
    zeros (inputs that never fire) become one first. While the matrix is not positive definite the damping
    grows tenfold, up to the mean diagonal itself; then ArithmeticError. SparseGPT, section 3.2; the
    official code factorises H, inverts it and factorises the inverse.
    """
    # Factorised from the last column on, H = R Rᵀ with R upper triangular; then U = R⁻¹.
    damped = hessian.flip(0, 1)
    diagonal = damped.diagonal()
    diagonal[diagonal == 0] = 1
    undamped, mean = diagonal.clone(), diagonal.mean()
    while True:
        torch.add(undamped, mean * percdamp, out=diagonal)
        factor, failed = torch.linalg.cholesky_ex(damped)
        if not failed:
            break
        if percdamp >= 1:
            raise ArithmeticError("the Hessian is not positive definite, even damped by its mean diagonal")
        percdamp = min(10 * percdamp, 1.0)
    identity = torch.eye(len(damped), dtype=damped.dtype)
    return torch.linalg.solve_triangular(factor, identity, upper=False).flip(0, 1), percdamp
