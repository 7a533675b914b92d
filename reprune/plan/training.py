"""What the plan asks of every recovery, that is of training a compressed model again, on whatever data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from reprune.method import Target, Unsupported
from reprune.plan.identity import without_defaults

if TYPE_CHECKING:
    from reprune.discovery import MethodEntry
    from reprune.plan.inputs import Model
    from reprune.plan.recoveries import Reader


class Work(NamedTuple):
    """Tokens that pass through the model forward and backward, and forward alone; for estimates."""

    trained: int
    read: int


class Training:
    """What the plan asks of every recovery; ``data`` is what it is trained on.

    ``noun`` ends the names of the scale's values that give its sizes, ``stage`` is the module of
    :mod:`reprune.stages` that trains, ``file`` how that calls the file of the data, ``at_once`` the tokens
    of one forward pass. ``names`` are keys of an entry that name values of the scale.
    """

    noun: ClassVar[str]
    stage: ClassVar[str]
    file: ClassVar[str]
    at_once: ClassVar[int]
    names: ClassVar[tuple[str, ...]] = ("sizes",)
    kind: str

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"recovery of kind '{self.kind}'"

    @property
    def lacks(self) -> dict[str, tuple[str, ...]]:
        """What it does without, and the settings that belong to that."""
        raise NotImplementedError

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that it has."""
        lacking = {name for names in self.lacks.values() for name in names}
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in lacking}

    @property
    def teacher(self) -> bool:
        """Whether the dense model is in memory beside the one that is trained."""
        return False

    def data_from(self, reader: Reader, given: dict[str, Any]) -> Any:
        """What it is trained on, as the entry ``given`` asks for it; None with a problem noted."""
        raise NotImplementedError

    def identity(self, data: Any) -> dict[str, Any]:
        """What of it and its data can change a number."""
        told = without_defaults(self.settings, type(self)().settings)
        return {self.noun: told, "data": data.content}

    def clash(self, given: dict[str, Any]) -> str | None:
        """What is wrong with settings that were given together."""
        return None

    def faults(self, data: Any, model: Model, method: MethodEntry) -> Iterator[str]:
        """What is wrong with recovering so what ``method`` leaves of ``model``."""
        raise NotImplementedError

    def supports(self, target: Target, data: Any) -> Unsupported | None:
        """None if a model compressed to ``target`` can be recovered so on ``data``, else the reason."""
        if target.kind in ("unstructured", "n:m"):
            return Unsupported("a mask would be lost: training fills the zeros again")
        return None

    def longest(self, data: Any) -> int:
        """The most tokens of one sequence."""
        raise NotImplementedError

    def work(self, data: Any) -> Work:
        """What it costs at most."""
        raise NotImplementedError


class PlannedRecovery(NamedTuple):
    """A recovery with what it is trained on: instruction data, or a mixture of domains."""

    how: Training
    data: Any


def refused(recoveries: Sequence[PlannedRecovery], target: Target) -> Unsupported | None:
    """Why one of several recoveries cannot go on from a model compressed to ``target``; None if all can."""
    return next(filter(None, (how.supports(target, data) for how, data in recoveries)), None)


def noted(notes: dict[str, Any]) -> list[dict[str, Any]]:
    """What each recovery of a chain noted of itself, in their order, out of a run's notes."""
    return [*notes.get("earlier_recoveries", []), *([notes["recovery"]] if "recovery" in notes else [])]


def written(settings: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """How records and reports write recoveries in a chain: the last one, those before it under ``after``."""
    if not settings:
        return None
    *earlier, last = settings
    return {**last, "after": earlier} if earlier else last
