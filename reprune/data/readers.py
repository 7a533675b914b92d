"""Readers: from the bytes of a file or of archive members to a list of documents."""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import json
import random
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reprune.data.domain_readers import read_code, read_papers, read_questions
from reprune.data.packages import FetchError

MIN_KEY = 100
MIN_WIKI_WORDS = 20
BOOK = re.compile(r"^\*\*\* START OF TH.*?$(.*?)^\*\*\* END OF TH", re.DOTALL | re.MULTILINE)
PIECE_WORDS = 1000


def read_lines(texts: list[str], spec: dict[str, Any]) -> list[str]:
    """One document a line; blank lines are no documents."""
    return [line for text in texts for line in text.splitlines() if line.strip()]


def read_sentences(texts: list[str], spec: dict[str, Any]) -> list[str]:
    """One sentence a line, stripped as the hub's copy of the Penn Treebank is; blank lines kept out."""
    return [line.strip() for text in texts for line in text.splitlines() if line.strip()]


def read_files(texts: list[str], spec: dict[str, Any]) -> list[str]:
    """One document a file."""
    return [text.strip() for text in texts]


def read_wiki(texts: list[str], spec: dict[str, Any]) -> list[str]:
    """``<doc …>`` … ``</doc>`` blocks; bodies under 20 words are redirects or stubs and are dropped."""
    bodies = [
        body.strip() for text in texts for body in re.findall(r"<doc[^>]*>(.*?)</doc>", text, re.DOTALL)
    ]
    return [body for body in bodies if len(body.split()) >= MIN_WIKI_WORDS]


def read_gutenberg(texts: list[str], spec: dict[str, Any]) -> list[str]:
    """Books between the START and END lines of Project Gutenberg, in pieces of about 1,000 words.

    A piece ends with the paragraph that brings it to as many; a book's last piece may be shorter.
    """
    return [piece for text in texts for book in BOOK.findall(text) for piece in _pieces(book)]


def _pieces(book: str) -> list[str]:
    pieces: list[list[str]] = [[]]
    words = 0
    for paragraph in filter(None, map(str.strip, re.split(r"\n\s*\n", book))):
        pieces[-1].append(paragraph)
        words += len(paragraph.split())
        if words >= PIECE_WORDS:
            pieces.append([])
            words = 0
    return ["\n\n".join(piece) for piece in pieces if piece]


def read_jsonl(texts: list[str], spec: dict[str, Any]) -> list[str]:
    """The column ``spec['column']`` of the rows that equal ``spec['where']``, blank rows kept."""
    # Not splitlines, which also cuts at characters that JSON strings may hold, such as U+2028.
    rows = (json.loads(line) for text in texts for line in text.split("\n") if line.strip())
    return [
        row[spec["column"]]
        for row in rows
        if all(row[key] == value for key, value in spec.get("where", {}).items())
    ]


def read_books(texts: list[str], spec: dict[str, Any]) -> list[str]:
    """The rows of :func:`read_jsonl` in pieces of about 1,000 words, so that a few books can be cut."""
    return [piece for book in read_jsonl(texts, spec) for piece in _pieces(book)]


READERS: dict[str, Callable[[list[str], dict[str, Any]], list[str]]] = {
    "lines": read_lines,
    "sentences": read_sentences,
    "files": read_files,
    "wiki": read_wiki,
    "gutenberg": read_gutenberg,
    "jsonl": read_jsonl,
    "books": read_books,
    "code": read_code,
    "papers": read_papers,
    "questions": read_questions,
}


def read_documents(spec: dict[str, Any], texts: list[str]) -> list[str]:
    """The documents of a source: read by ``spec['reader']``, cut if ``spec['cut']`` asks for it."""
    documents = READERS[spec["reader"]](texts, spec)
    return cut(documents, spec["cut"]) if "cut" in spec else documents


def archive_texts(archive: Path, member: str | list[str]) -> list[str]:
    """The text of every member, gzipped or not, that a pattern matches: by pattern, then by name."""
    texts = []
    with zipfile.ZipFile(archive) as opened:
        for pattern in [member] if isinstance(member, str) else member:
            names = sorted(fnmatch.filter(opened.namelist(), pattern))
            if not names:
                raise FetchError(f"{archive.name} has no member {pattern}")
            texts += [_plain(name, opened.read(name)).decode("utf-8", errors="replace") for name in names]
    return texts


def file_text(file: Path) -> str:
    """The text of a plain or gzipped file."""
    return _plain(file.name, file.read_bytes()).decode("utf-8")


def _plain(name: str, data: bytes) -> bytes:
    return gzip.decompress(data) if name.endswith(".gz") else data


def cut(documents: list[str], part: str) -> list[str]:
    """The ``train`` or ``validation`` part of documents without doubles.

    A document's key is its letters and digits in lower case; keys under 100 characters are dropped, the
    first of equal keys wins, and one tenth by hash of the key is the validation part, so that the cut
    does not depend on order or on the other documents.
    """
    kept, seen = [], set()
    for document in documents:
        key = " ".join(re.findall(r"\w+", document.lower()))
        if len(key) < MIN_KEY or key in seen:
            continue
        seen.add(key)
        validation = int(hashlib.sha1(key.encode()).hexdigest()[:8], 16) % 10 == 0
        if validation == (part == "validation"):
            kept.append(document)
    return kept


def made_documents(
    documents: int, sentences: int, seed: int, words: int = 200, skew: float = 1.0, after: int = 0
) -> list[str]:
    """Documents of random words with a skewed frequency: text for tests, from nothing but a seed.

    The more ``words`` and the less ``skew``, the harder the text is to predict. With ``after`` they are
    those that follow so many of the same words, such as held-out text of the same language.
    """
    source = random.Random(seed)
    known = [
        "".join(source.choice("bcdfglmnprst") + source.choice("aeiou") for _ in range(source.randint(1, 3)))
        for _ in range(words)
    ]
    weights = [1 / (rank + 1) ** skew for rank in range(words)]

    def sentence() -> str:
        return " ".join(source.choices(known, weights, k=source.randint(4, 12))).capitalize() + "."

    made = [" ".join(sentence() for _ in range(sentences)) for _ in range(after + documents)]
    return made[after:]
