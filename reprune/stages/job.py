"""Running one job of the workflow: threads, log, and errors as one clear line."""

from __future__ import annotations

import errno
import importlib
import json
import os
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from reprune.records.files import write_json
from reprune.records.progress import opened_log

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
EXPECTED = (
    "FetchError",
    "CalibrationError",
    "ProtocolError",
    "ModelFolderError",
    "NoDecoderBlocks",
    "MethodFault",
    "MethodFileError",
    "TrainingError",
    "JobError",
)


class JobError(Exception):
    """Something a user can mend; the message is the one line to show."""


@dataclass(frozen=True)
class Job:
    """What a stage gets: its parameters, its files by name, its threads and its log."""

    params: dict[str, Any]
    input: dict[str, Any]
    output: dict[str, Path]
    threads: int
    log: TextIO


def run_job(snakemake: Any, stage: str) -> None:
    """Run ``stage`` (a module with ``run(job)``) for a Snakemake job.

    Exits with status 1 and one line on the console for errors that are not faults of Reprune; the full
    traceback goes to the log in every case.
    """
    start = time.monotonic()
    limit_threads(snakemake.threads)
    params = json.loads(snakemake.params.job)
    with opened_log(snakemake.log[0]) as log:
        try:
            module = importlib.import_module(stage)
            module.run(
                Job(
                    params,
                    dict(snakemake.input.items()),
                    {k: Path(v) for k, v in snakemake.output.items()},
                    snakemake.threads,
                    log,
                )
            )
        except Exception as error:
            traceback.print_exc(file=log)
            status, line = explain(error)
            if "failure" in params:
                write_json(Path(params["failure"]), {"status": status, "reason": line})
            print(f"\n{params['label']}: {line}\n(details: {snakemake.log[0]})", file=sys.stderr)
            sys.exit(1)
    if "failure" in params:
        Path(params["failure"]).unlink(missing_ok=True)
    print(f"{params['label']}: done in {time.monotonic() - start:.0f} s", file=sys.stderr)


def limit_threads(threads: int) -> None:
    """Hold every thread pool to ``threads``; must come before torch is imported."""
    for name in THREAD_VARIABLES:
        os.environ[name] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    os.environ["TQDM_DISABLE"] = "1"  # two jobs' progress bars garble one console; jobs print lines instead


def explain(error: BaseException) -> tuple[str, str]:
    """The record status and the one line for an error."""
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return "oom", "not enough memory; lower batch_size in the scale file, or run fewer jobs at once"
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left on device" in str(error):
        return "failed", "no space left on the disk; free some and run again, finished work is kept"
    if type(error).__name__ in EXPECTED:
        return "failed", str(error)
    return "failed", f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
