"""A unit: the results of one paper, or of one ablation, as a run of the workflow left them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import yaml

from reprune.analysis.names import metric_of
from reprune.method import STRUCTURAL
from reprune.models.counts import Shape
from reprune.plan.grammar import COUNTS

UNREAD = {"responses"}  # columns of items that no view needs: a model's answers are most of the file


@dataclass(frozen=True)
class Run:
    """One run behind a row; ``run_id`` is None for a combination that planning skipped."""

    run_id: str | None
    seed: int
    status: str
    reason: str | None
    command: str | None = None


@dataclass(frozen=True, eq=False)
class Row:
    """One line of an experiment: a label, a model and a target, with one run per seed.

    A row of a table of counts has no runs. ``recoveries`` have the settings of every training after
    compression, in their order.
    """

    label: str
    method: str
    model: str
    target: str
    target_kind: str
    target_requested: float
    settings: dict[str, Any]
    published_as: tuple[str, ...]
    runs: tuple[Run, ...]
    recoveries: tuple[dict[str, Any], ...] = ()

    @property
    def dense(self) -> bool:
        return self.target_kind == "none"

    @property
    def structural(self) -> bool:
        return self.target_kind in STRUCTURAL

    @property
    def name(self) -> str:
        """The label with its target, for sentences."""
        return self.label if self.dense else f"{self.label} at {self.target}"


@dataclass(frozen=True, eq=False)
class Unit:
    """Everything the tables, plots and claims of one unit are drawn from.

    ``info`` is ``unit.json``; ``records``, ``items`` and ``layers`` are the parquet files, the first two
    with a column ``protocol_name`` (the protocol without its version). ``notes`` are what methods noted of
    runs, by run id, and what suites told of them under ``measured``. ``published`` is by table id.
    """

    folder: Path
    info: dict[str, Any]
    records: pd.DataFrame
    items: pd.DataFrame
    layers: pd.DataFrame
    notes: dict[str, dict[str, Any]]
    paper: dict[str, Any]
    published: dict[str, dict[str, Any]]

    @property
    def name(self) -> str:
        return self.info["unit"]

    @cached_property
    def _records_by_run(self) -> dict[str, pd.DataFrame]:
        return dict(list(self.records.groupby("run_id", sort=False)))

    @cached_property
    def _items_by_run(self) -> dict[str, pd.DataFrame]:
        return dict(list(self.items.groupby("run_id", sort=False)))

    def records_of(self, run_id: str | None) -> pd.DataFrame:
        """The records of a run; empty if it has none."""
        return self._records_by_run.get(run_id, self.records.iloc[:0])

    def items_of(self, run_id: str | None) -> pd.DataFrame:
        """The per-item values of a run; empty if it has none."""
        return self._items_by_run.get(run_id, self.items.iloc[:0])

    def rows(self, experiment: str) -> tuple[Row, ...]:
        """The rows of an experiment in its order, seeds together; KeyError if it is not in the unit."""
        return _grouped(self.info["experiments"][experiment]["rows"])

    def select(self, experiment: str, name: str, target: str | None = None) -> tuple[Row, ...]:
        """The rows whose label is ``name``, else those whose method id is; dense rows fit every target."""
        rows = [r for r in self.rows(experiment) if target is None or r.dense or r.target == target]
        return tuple(r for r in rows if r.label == name) or tuple(r for r in rows if r.method == name)

    def counted_rows(self, table: str) -> list[tuple[Row, Shape, int]]:
        """The rows of a table of counts, each with its shape and the parameters of its dense model."""
        return [(_row(spec), Shape.read(spec["shape"]), spec["dense"]) for spec in self.info["counts"][table]]

    def declared(self, kind: str) -> list[dict[str, Any]]:
        """The paper's ``tables`` or ``plots`` that belong to this unit, as their experiments or counts do."""
        return [spec for spec in self.paper.get(kind) or [] if self._has(spec)]

    def _has(self, spec: dict[str, Any]) -> bool:
        if spec.get("kind") == COUNTS:
            return spec["id"] in self.info["counts"]
        return spec["experiment"] in self.info["experiments"]

    def claims(self) -> list[dict[str, Any]]:
        """The paper's claims with at least one check on an experiment of this unit."""
        return [
            claim
            for claim in self.paper.get("claims") or []
            if any(check["experiment"] in self.info["experiments"] for check in claim["checks"])
        ]

    def higher_is_better(self, metric: str) -> bool:
        """The direction of a metric, from its records where one says."""
        known = self.records.loc[self.records.metric == metric, "higher_is_better"].dropna()
        return bool(known.iloc[0]) if len(known) else metric_of(metric).higher_is_better

    def published_name(self, model: str) -> str | None:
        """The name a paper prints for this very model; None if no paper has it."""
        return self.info["published_names"].get(model)

    def model_title(self, model: str) -> str:
        return self.info["model_titles"].get(model, model)


def load_unit(folder: Path, papers: Path) -> Unit:
    """Read a unit's folder, and ``paper.yaml`` and ``published.yaml`` of its paper under ``papers``.

    Raises FileNotFoundError if a file other than ``published.yaml`` is absent.
    """
    info = json.loads((folder / "unit.json").read_text(encoding="utf-8"))
    paper = papers / info["paper"]
    published = _yaml(paper / "published.yaml") if (paper / "published.yaml").exists() else {}
    return Unit(
        folder,
        info,
        _with_protocol_name(pd.read_parquet(folder / "records.parquet")),
        _with_protocol_name(_items(folder / "items.parquet")),
        pd.read_parquet(folder / "layers.parquet"),
        json.loads((folder / "notes.json").read_text(encoding="utf-8")),
        _yaml(paper / "paper.yaml"),
        {table["id"]: table for table in published.get("tables", [])},
    )


def _items(path: Path) -> pd.DataFrame:
    columns = [name for name in pq.read_schema(path).names if name not in UNREAD]
    return pd.read_parquet(path, columns=columns)


def _yaml(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _with_protocol_name(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(protocol_name=frame.protocol.astype("string").str.split("@").str[0])


def _grouped(specs: list[dict[str, Any]]) -> tuple[Row, ...]:
    """Rows that differ in their seed alone become one; a second run of the same seed starts a new row."""
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for spec in specs:
        key = (spec["label"], spec["model"], spec["target"], json.dumps(spec["settings"], sort_keys=True))
        repeat = 0
        while any(other["seed"] == spec["seed"] for other in groups.get((*key, repeat), [])):
            repeat += 1
        groups.setdefault((*key, repeat), []).append(spec)
    return tuple(_row(group[0], group) for group in groups.values())


def _row(first: dict[str, Any], group: Sequence[dict[str, Any]] = ()) -> Row:
    runs = tuple(Run(s["run_id"], s["seed"], s["status"], s.get("reason"), s.get("command")) for s in group)
    return Row(
        first["label"],
        first["method"],
        first["model"],
        first["target"],
        first["target_kind"],
        float(first["target_requested"] or 0.0),
        first["settings"],
        tuple(first["published_as"] or ()),
        runs,
        _recoveries(first.get("recovery")),
    )


def _recoveries(written: dict[str, Any] | None) -> tuple[dict[str, Any], ...]:
    """What :func:`reprune.plan.training.written` put together."""
    if written is None:
        return ()
    return (*written.get("after", ()), {key: value for key, value in written.items() if key != "after"})
