"""Recovery of kind ``translate``: a translation model without some of its heads is trained again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from reprune.method import HEADS, Target, Unsupported, setting
from reprune.plan.training import Training, Work

if TYPE_CHECKING:
    from reprune.discovery import MethodEntry
    from reprune.plan.inputs import Model, Parallel
    from reprune.plan.recoveries import Reader


@dataclass(frozen=True)
class Translating(Training):
    """Training on the parallel text of the model, as Voita et al. (arXiv 1905.09418) train.

    ``start: scratch`` draws all weights anew and keeps the shape alone: their control with the pattern of
    heads that pruning found (section 6.3.1, Table 2).
    """

    noun: ClassVar[str] = "translating"
    stage: ClassVar[str] = "translate"
    file: ClassVar[str] = "parallel"
    at_once: ClassVar[int] = 4096

    kind: str = setting("translate", "trained on sentences with their translations", choices=("translate",))
    steps: int = setting(16_000, "steps of the optimiser", minimum=1)
    batch_tokens: int = setting(32_000, "tokens of both languages in a step", minimum=1)
    scale: float = setting(4.0, "factor of the learning rate", minimum=1e-6)
    warmup: int = setting(16_000, "steps of rising learning rate", minimum=1)
    evaluate_every: int = setting(1_000, "steps between measurements of the held-out loss", minimum=1)
    smoothing: float = setting(0.1, "share of a label spread over the vocabulary", minimum=0, maximum=1)
    average: int = setting(1, "of how many of the last measurements' weights the mean is taken", minimum=1)
    max_length: int = setting(200, "tokens of a sentence that is trained on, at most", minimum=2)
    start: str = setting(
        "pruned", "the weights at first: those that were left, or new ones", choices=("pruned", "scratch")
    )
    trained: str = setting("encoder", "what is trained", choices=("encoder", "all"))
    precision: str = setting("float32", "of forward passes", choices=("float32", "bfloat16"))

    @property
    def lacks(self) -> dict[str, tuple[str, ...]]:
        return {}

    def data_from(self, reader: Reader, given: dict[str, Any]) -> Parallel | None:
        return reader.parallel()

    def clash(self, given: dict[str, Any]) -> str | None:
        if self.start == "scratch" and self.trained == "encoder":
            return "start is 'scratch', but only the encoder is trained; use trained: all"
        return None

    def faults(self, data: Parallel, model: Model, method: MethodEntry) -> Iterator[str]:
        yield from ()

    def supports(self, target: Target, data: Parallel) -> Unsupported | None:
        if target.kind != HEADS:
            return Unsupported("trains translation models without some of their heads")
        return None

    def longest(self, data: Parallel) -> int:
        return self.max_length

    def work(self, data: Parallel) -> Work:
        return Work(self.steps * self.batch_tokens, 0)
