"""Training on pairs of sentences: rates, losses, what a step does, means of weights, and what diverges."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch
from small_translation import random_pairs, small_marian

from reprune.calibration.sentences import Encoded, batches, collate, encode, grouped
from reprune.data.parallel import made_pairs
from reprune.models.attention import attention_as
from reprune.models.checkpoint import computed
from reprune.models.translation import encoder_parameters
from reprune.models.translator import Shape, learn_tokenizer, new_model
from reprune.training import translation
from reprune.training.head_mask_settings import HeadMaskSettings
from reprune.training.head_masks import HeadMasks
from reprune.training.trainer import TrainingError
from reprune.training.translation import TranslationCourse, held_out_loss, summed_loss, train_translation

COURSE = TranslationCourse(7, batch_tokens=60, scale=0.3, warmup=3, evaluate_every=3)
NO_GRADIENT = "k_proj.bias"  # the same for all keys, which softmax ignores: what comes is rounding
TRAIN, HELD_OUT = random_pairs(20), random_pairs(5, seed=1)


def trained(course=COURSE, model=None, seed=5, train=TRAIN, **told):
    """A trained small model, without dropout, and the history of its training."""
    model = model or small_marian(dropout=0.0)
    return model, train_translation(model, train, HELD_OUT, course, seed, **told)


def test_the_rate_rises_to_the_end_of_the_warm_up_and_falls_with_the_root():
    """Equation 3 of Vaswani et al. with the paper's 4 and 16,000 steps: its peak is 0.0014."""
    course = TranslationCourse(64_000, 1, 4.0, 16_000, 1)
    rates = [course.rate(step, 512) for step in range(64_000)]
    assert max(rates) == rates[15_999] == pytest.approx(1.39754e-3, rel=1e-5)
    assert rates[0] == pytest.approx(rates[15_999] / 16_000)
    assert rates[63_999] == pytest.approx(rates[15_999] / 2)


def test_a_step_has_the_rate_of_its_number_and_gates_the_same_share_of_theirs(rates_of_steps):
    rates = rates_of_steps(torch.optim.Adam)
    model = small_marian()
    trained(model=model, partner=HeadMasks(model, HeadMaskSettings(mask_rate=0.5), 0))
    own = [COURSE.rate(step, 32) for step in range(7)]
    assert [r[0] for r in rates] == pytest.approx(own)
    assert [r[1] for r in rates] == pytest.approx([0.5 * rate / max(own) for rate in own])


def test_the_loss_is_smoothed_over_the_vocabulary_and_summed():
    """1 − ε of a label's −log p and ε of the mean of all three, by hand."""
    scored = [([2.0, 0.0, 1.0], 0), ([0.0, 0.0, 0.0], 2), ([1.0, 3.0, -1.0], 1)]
    logits = torch.tensor([[s for s, _ in scored[:2]], [scored[2][0], [9.0, 9.0, 5.0]]])
    batch = collate([Encoded([1], [0, 2]), Encoded([1], [1])], padding=0, start=0)
    expected = {0.0: 0.0, 0.1: 0.0}
    for scores, label in scored:
        total = math.log(sum(map(math.exp, scores)))
        losses = [total - score for score in scores]
        for smoothing in expected:
            expected[smoothing] += (1 - smoothing) * losses[label] + smoothing * sum(losses) / 3
    for smoothing, loss in expected.items():
        found = summed_loss(lambda **told: SimpleNamespace(logits=logits), batch, smoothing)
        assert found.item() == pytest.approx(loss)
    held_out = held_out_loss(lambda **told: SimpleNamespace(logits=logits), [batch, batch])
    assert held_out == pytest.approx(expected[0.0] / 3)


def test_padding_and_grouping_leave_the_loss_as_it_is():
    model = small_marian()
    alone = math.fsum(summed_loss(model, collate([pair], 0, 0), 0.1).item() for pair in HELD_OUT)
    assert summed_loss(model, collate(HELD_OUT, 0, 0), 0.1).item() == pytest.approx(alone, rel=1e-5)
    few, many = (held_out_loss(model, batches(model, HELD_OUT, tokens)) for tokens in (20, 4096))
    assert few == pytest.approx(many, rel=1e-5)


