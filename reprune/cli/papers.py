"""`reprune papers`: every paper, what it shows, and the command that makes it."""

from __future__ import annotations

from pathlib import Path

from reprune.cli.text import ROOT, counted, plan_of
from reprune.plan.paths import report_file
from reprune.plan.plan import Plan
from reprune.plan.problems import Problems, display_path
from reprune.plan.source import read_source
from reprune.plan.units import VIEWS, Unit


def paper_lines() -> list[str]:
    """A few lines for each paper, in the order of their ids."""
    plan = plan_of()
    folders = {entry.file.parent for entry in plan.methods.values()}
    folders |= {unit.paper.path.parent for unit in plan.units.values()}
    width = max(len(folder.name) for folder in folders) + 2
    lines = []
    for folder in sorted(folders, key=lambda folder: folder.name):
        title, *facts = _entry(plan, folder)
        lines += [folder.name.ljust(width) + title, *(" " * width + fact for fact in facts), ""]
    return [*lines, "All but those on request: snakemake --cores all"]


def _entry(plan: Plan, folder: Path) -> list[str]:
    """The paper's title, then one line for each target."""
    units = [unit for unit in plan.units.values() if unit.paper.path.parent == folder]
    if not units:
        return [_title(folder), "no experiments of its own; other papers' tables use its method"]
    return [_title(folder), *(_target(plan, unit) for unit in units)]


def _title(folder: Path) -> str:
    paper = read_source(folder / "paper.yaml", Problems()) if (folder / "paper.yaml").is_file() else None
    return paper.data["title"] if paper else "a method without a paper.yaml"


def _target(plan: Plan, unit: Unit) -> str:
    shown = [counted(len(unit.views[view]), view[:-1]) for view in VIEWS if unit.views[view]]
    parts = [*(["on request"] if unit.on_request else []), *shown, f"snakemake --cores all {unit.name}"]
    report = ROOT / report_file(plan.out, unit.name)
    return " · ".join([*parts, f"report: {display_path(report)}"] if report.is_file() else parts)
