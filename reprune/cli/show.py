"""`reprune show`: what a unit's run will do, its tables if it ran, and how two of its rows differ."""

from __future__ import annotations

from reprune.cli.text import ROOT, Refused, columns, plan_of
from reprune.plan.grid import Row
from reprune.plan.listing import listing
from reprune.plan.paths import report_file, unit_folder
from reprune.plan.plan import Plan
from reprune.plan.problems import nearest
from reprune.plan.units import Unit
from reprune.records.provenance import machine

HEAD = ("label", "model", "target", "settings that differ", "calibration", "recovery", "")


def show_lines(name: str, scale: str | None) -> list[str]:
    """The plan of unit ``name`` at ``scale`` and, below it, the text of its report if there is one.

    Raises :class:`Refused` for an unknown name.
    """
    plan = plan_of(scale)
    unit = _unit(plan, name)
    lines = [*listing(plan, [name], machine()["cores"], ROOT), ""]
    for experiment, rows in unit.experiments.items():
        title = unit.paper.data["experiments"][experiment]["title"]
        lines += [f"{experiment}: {title}", *_runs(plan, rows), f"  suites: {_suites(rows)}", ""]
    return [*lines, f"run it: {_command(plan, name)}", *_report(plan, name)]


def difference_lines(name: str, scale: str | None, left: str, right: str, task: str | None) -> list[str]:
    """How two rows of unit ``name`` differ, on every task both were measured on or on ``task`` alone.

    Raises :class:`Refused` for an unknown name, and where nothing is measured or shared.
    """
    plan = plan_of(scale)
    unit = _unit(plan, name)
    folder = ROOT / unit_folder(plan.out, name)
    if not (folder / "unit.json").is_file():
        raise Refused(f"{name} has no results at scale {plan.scale}; run it: {_command(plan, name)}")
    from reprune.analysis.head_to_head import head_to_head
    from reprune.analysis.samples import Undecided
    from reprune.analysis.unit import load_unit

    try:
        return head_to_head(load_unit(folder, unit.paper.path.parents[1]), left, right, task)
    except Undecided as reason:
        raise Refused(str(reason)) from reason


def _unit(plan: Plan, name: str) -> Unit:
    if name not in plan.units:
        raise Refused(f"unknown paper '{name}'; {nearest(name, plan.units)}")
    return plan.units[name]


def _runs(plan: Plan, rows: list[Row]) -> list[str]:
    """A table of an experiment's rows, with the columns that say something."""
    cells = [
        (
            row.label,
            row.model,
            row.target.label,
            ", ".join(f"{key} {value}" for key, value in row.settings.items()),
            _calibration(plan, row),
            " + ".join(how.kind for how in row.recoveries),
            "skipped" if row.reason else "",
        )
        for row in rows
    ]
    used = [any(row[i] for row in cells) for i in range(len(HEAD))]
    head = tuple(title if keep else "" for title, keep in zip(HEAD, used, strict=True))
    return columns([head, *cells], indent=2)


def _calibration(plan: Plan, row: Row) -> str:
    run = plan.runs[row.run] if row.run else None
    drawn = run and (run.calibration or run.mixture)
    return drawn.text if drawn else ""


def _suites(rows: list[Row]) -> str:
    return ", ".join(dict.fromkeys(suite for row in rows for suite in row.suites))


def _command(plan: Plan, name: str) -> str:
    option = "" if plan.scale == plan_of().scale else f" --config scale={plan.scale}"
    return f"snakemake --cores all {name}{option}"


def _report(plan: Plan, name: str) -> list[str]:
    file = ROOT / report_file(plan.out, name).with_suffix(".txt")
    return [file.read_text(encoding="utf-8").rstrip()] if file.is_file() else []
