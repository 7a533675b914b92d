"""From a protocol and documents to the token windows that are scored."""

from __future__ import annotations

from typing import Any

import torch

from reprune.models.separator import separator_id


class ProtocolError(Exception):
    """A protocol that the text cannot serve; the message says what is short."""


def evaluation_windows(
    documents: list[str], spec: dict[str, Any], content: dict[str, Any], tokenizer: Any, separator: str | None
) -> torch.Tensor:
    """The windows of one task, (windows, window) int64, non-overlapping, the rest dropped.

    ``content`` is the resolved protocol, ``spec`` its entry for the task. If it asks for fewer windows than
    there are, they are the first, or if ``taken`` evenly those at equal distances over the whole text, so
    that a long document is not all of them. Raises :class:`ProtocolError` if the text has less than one
    window.
    """
    documents = documents[: spec.get("documents")]
    if spec["join"] == "separator":
        tokens = _separated(documents, tokenizer, separator)
    else:
        tokens = tokenizer(
            spec["join"].join(documents),
            verbose=False,
            add_special_tokens=content["special_tokens"] == "once",
        )["input_ids"]
    tokens = tokens[: spec.get("tokens")]
    window = content["window"]
    found = len(tokens) // window
    count = min(found, content["windows"] or found)
    if count == 0:
        raise ProtocolError(
            f"protocol {content['name']} needs windows of {window} tokens, corpus "
            f"{spec['corpus']} has {len(tokens)} tokens in all"
        )
    if content.get("taken") == "evenly":
        starts = [window * (i * found // count) for i in range(count)]
        return torch.tensor([tokens[start : start + window] for start in starts], dtype=torch.int64)
    return torch.tensor(tokens[: count * window], dtype=torch.int64).view(count, window)


def _separated(documents: list[str], tokenizer: Any, separator: str | None) -> list[int]:
    try:
        mark = separator_id(tokenizer, separator)
    except ValueError as error:
        raise ProtocolError(str(error)) from error
    encoded = tokenizer(documents, add_special_tokens=False, verbose=False)["input_ids"]
    return [token for ids in encoded for token in (*ids, mark)]
