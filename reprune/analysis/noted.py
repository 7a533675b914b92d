"""What methods noted of a run as a whole: the blocks they chose, how alike blocks are, and more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from reprune.analysis.samples import Undecided
from reprune.analysis.unit import Row, Unit

Read = TypeVar("Read")
NOUNS = {
    "chosen": "chosen blocks were",
    "spectrum": "kept singular values were",
    "recovery": "recovery was",
}


def noted(unit: Unit, row: Row, key: str) -> dict[str, Any]:
    """A note of each of the row's runs by run id.

    Raises :class:`Undecided` if none has it.
    """
    found = {run.run_id: unit.notes.get(run.run_id, {}) for run in row.runs if run.run_id}
    known = {run_id: notes[key] for run_id, notes in found.items() if key in notes}
    if not known:
        raise Undecided(f"{row.name}: {row.runs[0].reason or f'no {NOUNS[key]} noted'}")
    return known


def depth_of(unit: Unit, model: str) -> int:
    """How many decoder blocks a model has before compression: the most that any of its runs tells of.

    Raises :class:`Undecided` if none tells.
    """
    runs = set(unit.records.loc[unit.records.model == model, "run_id"])
    similarities = [len(notes.get("similarity", ())) for run, notes in unit.notes.items() if run in runs]
    blocks = unit.layers.loc[unit.layers.run_id.isin(runs), "block"]
    depth = max([*similarities, *(int(block) + 1 for block in blocks.unique())], default=0)
    if not depth:
        raise Undecided(f"how many blocks {unit.model_title(model)} has is not known")
    return depth


def read_rows(
    unit: Unit, spec: dict[str, Any], names: list[str], read: Callable[[Row], Read]
) -> tuple[list[tuple[Row, Read]], list[str]]:
    """What ``read`` makes of the rows called ``names``, and why the others give nothing.

    Raises :class:`Undecided` if none gives anything.
    """
    known, reasons = [], {}
    for name in names:
        rows = unit.select(spec["experiment"], name, spec.get("target"))
        if not rows:
            reasons[f"no row is called '{name}'"] = None
        for row in rows:
            try:
                known.append((row, read(row)))
            except Undecided as reason:
                reasons[str(reason)] = None
    if not known:
        raise Undecided("; ".join(reasons))
    return known, list(reasons)
