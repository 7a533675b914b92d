"""Training on a mixture: what a step descends on, what is measured and when, and going on after a kill."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager

import pytest
import torch
from torch.nn import functional

from reprune.records.store import Store
from reprune.training import language, window_loss
from reprune.training.course import Course, Loading, Partner
from reprune.training.keeping import Keeper
from reprune.training.language import train_on_mixture
from reprune.training.loading import updated
from reprune.training.trainer import TrainingError
from reprune.training.window_loss import held_out_losses

COURSE = Course(steps=7, batch_size=6, learning_rate=1e-2, warmup=2, evaluate_every=3)
DYNAMIC = Loading("dynamic", {"plain": 2.0, "usual": 5.0, "rich": 5.0})
TIMES = {"seconds", "tokens_per_second"}
LENGTH = 16


@pytest.fixture
def trained(tiny_model, made_mixture):
    """Trains a tiny model; gives it with its history."""

    def run(course=COURSE, loading=DYNAMIC, seed=5, model=None, mixture=made_mixture, **told):
        model = model or tiny_model()
        return model, train_on_mixture(model, mixture, course, loading, mixture.proportions, seed, **told)

    return run


class Scales(Partner):
    """A learned scale of every hidden channel, with noise of its own, held to a mean by a multiplier."""

    def __init__(self, model):
        self.norm, self.generator = model.model.norm, torch.Generator().manual_seed(1)
        self.scale = torch.nn.Parameter(torch.ones(64))
        self.multiplier = torch.nn.Parameter(torch.zeros(()))
        self.prepared, self.noise = [], None
        self.norm.register_forward_hook(lambda _m, _i, out: out * self._applied())

    def _applied(self):
        return self.scale if self.noise is None else self.scale + self.noise

    def groups(self):
        return [
            {"params": [self.scale], "lr": 0.1},
            {"params": [self.multiplier], "lr": 0.2, "maximize": True},
        ]

    def prepare(self, step):
        self.prepared.append(step)
        self.noise = 0.1 * torch.rand(64, generator=self.generator)
        return self.multiplier * (self.scale.mean() - 0.5)

    @contextmanager
    def settled(self):
        noise, self.noise = self.noise, None
        yield
        self.noise = noise

    def told(self):
        return {"mean": self.scale.mean().item(), "noise": self.noise is not None}

    def state(self):
        return {"generator": self.generator.get_state()}

    def resume(self, state):
        self.generator.set_state(state["generator"])


def equal(left, right):
    return all(map(torch.equal, left.parameters(), right.parameters()))


def steady(history):
    """A history without the times it took."""
    return {key: value for key, value in history.items() if key not in TIMES}


def test_all_weights_are_trained_and_the_loss_falls(trained, tiny_model):
    model, history = trained(dataclasses.replace(COURSE, steps=40))
    before = dict(tiny_model().named_parameters())
    assert not [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert len(history["losses"]) == history["steps"] == 40 and history["tokens"] == 40 * 6 * LENGTH
    first, *_, last = history["evaluations"]
    assert all(last["losses"][domain] < first["losses"][domain] for domain in last["losses"])
    assert history["losses"][-1] < history["losses"][0] - 1
    assert not model.training and not any(p.requires_grad for p in model.parameters())


def test_a_step_is_that_of_a_plain_loop(trained, tiny_model, made_mixture, monkeypatch):
    """Whole batches through transformers' own loss, an optimiser of our own, the norm clipped to one."""
    monkeypatch.setattr(window_loss, "TOKENS_AT_ONCE", 2 * LENGTH)
    model, history = trained(loading=Loading("constant"))
    plain, draws = tiny_model().requires_grad_(True), language.Draws(made_mixture.train, 5)
    optimizer = torch.optim.AdamW(plain.parameters(), 1e-2, (0.9, 0.95), 1e-8, 0.0)
    for step, loss in enumerate(history["losses"]):
        windows, _ = draws.batch(made_mixture.proportions, 6)
        logits = plain(input_ids=windows).logits[:, :-1]
        own = functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
        assert loss == pytest.approx(own.item(), rel=1e-4)
        own.backward()
        torch.nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = COURSE.rate(step)
        optimizer.step()
        optimizer.zero_grad()
    for mine, other in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.detach(), other.detach(), rtol=1e-3, atol=1e-4)


