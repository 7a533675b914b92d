"""Answers to held-out instructions: whose rows, which prompt, and that they are the likeliest tokens."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch

from reprune.data.instructions import made_instructions, split
from reprune.evaluation.answers import answers
from reprune.evaluation.text import ProtocolError
from reprune.training.instructions import prompt_of, request_of

ROWS = made_instructions(64, 13)
CONTENT = {"prompt": "sheared_llama", "new_tokens": 5, "tasks": {"alpaca": {"corpus": "made", "rows": 4}}}


@torch.no_grad()
def by_definition(model, tokenizer, prompt, new):
    tokens = tokenizer(prompt)["input_ids"]
    for _ in range(new):
        tokens.append(model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax().item())
    return tokenizer.decode(tokens[-new:], skip_special_tokens=True)


def test_each_held_out_row_is_answered_with_the_likeliest_tokens(tiny_model, engine_of, tokenizer):
    model = tiny_model("tiny-llama-gqa")
    found = answers(engine_of(model), ROWS, CONTENT, "alpaca")
    told = [json.loads(item["responses"]) for item in found["items"]]
    held_out = split(ROWS, 4)[1]
    assert [one["prompt"] for one in told] == [prompt_of(row, "sheared_llama") for row in held_out]
    assert [one["request"] for one in told] == [request_of(row) for row in held_out]
    assert [one["answer"] for one in told] == [
        by_definition(model, tokenizer, one["prompt"], 5) for one in told
    ]
    assert [item["prompt_hash"] for item in found["items"]] == [
        hashlib.sha256(one["prompt"].encode()).hexdigest() for one in told
    ]
    assert (found["n"], found["truncated"], found["metric"]) == (4, 0, "answer_tokens")


def test_the_end_of_the_text_ends_an_answer(tiny_model, engine_of, tokenizer):
    """The final norm scaled to a multiple of the end's embedding makes the end the likeliest token."""
    model = tiny_model("tiny-llama-gqa")
    end = model.get_input_embeddings().weight[tokenizer.eos_token_id].detach()
    model.model.norm.register_forward_hook(lambda module, inputs, out: 0 * out + 100 * end)
    found = answers(engine_of(model), ROWS, CONTENT, "alpaca")
    assert [item["value"] for item in found["items"]] == [0.0] * 4
    assert {json.loads(item["responses"])["answer"] for item in found["items"]} == {""}


def test_more_tokens_than_the_model_has_places_are_refused(tiny_model, engine_of):
    with pytest.raises(ProtocolError, match="600 tokens to generate leave no room"):
        answers(engine_of(tiny_model()), ROWS, {**CONTENT, "new_tokens": 600}, "alpaca")
