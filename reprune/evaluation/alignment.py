"""Which word each sub-word token is part of, by the characters of the sentence both were cut from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

MARK = "▁"  # SentencePiece's space
Span = tuple[int, int]


def token_spans(tokenizer: Any, text: str, ids: Sequence[int]) -> list[Span | None]:
    """The characters of each of a sentence's tokens, from the tokenizer, else by the pieces' own letters."""
    if tokenizer.is_fast:
        told = tokenizer(text, return_offsets_mapping=True)["offset_mapping"][: len(ids)]
        return [_trimmed(text, (start, end)) for start, end in told]
    return surface_spans(text, tokenizer.convert_ids_to_tokens(list(ids)))


def surface_spans(text: str, pieces: Sequence[str]) -> list[Span | None]:
    """The characters of each piece, found one behind the other whatever their case.

    None for a piece without letters of its own, and for one that the text does not have there: an unknown
    token, or one that normalisation changed. What follows such a piece is looked for anywhere behind it.
    """
    lowered = text.lower() if len(text.lower()) == len(text) else text
    spans: list[Span | None] = []
    position, lost = 0, False
    for piece in pieces:
        letters = piece.replace(MARK, " ").strip().lower()
        at = lowered.find(letters, position) if letters else -1
        found = at >= 0 and (lost or not text[position:at].strip())
        spans.append((at, at + len(letters)) if found else None)
        position = at + len(letters) if found else position
        lost = not found and (bool(letters) or lost)
    return spans


def words_of(spans: Sequence[Span | None], words: Sequence[Span]) -> list[int | None]:
    """The word that holds each token's first character; None where no word does."""
    starts = {character: i for i, (start, end) in enumerate(words) for character in range(start, end)}
    return [starts.get(span[0]) if span else None for span in spans]


def _trimmed(text: str, span: Span) -> Span | None:
    """``span`` without the spaces that byte-level and SentencePiece tokenizers count in."""
    start, end = span
    while start < end and text[start].isspace():
        start += 1
    return (start, end) if start < end else None
