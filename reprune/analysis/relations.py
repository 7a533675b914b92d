"""How well the best head finds each dependency, beside the best fixed offset (Voita et al. 2019, Table 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from reprune.analysis.heads import roles_of
from reprune.analysis.measurements import Measurement, Quantity, measure
from reprune.analysis.names import metric_of
from reprune.analysis.samples import Undecided
from reprune.analysis.unit import Row, Unit
from reprune.plan.grammar import RELATIONS

if TYPE_CHECKING:
    from reprune.analysis.table import Table

NAMES = {
    "nsubj_dependent": "subject: verb → noun",
    "nsubj_head": "subject: noun → verb",
    "dobj_dependent": "object: verb → noun",
    "dobj_head": "object: noun → verb",
    "amod_dependent": "adjective: noun → adj.",
    "amod_head": "adjective: adj. → noun",
    "advmod_dependent": "adverb: verb → adverb",
    "advmod_head": "adverb: adverb → verb",
}
COLUMNS = {"best_head": "Best head", "best_offset": "Best fixed offset"}
METRIC = metric_of(RELATIONS)


def accuracies(unit: Unit, row: Row, protocol: str, task: str) -> pd.DataFrame:
    """A line for each relation and direction that a row's first run has a known accuracy of.

    Raises :class:`Undecided` if no roles of heads were measured.
    """
    run = row.runs[0]
    heads = roles_of(unit, row, run, protocol, task)
    records = unit.records_of(run.run_id)
    records = records[(records.protocol_name == protocol) & (records.task == task)]
    told = records.set_index("metric").value.astype(float)
    lines = []
    for name in NAMES:
        shares = heads.get(f"{name}_share", pd.Series(dtype=float)).dropna()
        if shares.empty:
            continue
        layer, head = shares.idxmax()
        lines.append(
            {
                "label": row.label,
                "model": row.model,
                "relation": name,
                "accuracy": shares.max(),
                "stderr": heads.at[(layer, head), f"{name}_share_stderr"],
                "baseline": told[f"{name}_baseline"],
                "instances": _instances(unit, protocol, task, run.run_id, name),
                "syntactic": bool(heads.at[(layer, head), name]),
                "layer": layer,
                "head": head,
                "heads": len(heads),
                "run_id": run.run_id,
            }
        )
    return pd.DataFrame(lines)


def _instances(unit: Unit, protocol: str, task: str, run_id: str | None, name: str) -> int | None:
    for identity, by_task in unit.notes.get(str(run_id), {}).get("measured", {}).items():
        if identity.split("@")[0] == protocol:
            return by_task[task]["functions"][name]["instances"]
    return None


def relations(unit: Unit, spec: dict[str, Any]) -> dict[Row, dict[str, Measurement]]:
    """The numbers of a table by :data:`COLUMNS`, for each relation and direction of ``method``'s rows.

    Raises ValueError if no row has that label.
    """
    held = {}
    (task,), protocol = spec["tasks"], spec["protocol"]
    rows = unit.select(spec["experiment"], spec["method"], spec.get("target"))
    if not rows:
        raise ValueError(f"table {spec['id']}: no row is called '{spec['method']}'")
    for row in rows:
        try:
            found = accuracies(unit, row, protocol, task)
            known = {} if found.empty else found.set_index("relation").to_dict("index")
            lost = Measurement("missing", reason="too few instances of the relation")
        except Undecided:
            known, lost = {}, measure(unit, row, Quantity(protocol, "labelled_heads", task))
        for name, title in NAMES.items():
            held[_line(row, title)] = _told(known[name]) if name in known else dict.fromkeys(COLUMNS, lost)
    return held


def _line(row: Row, title: str) -> Row:
    """A line of the first run of ``row``."""
    target = (row.target, row.target_kind, row.target_requested)
    return Row(title, row.method, row.model, *target, row.settings, (title,), row.runs[:1])


def _told(found: dict[str, Any]) -> dict[str, Measurement]:
    accuracy, stderr, baseline = (METRIC.factor * found[key] for key in ("accuracy", "stderr", "baseline"))
    return {
        "best_head": Measurement("ok", accuracy, stderr, METRIC.over, decimals=METRIC.decimals),
        "best_offset": Measurement("ok", baseline, decimals=METRIC.decimals),
    }


def relation_notes(spec: dict[str, Any], table: Table) -> list[str]:
    """What the numbers are."""
    return [
        "How often the highest attention of one word of a dependency is at the other: of the best encoder "
        "head, chosen among all by this very number, and of always the most frequent distance."
    ]
