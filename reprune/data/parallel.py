"""Parallel text: sentences with their translations from the source the plan chose, as one parquet file."""

from __future__ import annotations

import hashlib
import random
import sqlite3
import zipfile
import zlib
from pathlib import Path
from typing import Any

from reprune.data.hub import hub_rows
from reprune.data.made_tasks import NOUNS, VERBS
from reprune.data.packages import FetchError
from reprune.data.parallel_readers import ARCHIVE_READERS, PARTS, Pair, Placed, one_line, read_jsonl
from reprune.records.files import whole

__all__ = ["PARTS", "Pair", "load_pairs", "made_pairs", "pairs_hash", "read_pairs", "write_pairs"]


def load_pairs(kind: str, spec: dict[str, Any], place: Path | None) -> dict[str, list[Pair]]:
    """The pairs of one source by part, each in its order; all of :data:`PARTS` have some.

    ``place`` is the mirror's folder or the package's archive. Raises :class:`FetchError` if it cannot be read
    or does not have the declared numbers of pairs.
    """
    if kind == "made":
        return {part: made_pairs(amount, spec["seed"] + i) for i, (part, amount) in enumerate(_sizes(spec))}
    if kind == "hub":
        return {part: _hub_pairs({**spec, "split": split}) for part, split in spec["splits"].items()}
    assert place is not None
    try:
        if kind == "mirror":
            found = {part: read_jsonl(place / file, spec["columns"]) for part, file in spec["files"].items()}
        else:
            found = _by_part(ARCHIVE_READERS[spec["reader"]](place, spec))
    except (KeyError, ValueError, OSError, EOFError, zlib.error, zipfile.BadZipFile, sqlite3.Error) as error:
        raise FetchError(
            f"{place.name} cannot be read as parallel text: {type(error).__name__}: {error}"
        ) from error
    for part, expected in _sizes(spec):
        if len(found[part]) != expected:
            raise FetchError(
                f"{place.name} has {len(found[part]):,} {part} pairs, expected {expected:,}; "
                "the file was replaced, do not use it"
            )
    return found


def made_pairs(pairs: int, seed: int) -> list[Pair]:
    """Pairs from nothing but a seed, for tests: every word has one translation, and the verb goes last."""
    drawn = random.Random(seed)
    made = []
    for _ in range(pairs):
        (a, b), verb = drawn.sample(NOUNS, 2), drawn.choice(VERBS)
        made.append(Pair(f"The {a} {verb} the {b}.", f"Das {a.upper()} das {b.upper()} {verb.upper()}."))
    return made


def write_pairs(path: Path, pairs: dict[str, list[Pair]]) -> None:
    """Write pairs by part as a parquet file with the columns ``part``, ``source`` and ``target``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"part": part, **pair._asdict()} for part, found in pairs.items() for pair in found]
    with whole(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows), temporary)


def read_pairs(path: Path, part: str) -> list[Pair]:
    """The pairs of one part, ``train``, ``validation`` or ``test``, written by :func:`write_pairs`."""
    import pyarrow.parquet as pq

    rows = pq.read_table(path, columns=list(Pair._fields), filters=[("part", "=", part)]).to_pylist()
    return [Pair(**row) for row in rows]


def pairs_hash(pairs: list[Pair]) -> str:
    """12 hex characters over the pairs and their borders."""
    state = hashlib.sha256()
    for pair in pairs:
        state.update(f"{pair.source}\0{pair.target}\0".encode())
    return state.hexdigest()[:12]


def _sizes(spec: dict[str, Any]) -> list[tuple[str, int]]:
    return [(part, spec["pairs"][part]) for part in PARTS]


def _by_part(placed: list[Placed]) -> dict[str, list[Pair]]:
    return {part: [found.pair for found in placed if found.part == part] for part in PARTS}


def _hub_pairs(spec: dict[str, Any]) -> list[Pair]:
    """Pairs of a hub data set: two columns of texts, or one column of mappings from language to text."""
    rows = hub_rows(spec)
    source, target = spec["columns"]
    nested = spec.get("column")
    missing = [c for c in ([nested] if nested else [source, target]) if c not in rows.column_names]
    if missing:
        raise FetchError(
            f"hub data set {spec['path']} has no column '{missing[0]}', found {', '.join(rows.column_names)}"
        )
    found = (row[nested] if nested else row for row in rows)
    try:
        return [Pair(one_line(row[source]), one_line(row[target])) for row in found]
    except KeyError as error:
        raise FetchError(f"hub data set {spec['path']} has no {error} in column '{nested}'") from error
