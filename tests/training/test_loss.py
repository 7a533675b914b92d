"""The loss of scored tokens against its definition and against transformers' own."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from reprune.training.instructions import Example
from reprune.training.loss import Teacher, divergence, example_losses, grouped, summed_losses


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


@pytest.fixture
def student_and_teacher(tiny_model):
    """Two models that agree in nothing but their shape."""
    student, teacher = tiny_model(), tiny_model()
    with torch.no_grad():
        student.model.norm.weight.copy_(torch.linspace(0.2, 3, 64))
    return student, teacher


def test_divergence_of_two_words_by_hand():
    """Chances 1/2, 1/2 against 3/4, 1/4 at temperature 2, and against themselves."""
    student, teacher = torch.zeros(2, 2), torch.tensor([[2 * math.log(3), 0.0], [1.0, 1.0]])
    expected = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert divergence(student, teacher).tolist() == pytest.approx([expected, 0.0], abs=1e-6)


@torch.no_grad()
def divergence_by_definition(student, teacher, example):
    """The summed distillation loss of one example, in float64."""
    tokens = torch.tensor([example.tokens])
    wanted, own = (torch.softmax(m(input_ids=tokens).logits[0].double() / 2, -1) for m in (teacher, student))
    each = 4 * (wanted * (wanted / own).log()).sum(-1)
    return each[example.first - 1 : -1].sum().item()


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_a_teachers_share_is_its_divergence_on_the_scored_tokens(student_and_teacher, made_examples, weight):
    student, teacher = student_and_teacher
    expected = [
        (1 - weight) * by_definition(student, example)
        + weight * divergence_by_definition(student, teacher, example)
        for example in made_examples
    ]
    found = summed_losses(student, made_examples, Teacher(teacher, weight)).tolist()
    assert found == pytest.approx(expected, rel=1e-4)


def test_a_teacher_like_the_student_leaves_the_rest_of_the_loss(tiny_model, made_examples):
    model = tiny_model()
    alone, taught = (summed_losses(model, made_examples, t) for t in (None, Teacher(tiny_model(), 0.4)))
    torch.testing.assert_close(taught, 0.6 * alone, rtol=1e-5, atol=1e-5)


def test_a_student_learns_from_chances_and_its_teacher_does_not(student_and_teacher, made_examples):
    student, teacher = (model.requires_grad_(True) for model in student_and_teacher)
    summed_losses(student, made_examples, Teacher(teacher, 0.5)).sum().backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None for p in student.parameters())


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
