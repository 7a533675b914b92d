"""Instructions with answers as training examples, in the prompts of Alpaca-LoRA or of Sheared-LLaMA."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n"
)
WITHOUT_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:\n"
)
HELPFUL = (
    "You are a helpful assistant. Write a response that appropriately completes the request.\n\n"
    "### Input:\n{request}\n\n### Response:"
)

Row = Mapping[str, str]


@dataclass(frozen=True)
class Example:
    """A text's tokens, of which those from position ``first`` on (1 or later) are predicted and scored."""

    tokens: Sequence[int]
    first: int

    @property
    def scored(self) -> int:
        """How many tokens count in the loss."""
        return len(self.tokens) - self.first


def request_of(row: Row) -> str:
    """What a row with ``instruction`` and ``input`` asks, as a user would write it."""
    return "\n\n".join(text for text in (row["instruction"], row["input"]) if text)


def prompt_of(row: Row, prompt: str = "alpaca") -> str:
    """A row in the template called ``prompt``, one of :data:`PROMPTS`."""
    return PROMPTS[prompt](row)


def _alpaca(row: Row) -> str:
    """Alpaca-LoRA, ``templates/alpaca.json``."""
    template = WITH_INPUT if row["input"] else WITHOUT_INPUT
    return template.format(instruction=row["instruction"], input=row["input"])


def _sheared_llama(row: Row) -> str:
    """LLM-Shearing, ``instruction_tuning/prompts/sft_prompt.json``; its data have one text to answer."""
    return HELPFUL.format(request=request_of(row))


PROMPTS: dict[str, Callable[[Row], str]] = {"alpaca": _alpaca, "sheared_llama": _sheared_llama}


def examples(
    rows: Iterable[Row],
    tokenizer: Any,
    length: int,
    train_on_inputs: bool = False,
    prompt: str = "alpaca",
) -> list[Example]:
    """Prompt, ``output`` and end-of-text of every row, cut to ``length`` tokens.

    Rows of which nothing is scored within ``length`` are left out. The prompt's tokens are scored only with
    ``train_on_inputs``; there are as many as the prompt alone has, which is where GRASP's ``alpaca_grasp.py``
    and Alpaca-LoRA's ``finetune.py`` end the mask.
    """
    rows = list(rows)
    if not rows:
        return []
    prompts = [prompt_of(row, prompt) for row in rows]
    whole = _tokens(tokenizer, [p + row["output"] for p, row in zip(prompts, rows, strict=True)])
    masked = [1] * len(rows) if train_on_inputs else map(len, _tokens(tokenizer, prompts))
    made = [
        Example(_ended(tokens, tokenizer.eos_token_id)[:length], first)
        for tokens, first in zip(whole, masked, strict=True)
    ]
    return [example for example in made if example.scored > 0]


def _tokens(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    return tokenizer(texts, verbose=False)["input_ids"]


def _ended(tokens: list[int], end: int) -> list[int]:
    return tokens if tokens[-1] == end else [*tokens, end]
