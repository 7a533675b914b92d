"""Fingerprints of the code behind each kind of job: what changed code makes old results stale."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from reprune.plan.fingerprint import fingerprint
from reprune.plan.grid import Run
from reprune.plan.training import Training

FETCH_MODULES = {
    "corpus": ("reprune.data.corpora",),
    "task": ("reprune.data.tasks",),
    "instructions": ("reprune.data.instructions",),
    "parser": ("reprune.data.parsers",),
    "model": ("reprune.models.sources", "reprune.models.folder"),
    "parallel": ("reprune.data.parallel",),
}
LOADING = "reprune.models.checkpoint"
SUITE_MODULES = {
    "perplexity": (LOADING, "reprune.evaluation.perplexity", "reprune.evaluation.text"),
    "block_error": (LOADING, "reprune.evaluation.block_error", "reprune.evaluation.text"),
    "downstream": (LOADING, "reprune.evaluation.downstream", "reprune.evaluation.engine"),
    "efficiency": (LOADING, "reprune.evaluation.efficiency"),
    "translation": (LOADING, "reprune.evaluation.translation", "reprune.data.parallel"),
    "response": (LOADING, "reprune.evaluation.response", "reprune.data.instructions"),
    "head_roles": (LOADING, "reprune.evaluation.head_roles", "reprune.data.parallel"),
    "answers": (LOADING, "reprune.evaluation.answers", "reprune.evaluation.engine"),
}


@cache
def stage_code(stage: str) -> str:
    """Fingerprint of a stage and all it imports; not of the methods, which are found at run time."""
    return fingerprint(f"reprune.stages.{stage}")


@cache
def fetch_code(what: str) -> str:
    """Fingerprint of what one kind of input is made by, so that a new reader does not fetch models again."""
    return fingerprint(*FETCH_MODULES[what])


@cache
def suite_code(suite: str) -> str:
    """Fingerprint of what one suite's measurement runs, so that another suite's change does not repeat it."""
    return fingerprint(*SUITE_MODULES[suite])


@cache
def method_code(file: Path) -> str:
    """Fingerprint of the compress stage together with one method file and all they import."""
    return fingerprint("reprune.stages.compress", files=(file,))


def recovery_code(how: Training) -> str:
    """Fingerprint of the recover stage together with the module that trains so."""
    return _recovery_code(how.stage)


@cache
def _recovery_code(stage: str) -> str:
    return fingerprint("reprune.stages.recover", f"reprune.stages.{stage}")


def checkpoint_code(run: Run) -> str:
    """Fingerprint of what makes a run's checkpoint: its method, and every recovery of its chain."""
    return "+".join([method_code(run.method.file), *(recovery_code(how) for how, _ in run.recoveries)])
