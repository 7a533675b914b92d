"""Trainings as runs noted them: held-out losses and shares of the data by domain, and gates on heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reprune.analysis.samples import Undecided
from reprune.analysis.unit import Row, Unit
from reprune.plan.training import noted

PRUNING, CONTINUED, GATES = "pruning", "continued", "gates"
MEANT = {
    PRUNING: "pruning on a mixture",
    CONTINUED: "continued pre-training on a mixture",
    GATES: "training of gates",
}
PLACE = ["order", "stage", "step", "tokens", "domain"]


@dataclass(frozen=True)
class Stage:
    """One training: ``told`` is its history, ``before`` how many tokens its run had trained on till then."""

    name: str
    told: dict[str, Any]
    before: int

    @property
    def measured(self) -> list[dict[str, Any]]:
        """What was measured along the training, by rising step, the first time before it."""
        return self.told["evaluations"]


@dataclass(frozen=True)
class History:
    """The trainings of one run, in their order; ``references`` are the losses to reach, nats by domain.

    ``references`` is empty where none are known.
    """

    row: Row
    run_id: str
    seed: int
    stages: tuple[Stage, ...]
    references: dict[str, float]

    def stage(self, name: str) -> Stage:
        """The last training of that name; raises :class:`Undecided` if there is none."""
        found = [stage for stage in self.stages if stage.name == name]
        if not found:
            raise Undecided(f"{self.row.name}: no {MEANT[name]} was noted")
        return found[-1]

    def excess(self, losses: dict[str, float]) -> np.ndarray:
        """(domains,) how far losses lie above those to reach; raises :class:`Undecided` if none are known."""
        if not self.references:
            raise Undecided(f"{self.row.name}: no losses to reach were noted")
        return np.array([loss - self.references[domain] for domain, loss in losses.items()])


def histories(unit: Unit, row: Row, beside: Sequence[Row] = ()) -> list[History]:
    """The history of each of the row's runs that has one.

    Only dynamic loading notes the losses to reach. A run without any is held against those of the row's other
    runs, then of the rows ``beside`` it, on the same model; those of a later training go first. Raises
    :class:`Undecided` if no run has a history.
    """
    found = [(run, stages) for run in row.runs if (stages := _stages(unit, run.run_id))]
    if not found:
        raise Undecided(f"{row.name}: {row.runs[0].reason or 'no training on a mixture was noted'}")
    rows = (row, *(other for other in beside if other.model == row.model))
    known = _references(unit, rows)
    anyone = next(iter(known.values()), {})
    return [
        History(row, str(run.run_id), run.seed, stages, known.get(run.seed, anyone)) for run, stages in found
    ]


def _references(unit: Unit, rows: Sequence[Row]) -> dict[int, dict[str, float]]:
    """The losses to reach by seed, of the first of ``rows`` that noted them for that seed."""
    noted: dict[int, dict[str, float]] = {}
    for name in (CONTINUED, PRUNING):
        for run in (run for row in rows for run in row.runs):
            for stage in _stages(unit, run.run_id):
                if stage.name == name and stage.told.get("references"):
                    noted.setdefault(run.seed, stage.told["references"])
    return noted


def _stages(unit: Unit, run_id: str | None) -> tuple[Stage, ...]:
    notes = unit.notes.get(run_id, {})
    trained = [(n, notes[n]) for n in (PRUNING, GATES) if "evaluations" in notes.get(n, {})]
    trained += [(CONTINUED, told) for told in noted(notes) if "evaluations" in told]
    before = np.cumsum([0, *(told["tokens"] for _, told in trained)]).tolist()
    return tuple(Stage(name, told, at) for (name, told), at in zip(trained, before, strict=False))


def measurements(unit: Unit, row: Row, beside: Sequence[Row] = ()) -> pd.DataFrame:
    """One line per measurement and domain, means over runs; ``tokens`` are counted over all trainings.

    ``weight`` is the domain's share of the data from there on, ``excess`` how far the ``loss`` is above its
    ``reference``; both are NaN where no losses to reach are known. Raises as :func:`histories`.
    """
    runs = histories(unit, row, beside)
    frame = pd.DataFrame([line for run in runs for line in _lines(run)])
    means = frame.groupby(PLACE, sort=False, as_index=False).mean().drop(columns="order")
    return means.assign(
        label=row.label,
        method=row.method,
        model=row.model,
        target=row.target,
        run_id=";".join(run.run_id for run in runs),
        excess=means.loss - means.reference,
    )


def _lines(run: History) -> list[dict[str, Any]]:
    return [
        {
            "order": order,
            "stage": stage.name,
            "step": measured["step"],
            "tokens": stage.before + measured["tokens"],
            "domain": domain,
            "weight": measured["weights"][domain],
            "loss": loss,
            "reference": run.references.get(domain, np.nan),
        }
        for order, stage in enumerate(run.stages)
        for measured in stage.measured
        for domain, loss in measured["losses"].items()
    ]
