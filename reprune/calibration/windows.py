"""Calibration windows: drawn once by seed, with the places they were drawn from."""

from __future__ import annotations

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


def tokenizer_function(folder: Any) -> Callable[[str], list[int]]:
    """Text to token ids by the model folder's own tokenizer, with its default special tokens."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    return lambda text: tokenizer(text, verbose=False)["input_ids"]
