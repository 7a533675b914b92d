"""The loss of instructions' answers, on rows that no recovery is trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reprune.data.instructions import split
from reprune.evaluation.text import ProtocolError
from reprune.training.instructions import examples
from reprune.training.loss import example_losses

SUITE = "response"


def response_losses(
    model: Any,
    tokenizer: Any,
    rows: list[dict[str, str]],
    content: dict[str, Any],
    task: str,
    say: Callable[[int, int], None] = lambda done, total: None,
) -> list[float]:
    """Mean cross-entropy of each held-out row's answer and end-of-text given its prompt, in nats.

    ``rows`` are all rows of the data; ``content`` is the resolved protocol, which says how many of them are
    held out and scored, and how long an example may be. Rows whose prompt leaves no room for the answer are
    left out. Raises :class:`ProtocolError` if none is left.
    """
    _, held_out = split(rows, content["tasks"][task]["rows"])
    scored = examples(held_out, tokenizer, content["length"])
    if not scored:
        raise ProtocolError(
            f"protocol {content['name']} scores no token of {len(held_out)} rows within "
            f"{content['length']} tokens; raise its length"
        )
    losses = example_losses(model, scored, say)
    return [loss / example.scored for loss, example in zip(losses, scored, strict=True)]
