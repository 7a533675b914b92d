"""Recovery of kind ``translate``: a translation model without some of its heads is trained again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from reprune.method import HEADS, Target, Unsupported, setting
from reprune.plan.training import Training, Work
from reprune.plan.translation_settings import TranslationSettings

if TYPE_CHECKING:
    from reprune.discovery import MethodEntry
    from reprune.plan.inputs import Model, Parallel
    from reprune.plan.recoveries import Reader


@dataclass(frozen=True)
class Translating(TranslationSettings, Training):
    """Training on the parallel text of the model, as Voita et al. (arXiv 1905.09418) train.

    ``start: scratch`` draws all weights anew and keeps the shape alone: their control with the pattern of
    heads that pruning found (section 6.3.1, Table 2).
    """

    noun: ClassVar[str] = "translating"
    stage: ClassVar[str] = "translate"
    file: ClassVar[str] = "parallel"
    at_once: ClassVar[int] = 4096

    kind: str = setting("translate", "trained on sentences with their translations", choices=("translate",))
    average: int = setting(1, "of how many of the last measurements' weights the mean is taken", minimum=1)
    start: str = setting(
        "pruned", "the weights at first: those that were left, or new ones", choices=("pruned", "scratch")
    )
    trained: str = setting("encoder", "what is trained", choices=("encoder", "all"))

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
