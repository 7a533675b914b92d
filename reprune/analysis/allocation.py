"""What is known of each layer: its sparsity, counted on the checkpoint, and what its method reported."""

from __future__ import annotations

import numpy as np
import pandas as pd

from reprune.analysis.samples import Undecided
from reprune.analysis.unit import Row, Unit

GROUPS = {"projection": ["layer"], "block": ["block"], "layer": ["block", "layer"]}


def layers_of(unit: Unit, row: Row) -> list[pd.DataFrame]:
    """The layer tables of a row's runs. Raises :class:`Undecided` if none has one."""
    frames = [unit.layers[unit.layers.run_id == run.run_id] for run in row.runs]
    known = [frame for frame in frames if len(frame)]
    if not known:
        reason = row.runs[0].reason or "no layers were reported"
        raise Undecided(f"{row.name}: {reason}")
    return known


def sparsity_by(unit: Unit, row: Row, over: str) -> list[np.ndarray]:
    """Per run, the share of zeros in each projection, block or layer: 1 - nonzeros / size."""
    return [sparsity(frame, GROUPS[over]).to_numpy() for frame in layers_of(unit, row)]


def sparsity(layers: pd.DataFrame, keys: list[str]) -> pd.Series:
    """The share of zeros by ``keys``, weights counted together, in order of first appearance."""
    sums = layers.groupby(keys, sort=False)[["nonzeros", "size"]].sum()
    return 1 - sums.nonzeros / sums["size"]


def reported(unit: Unit, row: Row, fact: str) -> np.ndarray:
    """(seeds, layers) values of a fact that a method reported of layers, those that all runs reported.

    Raises :class:`Undecided` for fewer than two.
    """
    frames = [frame.set_index(GROUPS["layer"]) for frame in layers_of(unit, row) if fact in frame]
    values = pd.concat([frame[fact] for frame in frames] or [pd.Series(dtype=float)], axis=1).dropna()
    if len(values) < 2:
        raise Undecided(f"{row.name}: {fact} is known of {len(values)} layers, an interval needs two")
    return values.to_numpy(dtype=float).T
