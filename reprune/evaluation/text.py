"""From a protocol and documents to the token windows that are scored."""

from __future__ import annotations

from typing import Any

import torch


class ProtocolError(Exception):
    """A protocol that the text cannot serve; the message says what is short."""


def evaluation_windows(
    documents: list[str], spec: dict[str, Any], content: dict[str, Any], tokenizer: Any, separator: str | None
) -> torch.Tensor:
    """The windows of one task, (windows, window) int64, non-overlapping, the rest dropped.

    ``content`` is the resolved protocol, ``spec`` its entry for the task. Raises :class:`ProtocolError`
    if the text has less than one window.
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
    count = min(len(tokens) // window, content["windows"] or len(tokens))
    if count == 0:
        raise ProtocolError(
            f"protocol {content['name']} needs windows of {window} tokens, corpus "
            f"{spec['corpus']} has {len(tokens)} tokens in all"
        )
    return torch.tensor(tokens[: count * window], dtype=torch.int64).view(count, window)


def _separated(documents: list[str], tokenizer: Any, separator: str | None) -> list[int]:
    mark = tokenizer.convert_tokens_to_ids(separator) if separator else tokenizer.eos_token_id
    if mark is None:
        raise ProtocolError(
            f"the tokenizer has no token {separator!r} to put between documents; "
            "set `separator` in config/models.yaml"
        )
    encoded = tokenizer(documents, add_special_tokens=False, verbose=False)["input_ids"]
    return [token for ids in encoded for token in (*ids, mark)]
