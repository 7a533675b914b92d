"""The token between documents that are joined."""

from __future__ import annotations

from typing import Any


def separator_id(tokenizer: Any, separator: str | None) -> int:
    """The id of ``separator``, or of the tokenizer's own end of text where a model names none.

    Raises ValueError if the tokenizer has no such token.
    """
    mark = tokenizer.convert_tokens_to_ids(separator) if separator else tokenizer.eos_token_id
    if mark is None:
        raise ValueError(
            f"the tokenizer has no token {separator!r} to put between documents; "
            "set `separator` in config/models.yaml"
        )
    return mark
