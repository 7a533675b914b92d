"""What a training on a mixture is told: the rate of every step, when it is measured, how loading goes on."""

from __future__ import annotations

import math

import pytest

from reprune.training.course import Course, Loading
from reprune.training.loading import updated

WEIGHTS, LOSSES = {"a": 0.25, "b": 0.75}, {"a": 2.0, "b": 1.0}


def course(steps=10, warmup=2.0, evaluate_every=4, **keys):
    return Course(steps, 4, 0.5, warmup, evaluate_every, **keys)


def test_the_rate_rises_to_its_highest_and_falls_as_a_cosine_to_a_tenth():
    rates = [course().rate(step) for step in range(10)]
    falling = [0.05 + 0.45 * (1 + math.cos(math.pi * k / 8)) / 2 for k in range(8)]
    assert rates == pytest.approx([0.25, 0.5, *falling])
    assert course(steps=10_000).rate(9_999) == pytest.approx(0.05, rel=1e-4)


def test_a_warm_up_below_one_is_a_share_of_all_steps():
    assert [course(warmup=0.2).rate(s) for s in range(10)] == [course().rate(s) for s in range(10)]


def test_without_warm_up_the_first_rate_is_the_highest_and_with_too_much_it_never_gets_there():
    assert course(warmup=0).rate(0) == 0.5
    assert [course(steps=2, warmup=100).rate(s) for s in range(2)] == pytest.approx([0.005, 0.01])


def test_the_end_of_the_cosine_may_be_another_share():
    assert course(warmup=0, final=1.0).share(7) == 1
    assert course(steps=10_000, final=0).share(9_999) == pytest.approx(0, abs=1e-6)


def test_the_held_out_loss_is_measured_at_the_start_at_times_and_at_the_end():
    assert [s for s in range(11) if course().evaluates(s)] == [0, 4, 8, 10]


def test_constant_loading_keeps_the_weights_and_needs_no_references():
    assert Loading("constant").after(WEIGHTS, LOSSES) == WEIGHTS


@pytest.mark.parametrize("told", [{}, {"clipped": False, "floor": 1e-4}])
def test_dynamic_loading_is_the_update_with_its_settings(told):
    references = {"a": 1.5, "b": 1.5}
    after = Loading("dynamic", references, **told).after(WEIGHTS, LOSSES)
    assert after == updated(WEIGHTS, LOSSES, references, **told) and after["a"] > WEIGHTS["a"]
