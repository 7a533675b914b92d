"""The settings of every training on parallel text, of heads' gates or of a recovery."""

from __future__ import annotations

from dataclasses import dataclass

from reprune.method import setting


@dataclass(frozen=True)
class TranslationSettings:
    """The defaults are those of Voita et al. (arXiv 1905.09418), whose batches have 16,000 source tokens.

    With the width's square root, by which the official code divides, ``scale`` and ``warmup`` give the rate
    (:class:`reprune.training.translation.TranslationCourse`). The official code has no rule to stop.
    """

    steps: int = setting(16_000, "steps of the optimiser", minimum=1)
    batch_tokens: int = setting(32_000, "tokens of both languages in a step", minimum=1)
    scale: float = setting(4.0, "factor of the weights' learning rate", minimum=1e-6)
    warmup: int = setting(16_000, "steps of rising learning rate", minimum=1)
    evaluate_every: int = setting(1_000, "steps between measurements of the held-out loss", minimum=1)
    smoothing: float = setting(0.1, "share of a label spread over the vocabulary", minimum=0, maximum=1)
    max_length: int = setting(
        200, "tokens of a sentence that is trained on, at most; no more than positions", minimum=2
    )
    precision: str = setting("float32", "of forward passes", choices=("float32", "bfloat16"))
