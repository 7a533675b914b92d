"""What the benchmarks share: threads held before torch loads, the real model, calibration windows."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reprune.plan.paths import CALIBRATION, MODELS
from reprune.plan.plan import Plan, build_plan
from reprune.stages.job import limit_threads


def arguments(
    description: str, threads: int = 1, more: dict[str, dict[str, Any]] | None = None
) -> argparse.Namespace:
    """Parse the common options and ``more``, and hold all thread pools to ``--threads``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=threads)
    parser.add_argument("--scale", default="local")
    for name, option in (more or {}).items():
        parser.add_argument(name, **option)
    options = parser.parse_args()
    limit_threads(options.threads)
    import torch

    torch.set_num_threads(options.threads)
    return options


def plan_with_inputs(scale: str, *units: str) -> Plan:
    """The plan of a scale; exits with one line if a model or a calibration of ``units`` is not there."""
    plan = build_plan({"scale": scale})
    runs = plan.runs_of(list(units))
    wanted = [MODELS / run.model.id for run in runs]
    wanted += [CALIBRATION / f"{run.calibration.id}.safetensors" for run in runs if run.calibration]
    missing = [str(path) for path in dict.fromkeys(wanted) if not path.exists()]
    if missing:
        sys.exit(f"missing {', '.join(missing)}; run `snakemake --cores all --config scale={scale}` first")
    return plan


def seconds(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def scratch() -> Path:
    """A folder for one measurement, on the temporary file system."""
    return Path(tempfile.mkdtemp(prefix=f"reprune-{os.getpid()}-"))