@pytest.mark.parametrize("gated", [False, True])
def test_the_gradient_of_several_passes_is_that_of_one(monkeypatch, gated):
    """Both read all pairs once; what a partner adds counts once."""
    init = translation._Training.__init__

    def whole_epoch(self, *args):
        init(self, *args)
        self.begin(0)
        self.passes = len(self.order)
        passes.append(self.passes)

    def noted(self, *args):
        seen.append([p.grad.clone() for group in self.param_groups for p in group["params"]])

    monkeypatch.setattr(translation._Training, "__init__", whole_epoch)
    monkeypatch.setattr(torch.optim.Adam, "step", noted)
    seen, passes, losses = [], [], []
    for at_once in (10_000, 60):
        monkeypatch.setattr(translation, "AT_ONCE", at_once)
        model = small_marian(dropout=0.0)
        told = {"partner": HeadMasks(model, HeadMaskSettings(penalty=0.3), 4)} if gated else {}
        course = dataclasses.replace(COURSE, steps=1, batch_tokens=10_000)
        losses += trained(course, model, **told)[1]["losses"]
    assert passes[0] == 1 < passes[1] and losses[1] == pytest.approx(losses[0], rel=1e-5)
    for one, several in zip(*seen, strict=True):
        torch.testing.assert_close(several, one, rtol=1e-4, atol=1e-6)


def test_a_step_is_that_of_a_plain_loop():
    """An Adam of our own on transformers' own mean loss, without smoothing, over the same groups."""
    course = dataclasses.replace(COURSE, smoothing=0.0, steps=4)
    model, history = trained(course)
    plain = small_marian(dropout=0.0)
    chosen = [p for name, p in plain.named_parameters() if name not in computed(plain)]
    for parameter in chosen:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(chosen, betas=(0.9, 0.98), eps=1e-9)
    order = grouped(TRAIN, 60, torch.Generator().manual_seed(5))
    for step, loss in enumerate(history["losses"]):
        batch = collate([TRAIN[i] for i in order[step]], 0, 0)
        own = plain(input_ids=batch.source, attention_mask=batch.source_mask, labels=batch.labels).loss
        assert loss == pytest.approx(own.item(), rel=1e-4)
        own.backward()
        optimizer.param_groups[0]["lr"] = course.rate(step, 32)
        optimizer.step()
        optimizer.zero_grad()
    for (name, mine), other in zip(model.named_parameters(), plain.parameters(), strict=True):
        if not name.endswith(NO_GRADIENT):
            torch.testing.assert_close(mine.detach(), other.detach(), rtol=1e-3, atol=1e-4)


def test_an_epoch_reads_every_pair_once_and_the_next_in_another_order():
    model, history = trained(dataclasses.replace(COURSE, evaluate_every=1))
    read = [m["tokens"] for m in history["evaluations"]]
    epoch = sum(len(pair.source) + len(pair.target) for pair in TRAIN)
    begun = [m["epochs"] for m in history["evaluations"]]
    assert begun[0] == 0 and begun[-1] == 2 and epoch in read and read[-1] == history["tokens"]
    assert read[begun.index(2) - 1] == epoch
    assert history["losses"] != trained(seed=6)[1]["losses"]


def test_all_that_is_not_computed_is_trained_and_the_model_left_frozen():
    model, history = trained()
    before = dict(small_marian().named_parameters())
    still = {name for name, p in model.named_parameters() if torch.equal(p, before[name])}
    assert computed(model) <= still
    assert all(name.endswith(NO_GRADIENT) for name in still - computed(model))
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert history["steps"] == len(history["losses"]) == 7
    assert [m["step"] for m in history["evaluations"]] == [0, 3, 6, 7]
    assert history["evaluations"][-1]["loss"] == held_out_loss(model, batches(model, HELD_OUT))


