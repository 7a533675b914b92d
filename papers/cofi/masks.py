"""Masks under one constraint on the whole model's expected size, so that blocks end with different shapes."""

from __future__ import annotations

import torch
from torch import Tensor

from reprune.training.lagrangian import expected_size, fraction_penalty
from reprune.training.masks import Masks

ALL = "all"


class OverallMasks(Masks):
    """Masks of which a share of all weights of heads and channels is expected to close, wherever.

    Kinds are ``attention`` and ``mlp``, a block's halves, ``head`` and ``intermediate``.
    """

    def __init__(self, *arguments: object, share: float) -> None:
        """``share`` of the weights are to go; the other arguments are those of :class:`Masks`."""
        super().__init__(*arguments)
        self.share = share
        self.whole = self._size({name: torch.ones_like(own) for name, own in self.logits.items()})

    def expected_share(self) -> Tensor:
        """(1,) the share of the weights that is expected to go (``get_expected_num_params``)."""
        return 1 - (self._size(self.probabilities()) / self.whole).reshape(1)

    def penalty(self) -> Tensor:
        return fraction_penalty(self.expected_share(), self.target(self.share), self.multipliers[ALL])

    def told(self) -> dict:
        told = super().told()
        told["sparsity"][ALL] = self.expected_share().item()
        return {**told, "wanted": {ALL: self.target(self.share)}}

    def cut(self) -> None:
        """Cut the model: in each row so many units stay as are expected to."""
        self.bound()
        self.finish(self.open_now())

    def _size(self, opened: dict[str, Tensor]) -> Tensor:
        return expected_size(
            torch.ones(1),  # hidden channels all stay
            opened["attention"][0],
            opened["head"],
            opened["mlp"][0],
            opened["intermediate"],
            self.gates.weights_per_unit("head"),
            self.gates.weights_per_unit("intermediate"),
        )
