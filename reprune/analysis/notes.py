"""What a reader must know beside a table: errors, protocol, calibration, sources, models, published rows."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reprune.analysis.count_notes import count_notes
from reprune.analysis.differences import has_differences
from reprune.analysis.measurements import shown_fact
from reprune.analysis.names import AVERAGE, counted, listed, metric_title, task_title
from reprune.analysis.provenance import (
    averaged,
    fit,
    is_corpus,
    protocols_called,
    scoring,
    settings_of,
    sources_of,
)
from reprune.analysis.published import published_tables, stands_beside
from reprune.analysis.relations import relation_notes
from reprune.analysis.shares import share_notes
from reprune.analysis.table import Table
from reprune.analysis.unit import Unit
from reprune.analysis.wins import judged, win_notes
from reprune.analysis.work import clock_notes, work_in_words
from reprune.plan.grammar import COUNTS, RELATIONS, SHARES, WIN_RATE

OF_KIND = {COUNTS: count_notes, RELATIONS: relation_notes, SHARES: share_notes}
UNLIKE = {
    "perplexity": {
        "stand-in": "{tasks}: other text stands in for the paper's, so this perplexity is not the quantity "
        "the paper prints, not even for the paper's own model."
    },
    "accuracy": {
        "stand-in": "{tasks}: other questions stand in for the paper's, so this accuracy is not the quantity "
        "the paper prints, not even for the paper's own model; nor is an average with it.",
        "other split": "{tasks}: scored on another split than the paper's.",
    },
    "bleu": {
        "stand-in": "{tasks}: other sentences stand in for the paper's, so this BLEU is not the quantity the "
        "paper prints, not even for the paper's own model.",
    },
}


def reading_notes(unit: Unit, spec: dict[str, Any], table: Table) -> list[str]:
    """What a reader must know before using a number: errors, emphasis, other models, other text."""
    kind = spec.get("kind")
    told = win_notes(unit, spec["experiment"]) if kind == WIN_RATE else []
    told += OF_KIND[kind](spec, table) if kind in OF_KIND else []
    if "metric" not in spec:
        return [*told, *_error_notes(table), *_other_model_notes(unit, spec, table)]
    return [
        *_error_notes(table),
        *_best_notes(spec, table),
        *clock_notes(spec),
        *_other_model_notes(unit, spec, table),
        *_scoring_notes(unit, spec),
        *_signature_notes(unit, spec),
        *_stand_in_notes(unit, spec),
    ]


def origin_notes(unit: Unit, spec: dict[str, Any], table: Table) -> list[str]:
    """Where the numbers come from: published tables, text, protocol, calibration, model, basis."""
    if "protocol" not in spec:
        answered = _answer_notes(unit, spec) if spec["kind"] == WIN_RATE else []
        return [*_published_notes(unit, spec, table), *answered, *_model_notes(unit, table)]
    records = _records(unit, spec, table)
    return [
        *_published_notes(unit, spec, table),
        *_source_notes(unit, spec, records),
        *_protocol_notes(unit, spec),
        *_calibration_notes(unit, records),
        *_model_notes(unit, table),
        *_basis_notes(spec, table, records),
    ]


def _records(unit: Unit, spec: dict[str, Any], table: Table) -> pd.DataFrame:
    runs = [run.run_id for line in table.lines for run in line.row.runs]
    records = unit.records
    return records[records.run_id.isin(runs) & (records.protocol_name == spec["protocol"]).fillna(False)]


def _error_notes(table: Table) -> list[str]:
    known = [
        (column.name, cell.measurement)
        for line in table.lines
        for cell, column in zip(line.cells, table.columns, strict=True)
        if column.own and cell.measurement and cell.measurement.stderr_over
    ]
    notes = []
    for over in dict.fromkeys(m.stderr_over for _, m in known):
        group = [(name, m) for name, m in known if m.stderr_over == over]
        some = len(group) < len(known)
        if over == "seeds":
            notes.append(
                ("For rows with several seeds, " if some else "")
                + f"± is the standard error over {_range([m.seeds for _, m in group])} seeds."
            )
            continue
        counts = [m.n for name, m in group if m.n and name != AVERAGE]
        averages = any(name == AVERAGE for name, _ in group)
        notes.append(
            ("For rows with one run, " if some else "")
            + f"± is the standard error over {_range(counts) + ' ' if counts else ''}{over} of a "
            "single run; it says nothing about another seed or calibration draw."
            + (" That of the average combines those of its tasks." if averages else "")
        )
    return notes


def _range(numbers: list[int]) -> str:
    low, high = min(numbers, default=0), max(numbers, default=0)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _best_notes(spec: dict[str, Any], table: Table) -> list[str]:
    if not any(cell.best for line in table.lines for cell in line.cells):
        return []
    judge = "their paired differences" if has_differences(spec) else "the claims' paired intervals"
    return [
        "Bold is the best value among compressed models at the same target; whether a difference "
        f"stands out of the noise is for {judge} to say."
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
    tables = published_tables(unit, spec)
    return [
        *(
            f"Published, {printed['id']}: {printed['caption']}; {printed['source']} (confidence "
            f"{printed['confidence']})."
            for printed in tables
        ),
        *(_whole_notes(spec["published"]["models"], tables, table) if spec["published"].get("whole") else []),
    ]


def _whole_notes(models: list[str], tables: list[dict[str, Any]], table: Table) -> list[str]:
    """Which printed line a row stands beside where their names differ, and the lines beside no row."""
    beside = [(line.row.label, stands_beside(tables, line.row, models)) for line in table.lines]
    pairs = [f"{label} beside {' and '.join(own)}" for label, own in beside if set(own) - {label}]
    taken = {method for _, own in beside for method in own}
    left = {
        model: [
            f"{printed['method']} {printed['value']:.{source['decimals']}f}"
            for source in tables
            for printed in source["rows"]
            if printed["model"] == model and printed["method"] not in taken
        ]
        for model in models
    }
    return [
        *([f"Taken for one another: {'; '.join(pairs)}."] if pairs else []),
        *(f"In print beside no row, {model}: {'; '.join(lines)}." for model, lines in left.items() if lines),
    ]


def _scoring_notes(unit: Unit, spec: dict[str, Any]) -> list[str]:
    """How the tasks of an accuracy are scored, how many items of each, and what an average is over."""
    ways: dict[str, list[str]] = {}
    for task in spec["tasks"]:
        if way := _way(unit, spec, task):
            ways.setdefault(way, []).append(task_title(task))
    limits = {c.get("limit") for c in protocols_called(unit, spec["protocol"]).values()} - {None}
    averages = averaged(unit, spec["protocol"]) if AVERAGE in spec["tasks"] else []
    return [
        *(f"Scored by {way}: {listed(titles)}." for way, titles in ways.items()),
        *(
            f"Only the first {limit} items of a task, or of each of its parts, are scored."
            for limit in sorted(limits)
        ),
        *(
            [f"Average: the unweighted mean of {listed(list(map(task_title, averages)))}."]
            if averages
            else []
        ),
    ]


def _signature_notes(unit: Unit, spec: dict[str, Any]) -> list[str]:
    """By which of its many ways sacrebleu scored translations."""
    if spec.get("suite") != "translation":
        return []
    records = unit.records
    scored = records[(records.protocol_name == spec["protocol"]) & (records.metric == spec["metric"])]
    signatures = scored.variant.dropna().unique()
    return [f"{metric_title(spec['metric'])} by sacrebleu: {signature}." for signature in signatures]


def _way(unit: Unit, spec: dict[str, Any], task: str) -> str | None:
    """lm-eval's metric and the examples in the prompt, ``acc, 0-shot``; None where a task has neither."""
    scored = scoring(unit, spec["protocol"], task)
    return f"{scored['metric']}, {scored['shots']}-shot" if "shots" in scored else None


