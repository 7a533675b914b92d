"""Weights of domains after a measurement, against worked examples with the published references."""

from __future__ import annotations

import math

import pytest

from reprune.training.loading import updated

DOMAINS = ("cc", "github", "book", "stackexchange", "wiki", "arxiv", "c4")
REFERENCES = dict(zip(DOMAINS, (1.9643, 0.7459, 2.1393, 1.6117, 1.7590, 1.4449, 2.1251), strict=True))
LOSSES = dict(zip(DOMAINS, (2.30, 0.70, 2.55, 1.70, 2.20, 1.50, 2.60), strict=True))
REDPAJAMA = dict(zip(DOMAINS, (0.67, 0.045, 0.045, 0.02, 0.045, 0.025, 0.15), strict=True))
PAPER, CODE = {}, {"clipped": False, "floor": 1e-4}


def after(updates: int, **variant) -> dict[str, float]:
    weights = REDPAJAMA
    for _ in range(updates):
        weights = updated(weights, LOSSES, REFERENCES, **variant)
    return weights


@pytest.mark.parametrize(
    ("variant", "updates", "expected"),
    [
        (PAPER, 1, [0.664965, 0.031926, 0.048140, 0.015499, 0.049621, 0.018741, 0.171107]),
        (CODE, 1, [0.665866, 0.030549, 0.048219, 0.015534, 0.049702, 0.018781, 0.171350]),
        (PAPER, 8, [0.506901, 0.002321, 0.062035, 0.002091, 0.079052, 0.002004, 0.345597]),
        (CODE, 8, [0.507022, 0.001647, 0.062165, 0.002141, 0.079198, 0.002051, 0.345775]),
    ],
)
def test_worked_examples(variant, updates, expected):
    assert list(after(updates, **variant).values()) == pytest.approx(expected, abs=5.1e-7)


@pytest.mark.parametrize("variant", [PAPER, CODE])
def test_weights_sum_to_one_and_keep_their_order(variant):
    weights = after(50, **variant)
    assert math.fsum(weights.values()) == pytest.approx(1, abs=1e-12)
    assert tuple(weights) == DOMAINS


def test_the_floor_is_what_every_domain_keeps():
    far = {**LOSSES, "github": -100.0}
    weights = updated(REDPAJAMA, far, REFERENCES, **CODE)
    assert weights["github"] == pytest.approx(1.42857e-5, rel=1e-5)


def test_a_domain_at_or_below_its_reference_only_yields_to_others_when_clipped():
    same = updated(REDPAJAMA, REFERENCES, REFERENCES)
    below = updated(REDPAJAMA, {d: own - 1 for d, own in REFERENCES.items()}, REFERENCES)
    assert same == pytest.approx(REDPAJAMA) == below


def test_losses_of_a_ruined_model_do_not_overflow():
    weights = updated(REDPAJAMA, dict.fromkeys(DOMAINS, 5000.0), REFERENCES)
    assert math.fsum(weights.values()) == pytest.approx(1)


@pytest.mark.parametrize("losses", [{"cc": 2.0}, {**LOSSES, "c4": math.nan}])
def test_a_domain_without_a_finite_loss_is_named(losses):
    with pytest.raises(ValueError, match="domain '(github|c4)' has no finite loss"):
        updated(REDPAJAMA, losses, REFERENCES)


def test_a_domain_without_a_reference_is_named():
    with pytest.raises(ValueError, match="domain 'cc' has no finite reference loss"):
        updated(REDPAJAMA, LOSSES, {})
