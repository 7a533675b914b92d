"""The trainer: the gradient of a whole step, its schedule, its order, and what it leaves alone."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from reprune.training.instructions import Example
from reprune.training.lora import attach, targeted
from reprune.training.loss import Teacher, summed_losses
from reprune.training.trainer import Schedule, TrainingError, accumulate, train

SCHEDULE = Schedule(epochs=2, batch_size=4, learning_rate=1e-2, warmup=0.2)


@pytest.fixture
def last_block(tiny_model):
    """A tiny model of which only the last block is trained."""

    def made():
        model = tiny_model()
        model.model.layers[2].requires_grad_(True)
        return model

    return made


def gradients(model):
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_small_forward_passes_add_up_to_the_gradient_of_the_whole_step(last_block, made_examples):
    whole, parts = last_block(), last_block()
    scored = sum(example.scored for example in made_examples)
    loss = summed_losses(whole, made_examples).sum() / scored
    loss.backward()
    for tokens in (1, 20, 10_000):
        parts.zero_grad()
        assert accumulate(parts, made_examples, tokens) == pytest.approx(loss.item(), rel=1e-6)
        for name, gradient in gradients(parts).items():
            torch.testing.assert_close(gradient, whole.get_parameter(name).grad, rtol=1e-4, atol=1e-7)


def test_small_forward_passes_add_up_with_a_teacher_too(last_block, tiny_model, made_examples):
    whole, parts, teacher = last_block(), last_block(), Teacher(tiny_model(), 0.3)
    with torch.no_grad():
        whole.lm_head.weight.mul_(2)
        parts.lm_head.weight.mul_(2)
    losses = [accumulate(model, made_examples, n, teacher) for model, n in ((whole, 10_000), (parts, 20))]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    for name, gradient in gradients(whole).items():
        torch.testing.assert_close(gradient, parts.get_parameter(name).grad, rtol=1e-4, atol=1e-7)
    assert accumulate(parts, made_examples) != losses[1] and not gradients(teacher.model)


def test_a_steps_loss_is_the_mean_over_tokens_not_over_examples(tiny_model):
    model, short, long = tiny_model(), Example([5, 6], 1), Example(list(range(2, 40)), 1)
    model.lm_head.requires_grad_(True)
    each = summed_losses(model, [short, long]).tolist()
    assert accumulate(model, [short, long]) == pytest.approx(sum(each) / 38, rel=1e-5)


def test_the_loss_falls_and_only_the_last_block_changes(last_block, made_examples):
    model = last_block()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    losses = train(model, made_examples, Schedule(20, 3, 1e-2), seed=0)
    assert len(losses) == 40 and losses[-1] < losses[0] / 2
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {n for n in before if n.startswith("model.layers.2.")}
    assert not model.training


def test_nothing_below_the_first_trained_block_is_kept_for_gradients(last_block, made_examples):
    model, needs = last_block(), []
    for layer in model.model.layers:
        layer.register_forward_hook(lambda _m, _i, out: needs.append(out.requires_grad))
    accumulate(model, made_examples)
    assert needs == [False, False, True]
    assert model.model.embed_tokens.weight.grad is None and model.lm_head.weight.grad is None


def test_equal_seeds_give_equal_weights_and_others_another_order(last_block, made_examples):
    first, second, third = last_block(), last_block(), last_block()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    losses = train(first, made_examples, SCHEDULE, seed=5)
    assert torch.equal(torch.get_rng_state(), state), "the global generator is left alone"
    torch.rand(3)
    assert train(second, made_examples, SCHEDULE, seed=5) == losses
    assert train(third, made_examples, SCHEDULE, seed=6) != losses
    for mine, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_every_epoch_sees_every_example_once(last_block, made_examples, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "reprune.training.trainer.accumulate", lambda model, chosen, **_: seen.append(chosen) or 1.0
    )
    train(last_block(), made_examples, SCHEDULE, seed=0)
    assert [len(chosen) for chosen in seen] == [4, 2, 4, 2]
    for epoch in (seen[:2], seen[2:]):
        assert sorted(map(id, sum(epoch, []))) == sorted(map(id, made_examples))


def adapted_model(tiny_model):
    """A tiny model with adapters, whose dropout draws random numbers in every step."""
    model = tiny_model()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        attach(model, targeted(model, ["q_proj"]), 4, 16.0, 0.3)
    return model


@pytest.mark.parametrize("adapters", [False, True])
@pytest.mark.parametrize("stop", [1, 3, 4])
def test_a_stopped_training_ends_in_the_state_that_the_whole_one_passes(
    last_block, tiny_model, made_examples, stop, adapters
):
    def new():
        return adapted_model(tiny_model) if adapters else last_block()

    whole, stopped, passed = new(), new(), []

    def keep(step, _):
        if step == stop:
            passed.extend(p.detach().clone() for p in whole.parameters())

    losses = train(whole, made_examples, SCHEDULE, seed=5, say=keep)
    said = []
    shorter = dataclasses.replace(SCHEDULE, stop=stop)
    first = train(stopped, made_examples, shorter, seed=5, say=lambda *counts: said.append(counts))
    assert first == losses[:stop] and said[-1] == (stop, stop)
    assert all(map(torch.equal, stopped.parameters(), passed)) and not stopped.training
    assert (stop == 4) == all(map(torch.equal, stopped.parameters(), whole.parameters()))


def test_a_stop_beyond_the_end_is_an_error(last_block, made_examples):
    with pytest.raises(TrainingError, match="stop after step 5 is beyond the training's end, step 4"):
        train(last_block(), made_examples, dataclasses.replace(SCHEDULE, stop=5), seed=0)


def test_the_rate_rises_over_the_warm_up_and_falls_to_nothing():
    by_steps, by_share = Schedule(1, 1, 1.0, warmup=2), Schedule(1, 1, 1.0, warmup=0.2)
    for schedule in (by_steps, by_share):
        rates = [schedule.rate(step, 10) for step in range(10)]
        assert rates == pytest.approx([0.5, 1, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])
    assert Schedule(1, 1, 3.0).rate(0, 10) == 3.0
    falling = [Schedule(1, 1, 2.0, warmup=2, decay="cosine").rate(step, 6) for step in range(6)]
    expected = [1.0, *(1 + math.cos(math.pi * done / 4) for done in (0, 0, 1, 2, 3))]
    assert falling == pytest.approx(expected)
    assert [Schedule(1, 1, 1.0, warmup=100).rate(step, 2) for step in range(2)] == [0.01, 0.02]


@pytest.mark.parametrize(("examples", "steps"), [(8, 4), (9, 6), (1, 2)])
def test_the_steps_of_an_epoch_hold_all_examples(examples, steps):
    assert SCHEDULE.steps(examples) == steps


def test_the_gradient_is_clipped_to_norm_one(last_block, made_examples, norms_of_steps):
    """Adam forgets scale, so the norm is seen where the optimiser takes it."""
    norms = norms_of_steps(torch.optim.AdamW)
    model = last_block()
    with torch.no_grad():
        model.lm_head.weight.mul_(50)
    train(model, made_examples, Schedule(1, 6, 1e-3), seed=0)
    assert norms == [pytest.approx(1.0, rel=1e-4)]


def test_gains_do_not_decay(last_block, made_examples, monkeypatch):
    monkeypatch.setattr(
        "reprune.training.trainer.accumulate",
        lambda model, chosen, **_: (
            [setattr(p, "grad", torch.zeros_like(p)) for p in model.parameters()] and 1.0
        ),
    )
    model = last_block()
    weight = model.model.layers[2].mlp.up_proj.weight.detach().clone()
    train(model, made_examples, Schedule(1, 6, 0.1, weight_decay=0.5), seed=0)
    torch.testing.assert_close(model.model.layers[2].mlp.up_proj.weight, weight * 0.95)
    assert torch.equal(model.model.layers[2].input_layernorm.weight, torch.ones(64))


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_divergence_stops_with_its_step(last_block, made_examples, broken):
    model = last_block()
    with torch.no_grad():
        model.model.norm.weight.fill_(broken)
    with pytest.raises(TrainingError, match="diverged at step 1 of 4: loss nan"):
        train(model, made_examples, SCHEDULE, seed=0)


def test_a_gradient_that_is_not_finite_stops_before_it_is_used(last_block, made_examples, monkeypatch):
    model = last_block()
    monkeypatch.setattr(
        "reprune.training.trainer.accumulate",
        lambda model, chosen, **_: (
            [setattr(p, "grad", torch.full_like(p, torch.inf)) for p in model.parameters() if p.requires_grad]
            and 1.0
        ),
    )
    before = model.model.layers[2].mlp.up_proj.weight.detach().clone()
    with pytest.raises(TrainingError, match="loss 1, gradient norm inf"):
        train(model, made_examples, SCHEDULE, seed=0)
    assert torch.equal(model.model.layers[2].mlp.up_proj.weight, before)