def _stand_in_notes(unit: Unit, spec: dict[str, Any]) -> list[str]:
    """On other data a metric is another quantity than the one in print."""
    notes = []
    for kind, note in UNLIKE.get(spec["metric"], {}).items():
        scored = {task: sources_of(unit, spec["protocol"], task)[:1] for task in spec["tasks"]}
        tasks = [task_title(task) for task, found in scored.items() if any(s["fit"] == kind for s in found)]
        notes += [note.format(tasks=listed(tasks))] if tasks else []
    return notes


def _source_notes(unit: Unit, spec: dict[str, Any], records: pd.DataFrame) -> list[str]:
    """A line for each task: how it is scored, on how many items, and where its data came from."""
    notes = []
    for task in spec["tasks"]:
        if task == AVERAGE:
            continue
        if work := work_in_words(scoring(unit, spec["protocol"], task)):
            notes.append(f"{task_title(task)}: {work}.")
            continue
        sources = sources_of(unit, spec["protocol"], task)
        told = [f"{s['source']}{_in_brackets(s.get('note'))}; {fit(s)}" for s in sources]
        if len(sources) > 1:
            told = [f"{source['role']}: {text}" for source, text in zip(sources, told, strict=True)]
        way = _way(unit, spec, task)
        scored = f"{way}, {_items(spec, records, task)}; " if way else ""
        notes.append(f"{task_title(task)}: {scored}{' and '.join(told) or _unknown(unit, spec, task)}.")
    return notes


