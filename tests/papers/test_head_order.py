"""Heads removed in an order: how many stay, which, and that nothing else changes."""

from __future__ import annotations

import pytest
import torch
from small_translation import logits as logits_of
from translation_subject import HEADS, LAYERS, translation_subject, write_translator

from reprune.calibration import head_importance
from reprune.calibration.sentences import batches, encode
from reprune.method import Target
from reprune.models.checkpoint import load_model
from reprune.models.translation import attention_kinds
from reprune.surgery.head_gates import HeadGates, retained_heads

ORDERS = ("random", "confidence", "relevance", "gradient")
SIZE = 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_translator(tmp_path_factory.mktemp("translator"))


@pytest.fixture
def ordered(folder, paper, tmp_path):
    """A subject of which so many heads are left, in an order."""

    def compress(kept, order="random", seed=0, sentences=6):
        module, subject = paper("head_order"), translation_subject(folder, tmp_path / "store", seed)
        module.HeadOrder(module.Settings(order=order, sentences=sentences), Target.of_heads(kept)).compress(
            subject
        )
        return subject

    return compress


def told(subject):
    """The heads that are kept and their scores, (layers, heads)."""
    notes = subject.notes["heads"]
    return torch.tensor(notes["kept"]["encoder"]), torch.tensor(notes["scores"])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kept", [1, 5, 12])
def test_exactly_so_many_heads_stay_the_highest_of_all(ordered, order, kept):
    subject = ordered(kept, order)
    pattern, scores = told(subject)
    assert pattern.shape == scores.shape == (LAYERS, HEADS) and int(pattern.sum()) == kept
    if kept < 12:
        assert scores[pattern].min() >= scores[~pattern].max()
    counted = retained_heads(subject.model)
    assert counted["encoder"] == pattern.sum(1).tolist()
    assert counted["decoder"] == counted["cross"] == [HEADS] * 2


def test_of_equals_the_first_stay(paper):
    highest = paper("head_order").highest
    assert highest(torch.tensor([[1.0, 1, 1], [1, 2, 1]]), 3).tolist() == [
        [True, True, False],
        [False, True, False],
    ]
    assert highest(torch.tensor([[3.0, 1], [2, 4]]), 2).tolist() == [[True, False], [False, True]]


def test_what_stays_is_bit_by_bit_what_it_was(ordered, folder):
    subject, before = ordered(5, "gradient"), load_model(folder)
    pattern, _ = told(subject)
    layers = [attention_kinds(model)["encoder"] for model in (before, subject.model)]
    for row, old, new in zip(pattern, *layers, strict=True):
        rows = row.repeat_interleave(SIZE)
        if row.any():
            for name in ("q_proj", "k_proj", "v_proj"):
                assert torch.equal(getattr(new, name).weight, getattr(old, name).weight[rows])
                assert torch.equal(getattr(new, name).bias, getattr(old, name).bias[rows])
            assert torch.equal(new.out_proj.weight, old.out_proj.weight[:, rows])
    after = dict(subject.model.named_parameters())
    others = {
        n: p for n, p in before.named_parameters() if "encoder.layers" not in n or "self_attn." not in n
    }
    assert all(torch.equal(p, after[name]) for name, p in others.items()) and len(others) > 40


@torch.no_grad()
def test_the_model_that_is_left_gives_what_gates_give(ordered, folder):
    subject, whole = ordered(4, "confidence"), load_model(folder)
    (batch,) = batches(whole, encode(subject.tokenizer, subject.pairs["validation"], 40))
    with HeadGates(whole).applied({"encoder": told(subject)[0].float()}):
        torch.testing.assert_close(
            logits_of(subject.model, batch), logits_of(whole, batch), rtol=1e-4, atol=1e-5
        )


def test_chance_follows_the_runs_seed_and_the_other_orders_do_not(ordered):
    first, again, other = (told(ordered(5, seed=seed))[1] for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    for order in ORDERS[1:]:
        assert torch.equal(*(told(ordered(5, order, seed))[1] for seed in (0, 1)))


@pytest.mark.parametrize("order", ORDERS[1:])
def test_scores_are_those_of_the_dense_model_on_the_first_validation_sentences(ordered, folder, order):
    subject, model = ordered(5, order, sentences=4), load_model(folder)
    encoded = encode(subject.tokenizer, subject.pairs["validation"][:4], 40)
    found = getattr(head_importance, order)(model, batches(model, encoded))
    expected = torch.stack((found.absolute if order == "relevance" else found)["encoder"])
    torch.testing.assert_close(told(subject)[1], expected, rtol=1e-4, atol=1e-6)
    assert not torch.equal(told(subject)[1], told(ordered(5, order, sentences=12))[1])


def test_signed_relevance_is_told_beside_the_absolute_one(ordered, folder):
    """Sums that may cancel: never more than the layer's magnitudes, which add up to 1."""
    subject, model = ordered(5, "relevance"), load_model(folder)
    encoded = encode(subject.tokenizer, subject.pairs["validation"][:6], 40)
    found = head_importance.relevance(model, batches(model, encoded))
    signed = torch.tensor(subject.notes["heads"]["signed"])
    torch.testing.assert_close(signed, torch.stack(found.signed["encoder"]), rtol=1e-4, atol=1e-6)
    assert (signed.abs().sum(1) < 1 + 1e-5).all() and signed.min() < 0
    assert "signed" not in ordered(5, "confidence").notes["heads"]


def test_the_orders_differ(ordered):
    scores = [told(ordered(5, order))[1].flatten().argsort().tolist() for order in ORDERS]
    assert len({tuple(order) for order in scores}) == 4
