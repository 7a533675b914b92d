"""The loss of scored tokens against its definition and against transformers' own."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from reprune.training.instructions import Example
from reprune.training.loss import example_losses, grouped, summed_losses


@torch.no_grad()
def by_definition(model, example):
    """The summed loss of one example, one token at a time, in float64."""
    chances = torch.log_softmax(model(input_ids=torch.tensor([example.tokens])).logits[0].double(), -1)
    scored = range(example.first, len(example.tokens))
    return -sum(chances[i - 1, example.tokens[i]].item() for i in scored)


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-llama-gqa"])
def test_losses_are_the_definitions_whatever_is_padded(tiny_model, made_examples, name):
    model = tiny_model(name)
    expected = [by_definition(model, example) for example in made_examples]
    assert summed_losses(model, made_examples).tolist() == pytest.approx(expected, rel=1e-5)
    assert example_losses(model, made_examples) == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_transformers_own(tiny_model, made_examples):
    model = tiny_model()
    example = made_examples[2]
    tokens = torch.tensor([example.tokens])
    labels = tokens.clone()
    labels[:, : example.first] = -100
    theirs = model(input_ids=tokens, labels=labels).loss.item()
    assert summed_losses(model, [example]).item() / example.scored == pytest.approx(theirs, rel=1e-5)


def test_a_head_that_caps_its_logits_goes_on_capping():
    config = Gemma2Config(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        final_logit_softcapping=0.05,
    )
    model = Gemma2ForCausalLM(config).eval()
    example = Example(list(range(2, 30)), 4)
    loss = summed_losses(model, [example, Example([5, 6, 7], 1)])[0].item()
    assert loss == pytest.approx(by_definition(model, example), rel=1e-5)
    assert loss == pytest.approx(24 * math.log(64), abs=24 * 0.1)


def test_the_model_is_left_as_it_was(tiny_model, made_examples):
    model = tiny_model()
    tokens = torch.tensor([[5, 6, 7]])
    before = model(input_ids=tokens).logits
    summed_losses(model, made_examples)
    assert torch.equal(model(input_ids=tokens).logits, before)


def test_groups_are_of_similar_length_and_hold_everything_once():
    made = [Example([0] * n, 1) for n in (4, 20, 5, 3, 6)]
    assert grouped(made, 11) == [[3, 0], [2], [4], [1]]
    assert grouped(made, 12) == [[3, 0], [2, 4], [1]]
    assert grouped(made, 15) == [[3, 0, 2], [4], [1]]
    assert grouped(made, 100) == [[3, 0, 2, 4, 1]]
    assert grouped([], 12) == []


def test_progress_counts_examples(tiny_model, made_examples):
    said = []
    example_losses(tiny_model(), made_examples, lambda done, total: said.append((done, total)))
    assert said == [(6, 6)]
