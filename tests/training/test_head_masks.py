"""Gates of heads learned with a translation model: penalty, counts, hardening, resuming."""

from __future__ import annotations

import copy

import pytest
import torch
from small_translation import HEADS, LAYERS, logits, pairs, small_marian
from torch import tensor

from reprune.models.translation import KINDS, encoder_parameters
from reprune.surgery.head_gates import remove_heads, retained_heads
from reprune.training.head_mask_settings import HeadMaskSettings
from reprune.training.head_masks import HeadMasks

LOGITS = tensor([[2.0, 0, -2, -4], [3, -3, 1, -1]])


def masks(**settings) -> HeadMasks:
    return HeadMasks(small_marian(), HeadMaskSettings(**settings), seed=0)


def known(**settings) -> HeadMasks:
    """Gates of the encoder with the logits of the worked example."""
    learned = masks(**settings)
    learned.logits["encoder"].data.copy_(LOGITS)
    return learned


def test_the_penalty_is_the_number_of_heads_expected_to_be_open():
    learned = known(penalty=1.0)
    expected = tensor([[0.942204, 0.688112, 0.229932, 0.038840], [0.977932, 0.098972, 0.857087, 0.448015]])
    torch.testing.assert_close(learned.probabilities()["encoder"].detach(), expected, rtol=0, atol=1e-6)
    penalty = learned.prepare(0)
    assert penalty.item() == pytest.approx(4.281094, abs=1e-5)
    penalty.backward()
    slopes = tensor([[0.054455, 0.214614, 0.177063, 0.037331], [0.021581, 0.089177, 0.122489, 0.247298]])
    torch.testing.assert_close(learned.logits["encoder"].grad, slopes, rtol=0, atol=1e-6)
    torch.testing.assert_close(learned.logits["encoder"].grad, expected * (1 - expected), rtol=0, atol=1e-6)


def test_the_official_code_means_over_layers_what_the_paper_sums():
    learned = known(penalty=0.05)
    in_code = 2.140547  # its regulariser at the same logits
    assert learned.penalty_in_code * in_code == pytest.approx(learned.prepare(0).item(), abs=1e-6)
    assert masks(penalty=0.05, gated="all").penalty_in_code == pytest.approx(0.05 * 3 * LAYERS)


def test_heads_are_counted_by_both_rules():
    told = known().told()
    assert told["open"] == {"encoder": 3} and told["open_in_code"] == {"encoder": 6}
    assert told["expected"]["encoder"] == pytest.approx(4.281094, abs=1e-5)
    gates = tensor(told["gates"]["encoder"])
    assert (gates > 0).int().tolist() == [[1, 1, 1, 0], [1, 0, 1, 1]]
    # closed in more than 0.9 of draws: -4, -3 (0.961, 0.901); open: 3 (0.901), but 2 only in 0.770
    assert told["polarised"] == {"encoder": 3 / 8}


def test_the_start_draws_half_open_heads_or_gentler_ones():
    assert masks().told()["expected"]["encoder"] / 8 == pytest.approx(0.688112, abs=1e-6)
    assert masks(start=2.0).told()["expected"]["encoder"] / 8 == pytest.approx(0.942204, abs=1e-6)
    assert set(masks(gated="all").logits) == set(KINDS)


def test_a_step_has_one_draw_for_all_sentences_and_passes():
    learned, batch = masks(), pairs()
    learned.prepare(0)
    once, again = logits(learned.model, batch), logits(learned.model, batch)
    assert torch.equal(once, again)
    learned.prepare(1)
    assert not torch.equal(logits(learned.model, batch), once)


def test_gradients_reach_the_gates_through_the_loss():
    learned = masks(penalty=0.0, gated="all")
    for step in range(5):
        penalty = learned.prepare(step)
        (logits(learned.model, pairs()).square().mean() + penalty).backward()
    assert all(own.grad.any() for own in learned.logits.values())


@torch.no_grad()
def test_settled_gates_are_hard_and_the_finished_model_gives_the_same():
    learned, batch = known(), pairs()
    expected = small_marian()
    kept = tensor([[1, 0, 0, 0], [1, 0, 1, 0]]).bool()
    remove_heads(expected, {"encoder": kept})
    learned.prepare(0)
    with learned.settled():
        settled = logits(learned.model, batch)
    torch.testing.assert_close(settled, logits(expected, batch), rtol=1e-5, atol=1e-5)
    assert torch.equal(logits(learned.model, batch), logits(small_marian(), batch))  # no gates left
    learned.prepare(1)
    assert torch.equal(learned.finish()["encoder"], kept)
    assert torch.equal(logits(learned.model, batch), logits(expected, batch))
    assert retained_heads(learned.model)["encoder"] == [1, 2]


def test_draws_go_on_after_a_resumption():
    first = masks()
    first.prepare(0)
    state = copy.deepcopy(first.state())
    first.prepare(1)
    second = masks()
    second.resume(state)
    second.prepare(1)
    with torch.no_grad():
        assert torch.equal(logits(first.model, pairs()), logits(second.model, pairs()))


def test_learning_closes_heads_that_do_nothing_and_keeps_one_that_matters():
    """A planted fault: all heads of the encoder write nothing, but one whose absence changes the output."""
    model = small_marian()
    for layer in model.model.encoder.layers:
        layer.self_attn.out_proj.weight[:, 8:] = 0
    with torch.no_grad():
        model.model.encoder.layers[0].self_attn.out_proj.weight[:, :8] *= 3
        model.model.encoder.layers[1].self_attn.out_proj.weight[:, :8] = 0
        wanted = logits(model, pairs())
    learned = HeadMasks(model, HeadMaskSettings(penalty=0.02, mask_rate=0.05), seed=0)
    (group,) = learned.groups()
    optimizer = torch.optim.Adam(group["params"], lr=group["lr"])
    for step in range(150):
        penalty = learned.prepare(step)
        ((logits(model, pairs()) - wanted).square().mean() + penalty).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert learned.told()["polarised"] == {"encoder": 7 / 8}  # the gradient of an open gate vanishes slowly
    assert learned.finish()["encoder"].int().tolist() == [[1, 0, 0, 0], [0, 0, 0, 0]]
    with torch.no_grad():
        torch.testing.assert_close(logits(model, pairs()), wanted, rtol=1e-5, atol=1e-5)


def test_encoder_training_with_gates_moves_the_encoder_and_the_gates_alone():
    learned = masks(penalty=0.1)
    model, own = learned.model, encoder_parameters(learned.model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.requires_grad_(True)
    groups = [{"params": list(own.values()), "lr": 0.1}, *learned.groups()]
    optimizer = torch.optim.SGD(groups)
    (logits(model, pairs()).square().mean() + learned.prepare(0)).backward()
    optimizer.step()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed and changed <= set(own)
    assert learned.logits["encoder"].ne(0).all()


def test_layers_that_differ_are_refused():
    model = small_marian()
    remove_heads(model, {"encoder": tensor([[1, 1, 1, 0], [1] * HEADS]).bool()})
    with pytest.raises(ValueError, match=r"\[3, 4\] heads of 'encoder'"):
        HeadMasks(model, HeadMaskSettings(), seed=0)
