"""The plan as text: what will run, from which inputs, and about how long it takes."""

from __future__ import annotations

from pathlib import Path

from reprune.plan import paths
from reprune.plan.estimate import Estimate, estimate
from reprune.plan.grid import Run
from reprune.plan.plan import Plan


def listing(plan: Plan, units: list[str], cores: int, root: Path) -> list[str]:
    """Lines for the console before the work starts."""
    runs = plan.runs_of(units)
    groups = list(dict.fromkeys(plan.group(unit) for unit in units))
    todo = [run for run in runs if not _evaluated(run, groups, root)]
    suites = [s for run in runs for group in groups for s in run.groups.get(group, {}).values()]
    lines = [
        f"Reprune · scale {plan.scale} ({plan.scale_title}) · {', '.join(units)}",
        f"{len(runs)} runs, {len(todo)} to compute · {plan.evaluate['dtype']} evaluation",
    ]
    used = {c for suite in suites for c in suite.corpora.values()}
    used |= {run.calibration.corpus.id for run in runs if run.calibration}
    used |= {c.id for run in runs for mixture in run.mixtures for c in mixture.corpora}
    lines += [f"  model {m.name}: {m.label}" for m in {run.model.id: run.model for run in runs}.values()]
    lines += [f"  text {c.name}: {c.label} ({c.fit})" for c in plan.corpora.values() if c.id in used]
    taught = {data.id for run in runs for _, data in run.recoveries}
    lines += [
        f"  instructions {d.name}: {d.label} ({d.fit}, {d.rows:,} rows)"
        for d in plan.instructions.values()
        if d.id in taught
    ]
    pairs = {run.model.parallel.id: run.model.parallel for run in runs if run.model.parallel}
    lines += [f"  parallel text {p.name}: {p.label} ({p.fit})" for p in pairs.values()]
    tasks = {d.id: d for suite in suites for d in suite.data.values()}
    lines += [f"  task {d.name}: {d.label} ({d.fit}, {d.rows:,} items)" for d in tasks.values()]
    skipped = {suite.name: suite.content["skip"] for suite in suites if "skip" in suite.content}
    absent = {reason for suite in suites for reason in suite.content.get("unavailable", {}).values()}
    lines += [f"  task not to be had, {reason}" for reason in sorted(absent - {*skipped.values()})]
    lines += [f"  skipped {protocol}: {reason}" for protocol, reason in sorted(skipped.items())]
    lines += [
        f"  skipped {row.label} {row.target.label} on {row.model}: {row.reason}"
        for unit in units
        for rows in plan.units[unit].experiments.values()
        for row in rows
        if row.reason
    ]
    lines += [
        f"  answers of {' and '.join(pair)} are judged by {of.judge.title}"
        for unit in units
        for of in plan.units[unit].judged.values()
        for pair in of.pairs
    ]
    lines += [f"  MISSING {line}" for line in plan.missing]
    if todo:
        work = [*todo, *_unfinished_bases(plan, todo, root)]
        lines.append(_time_line(estimate(plan, work, groups, root), cores))
    return lines


def _evaluated(run: Run, groups: list[str], root: Path) -> bool:
    """Whether every group that the run belongs to has its file."""
    return all(
        (root / paths.evaluation_file(run.id, run.evaluation(group))).is_file()
        for group in groups
        if group in run.groups
    )


def _unfinished_bases(plan: Plan, todo: list[Run], root: Path) -> list[Run]:
    """What recoveries among ``todo`` go on from, one after another, less what is there or in ``todo``."""
    waiting = {run.base for run in todo if run.base} - {run.id for run in todo}
    bases = [plan.runs[run] for run in sorted(waiting) if not (root / paths.checkpoint_facts(run)).is_file()]
    return [*bases, *_unfinished_bases(plan, [*todo, *bases], root)] if bases else []


def _time_line(guess: Estimate, cores: int) -> str:
    seconds = guess.core_seconds / max(1, cores)
    low, high = max(1, round(seconds * 0.8 / 60)), max(2, round(seconds * 1.3 / 60))
    basis = "the speed of earlier jobs here" if guess.measured else "a speed assumed for a common core"
    return f"  about {low} to {high} minutes on {cores} cores, judged by {basis}"
