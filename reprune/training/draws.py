"""Drawing training windows from domains with chances that may change from step to step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from reprune.plan.identity import stream_seed


class Draws:
    """Draws windows from ``train``, {domain: (windows, length) tokens}; ``seen`` counts those of each domain.

    Each draw chooses its domain by itself, so a batch's shares vary; inside a domain every window comes once
    in shuffled order, then over again in a new one (Sheared-LLaMA's official code,
    ``llmshearing/datasets/streaming_dataset.py``). What comes next follows from ``seed`` and from how much
    was drawn alone.
    Raises ValueError if a domain has no window.
    """

    def __init__(self, train: Mapping[str, Tensor], seed: int) -> None:
        if empty := [domain for domain, windows in train.items() if len(windows) == 0]:
            raise ValueError(f"no training windows for {', '.join(empty)}")
        self.train, self.seed, self.batches = train, seed, 0
        self.seen = dict.fromkeys(train, 0)
        self._orders: dict[str, tuple[int, Tensor]] = {}

    def batch(self, weights: Mapping[str, float], size: int) -> tuple[Tensor, list[str]]:
        """``size`` windows, (size, length) int64, and the domain of each, drawn with chances ``weights``.

        Raises ValueError if a domain's chance is missing.
        """
        domains = list(self.train)
        if missing := [domain for domain in domains if domain not in weights]:
            raise ValueError(f"no weight for {', '.join(missing)}; there are {dict(weights)}")
        generator = self._generator("batch", self.batches)
        chances = torch.tensor([weights[domain] for domain in domains], dtype=torch.float64)
        chosen = torch.multinomial(chances, size, replacement=True, generator=generator)
        drawn = [domains[i] for i in chosen.tolist()]
        self.batches += 1
        return torch.stack([self._next(domain) for domain in drawn]).long(), drawn

    def _next(self, domain: str) -> Tensor:
        windows = self.train[domain]
        times, position = divmod(self.seen[domain], len(windows))
        if domain not in self._orders or self._orders[domain][0] != times:
            order = torch.randperm(len(windows), generator=self._generator("order", domain, times))
            self._orders[domain] = times, order
        self.seen[domain] += 1
        return windows[self._orders[domain][1][position]]

    def _generator(self, *parts: Any) -> torch.Generator:
        return torch.Generator().manual_seed(stream_seed(self.seed, *parts))

    def state(self) -> dict[str, Any]:
        """What :meth:`resume` goes on from, as JSON."""
        return {"batches": self.batches, "seen": dict(self.seen)}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on exactly as the draws of the same ``train`` and ``seed`` that were in ``state``."""
        self.batches, self.seen = state["batches"], dict(state["seen"])
