"""What the suite runs on: every method found, tiny models, and the targets of each kind."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprune.discovery import MethodEntry, MethodFileError, load_method, method_files
from reprune.method import HEADS, STRUCTURAL, Target, settings_of

MODELS = ("tiny-llama", "tiny-llama-gqa")  # full heads; grouped heads and tied embeddings
TRANSLATOR = "translator"  # for methods that are for translation models
TARGETS = {
    "none": (Target(),),
    "unstructured": (Target.unstructured(0.5), Target.unstructured(0.3)),
    "n:m": (Target.n_of_m(2, 4),),
    **{kind: (Target.parameters(0.2, kind), Target.parameters(0.4, kind)) for kind in STRUCTURAL},
    HEADS: (Target.of_heads(0), Target.of_heads(2), Target.of_heads(5)),
}
OWN = [Path(folder) for folder in os.environ.get("REPRUNE_METHODS", "").split(":") if folder]
FOLDERS = [Path(__file__).parents[2] / "papers", *(folder.resolve() for folder in OWN)]


@dataclass(frozen=True)
class Case:
    """One method on one model at one target; ``changed`` are the settings that are not the default."""

    method: MethodEntry
    model: str
    target: Target
    changed: tuple[tuple[str, Any], ...] = ()

    @property
    def settings(self) -> Any:
        """What the method is told: what the case changes above what makes a trial quick."""
        return self.method.cls.Settings(**{**self.method.cls.trial, **dict(self.changed)})

    def __str__(self) -> str:
        return f"{self.method.id}-{self.model}-{self.target.label}".replace(" ", "-")


@dataclass(frozen=True)
class Choice:
    """A legal value of a setting that is not its default."""

    method: MethodEntry
    setting: str
    value: Any

    def __str__(self) -> str:
        return f"{self.method.id}-{self.setting}={self.value}"


def _load() -> tuple[list[MethodEntry], list[str]]:
    entries, faults = [], []
    for file in method_files(FOLDERS).values():
        try:
            entries.append(load_method(file))
        except MethodFileError as error:
            faults.append(str(error))
    return entries, faults


def targets_of(entry: MethodEntry) -> list[Target]:
    """The targets of every kind the method serves."""
    return [target for kind in entry.cls.kinds for target in TARGETS.get(kind, ())]


def models_of(entry: MethodEntry) -> tuple[str, ...]:
    """The models that a method is for."""
    return (TRANSLATOR,) if entry.cls.requires_parallel else MODELS


def _choices(entry: MethodEntry) -> list[Choice]:
    """Settings with declared choices, and switches."""
    values = {
        name: field.metadata["choices"] or ((True, False) if isinstance(field.default, bool) else ())
        for name, field in settings_of(entry.cls).items()
    }
    return [
        Choice(entry, name, value)
        for name, legal in values.items()
        for value in legal
        if value != settings_of(entry.cls)[name].default
    ]


METHODS, FAULTS = _load()
CASES = [
    Case(entry, model, target)
    for entry in METHODS
    for model in models_of(entry)
    for target in targets_of(entry)
]
MASKED = [case for case in CASES if not case.target.structural]
HEADED = [case for case in CASES if case.target.kind == HEADS]
RESHAPED = [case for case in CASES if case.target.structural and case.target.kind != HEADS]
CHOICES = [choice for entry in METHODS for choice in _choices(entry)]