def _unknown(unit: Unit, spec: dict[str, Any], task: str) -> str:
    """Why a task has no source; where planning knew, its cells have the reason."""
    called = protocols_called(unit, spec["protocol"]).values()
    if any("skip" in content for content in called):
        return "not measured at this scale"
    absent = any(task in content.get("unavailable", {}) for content in called)
    return "no source has it here" if absent else "its source was not recorded"


def _items(spec: dict[str, Any], records: pd.DataFrame, task: str) -> str:
    counts = records[(records.task == task) & (records.metric == spec["metric"])].n.dropna().astype(int)
    return f"{_range(list(counts))} items"


def _in_brackets(text: str | None) -> str:
    return f" ({text})" if text else ""


def _protocol_notes(unit: Unit, spec: dict[str, Any]) -> list[str]:
    return [
        f"Protocol {identity}: {content.get('title', content['name'])}; {settings_of(content)}."
        for identity, content in protocols_called(unit, spec["protocol"]).items()
    ]


def _answer_notes(unit: Unit, spec: dict[str, Any]) -> list[str]:
    """To which prompts the answers are that were compared, and by which protocol."""
    protocol = judged(unit, spec["experiment"]).get("protocol", "")
    tasks = [task for content in protocols_called(unit, protocol).values() for task in content["tasks"]]
    asked = {"protocol": protocol, "metric": WIN_RATE, "tasks": list(dict.fromkeys(tasks))}
    return [*_source_notes(unit, asked, unit.records), *_protocol_notes(unit, asked)]


def _calibration_notes(unit: Unit, records: pd.DataFrame) -> list[str]:
    """One note per size and corpus, the seeds of its draws together."""
    seeds: dict[tuple, dict[str, None]] = {}
    for identity in records.calibration.dropna().unique():
        if drawn := unit.info["calibrations"].get(identity):
            seeds.setdefault((_calibration_size(drawn), drawn["corpus"]), {})[str(drawn["seed"])] = None
    return [
        f"Calibration: {size}, "
        f"seed{'s' if len(drawn) > 1 else ''} {listed(list(drawn))}{_calibration_fit(unit, corpus)}."
        for (size, corpus), drawn in seeds.items()
    ]


def _calibration_size(drawn: dict[str, Any]) -> str:
    tokens, corpus = f"{drawn['length']} tokens", drawn["corpus"]
    if "rows" in drawn:
        return f"{counted(drawn['rows'], 'row')} of {corpus}, cut into windows of {tokens}"
    return f"{counted(drawn['windows'], 'window')} of {tokens} of {corpus}"


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


def _basis_notes(spec: dict[str, Any], table: Table, records: pd.DataFrame) -> list[str]:
    """What the compressed rows' achieved ratios are shares of, and whose where they differ."""
    known = records[(records.target_kind != "none") & records.ratio_basis.notna()]
    if "ratio_achieved" not in spec.get("facts", []) or known.empty:
        return []
    rows = [line.row for line in table.lines]
    labels = {run.run_id: row.label for row in rows for run in row.runs}
    whose = known.assign(label=known.run_id.map(labels)).groupby("ratio_basis", sort=False).label.unique()
    told = [f"{basis} ({listed(list(of))})" if len(whose) > 1 else basis for basis, of in whose.items()]
    title = shown_fact("ratio_achieved", rows).title
    return [f"{title}: counted on the saved checkpoint, over {listed(told)}."]
