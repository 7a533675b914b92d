"""The loss of held-out answers against its definition."""

from __future__ import annotations

import math

import pytest
import torch

from reprune.data.instructions import draw_rows, made_instructions, split
from reprune.evaluation.response import response_losses
from reprune.evaluation.text import ProtocolError
from reprune.training.instructions import prompt_of

ROWS = made_instructions(64, 13)
CONTENT = {"name": "response-loss", "length": 400, "tasks": {"alpaca": {"corpus": "made", "rows": 5}}}


@torch.no_grad()
def by_definition(model, tokenizer, row):
    """Mean nats of a row's answer and end, one token at a time, in float64."""
    prompt = tokenizer(prompt_of(row))["input_ids"]
    answer = [*tokenizer(row["output"])["input_ids"], tokenizer.eos_token_id]
    losses = []
    for i, token in enumerate(answer):
        logits = model(input_ids=torch.tensor([[*prompt, *answer[:i]]])).logits[0, -1].double()
        losses.append(-torch.log_softmax(logits, dim=-1)[token].item())
    return sum(losses) / len(losses)


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-llama-gqa"])
def test_every_row_weighs_the_same_and_is_the_mean_over_its_answer(tiny_model, tokenizer, name):
    model = tiny_model(name)
    with torch.no_grad():
        model.lm_head.weight.mul_(5)
    expected = [by_definition(model, tokenizer, row) for row in split(ROWS, 5)[1]]
    assert response_losses(model, tokenizer, ROWS, CONTENT, "alpaca") == pytest.approx(expected, rel=1e-5)


def test_a_model_that_knows_nothing_loses_the_logarithm_of_its_vocabulary(tiny_model, tokenizer):
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight.zero_()
    losses = response_losses(model, tokenizer, ROWS, CONTENT, "alpaca")
    assert losses == pytest.approx([math.log(258)] * 5, rel=1e-6)


def test_no_scored_row_is_trained_on_whatever_the_seed():
    scored = split(ROWS, 5)[1]
    for seed in range(10):
        train, validation = draw_rows(ROWS, 58, 6, seed)
        assert not [row for row in train if row in scored] and validation[:5] == scored


def test_prompts_that_leave_no_room_for_an_answer_are_an_error(tiny_model, tokenizer):
    with pytest.raises(ProtocolError, match="scores no token of 5 rows within 64 tokens"):
        response_losses(tiny_model(), tokenizer, ROWS, {**CONTENT, "length": 64}, "alpaca")