def test_what_is_not_trained_stays_bit_by_bit():
    model = small_marian()
    trained(dataclasses.replace(COURSE, average=2), model, trained=[*encoder_parameters(model).values()])
    before = small_marian().state_dict()
    changed = {name for name, t in model.state_dict().items() if not torch.equal(t, before[name])}
    assert changed and changed <= set(encoder_parameters(model))


@pytest.mark.parametrize(("steps", "average"), [(7, 1), (7, 2), (7, 3), (6, 2), (7, 9)])
def test_the_result_is_the_mean_of_the_last_measurements_weights(monkeypatch, steps, average):
    recorded, measure = [], translation.held_out_loss

    def seen(model, *told):
        recorded.append([p.detach().clone() for p in model.parameters()])
        return measure(model, *told)

    monkeypatch.setattr(translation, "held_out_loss", seen)
    trained(dataclasses.replace(COURSE, steps=steps))
    plain = recorded[1:]  # those at the start do not count
    model, history = trained(dataclasses.replace(COURSE, steps=steps, average=average))
    for i, parameter in enumerate(model.parameters()):
        mean = torch.stack([weights[i] for weights in plain[-average:]]).mean(0)
        torch.testing.assert_close(parameter.detach(), mean, rtol=1e-5, atol=1e-7)
    with attention_as(model, "eager"):  # as in training: the fused attention rounds otherwise
        assert history["evaluations"][-1]["loss"] == held_out_loss(model, batches(model, HELD_OUT))


def test_in_bfloat16_the_weights_stay_float32_and_the_result_is_near():
    _, history = trained()
    half, other = trained(dataclasses.replace(COURSE, dtype="bfloat16"))
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    assert other["losses"] != history["losses"]
    assert other["losses"] == pytest.approx(history["losses"], rel=0.03)


def test_divergence_stops_with_its_step():
    with pytest.raises(TrainingError, match=r"diverged at step \d of 7: loss nan|after step \d of 7"):
        trained(dataclasses.replace(COURSE, scale=1e30))
    model = small_marian()
    model.model.shared.weight.data[5] = float("nan")
    with pytest.raises(TrainingError, match="after step 0 of 7 the held-out loss is nan"):
        trained(model=model)


def test_a_gradient_that_is_not_finite_stops_before_it_is_used():
    model = small_marian().requires_grad_(True)
    weight = model.model.encoder.layers[0].fc1.weight
    weight.register_hook(lambda gradient: gradient * torch.inf)
    before = model.model.shared.weight.detach().clone()
    with pytest.raises(TrainingError, match=r"at step 1 of 7: loss \d.*, gradient norm (inf|nan)"):
        trained(model=model)
    assert torch.equal(model.model.shared.weight, before)


def test_nothing_to_train_on_is_said_at_once():
    with pytest.raises(TrainingError, match="0 pairs to train on and 5 held out"):
        trained(train=[])


def test_a_small_model_learns_the_made_language():
    """Every word has one translation, so that what is left is what the source tells."""
    pairs, held_out = made_pairs(500, 1), made_pairs(40, 2)
    tokenizer = learn_tokenizer([text for pair in pairs for text in pair], 200)
    model = new_model(Shape(2, 2, 32, 64, 4, 200, 32, 0.0), 1)
    read = [encode(tokenizer, found, 32) for found in (pairs, held_out)]
    course = TranslationCourse(200, 1000, 1.0, 50, 100)
    history = train_translation(model, *read, course, 0)
    first, *_, last = (m["loss"] for m in history["evaluations"])
    targets = [pair.target for pair in read[1]]
    shuffled = [Encoded(p.source, t) for p, t in zip(read[1], [*targets[1:], targets[0]], strict=True)]
    wrong = held_out_loss(model, batches(model, shuffled))
    assert last < 0.4 * first and wrong > 1.5 * last, (first, last, wrong)
