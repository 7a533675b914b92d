"""Prompts, ends and masks of examples, by hand."""

from __future__ import annotations

import pytest

from reprune.plan import recovery
from reprune.training.instructions import PROMPTS, Example, examples, prompt_of

ROW = {"instruction": "Add the numbers.", "input": "", "output": "5"}
PROMPT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\nAdd the numbers.\n\n### Response:\n"
)
END = 1  # <|endoftext|> of the byte tokenizer


def test_the_prompt_is_alpaca_loras():
    assert prompt_of(ROW) == PROMPT
    assert prompt_of({**ROW, "input": "2 {and} 3"}) == (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd the numbers.\n\n### Input:\n2 {and} 3\n\n### Response:\n"
    )


def test_the_prompt_of_sheared_llama_has_one_text_to_answer(tokenizer):
    start = (
        "You are a helpful assistant. Write a response that appropriately completes the request.\n\n"
        "### Input:\n"
    )
    assert prompt_of(ROW, "sheared_llama") == start + "Add the numbers.\n\n### Response:"
    both = prompt_of({**ROW, "input": "2 {and} 3"}, "sheared_llama")
    assert both == start + "Add the numbers.\n\n2 {and} 3\n\n### Response:"
    (made,) = examples([ROW], tokenizer, 512, prompt="sheared_llama")
    assert tokenizer.decode(made.tokens[: made.first]) == prompt_of(ROW, "sheared_llama")
    assert made.tokens[made.first :] == [*tokenizer("5")["input_ids"], END]


def test_plans_know_the_prompts_that_there_are():
    assert tuple(PROMPTS) == recovery.PROMPTS
    assert recovery.Recovery().prompt == "alpaca"


def test_only_the_response_and_the_end_are_scored(tokenizer):
    (made,) = examples([ROW], tokenizer, 512)
    assert len(PROMPT) == 156 and made.first == 156 and made.scored == 2
    assert tokenizer.decode(made.tokens[:156]) == PROMPT
    assert made.tokens[156:] == [*tokenizer("5")["input_ids"], END]


def test_training_on_inputs_scores_all_but_the_first_token(tokenizer):
    (made,) = examples([ROW], tokenizer, 512, train_on_inputs=True)
    assert (made.first, made.scored) == (1, 157)


@pytest.mark.parametrize(("length", "tokens", "scored"), [(158, 158, 2), (157, 157, 1), (512, 158, 2)])
def test_a_text_is_cut_and_loses_its_end(tokenizer, length, tokens, scored):
    (made,) = examples([ROW], tokenizer, length)
    assert (len(made.tokens), made.scored) == (tokens, scored)
    assert (made.tokens[-1] == END) == (length > 157)


def test_a_row_whose_prompt_fills_the_length_is_left_out(tokenizer):
    longer = {**ROW, "instruction": "Add the numbers!!"}
    assert [made.first for made in examples([longer, ROW, longer], tokenizer, 157)] == [156]
    assert examples([], tokenizer, 157) == []


def test_an_end_that_the_tokenizer_adds_is_not_doubled(tokenizer):
    (made,) = examples([{**ROW, "output": "5<|endoftext|>"}], tokenizer, 512)
    assert made.tokens[-2:] == [*tokenizer("5")["input_ids"], END]


def test_scored_tokens_are_those_from_the_first_on():
    assert Example([7, 8, 9], 1).scored == 2