def test_held_out_losses_are_measured_at_their_times_and_weights_follow_but_at_the_start(trained):
    model, history = trained()
    measured = history["evaluations"]
    assert [m["step"] for m in measured] == [0, 3, 6, 7]
    assert [m["tokens"] for m in measured] == [step * 6 * LENGTH for step in (0, 3, 6, 7)]
    start, third, sixth, end = (m["weights"] for m in measured)
    assert start == {"plain": 0.5, "usual": 0.3, "rich": 0.2}
    assert third == updated(start, measured[1]["losses"], DYNAMIC.references) != start
    assert sixth == updated(third, measured[2]["losses"], DYNAMIC.references) and end == sixth
    assert history["weights"] == end
    assert [sum(m["seen"].values()) for m in measured] == [0, 18, 36, 42]


def test_the_last_measurement_is_of_the_model_that_is_left(trained, made_mixture):
    model, history = trained()
    assert history["evaluations"][-1]["losses"] == held_out_losses(model, made_mixture.held_out)


def test_constant_loading_keeps_the_weights(trained):
    _, history = trained(loading=Loading("constant"))
    assert [m["weights"] for m in history["evaluations"]] == [{"plain": 0.5, "usual": 0.3, "rich": 0.2}] * 4


def test_domains_are_drawn_by_the_weights_that_loading_gave(trained):
    """One domain alone is behind its reference, so that nearly all windows are its own afterwards."""
    behind = Loading("dynamic", {"plain": 99.0, "usual": 99.0, "rich": -20.0})
    _, history = trained(loading=behind)
    at_third, at_end = (history["evaluations"][i]["seen"] for i in (1, -1))
    assert at_end["plain"] == at_third["plain"] and at_end["rich"] == at_third["rich"] + 24


def test_equal_seeds_give_equal_weights_and_the_global_generator_is_left_alone(trained):
    state = torch.get_rng_state()
    first, history = trained()
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    second, again = trained()
    assert equal(first, second) and steady(history) == steady(again)
    assert not equal(first, trained(seed=6)[0])


def test_progress_counts_tokens_from_what_is_done(trained):
    said = []
    trained(say=lambda *counts: said.append(counts))
    assert said == [(step * 6 * LENGTH, 7 * 6 * LENGTH) for step in range(8)]


class Killed(Exception):
    pass


@pytest.mark.parametrize("stop", [1, 3, 5, 7])
@pytest.mark.parametrize("partner", [False, True])
def test_a_killed_training_goes_on_to_the_identical_result(trained, tiny_model, tmp_path, stop, partner):
    def run(keeper=None, say=lambda done, total: None):
        model = tiny_model()
        told = {"partner": Scales(model)} if partner else {}
        _, history = trained(model=model, keeper=keeper, say=say, **told)
        return model, history, told.get("partner")

    def kill(done, total):
        if done == stop * 6 * LENGTH:
            raise Killed

    whole, history, scales = run()
    keepers = [Keeper(Store(tmp_path), {"run": "a"}, every_s=0) for _ in range(2)]
    with pytest.raises(Killed):
        run(keepers[0], kill)
    said = []
    model, again, resumed = run(keepers[1], lambda *counts: said.append(counts))
    assert said[0] == (stop * 6 * LENGTH, 7 * 6 * LENGTH) and len(said) == 8 - stop
    assert equal(model, whole) and steady(again) == steady(history)
    assert again["seconds"] > keepers[1].earlier_seconds > 0
    if partner:
        assert resumed.prepared == list(range(stop, 7))
        assert torch.equal(resumed.scale, scales.scale)
        assert torch.equal(resumed.multiplier, scales.multiplier)


