"""Where everything lies below ``results/``. Runs and inputs are shared by all scales; views are not."""

from __future__ import annotations

from pathlib import Path

RESULTS = Path("results")
STORE = RESULTS / ".store"
SPEED = STORE / "speed.json"
PACKAGES = RESULTS / "inputs" / "packages"
CORPORA = RESULTS / "inputs" / "corpora"
MODELS = RESULTS / "inputs" / "models"
TASKS = RESULTS / "inputs" / "tasks"
INSTRUCTIONS = RESULTS / "inputs" / "instructions"
PARALLEL = RESULTS / "inputs" / "parallel"
PARSERS = RESULTS / "inputs" / "parsers"
CALIBRATION = RESULTS / "inputs" / "calibration"
MIXTURES = RESULTS / "inputs" / "mixtures"
RUNS = RESULTS / "runs"
JUDGED = RESULTS / "judged"


def unit_folder(out: str, unit: str) -> Path:
    """The folder of one unit's records, tables, plots and claims."""
    return RESULTS / out / unit


def report_file(out: str, unit: str | None = None) -> Path:
    """The report of everything (``unit`` None) or of one unit."""
    return (RESULTS / out if unit is None else unit_folder(out, unit)) / "report.html"


def evaluation_file(run: str, evaluation: str) -> Path:
    """The evaluation of a run, named after the suites it measures."""
    return RUNS / run / f"evaluation-{evaluation}.json"


def checkpoint_facts(run: str) -> Path:
    """What is known of a run's checkpoint, which lies beside it."""
    return RUNS / run / "checkpoint.json"


def trained_on_file(what: str, data: str) -> Path:
    """What a recovery is trained on: ``instructions``, a ``mixture`` or ``parallel`` text."""
    folder, end = {
        "instructions": (INSTRUCTIONS, "parquet"),
        "mixture": (MIXTURES, "safetensors"),
        "parallel": (PARALLEL, "parquet"),
    }[what]
    return folder / f"{data}.{end}"


def judgement_file(judgement: str) -> Path:
    """What a judge found of the answers of two runs."""
    return JUDGED / f"{judgement}.json"


def judgement_failure(judgement: str) -> Path:
    """Where a failed comparison leaves its reason."""
    return JUDGED / f"{judgement}.failure.json"


def failure_file(run: str) -> Path:
    """Where a failed job of a run leaves its reason, for tables with visible holes."""
    return RUNS / run / "failure.json"
