"""Judges of answers: likelihood by its definition, a language model's letters, both orders."""

from __future__ import annotations

import random
import string
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from reprune.evaluation.judge import (
    COMPARISON,
    JUDGES,
    WITHOUT_CHAT,
    LanguageModel,
    Likelihood,
    Question,
    preferences,
)
from reprune.evaluation.text import ProtocolError
from reprune.plan.judging import KINDS

QUESTION = Question("Say what the egg does.", "### Input:\nSay what the egg does.\n\n### Response:")
LETTERS = string.ascii_lowercase


@pytest.fixture
def model(tiny_model):
    """Chances far from even, and places for a whole comparison in bytes."""
    made = tiny_model("tiny-llama-gqa")
    made.config.max_position_embeddings = 4096
    with torch.no_grad():
        made.model.norm.weight.mul_(20)
    return made


@torch.no_grad()
def chances(model, tokens):
    return torch.log_softmax(model(input_ids=torch.tensor([tokens])).logits[0, -1].double(), dim=-1)


def greedy(model, tokenizer, prompt, length=8):
    """The letters that a model expects most, one after another."""
    ids = {letter: tokenizer(letter)["input_ids"][0] for letter in LETTERS}
    answer = ""
    for _ in range(length):
        found = chances(model, tokenizer(prompt + answer)["input_ids"])
        answer += max(LETTERS, key=lambda letter: found[ids[letter]].item())
    return answer


def test_the_judges_of_a_plan_are_those_there_are():
    assert tuple(JUDGES) == KINDS


def test_likelihood_is_the_mean_over_the_answers_tokens(model, tokenizer):
    prompt = tokenizer(QUESTION.prompt)["input_ids"]
    for text in ("It opens the jar.", "x", ""):
        answer = tokenizer(text)["input_ids"] if text else [tokenizer.eos_token_id]
        found = [chances(model, prompt + answer[:i])[token].item() for i, token in enumerate(answer)]
        expected = sum(found) / len(found)
        assert Likelihood(model, tokenizer).score(QUESTION.prompt, text) == pytest.approx(expected, rel=1e-4)


def test_a_models_own_greedy_answer_wins_over_random_letters(model, tokenizer):
    judge, source = Likelihood(model, tokenizer), random.Random(0)
    own = greedy(model, tokenizer, QUESTION.prompt)
    for _ in range(20):
        other = "".join(source.choices(LETTERS, k=8))
        assert preferences(judge, QUESTION, own, other) == (1.0, 1.0)
        assert preferences(judge, QUESTION, other, own) == (0.0, 0.0)


def test_equal_answers_are_a_tie_and_no_answer_is_scored_twice(model, tokenizer, monkeypatch):
    judge, seen = Likelihood(model, tokenizer), []
    example = judge._example
    monkeypatch.setattr(judge, "_example", lambda *text: seen.append(text) or example(*text))
    assert preferences(judge, QUESTION, "the jar", "the jar") == (0.5, 0.5)
    preferences(judge, QUESTION, "the jar", "a door")
    assert len(seen) == 2


@pytest.mark.parametrize("answers", [("the jar", "a door"), ("", "x"), ("one", "two")])
def test_a_language_model_replies_with_the_likelier_letter(model, tokenizer, answers):
    judge = LanguageModel(model, tokenizer)
    text = COMPARISON.format(request=QUESTION.request, first=answers[0], second=answers[1]) + WITHOUT_CHAT
    found = chances(model, tokenizer(text)["input_ids"])
    a, b = (found[tokenizer(letter)["input_ids"][0]].item() for letter in "AB")
    assert judge.prefers(QUESTION, *answers) == float(a > b)


@pytest.mark.parametrize("answer", ["the jar", "", "It opens the jar, and the jar moves."])
def test_a_preference_for_a_place_cancels(model, tokenizer, answer):
    """Equal answers read alike in both orders, so that any reply is one for the place alone."""
    shown = preferences(LanguageModel(model, tokenizer), QUESTION, answer, answer)
    assert sorted(shown) == [0.0, 1.0]

    class First:
        def prefers(self, question, first, second):
            return 0.9

    assert sum(preferences(First(), QUESTION, "a", "b")) == pytest.approx(1.0)


class Reader(nn.Module):
    """A model that reads a comparison and replies with the letter of the longer answer."""

    def __init__(self, tokenizer, value=1.0):
        super().__init__()
        self.config = SimpleNamespace(max_position_embeddings=4096)
        self.embedding, self.tokenizer, self.value, self.read = nn.Embedding(1, 1), tokenizer, value, []

    def get_input_embeddings(self):
        return self.embedding

    def forward(self, tokens, use_cache, logits_to_keep):
        text = self.tokenizer.decode(tokens[0])
        self.read.append(text)
        first, second = text.split("### Answer A:\n")[1].split("\n\nWhich")[0].split("\n\n### Answer B:\n")
        logits = torch.zeros(1, logits_to_keep, 258)
        letter = "A" if len(first) > len(second) else "B"
        logits[0, -1, self.tokenizer(letter)["input_ids"][0]] = self.value
        return SimpleNamespace(logits=logits)


def test_a_judge_that_reads_prefers_the_same_answer_in_both_orders(tokenizer):
    judge = LanguageModel(Reader(tokenizer), tokenizer)
    assert preferences(judge, QUESTION, "a longer answer", "short") == (1.0, 1.0)
    assert preferences(judge, QUESTION, "short", "a longer answer") == (0.0, 0.0)


def test_a_chat_model_is_asked_as_it_was_taught(tiny_folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_folder())
    tokenizer.chat_template = (
        "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    reader = Reader(tokenizer)
    LanguageModel(reader, tokenizer).prefers(QUESTION, "one", "two")
    (text,) = reader.read
    assert text.startswith(f"{tokenizer.bos_token}[user]Two assistants") and text.endswith(
        "A or B.[assistant]"
    )
    assert text.count(tokenizer.bos_token) == 1 and QUESTION.request in text


def test_what_cannot_be_judged_is_an_error(model, tokenizer):
    with pytest.raises(ProtocolError, match="not finite"):
        LanguageModel(Reader(tokenizer, float("nan")), tokenizer).prefers(QUESTION, "one", "two")
    model.config.max_position_embeddings = 100
    with pytest.raises(ProtocolError, match=r"a comparison of \d+ tokens exceeds the judge's 100"):
        LanguageModel(model, tokenizer).prefers(QUESTION, "one", "two")

    class Words:
        """One token a word: a letter at the end belongs to the last word."""

        chat_template = None

        def __call__(self, text, **_):
            return {"input_ids": text.split(" ")}

    with pytest.raises(ProtocolError, match="no token of its own for A and for B"):
        LanguageModel(model, Words()).prefers(QUESTION, "one two", "three")