def test_dropout_goes_on_with_its_own_random_numbers(trained, tiny_model, tmp_path):
    def model():
        made = tiny_model()
        for layer in made.model.layers:
            layer.self_attn.attention_dropout = 0.3
        return made

    def kill(done, total):
        if done == 2 * 6 * LENGTH:
            raise Killed

    whole, history = trained(model=model())
    keeper = Keeper(Store(tmp_path), {"run": "a"}, every_s=0)
    with pytest.raises(Killed):
        trained(model=model(), keeper=keeper, say=kill)
    resumed, again = trained(model=model(), keeper=keeper)
    assert equal(resumed, whole) and steady(again) == steady(history)
    assert not equal(whole, trained()[0])


def test_a_state_is_kept_only_when_it_is_due(trained, tmp_path):
    keeper = Keeper(Store(tmp_path), {"run": "a"}, every_s=1e9)
    trained(keeper=keeper)
    assert keeper.latest() is None


def test_a_partner_is_trained_along_by_its_own_rates(trained, tiny_model, rates_of_steps):
    rates = rates_of_steps(torch.optim.AdamW)
    model = tiny_model()
    scales = Scales(model)
    _, history = trained(model=model, partner=scales)
    shares = [COURSE.share(step) for step in range(7)]
    assert [r[0] for r in rates] == pytest.approx([1e-2 * share for share in shares])
    assert [r[-2:] for r in rates] == [pytest.approx([0.1 * s, 0.2 * s]) for s in shares]
    assert scales.multiplier > 0.5, "it ascends while the scales' mean is above one half"
    assert scales.prepared == list(range(7))
    assert [m["noise"] for m in history["evaluations"]] == [False] * 4
    assert history["evaluations"][-1]["mean"] == pytest.approx(scales.scale.mean().item())


def test_what_a_partner_adds_counts_once_however_many_passes_a_step_has(trained, tiny_model, monkeypatch):
    def gradient(tokens):
        monkeypatch.setattr(window_loss, "TOKENS_AT_ONCE", tokens)
        seen = []

        def noted(self, *args):
            seen.append([p.grad.clone() for group in self.param_groups for p in group["params"]])

        monkeypatch.setattr(torch.optim.AdamW, "step", noted)
        model = tiny_model()
        trained(dataclasses.replace(COURSE, steps=1), model=model, partner=Scales(model))
        return seen[0]

    for whole, parts in zip(gradient(10_000), gradient(LENGTH), strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-7)


def test_the_gradient_of_everything_is_clipped_to_norm_one(trained, tiny_model, norms_of_steps):
    norms = norms_of_steps(torch.optim.AdamW)
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight.mul_(50)
    trained(dataclasses.replace(COURSE, steps=1), model=model, partner=Scales(model))
    assert norms == [pytest.approx(1.0, rel=1e-4)]


def test_in_bfloat16_the_weights_stay_float32_and_the_result_is_near(trained):
    full, history = trained()
    half, other = trained(dataclasses.replace(COURSE, dtype="bfloat16"))
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    assert other["losses"] != history["losses"]
    assert other["losses"] == pytest.approx(history["losses"], rel=0.02)


def test_a_model_that_is_not_finite_stops_at_once(trained, tiny_model):
    model = tiny_model()
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="after step 0 of 7 the held-out loss of plain is nan"):
        trained(model=model)


def test_divergence_stops_with_its_step(trained):
    with pytest.raises(TrainingError, match=r"diverged at step \d of 7: loss nan|after step \d of 7"):
        trained(dataclasses.replace(COURSE, learning_rate=1e30, warmup=0))


def test_a_gradient_that_is_not_finite_stops_before_it_is_used(trained, tiny_model):
    model = tiny_model().requires_grad_(True)
    model.lm_head.weight.register_hook(lambda gradient: gradient * torch.inf)
    before = model.model.norm.weight.detach().clone()
    with pytest.raises(TrainingError, match="at step 1 of 7: loss 5.*, gradient norm (inf|nan)"):
        trained(model=model)
    assert torch.equal(model.model.norm.weight, before)
