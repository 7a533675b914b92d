"""What a reader must know beside a table: errors, protocol, calibration, sources, models, published rows."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reprune.analysis.names import counted, listed, task_title
from reprune.analysis.provenance import fit, is_corpus, protocols_called, settings_of, sources_of
from reprune.analysis.published import published_tables
from reprune.analysis.table import Table
from reprune.analysis.unit import Unit


def reading_notes(unit: Unit, spec: dict[str, Any], table: Table) -> list[str]:
    """What a reader must know before using a number: errors, emphasis, other models, other text."""
    return [
        *_error_notes(table),
        *_best_notes(table),
        *_other_model_notes(unit, spec, table),
        *_stand_in_notes(unit, spec),
    ]


def origin_notes(unit: Unit, spec: dict[str, Any], table: Table) -> list[str]:
    """Where the numbers come from: published tables, text, protocol, calibration, model, basis."""
    records = _records(unit, spec, table)
    return [
        *_published_notes(unit, spec, table),
        *_source_notes(unit, spec),
        *_protocol_notes(unit, spec),
        *_calibration_notes(unit, records),
        *_model_notes(unit, table),
        *_basis_notes(spec, records),
    ]


def _records(unit: Unit, spec: dict[str, Any], table: Table) -> pd.DataFrame:
    runs = [run.run_id for line in table.lines for run in line.row.runs]
    records = unit.records
    return records[records.run_id.isin(runs) & (records.protocol_name == spec["protocol"]).fillna(False)]


def _error_notes(table: Table) -> list[str]:
    known = [
        cell.measurement
        for line in table.lines
        for cell, column in zip(line.cells, table.columns, strict=True)
        if column.kind == "measured" and cell.measurement and cell.measurement.stderr_over
    ]
    notes = []
    for over in dict.fromkeys(m.stderr_over for m in known):
        group = [m for m in known if m.stderr_over == over]
        some = len(group) < len(known)
        if over == "seeds":
            notes.append(
                ("For rows with several seeds, " if some else "")
                + f"± is the standard error over {_range([m.seeds for m in group])} seeds."
            )
        else:
            notes.append(
                ("For rows with one run, " if some else "")
                + f"± is the standard error over {_range([m.n for m in group if m.n])} {over} of a "
                "single run; it says nothing about another seed or calibration draw."
            )
    return notes


def _range(numbers: list[int]) -> str:
    low, high = min(numbers, default=0), max(numbers, default=0)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _best_notes(table: Table) -> list[str]:
    if not any(cell.best for line in table.lines for cell in line.cells):
        return []
    return [
        "Bold is the best value among compressed models at the same target; whether a difference "
        "stands out of the noise is for the claims' paired intervals to say."
    ]


def _other_model_notes(unit: Unit, spec: dict[str, Any], table: Table) -> list[str]:
    models = dict.fromkeys(column.model for column in table.columns if column.kind == "other")
    if not models:
        return []
    return [
        f"Published values are of {listed([str(m) for m in models])}, another model than measured here: "
        "shown for the order of methods, never subtracted."
    ]


def _published_notes(unit: Unit, spec: dict[str, Any], table: Table) -> list[str]:
    if not {column.kind for column in table.columns} & {"other", "published"}:
        return []
    return [
        f"Published, {printed['id']}: {printed['source']} (confidence {printed['confidence']})."
        for printed in published_tables(unit, spec)
    ]


def _stand_in_notes(unit: Unit, spec: dict[str, Any]) -> list[str]:
    """A stand-in's perplexity is another quantity than the one in print."""
    tasks = [
        task_title(task)
        for task in spec["tasks"]
        if any(s["fit"] == "stand-in" for s in sources_of(unit, spec["protocol"], task))
    ]
    if not tasks or spec["metric"] != "perplexity":
        return []
    return [
        f"{listed(tasks)}: other text stands in for the paper's, so this perplexity is not the quantity "
        "the paper prints, not even for the paper's own model."
    ]


def _source_notes(unit: Unit, spec: dict[str, Any]) -> list[str]:
    notes = []
    for task in spec["tasks"]:
        found = [
            f"{source['source']}{_in_brackets(source.get('note'))}; {fit(source)}"
            for source in sources_of(unit, spec["protocol"], task)
        ]
        notes.append(f"{task_title(task)}: {' and '.join(found) or 'its source was not recorded'}.")
    return notes


def _in_brackets(text: str | None) -> str:
    return f" ({text})" if text else ""


def _protocol_notes(unit: Unit, spec: dict[str, Any]) -> list[str]:
    return [
        f"Protocol {identity}: {content.get('title', content['name'])}; {settings_of(content)}."
        for identity, content in protocols_called(unit, spec["protocol"]).items()
    ]


def _calibration_notes(unit: Unit, records: pd.DataFrame) -> list[str]:
    """One note per size and corpus, the seeds of its draws together."""
    seeds: dict[tuple, dict[str, None]] = {}
    for identity in records.calibration.dropna().unique():
        if drawn := unit.info["calibrations"].get(identity):
            size = drawn["windows"], drawn["length"], drawn["corpus"]
            seeds.setdefault(size, {})[str(drawn["seed"])] = None
    return [
        f"Calibration: {counted(windows, 'window')} of {length} tokens of {corpus}, "
        f"seed{'s' if len(drawn) > 1 else ''} {listed(list(drawn))}{_calibration_fit(unit, corpus)}."
        for (windows, length, corpus), drawn in seeds.items()
    ]


def _calibration_fit(unit: Unit, corpus: str) -> str:
    for source in unit.info["sources"]:
        if is_corpus(corpus, source["name"]):
            return f", from {source['source']} ({fit(source)})"
    return ""


def _model_notes(unit: Unit, table: Table) -> list[str]:
    notes = []
    for model in dict.fromkeys(line.row.model for line in table.lines):
        printed = "" if unit.published_name(model) else "; no paper prints numbers for it"
        remark = unit.info.get("model_notes", {}).get(model)
        notes.append(f"Model: {unit.model_title(model)}{printed}." + (f" {remark}" if remark else ""))
    return notes


def _basis_notes(spec: dict[str, Any], records: pd.DataFrame) -> list[str]:
    bases = [str(basis) for basis in records.ratio_basis.dropna().unique()]
    if "ratio_achieved" not in spec.get("facts", []) or not bases:
        return []
    return [f"Sparsity is counted on the saved checkpoint, over {listed(bases)}."]
