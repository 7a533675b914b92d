"""Instruction data: rows of instruction, input and output from the source the plan chose, for recovery."""

from __future__ import annotations

import fnmatch
import hashlib
import random
import zipfile
import zlib
from pathlib import Path
from typing import Any

from reprune.data.hub import hub_rows
from reprune.data.instruction_readers import COLUMNS, READERS, Row
from reprune.data.made_tasks import NOUNS, VERBS
from reprune.data.packages import FetchError
from reprune.records.files import whole

SPLIT_SEED = 42  # of Alpaca-LoRA's split into training and validation


def load_instructions(kind: str, spec: dict[str, Any], file: Path | None) -> list[Row]:
    """The rows of one source in its order; of a file or archive, equal rows once.

    ``file`` is the mirror's file or the package's archive. Raises :class:`FetchError` if it cannot be read
    or has other rows than declared.
    """
    if kind == "made":
        return made_instructions(spec["rows"], spec["seed"])
    if kind == "hub":
        return _hub_rows(spec)
    assert file is not None
    try:
        rows = READERS[spec["reader"]](file.read_bytes()) if kind == "mirror" else _archive_rows(file, spec)
    except (KeyError, ValueError, TypeError, OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise FetchError(
            f"{file.name} cannot be read as instructions: {type(error).__name__}: {error}"
        ) from error
    rows = list({tuple(row.values()): row for row in rows}.values())
    if len(rows) != spec["rows"]:
        raise FetchError(
            f"{file.name} has {len(rows):,} instructions, expected {spec['rows']:,}; "
            "the file was replaced, do not use it"
        )
    return rows


def made_instructions(rows: int, seed: int) -> list[Row]:
    """Rows from nothing but a seed, for tests; every second one has an input."""
    source = random.Random(seed)
    made = []
    for index in range(rows):
        a, b, c = source.sample(NOUNS, 3)
        told = f"The {a} {source.choice(VERBS)} the {b}, and the {b} {source.choice(VERBS)} the {c}."
        instruction = f"Say what the {a} does." if index % 2 else f"Write a sentence with {a}, {b} and {c}."
        made.append({"instruction": instruction, "input": told if index % 2 else "", "output": told})
    return made


def split(rows: list[Row], validation: int) -> tuple[list[Row], list[Row]]:
    """The rows that may be trained on, and ``validation`` others that no training sees, whatever its seed.

    Fewer of the latter are the first of more.
    """
    order = list(range(len(rows)))
    random.Random(SPLIT_SEED).shuffle(order)
    return [rows[i] for i in order[validation:]], [rows[i] for i in order[:validation]]


def draw_rows(rows: list[Row], train: int, validation: int, seed: int) -> tuple[list[Row], list[Row]]:
    """``train`` rows to train on, drawn with ``seed``, and the ``validation`` rows that are kept apart."""
    drawn, held_out = split(rows, validation)
    random.Random(seed).shuffle(drawn)
    return drawn[:train], held_out


def write_instructions(path: Path, rows: list[Row]) -> None:
    """Write rows as a parquet file with the columns instruction, input and output."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with whole(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows), temporary)


def read_instructions(path: Path) -> list[Row]:
    """The rows written by :func:`write_instructions`."""
    import pyarrow.parquet as pq

    return pq.read_table(path, columns=list(COLUMNS)).to_pylist()


def instructions_hash(rows: list[Row]) -> str:
    """12 hex characters over the rows and the borders of their texts."""
    state = hashlib.sha256()
    for row in rows:
        state.update("".join(f"{row[column]}\0" for column in COLUMNS).encode())
    return state.hexdigest()[:12]


def _archive_rows(archive: Path, spec: dict[str, Any]) -> list[Row]:
    rows = []
    with zipfile.ZipFile(archive) as opened:
        for reader, pattern in sorted(spec["members"].items()):
            names = sorted(fnmatch.filter(opened.namelist(), pattern))
            if not names:
                raise FetchError(f"{archive.name} has no member {pattern}")
            rows += [row for name in names for row in READERS[reader](opened.read(name))]
    return rows


def _hub_rows(spec: dict[str, Any]) -> list[Row]:
    found = hub_rows(spec)
    missing = [column for column in COLUMNS if column not in found.column_names]
    if missing:
        raise FetchError(
            f"hub data set {spec['path']} has no column '{missing[0]}', found {', '.join(found.column_names)}"
        )
    return [dict(row) for row in found.select_columns(list(COLUMNS))]
