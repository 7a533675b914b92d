"""`reprune compare`: whether a run gives the numbers of a reference."""

from __future__ import annotations

import sys
from pathlib import Path

from reprune.cli.text import ROOT, Refused
from reprune.plan.paths import RESULTS
from reprune.plan.problems import display_path
from reprune.records.schema import COLUMNS

RECORDS = "records.csv"


def compare(new: Path, reference: Path | None) -> int:
    """Print how two ``records.csv`` (or the folders that hold them) differ; 0 if they agree, else 1.

    Without ``reference``, the one committed for ``new``'s place below ``results``.
    Raises :class:`Refused` if a file is absent or holds no records.
    """
    file = _records(new)
    other = _records(_default(file) if reference is None else reference)
    from reprune.analysis.compare import compare_records

    try:
        return compare_records(file, other, sys.stdout)
    except ValueError as error:  # two values of one key; pandas then shows the rows in further lines
        reason = str(error).splitlines()[0]
        raise Refused(f"{display_path(file)} against {display_path(other)}: {reason}") from error


def _records(path: Path) -> Path:
    file = path / RECORDS if path.is_dir() else path
    if not file.is_file():
        raise Refused(f"no file {display_path(file)}; records are written by snakemake --cores all")
    with file.open(encoding="utf-8") as stream:
        if not stream.readline().startswith(COLUMNS[0]):
            raise Refused(f"{display_path(file)} is no records.csv: its first column is not {COLUMNS[0]}")
    return file


def _default(file: Path) -> Path:
    """``results/reference/local/records.csv`` for ``results/local/records.csv``."""
    results = ROOT / RESULTS
    if not file.resolve().is_relative_to(results):
        raise Refused(f"{display_path(file)} does not lie below {display_path(results)}; name its reference")
    return results / "reference" / file.resolve().relative_to(results)
