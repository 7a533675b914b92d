"""The whole model as a method gets it: its blocks' inputs, shared statistics, similarities and gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from reprune.calibration.gradients import weight_gradients
from reprune.calibration.similarity import hidden_states, similarities


def rows(subject, last="pre_norm"):
    batches = [hidden_states(subject, batch, last) for batch in subject.batches()]
    return [torch.cat(parts) for parts in zip(*batches, strict=True)]


@pytest.mark.parametrize("path", ["dense", "compressed"])
@torch.no_grad()
def test_streamed_inputs_are_those_of_a_forward_pass(subject_of, path):
    subject = subject_of("tiny-llama-gqa")
    states = rows(subject)
    for block in subject.stream(path):
        torch.testing.assert_close(block.inputs, states[block.index], rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_the_compressed_path_sees_what_was_changed_and_the_dense_one_does_not(subject_of):
    seen = {}
    for path in ("dense", "compressed"):
        subject = subject_of("tiny-llama")
        for block in subject.stream(path):
            seen[path, block.index] = block.inputs
            block.linears["mlp.down_proj"].weight.mul_(0.5)
    assert torch.equal(seen["dense", 0], seen["compressed", 0])
    assert not torch.allclose(seen["dense", 1], seen["compressed", 1])
    assert torch.allclose(seen["dense", 2], rows(subject_of("tiny-llama"))[2], atol=1e-6)


@torch.no_grad()
def test_a_replaced_block_is_followed(subject_of):
    class Doubled(torch.nn.Module):
        def __init__(self, old):
            super().__init__()
            self.self_attn = old.self_attn

        def forward(self, hidden, **_):
            return hidden * 2

    subject = subject_of("tiny-llama")
    inputs = []
    for block in subject.stream():
        inputs.append(block.inputs)
        if block.index == 0:
            subject.blocks[0] = Doubled(block.module)
    assert torch.equal(inputs[1], inputs[0] * 2)


def test_statistics_are_made_once_and_their_cost_is_everyones(subject_of):
    made = []

    def make():
        made.append(1)
        return {"x": torch.arange(3.0)}

    first, second = subject_of("tiny-llama"), subject_of("tiny-llama")
    for subject in (first, second):
        assert subject.remember("numbers", make)["x"].tolist() == [0, 1, 2]
    assert made == [1]
    first.remember("others", make)
    assert len(made) == 2


def test_a_statistic_asked_for_twice_costs_a_run_once(subject_of, monkeypatch):
    """Its cost is written down when it is made; GRASP asks for its slopes at every half of a layer."""
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("reprune.records.store.time.monotonic", lambda: float(next(clock)))
    subject_of("tiny-llama").remember("numbers", lambda: {"x": torch.ones(1)})
    later = subject_of("tiny-llama")
    later.remember("numbers", lambda: {"x": torch.zeros(1)})
    cost = later.shared_seconds
    for _ in range(3):
        assert later.remember("numbers", lambda: {"x": torch.zeros(1)})["x"].item() == 1
    assert later.shared_seconds == cost


@torch.no_grad()
def test_similarity_by_hand(subject_of):
    subject = subject_of("tiny-llama")
    states = rows(subject)
    found = similarities(subject, (1, 2))
    for span in (1, 2):
        for i in range(4 - span):
            expected = F.cosine_similarity(states[i], states[i + span], dim=-1).mean()
            assert found[span][i].item() == pytest.approx(expected.item(), rel=1e-5)


@torch.no_grad()
def test_only_the_last_value_depends_on_the_final_norm(subject_of):
    subject = subject_of("tiny-llama")
    subject.model.model.norm.weight[:32] = 3.0
    before, after = (similarities(subject, last=last)[1] for last in ("pre_norm", "post_norm"))
    assert torch.equal(before[:2], after[:2])
    assert before[2] != after[2]


@torch.no_grad()
def test_a_state_without_direction_counts_as_a_half(subject_of, monkeypatch):
    subject = subject_of("tiny-llama")
    nothing = torch.full((4, 32, 64), float("nan"))
    monkeypatch.setattr("reprune.calibration.similarity.hidden_states", lambda *_: [nothing, nothing])
    assert similarities(subject)[1][0] == 0.5


def test_gradients_equal_those_of_one_backward_pass(subject_of):
    subject = subject_of("tiny-llama-gqa")
    names = ["model.layers.1.self_attn.v_proj", "model.layers.2.mlp.up_proj"]
    layers = {name: subject.linears()[name] for name in names}
    found: dict[str, torch.Tensor] = {}
    loss = weight_gradients(subject, layers, lambda n, g: found.__setitem__(n, found.get(n, 0) + g), 1, 3)
    for layer in layers.values():
        layer.weight.requires_grad_(True)
    expected = subject.model(subject.windows, labels=subject.windows).loss
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    for name, layer in layers.items():
        torch.testing.assert_close(found[name], layer.weight.grad, rtol=1e-4, atol=1e-7)


def test_gradients_leave_the_model_frozen_and_free(subject_of):
    subject = subject_of("tiny-llama")
    weight_gradients(subject, subject.linears(), lambda name, gradient: None)
    assert not any(p.requires_grad or p.grad is not None for p in subject.model.parameters())


@torch.no_grad()
def test_factors_go_in_a_layers_place_and_their_rank_is_reported(subject_of):
    subject, name = subject_of("tiny-llama-gqa"), "model.layers.1.self_attn.v_proj"
    weight, inputs = subject.linears()[name].weight, torch.ones(1, 64)
    before = subject.parameters
    subject.factor(name, torch.eye(32), weight)
    assert subject.report == {1: {"self_attn.v_proj": {"rank": 32}}}
    torch.testing.assert_close(subject.model.get_submodule(name)(inputs), inputs @ weight.T)
    assert name not in subject.linears()
    assert subject.parameters == before + 32 * 32
