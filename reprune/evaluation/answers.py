"""A model's answers to held-out instructions, by greedy generation, kept for a judge to compare."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Callable
from typing import Any

from reprune.data.instructions import split
from reprune.plan.identity import canonical
from reprune.training.instructions import prompt_of, request_of

SUITE = "answers"


def answers(
    lm: Any,
    rows: list[dict[str, str]],
    content: dict[str, Any],
    task: str,
    say: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """The answer to each held-out row by :class:`reprune.evaluation.engine.RepruneLM`, and their length.

    ``rows`` are all rows of the data; ``content`` is the resolved protocol, which says how many of them are
    held out, in which prompt they are put and how many tokens an answer has at most. The items have the
    answer with the request and the prompt as JSON in ``responses``, and the hashes of both. Raises
    :class:`reprune.evaluation.text.ProtocolError` if there is no room for a prompt.
    """
    from lm_eval.api.instance import Instance

    _, held_out = split(rows, content["tasks"][task]["rows"])
    options = {"until": [], "max_gen_toks": content["new_tokens"]}
    prompts = [prompt_of(row, content["prompt"]) for row in held_out]
    asked = [Instance("generate_until", {}, (text, dict(options)), i) for i, text in enumerate(prompts)]
    lm.truncated, lm.on_progress = 0, say
    texts = lm.generate_until(asked, disable_tqdm=True)
    requests = map(request_of, held_out)
    items = [_item(lm, i, *told) for i, told in enumerate(zip(requests, prompts, texts, strict=True))]
    lengths = [item["value"] for item in items]
    return {
        "metric": "answer_tokens",
        "unit": "token",
        "value": statistics.fmean(lengths),
        "stderr": statistics.stdev(lengths) / len(lengths) ** 0.5 if len(lengths) > 1 else None,
        "n": len(items),
        "higher_is_better": None,
        "reason": None,
        "truncated": lm.truncated,
        "items": items,
    }


def _item(lm: Any, number: int, request: str, prompt: str, answer: str) -> dict[str, Any]:
    return {
        "metric": "answer_tokens",
        "item": number,
        "part": None,
        "value": float(len(lm.tok_encode(answer, add_special_tokens=False))) if answer else 0.0,
        "doc_hash": _hash(request),
        "prompt_hash": _hash(prompt),
        "responses": canonical({"request": request, "prompt": prompt, "answer": answer}),
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
