"""Whether swapping a kept and a pruned weight would be an improvement."""

from __future__ import annotations

import torch

from reprune.method import Target

SWAPS = 32


def better_swaps(scores: torch.Tensor, pruned: torch.Tensor, target: Target, within: str) -> int:
    """In how many groups some pruned weight scores above some kept one.

    ``scores`` and ``pruned`` are (rows, columns); weights compete inside their ``row`` or ``layer``, for
    n:m targets inside their m neighbours. Comparing the extremes tries every swap at once.
    """
    size = target.m if target.kind == "n:m" else scores.shape[1] if within == "row" else scores.numel()
    scores, pruned = scores.reshape(-1, size), pruned.reshape(-1, size)
    best_pruned = scores.masked_fill(~pruned, -torch.inf).amax(dim=1)
    worst_kept = scores.masked_fill(pruned, torch.inf).amin(dim=1)
    return int((best_pruned > worst_kept).sum())


def error_change(dense: torch.Tensor, after: torch.Tensor, hessian: torch.Tensor, target: Target) -> float:
    """Mean change of a layer's output error by random swaps, as a share of the error itself.

    A swap sets a kept weight of ``after`` to zero and a pruned one back to its value in ``dense``, inside
    one row (for n:m targets inside one group). With d = after - dense the error of a row is d H d', and the
    step s changes it by 2 d H s' + s H s'; nothing is run. ``hessian`` is X'X up to a factor.
    """
    rows, columns = dense.shape
    size = target.m if target.kind == "n:m" else columns
    kept = (after != 0).reshape(-1, size)
    both = kept.any(dim=1) & (~kept).any(dim=1)
    row = torch.arange(rows).repeat_interleave(columns // size)[both].unsqueeze(1)
    start = (torch.arange(0, rows * columns, size) % columns)[both].unsqueeze(1)
    generator = torch.Generator().manual_seed(0)
    j, k = (
        start + torch.multinomial(mask[both].float(), SWAPS, replacement=True, generator=generator)
        for mask in (kept, ~kept)
    )
    change = after - dense
    slope = change @ hessian
    out, back = -after[row, j], dense[row, k]
    effect = (
        2 * (slope[row, j] * out + slope[row, k] * back)
        + out.square() * hessian[j, j]
        + back.square() * hessian[k, k]
        + 2 * out * back * hessian[j, k]
    )
    return (effect.mean() * rows / (slope * change).sum()).item()
