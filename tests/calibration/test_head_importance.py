"""Importances of heads: the worked examples, two ways to relevance, conservation, gradients of gates."""

from __future__ import annotations

import pytest
import torch
from plain_relevance import plain_relevance
from small_translation import HEADS, LAYERS, logits, pairs, small_marian
from torch import tensor
from torch.nn import functional as F

from reprune.calibration.head_importance import confidence, gradient, maxima, relevance, sent_back, shares
from reprune.calibration.linearised import linearised
from reprune.calibration.sentences import Batch
from reprune.models.translation import KINDS, attention_kinds
from reprune.surgery.head_gates import HeadGates, remove_heads


def single(batch: Batch, row: int) -> Batch:
    """One pair without its pads."""
    source, target = int(batch.source_mask[row].sum()), int((batch.labels[row] != -100).sum())
    return Batch(
        *(side[row : row + 1, :source] for side in batch[:2]),
        *(side[row : row + 1, :target] for side in batch[2:]),
    )


def close(found: dict, expected: dict, **tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for kind, rows in found.items():
        torch.testing.assert_close(list(rows), list(expected[kind]), **tolerance)


def test_confidence_leaves_the_end_out():
    weights = tensor(
        [[0.10, 0.70, 0.15, 0.05], [0.05, 0.10, 0.80, 0.05], [0.20, 0.30, 0.10, 0.40], [0.25] * 4]
    )
    words = tensor([[True, True, True, False]])
    assert maxima(weights[None, None], words, words).item() / 3 == pytest.approx(0.6)


def test_confidence_of_a_model_is_that_of_its_attention_maps():
    model, batch = small_marian(attn_implementation="eager"), pairs()
    with torch.no_grad():
        maps = model(
            batch.source,
            attention_mask=batch.source_mask,
            decoder_input_ids=batch.target,
            output_attentions=True,
        )
    lengths = [(6 - row, 6 - row) for row in range(3)]  # words of the source, steps of the target
    named = {
        "encoder": (maps.encoder_attentions, lambda words, steps: (words, words)),
        "decoder": (maps.decoder_attentions, lambda words, steps: (steps, steps)),
        "cross": (maps.cross_attentions, lambda words, steps: (steps, words)),
    }
    expected = {}
    for kind, (layers, sizes) in named.items():
        cut = [[own[r][:, : sizes(*n)[0], : sizes(*n)[1]] for r, n in enumerate(lengths)] for own in layers]
        expected[kind] = [torch.cat([m.amax(-1) for m in own], dim=1).mean(1) for own in cut]
    close(confidence(small_marian(), [batch]), expected)


def test_relevance_of_the_worked_example():
    heads, residual = tensor([[[1.0, 2, 3, 1]]], requires_grad=True), tensor([0.5, 0.5], requires_grad=True)
    projection, target = tensor([[1, 0], [0, 1], [0.5, 0.5], [0, 1]]), tensor([2.0, 1])
    output = heads @ projection
    logit = ((output + residual) @ target).flatten()
    found = sent_back(logit, [output, residual, heads])
    torch.testing.assert_close(found[0].flatten(), tensor([0.454545, 0.409091]), rtol=0, atol=1e-6)
    torch.testing.assert_close(found[1], tensor([0.090909, 0.045455]), rtol=0, atol=1e-6)
    by_neuron = tensor([0.181818, 0.181818, 0.409091, 0.090909])
    torch.testing.assert_close(found[2].flatten(), by_neuron, rtol=0, atol=1e-6)
    assert (found[0].sum() + found[1].sum()).item() == pytest.approx(1)
    for own in shares(found[2], 2):  # nothing is negative here
        torch.testing.assert_close(own, tensor([[0.421053, 0.578947]]), rtol=0, atol=1e-6)


def test_signed_shares_cancel_and_absolute_ones_do_not():
    signed, absolute = shares(tensor([[[3.0, -3.0, -1.0, -1.0]]]), 2)
    assert signed.tolist() == [[0, -1]] and absolute.tolist() == [[0.75, 0.25]]


@pytest.mark.parametrize("activation", ["relu", "silu"])
@torch.no_grad()
def test_the_linearised_model_computes_the_same(activation):
    model, batch = small_marian(activation_function=activation), pairs()
    expected = logits(model, batch)
    with linearised(model):
        torch.testing.assert_close(logits(model, batch), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(logits(model, batch), expected)


@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_values_times_gradients_are_the_plain_rule(activation):
    """Every head's relevance at every step, against the rule written out layer by layer."""
    model, batch = small_marian(activation_function=activation).double(), single(pairs(), 0)
    steps = batch.target.shape[1]
    found = relevance(model, [batch])
    expected = [{kind: [0.0] * LAYERS for kind in KINDS} for _ in range(2)]
    for step in range(steps):
        plain = plain_relevance(model, batch.source[0], batch.target[0], step)
        for kind, layers in plain.items():
            for layer, own in enumerate(layers):
                for side, share in zip(expected, shares(own[None], HEADS), strict=True):
                    side[kind][layer] += share[0] / steps
    close(found.signed, expected[0], rtol=1e-6, atol=1e-9)
    close(found.absolute, expected[1], rtol=1e-6, atol=1e-9)


def test_relevance_is_conserved_with_the_share_of_biases():
    model, batch = small_marian().double(), single(pairs(), 1)
    seen: list[torch.Tensor] = []

    def note(module, inputs):
        seen.append(inputs[0].detach().requires_grad_(True))
        return (seen[-1], *inputs[1:])

    for part in (model.get_encoder(), model.get_decoder()):
        part.layers[0].register_forward_pre_hook(note)
    biases = [p.requires_grad_(True) for name, p in model.named_parameters() if name.endswith("bias")]
    model.final_logits_bias.requires_grad_(True)
    with linearised(model):
        top = logits(model, batch)[:, -1].amax(-1)
        inputs = sent_back(top, seen)
        own = sent_back(top, [*biases, model.final_logits_bias])
    share = sum(one.sum().item() for one in own)
    assert sum(one.sum().item() for one in inputs) + share == pytest.approx(1, abs=1e-6)
    assert abs(share) > 0.01  # the biases of this model do keep something


@pytest.mark.parametrize("measure", [confidence, gradient, relevance])
def test_batches_and_pads_do_not_matter(measure):
    model, batch = small_marian().double(), pairs()
    together, apart = (
        measure(model, own) for own in ([batch], [single(batch, row) for row in range(len(batch.source))])
    )
    pieces = zip(together, apart, strict=True) if measure is relevance else [(together, apart)]
    for one, other in pieces:
        close(one, other, rtol=1e-6, atol=1e-9)


def test_magnitudes_of_shares_add_up_to_1_in_every_layer():
    found = relevance(small_marian(), [pairs()])
    for kind in KINDS:
        for signed, absolute in zip(found.signed[kind], found.absolute[kind], strict=True):
            assert absolute.sum().item() == pytest.approx(1, abs=1e-5)
            assert signed.abs().sum().item() <= 1 + 1e-5


def test_the_gradient_is_that_of_gates():
    model, batch = small_marian(), pairs()
    expected = {kind: torch.zeros(LAYERS, HEADS) for kind in KINDS}
    for row in range(len(batch.source)):
        one = single(batch, row)
        gates = {kind: torch.ones(LAYERS, HEADS, requires_grad=True) for kind in KINDS}
        with HeadGates(model, KINDS).applied(gates):
            F.cross_entropy(logits(model, one)[0], one.labels[0]).backward()
        for kind, own in gates.items():
            expected[kind] += own.grad.abs() / len(batch.source)
    close(gradient(model, [batch]), expected, rtol=1e-4, atol=1e-6)


def test_a_head_that_writes_nothing_has_neither_gradient_nor_relevance():
    model = small_marian()
    for layers in attention_kinds(model).values():
        layers[1].out_proj.weight[:, 16:24] = 0  # the third head
    found = relevance(model, [pairs()])
    for rows in (gradient(model, [pairs()]), found.signed, found.absolute):
        for kind in KINDS:
            assert rows[kind][1][2] == 0 and rows[kind][1][[0, 1, 3]].ne(0).all()


@pytest.mark.parametrize("measure", [confidence, gradient, relevance])
def test_layers_with_fewer_heads_or_none_have_shorter_rows(measure):
    model = small_marian()
    kept = tensor([[0, 0, 0, 0], [1, 0, 1, 1]]).bool()
    remove_heads(
        model, {"encoder": kept, "decoder": kept.flip(0), "cross": torch.zeros(LAYERS, HEADS).bool()}
    )
    found = measure(model, [pairs()])
    rows = found.signed if measure is relevance else found
    assert {kind: [len(row) for row in own] for kind, own in rows.items()} == {
        "encoder": [0, 3],
        "decoder": [3, 0],
        "cross": [0, 0],
    }
    assert not any(p.requires_grad for p in model.parameters())
