# The plan and what the rules ask of it. Nothing here imports torch.
import sys
from pathlib import Path

from reprune.plan.jobs import Jobs
from reprune.plan.listing import listing
from reprune.plan.paths import (
    CALIBRATION,
    CORPORA,
    INSTRUCTIONS,
    JUDGED,
    MIXTURES,
    MODELS,
    PACKAGES,
    PARALLEL,
    PARSERS,
    RESULTS,
    RUNS,
    TASKS,
    checkpoint_facts,
    evaluation_file,
    judgement_file,
    report_file,
    trained_on_file,
    unit_folder,
)
from reprune.plan.plan import build_plan
from reprune.plan.problems import ConfigError, misspelt, nearest
from reprune.plan.resources import (
    compress_resources,
    evaluate_resources,
    judge_resources,
    recover_resources,
)

try:
    PLAN = build_plan(config)
except ConfigError as error:
    sys.exit(f"\nThe configuration cannot be used:\n{error}\n")
DRY_RUN = bool({"-n", "--dry-run", "--dryrun"} & set(sys.argv))
if PLAN.missing and not DRY_RUN:
    sys.exit("\nInputs are missing:\n" + "\n".join(PLAN.missing) + "\n")
JOBS = Jobs(PLAN)
for word in sys.argv[1:]:
    if misspelt(word, [*PLAN.units, "all"]):
        sys.exit(f"\nNo target '{word}'; {nearest(word, [*PLAN.units, 'all'])}\n")
ASKED = [unit for unit in PLAN.units if unit in sys.argv] or PLAN.default_units
LISTING = listing(PLAN, ASKED, workflow.cores or 1, Path.cwd())
if DRY_RUN:
    print("\n".join(LISTING), file=sys.stderr)
UNIT = RESULTS / PLAN.out / "{unit}"


wildcard_constraints:
    run="|".join(PLAN.runs) or "none",
    unit="|".join(PLAN.units) or "none",
    model="|".join(PLAN.models) or "none",
    corpus="|".join(PLAN.corpora) or "none",
    data="|".join(PLAN.instructions) or "none",
    pairs="|".join(PLAN.parallel) or "none",
    parser="|".join(PLAN.parsers) or "none",
    calibration="|".join(PLAN.calibrations) or "none",
    mixture="|".join(PLAN.mixtures) or "none",
    task="|".join(PLAN.tasks) or "none",
    package="|".join(PLAN.packages) or "none",
    evaluation="[0-9a-f]+",
    judgement="|".join(PLAN.judgements) or "none",


def runs_named(recovered):
    """The pattern of all runs with or without recovery."""
    return "|".join(i for i, r in PLAN.runs.items() if bool(r.recovery) == recovered)


def models_named(trained):
    """The pattern of all models that are trained here, or of all others."""
    return "|".join(
        i for i, m in PLAN.models.items() if (m.kind == "trained") == trained
    )


def targets(units):
    """The finished views of some units."""
    return [
        unit_folder(PLAN.out, unit) / f
        for unit in units
        for f in ("tables", "plots", "claims.json")
    ]


def archive_of(content):
    """The package file that a source is read from, if it is one."""
    package = content.get("package") or content.get("gguf")
    if package is None:
        return {}
    return {"archive": PACKAGES / PLAN.packages[package["package"]]["file"]}


def evaluation_of(run, unit):
    """The evaluation file of a run that has the suites of a unit."""
    return evaluation_file(run.id, run.evaluation(PLAN.group(unit)))


def group_of(w):
    """The group of suites that an evaluation file holds."""
    run = PLAN.runs[w.run]
    return next(g for g in run.groups if run.evaluation(g) == w.evaluation)


def finished_reports():
    """The reports of what was asked for."""
    asked = [report_file(PLAN.out, u) for u in PLAN.units if u in sys.argv] or [
        report_file(PLAN.out)
    ]
    return [file for file in asked if file.is_file()]


def measured_runs(unit):
    """The unit's runs; with `partial`, those whose evaluation is there."""
    runs = PLAN.runs_of([unit])
    return (
        [run for run in runs if evaluation_of(run, unit).is_file()]
        if PLAN.partial
        else runs
    )


def judgements_of(unit):
    """What judges found for a unit; with `partial`, as far as it is there."""
    judged = [j for of in PLAN.units[unit].judged.values() for j in of.judgements]
    files = [judgement_file(j.id) for j in judged]
    return [file for file in files if file.is_file()] if PLAN.partial else files


def compress_input(w):
    run = PLAN.runs[w.run]
    files = {
        "model": MODELS / run.model.id,
        "model_facts": MODELS / f"{run.model.id}.json",
    }
    if run.calibration:
        files["calibration"] = CALIBRATION / f"{run.calibration.id}.safetensors"
    if run.mixture:
        files["mixture"] = MIXTURES / f"{run.mixture.id}.safetensors"
    if run.parallel:
        files["parallel"] = PARALLEL / f"{run.parallel.id}.parquet"
    return files


def recover_input(w):
    run = PLAN.runs[w.run]
    how, data = run.recoveries[-1]
    return {
        "base": RUNS / run.base / "checkpoint",
        "base_facts": checkpoint_facts(run.base),
        how.file: trained_on_file(how.file, data.id),
        "model": MODELS / run.model.id,
    }


def evaluate_input(w):
    run = PLAN.runs[w.run]
    suites = run.groups[group_of(w)].values()
    corpora = {CORPORA / f"{c}.parquet" for s in suites for c in s.corpora.values()}
    return {
        "checkpoint": RUNS / run.id / "checkpoint",
        "facts": RUNS / run.id / "checkpoint.json",
        "model": MODELS / run.model.id,
        "corpora": sorted(corpora),
        "tasks": sorted({TASKS / d.id for s in suites for d in s.data.values()}),
        "instructions": sorted(
            {
                INSTRUCTIONS / f"{i.id}.parquet"
                for s in suites
                for i in s.instructions.values()
            }
        ),
        "parallel": sorted(
            {PARALLEL / f"{p.id}.parquet" for s in suites for p in s.parallel.values()}
        ),
        "parsers": sorted({PARSERS / p.id for s in suites for p in s.parsers.values()}),
    }


def judge_input(w):
    judgement = PLAN.judgements[w.judgement]
    left, right = (
        evaluation_file(run.id, run.evaluation(judgement.group))
        for run in (judgement.left, judgement.right)
    )
    return {"left": left, "right": right, "model": MODELS / judgement.model.id}


def view_files(units):
    return [
        unit_folder(PLAN.out, u) / f
        for u in units
        for f in ("records.parquet", "claims.json", "tables", "plots")
    ]


onstart:
    print("\n".join(LISTING), file=sys.stderr)


onsuccess:
    for shown in finished_reports():
        print(f"\n{shown.with_suffix('.txt').read_text()}\nReport: {shown}")


onerror:
    print(
        "\nSome jobs failed; each said why above and in its log. What is finished is kept: run again to go on, "
        "or add --config partial=true to see the tables with holes.",
        file=sys.stderr,
    )
