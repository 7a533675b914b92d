"""The report: one self-contained HTML page on what was run, what came out, and how to repeat it."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from reprune.analysis.claims import check_claims
from reprune.analysis.differences import differences, has_differences
from reprune.analysis.differences_markup import to_html as differences_html
from reprune.analysis.evidence import FAILS, HOLDS, UNDECIDED
from reprune.analysis.examples import examples_html
from reprune.analysis.forest import interval_svg, reach
from reprune.analysis.formats import duration
from reprune.analysis.markup import to_html
from reprune.analysis.names import counted
from reprune.analysis.notes import origin_notes, reading_notes
from reprune.analysis.palette import GRID, INK, MUTED, PAPER
from reprune.analysis.plots import svg
from reprune.analysis.provenance import fit, settings_of
from reprune.analysis.table import build_table
from reprune.analysis.tables import anchor
from reprune.analysis.unit import Row, Run, Unit

VERDICTS = (HOLDS, FAILS, UNDECIDED)
THEME = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--rule)", PAPER: "var(--paper)"}
FILES = ("records.csv", "records.parquet", "items.parquet", "layers.parquet", "notes.json")
IDENTITY = ("calibration", "data_source", "dtype", "model_hash", "data_hash", "code", "commit", "versions")


def write_report(units: list[Unit], summary: dict[str, Any], path: Path) -> None:
    """Write the page on ``units`` to ``path``.

    ``summary`` has title, scale, created, machine (cpu, cores, memory_gb), commit, dirty, versions,
    seconds and command.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(duration=duration, counted=counted, code=code)
    sections = [_section(unit, path.parent) for unit in units]
    runs = {row["run_id"] for section in sections for row in section["rows"] if row["run_id"]}
    page = environment.get_template("report.html.j2").render(
        summary=summary,
        sections=sections,
        runs=len(runs),
        verdicts=VERDICTS,
        counts=_count([claim for section in sections for claim in section["claims"]]),
        models=list(dict.fromkeys(title for unit in units for title in _models(unit))),
        sources=_sources(units),
        scale_title=units[0].info.get("scale_title"),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")


def code(text: str) -> Markup:
    """Escaped text with `` `words` `` between backquotes set as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _section(unit: Unit, beside: Path) -> dict[str, Any]:
    """All that the page shows of one unit; links are relative to the folder ``beside`` the page."""
    claims = [_claim(unit, claim) for claim in check_claims(unit)]
    return {
        "info": unit.info,
        "anchor": anchor(unit, "unit"),
        "claims": claims,
        "counts": _count(claims),
        "tables": [_table(unit, spec) for spec in unit.declared("tables")],
        "plots": [_plot(unit, spec) for spec in unit.declared("plots")],
        "examples": Markup(examples_html(unit)),
        "rows": [
            _run(unit, name, row, run)
            for name in unit.info["experiments"]
            for row in unit.rows(name)
            for run in row.runs
        ],
        "links": [
            (name, os.path.relpath(unit.folder / name, beside))
            for name in FILES
            if (unit.folder / name).exists()
        ],
    }


def _count(claims: list[dict[str, Any]]) -> dict[str, int]:
    found = Counter(claim["verdict"] for claim in claims)
    return {verdict: found[verdict] for verdict in VERDICTS}


def _claim(unit: Unit, claim: dict[str, Any]) -> dict[str, Any]:
    for check in claim["checks"]:
        for part in check["parts"]:
            alike = [other for other in check["parts"] if other["threshold"] == part["threshold"]]
            part["drawing"] = Markup(interval_svg(part, *reach(alike)))
    return {**claim, "anchor": anchor(unit, claim["id"])}


def _table(unit: Unit, spec: dict[str, Any]) -> Markup:
    table = build_table(unit, spec)
    identity = anchor(unit, table.id)
    page = to_html(table, reading_notes(unit, spec, table), origin_notes(unit, spec, table), identity)
    if has_differences(spec):
        page += differences_html(unit, differences(unit, spec), f"{identity}-differences")
    return Markup(page)


def _plot(unit: Unit, spec: dict[str, Any]) -> dict[str, Any]:
    return {"anchor": anchor(unit, spec["id"]), "title": spec["title"], "svg": themed(svg(unit, spec))}


def themed(text: str) -> Markup:
    """An SVG for inlining: without prolog and generic ids, its neutral colours those of the page."""
    text = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", text[text.index("<svg") :])
    for colour, variable in THEME.items():
        text = text.replace(colour, variable)
    return Markup(text)


def _run(unit: Unit, experiment: str, row: Row, run: Run) -> dict[str, Any]:
    """A line of "how to reproduce": the run, its command, and everything its identity is made of."""
    records = unit.records_of(run.run_id)
    failed = records[records.status != "ok"]
    return {
        "experiment": unit.info["experiments"][experiment]["title"],
        "label": row.label,
        "target": row.target,
        "model": unit.model_title(row.model),
        "seed": run.seed,
        "run_id": run.run_id,
        "status": run.status if run.status == "skipped" else _status(records),
        "reason": run.reason or _distinct(failed.reason),
        "command": run.command or unit.info["command"],
        "details": {name: text for name, text in _details(unit, row, records).items() if text},
    }


def _details(unit: Unit, row: Row, records: pd.DataFrame) -> dict[str, str]:
    protocols = {name: unit.info["protocols"].get(name, {}) for name in records.protocol.dropna().unique()}
    drawn = unit.info["calibrations"].get(_distinct(records.calibration), {})
    return {
        "settings": _pairs(row.settings) or "defaults",
        "recovery": "; then ".join(map(_pairs, row.recoveries)),
        "calibration content": _pairs(drawn),
        "protocols": "; ".join(f"{name}: {settings_of(content)}" for name, content in protocols.items()),
        **{name: _distinct(records[name]) for name in IDENTITY},
    }


def _status(records: pd.DataFrame) -> str:
    """What became of a run: a task that was left out on purpose does not make it a skipped one."""
    if records.empty:
        return "missing"
    bad = records.status[~records.status.isin(["ok", "skipped"])]
    return str(bad.iloc[0]) if len(bad) else "ok" if (records.status == "ok").any() else "skipped"


def _distinct(column: pd.Series) -> str:
    return "; ".join(str(value) for value in column.dropna().unique())


def _pairs(content: dict[str, Any]) -> str:
    """``name value, name value`` of the plain entries of a mapping."""
    return ", ".join(
        f"{key} {value}" for key, value in content.items() if not isinstance(value, (dict, list))
    )


def _models(unit: Unit) -> list[str]:
    return [unit.model_title(row.model) for name in unit.info["experiments"] for row in unit.rows(name)]


def _sources(units: list[Unit]) -> list[dict[str, str]]:
    """Every text and task used, once, with how close it is to the papers'."""
    every = [source for unit in units for source in unit.info["sources"]]
    return list({(s["name"], s["role"]): {**s, "fit": fit(s)} for s in every}.values())
