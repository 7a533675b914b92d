"""Readers of parallel text: from the bytes of a file or an archive to pairs of sentences.

Where a package holds one collection, it is cut into training, validation and test parts by the place a pair
stands at (a program's component, a book's chapter), so that neighbours stay together. What is validated and
tested has no source sentence of the training part.
"""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import json
import re
import sqlite3
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

PARTS = ("train", "validation", "test")
COMPONENTS = 20  # of each so many components one tests, one validates
CHAPTERS = 40
TEST, VALIDATION = 0, 13  # of the components; of the chapters as in TEST_CHAPTER
TEST_CHAPTER, VALIDATION_CHAPTER = 7, 23
FEWEST_WORDS, MOST_WORDS = 4, 60
MARKUP = re.compile(r"[{}`<>\[\]]|https?:")
CLAUSE_ENDS = (re.compile(r"(?:(?<=[.;:?!])|(?<=[.;:?!][\"“”]))\s+"), re.compile(r"(?<=,)\s+"))
NEAREST, FARTHEST = 0.4, 2.5  # of a pair's lengths in characters


class Pair(NamedTuple):
    """A sentence and its translation."""

    source: str
    target: str


class Placed(NamedTuple):
    """A pair and the part it belongs to, one of :data:`PARTS`."""

    part: str
    pair: Pair


def read_jsonl(file: Path, columns: list[str]) -> list[Pair]:
    """One pair a line in two ``columns``, plain or gzipped."""
    data = file.read_bytes()
    text = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    rows = (json.loads(line) for line in text.splitlines() if line.strip())
    source, target = columns
    return [Pair(one_line(row[source]), one_line(row[target])) for row in rows]


def read_interface(archive: Path, spec: dict[str, Any]) -> list[Placed]:
    """Texts of a program's components in two languages, ``spec['languages']``, paired by their keys.

    A component is the folder above its translation files, which ``spec['member']`` matches in the first
    language. Texts of at least four words that differ between the languages count. Those that are tested have
    neither placeholders nor markup, which a copy of the source would get right.
    """
    first, second = spec["languages"]
    with zipfile.ZipFile(archive) as opened:
        names = set(opened.namelist())
        placed = []
        for name in sorted(fnmatch.filter(names, spec["member"])):
            other = name.removesuffix(f"{first}.json") + f"{second}.json"
            if other in names:
                texts = (_texts(json.loads(opened.read(file))) for file in (name, other))
                placed += _component(name.split("/")[-3], *texts)
    return cut(placed)


def read_verses(archive: Path, spec: dict[str, Any]) -> list[Placed]:
    """Verses of the SQLite database ``spec['member']`` in the edition ``spec['target']``.

    Every edition of ``spec['sources']`` is trained on; what is validated and tested is of the first alone.
    Verses of more words than ``spec['longest']``, if it is told, are cut into :func:`clauses`.
    """
    longest = spec.get("longest", MOST_WORDS)
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(archive) as opened:
        file = opened.extract(spec["member"], folder)
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as database:
            first, *others = (_edition(database, name) for name in spec["sources"])
            target = _edition(database, spec["target"])
    verses = _verses(first, target) + [
        placed for edition in others for placed in _verses(edition, target) if placed.part == "train"
    ]
    return cut([Placed(part, pair) for part, verse in verses for pair in clauses(verse, longest)])


ARCHIVE_READERS: dict[str, Callable[[Path, dict[str, Any]], list[Placed]]] = {
    "interface": read_interface,
    "verses": read_verses,
}


def cut(placed: list[Placed]) -> list[Placed]:
    """Each source of a part once, with its first translation, and of other parts none that is trained on."""
    trained = {found.pair.source for found in placed if found.part == "train"}
    first: dict[tuple[str, str], Placed] = {}
    for found in placed:
        if found.part == "train" or found.pair.source not in trained:
            first.setdefault((found.part, found.pair.source), found)
    return list(first.values())


def fits(pair: Pair) -> bool:
    """Whether both sides say something, in a number of characters that can be a translation of the other."""
    if not all(pair) or _words(pair) > MOST_WORDS:
        return False
    return NEAREST <= len(pair.target) / len(pair.source) <= FARTHEST


def clauses(pair: Pair, longest: int) -> list[Pair]:
    """The pair itself, or if a side has more words than ``longest``, its clauses, each with its translation.

    It is cut where both sides have as many clauses and these fit each other, at commas only where nothing
    else cuts it. A part that stays too long is left out.
    """
    if _words(pair) <= longest:
        return [pair]
    for ends in CLAUSE_ENDS:
        sources, targets = (ends.split(side) for side in pair)
        parts = [Pair(*sides) for sides in zip(sources, targets, strict=False)]
        if 1 < len(sources) == len(targets) and all(map(fits, parts)):
            return [found for part in parts for found in clauses(part, longest)]
    return []


def _words(pair: Pair) -> int:
    """The words of the longer side."""
    return max(len(side.split()) for side in pair)


def _component(name: str, first: dict, second: dict) -> list[Placed]:
    number = int(hashlib.sha1(name.encode()).hexdigest()[:8], 16) % COMPONENTS
    part = {TEST: "test", VALIDATION: "validation"}.get(number, "train")
    pairs = (Pair(text, second[key]) for key, text in first.items() if key in second)
    return [
        Placed(part, pair)
        for pair in pairs
        if pair.source != pair.target and fits(pair) and len(pair.source.split()) >= FEWEST_WORDS
        if part != "test" or not any(map(MARKUP.search, pair))
    ]


def _texts(tree: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    """The texts of nested mappings by their path."""
    if isinstance(tree, str):
        return {path: one_line(tree)}
    if not isinstance(tree, dict):
        return {}
    return {key: text for name, below in tree.items() for key, text in _texts(below, (*path, name)).items()}


def _edition(database: sqlite3.Connection, name: str) -> dict[tuple[int, int, int], str]:
    rows: Iterator[tuple] = database.execute(
        "select bNumber, cNumber, vNumber, vText from bible where bbName = ? order by 1, 2, 3", (name,)
    )
    return {(book, chapter, verse): _verse(text) for book, chapter, verse, text in rows}


def _verses(source: dict[tuple, str], target: dict[tuple, str]) -> list[Placed]:
    """The verses that both editions have, in the order of the first."""
    pairs = ((place, Pair(verse, target[place])) for place, verse in source.items() if place in target)
    return [Placed(_chapter_part(*place[:2]), pair) for place, pair in pairs if fits(pair)]


def _chapter_part(book: int, chapter: int) -> str:
    number = (book * 151 + chapter) % CHAPTERS
    return {TEST_CHAPTER: "test", VALIDATION_CHAPTER: "validation"}.get(number, "train")


def _verse(text: str) -> str:
    """A verse without its other number, words in brackets and backquotes for apostrophes."""
    text = re.sub(r"^\(\d+:\d+\)", "", text.strip())
    return one_line(re.sub(r"\[[^\]]*\]", " ", text).replace("`", "'"))


def one_line(text: str) -> str:
    """The text with single spaces for all its white space."""
    return " ".join(text.split())
