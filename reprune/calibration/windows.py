"""Calibration windows: drawn once by seed by one of :data:`SAMPLERS`, with the places they came from."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from typing import Any

import torch

MAX_REJECTED = 100_000


class CalibrationError(Exception):
    """A calibration that the corpus cannot give; the message says what would fit."""


def draw_windows(
    documents: list[str], tokenize: Callable[[str], list[int]], windows: int, length: int, seed: int
) -> tuple[torch.Tensor, list[dict[str, int]]]:
    """``windows`` crops of ``length`` tokens, (windows, length) int64, and their document and start.

    The sampler of SparseGPT, Wanda and BESA (official codes, ``get_c4``): documents are drawn until one
    is longer than ``length`` tokens, rejected draws consume random numbers, the start is drawn once.
    With the same corpus, tokenizer and seed it picks the very same windows as those codes.
    Raises :class:`CalibrationError` if no document is long enough.
    """
    stream = random.Random(seed)
    tokens: dict[int, list[int]] = {}
    drawn, places, rejected = [], [], 0
    while len(drawn) < windows:
        index = stream.randint(0, len(documents) - 1)
        if index not in tokens:
            tokens[index] = tokenize(documents[index])
        if len(tokens[index]) <= length:
            rejected += 1
            if rejected >= MAX_REJECTED or len(tokens) == len(documents):
                _require_long(tokens, length)
            continue
        start = stream.randint(0, len(tokens[index]) - length - 1)
        drawn.append(tokens[index][start : start + length])
        places.append({"document": index, "start": start})
    return torch.tensor(drawn, dtype=torch.int64), places


def _require_long(tokens: dict[int, list[int]], length: int) -> None:
    longest = max(map(len, tokens.values()))
    if longest <= length:
        raise CalibrationError(
            f"calibration windows of {length} tokens need a longer document: the corpus's "
            f"longest has {longest}; choose a length below that"
        )


def draw_rows(
    documents: list[str], tokenize: Callable[[str], list[int]], rows: int, length: int, seed: int
) -> tuple[torch.Tensor, list[dict[str, int]]]:
    """The windows of ``length`` tokens that ``rows`` rows of text give, (windows, length), and these rows.

    The sampler of GRASP (official code, ``dataset/loader.py``): rows are drawn without replacement, joined by
    blank lines in the order drawn, tokenised once and cut; the remainder is dropped. With the same corpus,
    tokenizer and seed it gives the very same windows as that code, before its loader shuffles them.
    Raises :class:`CalibrationError` if the corpus has too few rows, or these less than one window.
    """
    lines = rows_of(documents)
    if rows > len(lines):
        raise CalibrationError(
            f"calibration asks for {rows:,} rows of text, the corpus has {len(lines):,}; "
            "ask for at most as many"
        )
    chosen = random.Random(seed).sample(range(len(lines)), rows)
    tokens = tokenize("\n\n".join(lines[i] for i in chosen))
    windows = len(tokens) // length
    if windows == 0:
        raise CalibrationError(
            f"{rows:,} rows of text give {len(tokens)} tokens, less than one calibration window of {length}; "
            "raise `rows` or lower `length`"
        )
    cut = torch.tensor(tokens[: windows * length], dtype=torch.int64).view(windows, length)
    return cut, [{"row": i} for i in chosen]


def rows_of(documents: list[str]) -> list[str]:
    """The lines of documents with their line breaks; a blank document is a blank row, as in WikiText-2."""
    return [line for document in documents for line in list(io.StringIO(document)) or [""]]


SAMPLERS = {"document_crop": draw_windows, "rows": draw_rows}


def tokenizer_function(folder: Any) -> Callable[[str], list[int]]:
    """Text to token ids by the model folder's own tokenizer, with its default special tokens."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return lambda text: tokenizer(text, verbose=False)["input_ids"]
