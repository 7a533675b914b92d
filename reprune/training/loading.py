"""Dynamic batch loading: domains that lag behind their reference loss are drawn more often."""

from __future__ import annotations

import math
from collections.abc import Mapping


def updated(
    weights: Mapping[str, float],
    losses: Mapping[str, float],
    references: Mapping[str, float],
    *,
    clipped: bool = True,
    floor: float = 0.0,
) -> dict[str, float]:
    """New chances of the domains, which sum to 1: proportional to w · exp(loss − reference).

    Losses are nats per token on each domain's held-out text. Sheared-LLaMA (arXiv 2310.06694), Algorithm 1:
    a loss below its reference counts as equal to it. The official code,
    ``llmshearing/callbacks/dynamic_loading_callback.py``, is ``clipped=False, floor=1e-4``: ``floor`` is the
    share of all chances that is dealt out evenly.
    Raises ValueError if a domain lacks a loss or a reference, or has one that is not finite.
    """
    excess = {domain: _excess(domain, losses, references) for domain in weights}
    if clipped:
        excess = {domain: max(0.0, own) for domain, own in excess.items()}
    most = max(excess.values())  # taken off all, so that no power overflows; the shares stay as they are
    grown = {domain: weight * math.exp(excess[domain] - most) for domain, weight in weights.items()}
    total, even = math.fsum(grown.values()), floor / len(grown)
    return {domain: (1 - floor) * own / total + even for domain, own in grown.items()}


def _excess(domain: str, losses: Mapping[str, float], references: Mapping[str, float]) -> float:
    for what, known in (("loss", losses), ("reference loss", references)):
        if not math.isfinite(known.get(domain, math.nan)):
            raise ValueError(f"domain '{domain}' has no finite {what}; there are {dict(known)}")
    return losses[domain] - references[domain]
