"""From sparsity coefficients to masks: BESA's differentiable masked weight and its counts (section 3.2).

Per step and layer the masked weight costs a few passes over memory of the weights' size: neither the keep
probabilities (rows, columns) nor the staircase (candidates, columns) is ever built.
"""

from __future__ import annotations

from typing import Any

import torch

# A float32 softmax of equal logits may sum to a little less than one: a row of 576 at sparsity 0.5 must
# lose 288 weights, not floor(287.9999). In weights.
ROUNDING = 1e-3


class SortedLayer:
    """A frozen weight (rows, columns) whose columns are ranked once, per row, by ascending score.

    ``grid`` are the D candidate sparsities, ``cuts`` the number of columns each of them prunes. ``ranks``
    are float32, so that a mask is one subtraction and one clamp. ``scratch`` is (2, at least rows · columns)
    of room that the layers of a block share, since fresh memory at every step costs more than the sums.
    """

    def __init__(
        self, weight: torch.Tensor, scores: torch.Tensor, grid: list[float], scratch: torch.Tensor
    ) -> None:
        rows, columns = weight.shape
        order = torch.sort(scores, dim=1, stable=True).indices
        self.weight = weight.detach()
        self.scratch = scratch[:, : weight.numel()]
        self.grid = torch.tensor(grid)
        # A tiny margin: 0.57 · 100 must cut 57, though the product is 56.999….
        self.cuts = (torch.tensor(grid, dtype=torch.float64) * columns + 1e-9).floor().long()
        self.ranks = torch.empty(rows, columns)
        self.ranks.scatter_(1, order, torch.arange(columns, dtype=torch.float32).expand(rows, columns))
        # Positions in the flattened weight: index_select with int32 is the fastest gather there is.
        self.order = (order + columns * torch.arange(rows).unsqueeze(1)).flatten().to(torch.int32)

    def keep(self, counts: torch.Tensor) -> torch.Tensor:
        """(rows, columns) 1.0 where the rank is at least the row's count, else 0.0."""
        return (self.ranks - (counts.float().unsqueeze(1) - 1)).clamp_(0, 1)

    def counts(self, beta: torch.Tensor, rule: str) -> tuple[torch.Tensor, torch.Tensor]:
        """(rows,) real and whole numbers of weights to prune, from β (rows or 1, D).

        Rule ``count``: α · columns, rounded down. Rule ``threshold``: all ranks whose prune probability is
        at least α; the probability steps down at the cuts, to the sum of β so far.
        """
        rows, columns = self.weight.shape
        alpha = beta.detach() @ self.grid
        if rule == "count":
            share = alpha.double() * columns
            count = (share + ROUNDING).floor().long()
        else:
            reached = beta.detach().cumsum(dim=1) >= alpha.unsqueeze(1) - 1e-6
            count = self.cuts[reached.int().argmax(dim=1)]
            share = count.double()
        return share.expand(rows), count.expand(rows)


class MaskedWeight(torch.autograd.Function):
    """Forward: W with the ``counts`` lowest-ranked weights of each row at zero.

    Backward: the mask's derivative is that of the keep probability, 1 − Σ β_d over candidates d with
    cut c_d > rank (straight-through), hence ∂L/∂β_d = −Σ ∂L/∂M over ranks below c_d. ``beta`` is
    (rows, D), or (1, D) where all rows share one vector.
    """

    @staticmethod
    def forward(ctx: Any, beta: torch.Tensor, counts: torch.Tensor, layer: SortedLayer) -> torch.Tensor:
        ctx.layer, ctx.shared = layer, beta.shape[0] == 1
        return layer.keep(counts).mul_(layer.weight)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        layer = ctx.layer
        by_mask, by_rank = (part.view_as(layer.weight) for part in layer.scratch)
        torch.mul(gradient, layer.weight, out=by_mask)
        torch.index_select(by_mask.view(-1), 0, layer.order, out=by_rank.view(-1))
        if ctx.shared:
            below = by_rank.sum(dim=0, keepdim=True).cumsum(dim=1)
        else:
            below = torch.cumsum(by_rank, dim=1, out=by_mask)
        sums = below.index_select(1, (layer.cuts - 1).clamp(min=0))
        return sums.mul_(-1.0 * (layer.cuts > 0)), None, None


class Allocation:
    """The learnable logits of one block, (groups, D), and what follows from them.

    A group is a row (granularity ``row``) or a whole layer. The mixture over the candidates is
    softmax(smooth(θ) + tilt · p).
    """

    def __init__(self, layers: list[SortedLayer], granularity: str, smooth: str, tilt: float) -> None:
        self.layers = layers
        self.smooth = smooth
        self.grid = layers[0].grid
        self.tilt = tilt * self.grid
        self.sizes = [layer.weight.shape[0] if granularity == "row" else 1 for layer in layers]
        self.weights = sum(layer.weight.numel() for layer in layers)
        self.portions = torch.cat(
            [
                torch.full((size,), layer.weight.numel() / size / self.weights)
                for layer, size in zip(layers, self.sizes, strict=True)
            ]
        )
        self.logits = torch.zeros(sum(self.sizes), len(self.grid), requires_grad=True)

    def coefficients(self) -> torch.Tensor:
        """β, (groups, D), on the simplex."""
        logits = self.logits.sigmoid() if self.smooth == "sigmoid" else self.logits
        return torch.softmax(logits + self.tilt, dim=1)

    def by_layer(self, beta: torch.Tensor) -> list[tuple[SortedLayer, torch.Tensor]]:
        """Each layer with its own rows of ``beta``."""
        return list(zip(self.layers, beta.split(self.sizes), strict=True))

    def sparsity(self, beta: torch.Tensor) -> torch.Tensor:
        """The block's soft sparsity: the mean of α over all weights."""
        return (beta @ self.grid) @ self.portions

    def masked_weights(self, beta: torch.Tensor, rule: str) -> list[torch.Tensor]:
        """The hard-masked weight of every layer, differentiable in ``beta``."""
        return [
            MaskedWeight.apply(part, layer.counts(part, rule)[1], layer)
            for layer, part in self.by_layer(beta)
        ]


def exact_counts(shares: torch.Tensor, widths: torch.Tensor, total: int) -> torch.Tensor:
    """Whole numbers in proportion to ``shares`` (rows,) that sum to ``total``: largest remainders first.

    No row gets more than its width. The proportions, that is the learned allocation, stay.
    """
    shares = shares * (total / shares.sum())
    counts = shares.floor().long().minimum(widths)
    order = torch.argsort(shares - counts, descending=True, stable=True)
    while (left := total - int(counts.sum())) > 0:
        counts[order[(counts < widths)[order]][:left]] += 1
    return counts
