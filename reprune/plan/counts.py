"""Tables of counts: rows that no run is needed for, since a configuration alone tells what a model holds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from reprune.discovery import MethodEntry
from reprune.method import StructuralMethod, Target
from reprune.models.counts import Shape
from reprune.plan.grammar import COUNTS
from reprune.plan.inputs import Inputs, Model
from reprune.plan.problems import Problems, nearest
from reprune.plan.settings import read_settings, read_target
from reprune.plan.source import Source

DENSE = "dense"


@dataclass(frozen=True)
class CountRow:
    """A row of a table of counts: a model as it is, or the shape that a method leaves of it."""

    label: str
    model: Model
    method: str
    target: Target
    settings: dict[str, Any]
    published_as: tuple[str, ...]
    shape: Shape

    def written(self) -> dict[str, Any]:
        """The row for the unit's file; ``dense`` are the model's own parameters."""
        return {
            "label": self.label,
            "model": self.model.name,
            "method": self.method,
            "target": self.target.label,
            "target_kind": self.target.kind,
            "target_requested": self.target.sparsity,
            "settings": self.settings,
            "published_as": list(self.published_as),
            "dense": self.model.facts.parameters,
            "shape": dataclasses.asdict(self.shape),
        }


def read_counts(
    paper: Source, inputs: Inputs, methods: dict[str, MethodEntry], problems: Problems
) -> dict[str, list[CountRow]]:
    """The rows of a paper's tables of counts, by table; what is wrong with them is noted as problems.

    Such a table is made with the paper's usual experiments, so there has to be one.
    """
    found: dict[str, list[CountRow]] = {}
    for i, table in enumerate(paper.data.get("tables", [])):
        if table.get("kind") != COUNTS:
            continue
        if all(experiment.get("on_request") for experiment in paper.data.get("experiments", {}).values()):
            problems.add(paper.where("tables", i), "a table of counts needs an experiment made by default")
        rows = [
            _row(spec, paper.where("tables", i, "rows", j), inputs, methods, problems)
            for j, spec in enumerate(table["rows"])
        ]
        found[table["id"]] = [row for row in rows if row]
    return found


def _row(
    spec: dict[str, Any], where: str, inputs: Inputs, methods: dict[str, MethodEntry], problems: Problems
) -> CountRow | None:
    model, method, target, settings = inputs.model(spec["model"], where), None, Target(), None
    if "method" in spec:
        method = methods.get(spec["method"])
        if method is None:
            problems.add(where, f"unknown method '{spec['method']}'; {nearest(spec['method'], methods)}")
            return None
        target = read_target(spec["target"], where, problems)
        settings = read_settings(method, spec.get("settings", {}), where, problems)
    if model is None or target is None or (method and settings is None):
        return None
    target = method.cls.own_target(target) if method else target
    try:
        shape = _shape(model, method, target, settings)
    except ValueError as error:
        problems.add(where, f"{model.name} cannot be counted: {error}")
        return None
    return CountRow(
        spec["label"],
        model,
        method.id if method else DENSE,
        target,
        spec.get("settings", {}),
        tuple(spec.get("published_as", [spec["label"]])),
        shape,
    )


def _shape(model: Model, method: MethodEntry | None, target: Target, settings: Any) -> Shape:
    """The model's shape, or what the method leaves of it.

    Raises ValueError with the reason if it cannot be told.
    """
    if method is None:
        return Shape.of(model.facts)
    if refusal := method.cls.supports(model.facts, target, settings):
        raise ValueError(f"method '{method.id}' refuses it: {refusal}")
    left = None
    if issubclass(method.cls, StructuralMethod):
        left = method.cls.shape(model.facts, target, settings)
    if left is None:
        raise ValueError(f"method '{method.id}' does not tell from the configuration what it leaves")
    return left
