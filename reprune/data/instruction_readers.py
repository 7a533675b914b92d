"""Readers of instruction data: from the bytes of a file to rows of instruction, input and output."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

from reprune.data.task_readers import documents

COLUMNS = ("instruction", "input", "output")
MIN_EXPLANATION_WORDS = 15
OPTIONS = ("opa", "opb", "opc", "opd")

Row = dict[str, str]


def read_alpaca(data: bytes) -> list[Row]:
    """One row a line in Alpaca's own columns, plain or gzipped; other columns are left out."""
    text = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    rows = (json.loads(line) for line in text.splitlines() if line.strip())
    return [{column: row[column] for column in COLUMNS} for row in rows]


def read_minerva_math(data: bytes) -> list[Row]:
    """A problem of the MATH set and its worked solution."""
    return [_row(doc["problem"], "", doc["solution"]) for doc in documents([data])]


def read_mt_mbpp(data: bytes) -> list[Row]:
    """What a function should do, and the function in one of seventeen languages."""
    return [_row(doc["text"], "", doc["code"]) for doc in documents([data])]


def read_medmcqa(data: bytes) -> list[Row]:
    """A question with its options, and the right one with its explanation, where that is over 15 words."""
    return [_explained(doc) for doc in documents([data]) if _is_explained(doc)]


READERS: dict[str, Callable[[bytes], list[Row]]] = {
    "alpaca": read_alpaca,
    "minerva_math": read_minerva_math,
    "mt_mbpp": read_mt_mbpp,
    "medmcqa": read_medmcqa,
}


def _is_explained(doc: dict[str, Any]) -> bool:
    return len((doc["exp"] or "").split()) > MIN_EXPLANATION_WORDS


def _explained(doc: dict[str, Any]) -> Row:
    options = [f"{letter}. {doc[key]}" for letter, key in zip("ABCD", OPTIONS, strict=True)]
    return _row(doc["question"], "\n".join(options), f"{options[doc['cop']]}\n\n{doc['exp']}")


def _row(instruction: str, context: str, output: str) -> Row:
    texts = (text.replace("\r\n", "\n").strip() for text in (instruction, context, output))
    return dict(zip(COLUMNS, texts, strict=True))
