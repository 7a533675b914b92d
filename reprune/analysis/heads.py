"""Attention heads of runs: which are left, and the roles that the suite of head roles found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from reprune.analysis.samples import Undecided
from reprune.analysis.unit import Row, Run, Unit

ENCODER = "encoder"
PLACE = ["layer", "head"]
ROLES = {
    "positional": "positional",
    "syntactic": "syntactic",
    "rare": "rare words",
    "unknown": "unknown",
}
"""The roles of heads and how they are called; a head without any other is unknown."""


def roles_of(unit: Unit, row: Row, run: Run, protocol: str, task: str) -> pd.DataFrame:
    """What was measured of each head of a run's encoder: a row by (layer, head), a column by metric.

    Layers and heads are numbered as in the dense model. Raises :class:`Undecided` if nothing was measured.
    """
    items = unit.items_of(run.run_id)
    own = items[(items.protocol_name == protocol).fillna(False) & (items.task == task)]
    if own.empty:
        ended = unit.records_of(run.run_id)
        reasons = [run.reason, *ended[ended.status != "ok"].reason.dropna()]
        told = next((str(reason) for reason in reasons if reason), "no roles of heads were measured")
        raise Undecided(f"{row.name}: {told}")
    found = own.pivot(index=["item", "part"], columns="metric", values="value")
    found.index = pd.MultiIndex.from_arrays([found.index.get_level_values(i).astype(int) for i in (0, 1)])
    return found.rename_axis(index=PLACE, columns=None).astype(float)


def roles_in(heads: pd.DataFrame, place: tuple[int, int]) -> list[str]:
    """The roles of one head of :func:`roles_of`; ``unknown`` alone if it has none."""
    head = heads.loc[place]
    return [role for role in ("positional", "syntactic", "rare") if head[role] > 0] or ["unknown"]


def kept_heads(unit: Unit, row: Row, run: Run) -> set[tuple[int, int]]:
    """(layer, head) of the encoder's heads that a run kept. Raises :class:`Undecided` if it noted none."""
    pattern = _noted(unit, row, run).get("kept", {}).get(ENCODER)
    if pattern is None:
        raise Undecided(f"{row.name}: {run.reason or 'no kept heads were noted'}")
    return {(layer, head) for layer, heads in enumerate(pattern) for head, kept in enumerate(heads) if kept}


def head_scores(unit: Unit, row: Row, run: Run) -> np.ndarray:
    """(layers, heads) what a run held its heads worth. Raises :class:`Undecided` if it noted nothing."""
    scores = _noted(unit, row, run).get("scores")
    if scores is None:
        raise Undecided(f"{row.name}: {run.reason or 'no scores of heads were noted'}")
    return np.array(scores)


def retained(unit: Unit, row: Row) -> list[int]:
    """How many encoder heads each run of a row kept. Raises :class:`Undecided` if none noted it."""
    told = [_noted(unit, row, run).get("retained", {}).get(ENCODER) for run in row.runs]
    counts = [int(np.sum(count)) for count in told if count is not None]
    if not counts:
        raise Undecided(f"{row.name}: {row.runs[0].reason or 'how many heads it kept was not noted'}")
    return counts


def _noted(unit: Unit, row: Row, run: Run) -> dict[str, Any]:
    return unit.notes.get(str(run.run_id), {}).get("heads", {})
