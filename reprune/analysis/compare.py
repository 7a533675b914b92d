"""Whether a new run gives the numbers of a reference: two ``records.csv`` value by value.

``python -m reprune.analysis.compare NEW REFERENCE``
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd

KEYS = ["run_id", "suite", "protocol", "task", "metric", "variant"]
COSTS = "efficiency"  # a suite of times and sizes of processes, which no two runs share
SPEED = "tokens_per_second"  # what a suite of other things tells of its own time
EQUAL, CLOSE, DIFFERENT, MISSING, NEW = "equal", "within tolerance", "different", "missing", "new"


def compare_records(new: Path, reference: Path, stream: TextIO, tolerance: float = 1e-6) -> int:
    """Print how ``new`` compares with ``reference``; 0 if every value is there and within tolerance.

    ``tolerance`` is a relative difference. Costs (times, sizes, memory) are not compared.
    Raises ValueError if a file has two values of one key.
    """
    joined = join(_read(new), _read(reference), tolerance)
    counts = joined.verdict.value_counts()
    for verdict in (EQUAL, CLOSE, DIFFERENT, MISSING, NEW):
        stream.write(f"{counts.get(verdict, 0):6d}  {verdict}\n")
    for row in joined[joined.verdict.isin([DIFFERENT, MISSING, NEW])].itertuples():
        stream.write(_line(row) + "\n")
    return int(bool(counts.get(DIFFERENT, 0) or counts.get(MISSING, 0) or counts.get(NEW, 0)))


def join(new: pd.DataFrame, reference: pd.DataFrame, tolerance: float) -> pd.DataFrame:
    """Both sides of every key with ``verdict``, relative difference, and difference in standard errors."""
    columns = [*KEYS, "value", "stderr", "status"]
    both = new[columns].merge(
        reference[columns],
        on=KEYS,
        how="outer",
        suffixes=("_new", "_reference"),
        indicator=True,
        validate="one_to_one",
    )
    change = (both.value_new - both.value_reference).abs()
    both["relative"] = change / both.value_reference.abs().where(both.value_reference != 0, 1.0)
    both["in_stderr"] = change / both.stderr_reference.where(both.stderr_reference > 0)
    cases = {
        NEW: both["_merge"] == "left_only",
        MISSING: both["_merge"] == "right_only",
        DIFFERENT: both.status_new != both.status_reference,
        EQUAL: _same(both),
        CLOSE: both.relative <= tolerance,
    }
    both["verdict"] = np.select(list(cases.values()), list(cases), DIFFERENT)
    return both


def _same(both: pd.DataFrame) -> pd.Series:
    """Equal values; two values that are both missing, or infinite alike, are equal."""
    return (both.value_new == both.value_reference) | (both.value_new.isna() & both.value_reference.isna())


def _read(path: Path) -> pd.DataFrame:
    frame = pd.read_csv(path, dtype={key: "string" for key in KEYS})
    frame[KEYS] = frame[KEYS].fillna("")
    return frame[(frame.suite != COSTS) & (frame.metric != SPEED)]


def _line(row: tuple) -> str:
    key = " ".join(part for part in (row.run_id, row.protocol, row.task, row.metric, row.variant) if part)
    if row.verdict != DIFFERENT:
        return f"{row.verdict}: {key}"
    if row.status_new != row.status_reference:
        return f"different: {key}: {row.status_new}, was {row.status_reference}"
    errors = "" if np.isnan(row.in_stderr) else f", {row.in_stderr:.2g} standard errors"
    return (
        f"different: {key}: {row.value_new:.8g}, was {row.value_reference:.8g} "
        f"(relative {row.relative:.1e}{errors})"
    )


def main(arguments: list[str] | None = None) -> int:
    """Command line of this module; returns the exit code."""
    parser = argparse.ArgumentParser(description="Compare records.csv of a run with a reference.")
    parser.add_argument("new", type=Path)
    parser.add_argument("reference", type=Path)
    parser.add_argument("--tolerance", type=float, default=1e-6, help="relative difference (default 1e-6)")
    given = parser.parse_args(arguments)
    return compare_records(given.new, given.reference, sys.stdout, given.tolerance)


if __name__ == "__main__":
    sys.exit(main())
