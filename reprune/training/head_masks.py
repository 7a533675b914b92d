"""Gates on heads that are learned with the weights, under a penalty on those that stay open.

Voita et al. (arXiv 1905.09418), section 6.1; official code ``lib/layers/concrete_gate.py`` and
``lib/task/seq2seq/problems/concrete.py``. One gate for each head, drawn once for all sentences of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from reprune.surgery.head_gates import HeadGates, remove_heads
from reprune.training import hard_concrete
from reprune.training.course import Partner
from reprune.training.head_mask_settings import HeadMaskSettings

POLARISED = 0.9  # a gate is one whose draws are exactly 0, or exactly 1, more often than this


class HeadMasks(Partner):
    """Gates on a translation model with their ``logits`` log α, (layers, heads) by kind of attention.

    Raises ValueError for a model whose layers have different numbers of heads.
    """

    def __init__(self, model: Any, settings: HeadMaskSettings, seed: int) -> None:
        self.model, self.settings = model, settings
        self.gates = HeadGates(model, settings.kinds)
        self.generator = torch.Generator().manual_seed(seed)
        self.logits = {
            kind: nn.Parameter(torch.full(_shape(kind, counts), settings.start))
            for kind, counts in self.gates.heads.items()
        }

    @property
    def penalty_in_code(self) -> float:
        """The official code's coefficient that is as strong as the penalty."""
        return self.settings.penalty_in_code(sum(len(own) for own in self.logits.values()))

    def groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.logits.values()), "lr": self.settings.mask_rate}]

    def prepare(self, step: int) -> Tensor:
        """Draw the gates of a step and put them on the model; λ times the heads expected to be open."""
        self.gates.put(
            self._each(
                lambda own: hard_concrete.sampled(
                    own, hard_concrete.uniform_draws(own.shape, self.generator), self.settings.temperature
                )
            )
        )
        return self.settings.penalty * sum(own.sum() for own in self.probabilities().values())

    def probabilities(self) -> dict[str, Tensor]:
        """P(gate > 0), (layers, heads) by kind."""
        return self._each(lambda own: hard_concrete.open_probability(own, self.settings.temperature))

    def kept(self) -> dict[str, Tensor]:
        """Which heads stay if gates are hardened now, booleans (layers, heads) by kind."""
        return self._each(hard_concrete.hardened)

    @contextmanager
    def settled(self) -> Iterator[None]:
        """The model with hardened gates, 0 or 1, and without any afterwards."""
        with self.gates.applied({kind: own.float() for kind, own in self.kept().items()}):
            yield

    @torch.no_grad()
    def told(self) -> dict[str, Any]:
        """How far the gates are, by kind of attention.

        ``open`` heads by the paper's rule, ``open_in_code`` those that the official code counts, ``expected``
        the sum of P(gate > 0), ``polarised`` the share of gates that are 0, or are 1, in more than 90 % of
        draws; ``gates`` the official code's test-time gates by layer.
        """
        undrawn = self._each(hard_concrete.undrawn)
        return {
            "open": {kind: int(own.sum()) for kind, own in self.kept().items()},
            "open_in_code": {kind: int((own > 0).sum()) for kind, own in undrawn.items()},
            "expected": {kind: own.sum().item() for kind, own in self.probabilities().items()},
            "polarised": {k: own.float().mean().item() for k, own in self._each(self._polarised).items()},
            "gates": {kind: own.tolist() for kind, own in undrawn.items()},
        }

    def finish(self) -> dict[str, Tensor]:
        """Harden the gates and remove the heads whose gate is closed; what :meth:`kept` was."""
        kept = self.kept()
        self.gates.release()
        remove_heads(self.model, kept)
        return kept

    def state(self) -> dict[str, Tensor]:
        return {"generator": self.generator.get_state()}

    def resume(self, state: Mapping[str, Tensor]) -> None:
        self.generator.set_state(state["generator"])

    def _polarised(self, own: Tensor) -> Tensor:
        closed = 1 - hard_concrete.open_probability(own, self.settings.temperature)
        fully_open = hard_concrete.fully_open_probability(own, self.settings.temperature)
        return torch.maximum(closed, fully_open) > POLARISED

    def _each(self, made: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        return {kind: made(own) for kind, own in self.logits.items()}


def _shape(kind: str, counts: list[int]) -> tuple[int, int]:
    if len(set(counts)) != 1:
        raise ValueError(f"layers with {counts} heads of '{kind}': gates are learned on equal layers")
    return len(counts), counts[0]
