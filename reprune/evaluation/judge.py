"""Which of two answers is better: judges behind one interface, each asked in both orders.

The interface and the way of asking are those of LLM-as-a-judge (Zheng et al., arXiv 2306.05685), which found
that judges favour the answer shown first, and asks in both orders. Sheared-LLaMA's judge is GPT-4, which no
judge here is.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

from reprune.evaluation.text import ProtocolError
from reprune.evaluation.trial import plain_logits
from reprune.training.instructions import Example
from reprune.training.loss import example_losses

LETTERS = ("A", "B")
COMPARISON = (
    "Two assistants answered the same request. Decide which answer is better: the more helpful, relevant, "
    "accurate and complete one. The order in which the answers stand, and their length, must not matter.\n\n"
    "### Request:\n{request}\n\n### Answer A:\n{first}\n\n### Answer B:\n{second}\n\n"
    "Which answer is better? Reply with one letter, A or B."
)  # ours, after the pairwise prompt of MT-Bench, without the explanation that it asks for first
WITHOUT_CHAT = "\n\n### Reply:\n"  # what a model without a chat template goes on from


class Question(NamedTuple):
    """What was asked: the ``request`` of a user, and the ``prompt`` in which the models were given it."""

    request: str
    prompt: str


class Judge(Protocol):
    """Compares two answers to a question."""

    def prefers(self, question: Question, first: str, second: str) -> float:
        """1 if the answer shown first is better, 0 if the second is, 0.5 if neither."""


class Likelihood:
    """A stand-in for a judge: the better answer is the one that a model expects more.

    An answer scores the mean log-likelihood of its tokens given the prompt, an empty one that of the end of
    the text. It sees no order, and rewards what is easy to predict, repetition included.
    """

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        self._known: dict[tuple[str, str], float] = {}

    def prefers(self, question: Question, first: str, second: str) -> float:
        return _higher(*(self.score(question.prompt, answer) for answer in (first, second)))

    def score(self, prompt: str, answer: str) -> float:
        """Mean log-likelihood of the answer's tokens, in nats."""
        if (prompt, answer) not in self._known:
            example = self._example(prompt, answer)
            (loss,) = example_losses(self.model, [example])
            self._known[prompt, answer] = -loss / example.scored
        return self._known[prompt, answer]

    def _example(self, prompt: str, answer: str) -> Example:
        """As answers are trained on: the prompt's tokens are as many as it has alone."""
        tokens, before = (
            self.tokenizer(text, verbose=False)["input_ids"] for text in (prompt + answer, prompt)
        )
        first = len(before)
        return Example(tokens if len(tokens) > first else [*before, self.tokenizer.eos_token_id], first)


class LanguageModel:
    """A language model that reads both answers and replies with a letter: the likelier of A and B."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer

    def prefers(self, question: Question, first: str, second: str) -> float:
        """Raises :class:`ProtocolError` if the comparison is too long, or a letter is no token of its own."""
        text = self._asked(COMPARISON.format(request=question.request, first=first, second=second))
        tokens, *replied = (self._tokens(text + letter) for letter in ("", *LETTERS))
        letters = {reply[-1]: None for reply in replied if reply[:-1] == tokens}
        if len(letters) != len(LETTERS):
            raise ProtocolError("the judge's tokenizer has no token of its own for A and for B as a reply")
        context = self.model.config.max_position_embeddings
        if len(tokens) > context:
            raise ProtocolError(f"a comparison of {len(tokens)} tokens exceeds the judge's {context}")
        return _higher(*plain_logits(self.model, tokens, 1)[0, list(letters)].tolist())

    def _asked(self, text: str) -> str:
        if not self.tokenizer.chat_template:
            return text + WITHOUT_CHAT
        said = [{"role": "user", "content": text}]
        return self.tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)

    def _tokens(self, text: str) -> list[int]:
        """A chat template writes its special tokens itself."""
        plain = not self.tokenizer.chat_template
        return self.tokenizer(text, add_special_tokens=plain, verbose=False)["input_ids"]


JUDGES: dict[str, type[Likelihood] | type[LanguageModel]] = {
    "likelihood": Likelihood,
    "language_model": LanguageModel,
}


def preferences(judge: Judge, question: Question, left: str, right: str) -> tuple[float, float]:
    """How far the left answer is preferred, from 0 to 1, when it is shown first and when it is second.

    A judge that only looks at the place gives 1 and 0, whose mean is 0.5.
    """
    return judge.prefers(question, left, right), 1.0 - judge.prefers(question, right, left)


def _higher(first: float, second: float) -> float:
    if not (math.isfinite(first) and math.isfinite(second)):
        raise ProtocolError("the judge's model gives values that are not finite")
    return 0.5 if first == second else float(first > second)
