"""A training on pairs of sentences that was killed goes on to the identical result."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small_translation import random_pairs, small_marian

from reprune.records.store import Store
from reprune.training.head_mask_settings import HeadMaskSettings
from reprune.training.head_masks import HeadMasks
from reprune.training.keeping import Keeper
from reprune.training.translation import TranslationCourse, train_translation

COURSE = TranslationCourse(7, batch_tokens=60, scale=0.3, warmup=3, evaluate_every=3, average=2)
TRAIN, HELD_OUT = random_pairs(20), random_pairs(5, seed=1)
TIMES = {"seconds", "tokens_per_second"}


class Killed(Exception):
    pass


def killed_after(steps):
    """Says nothing, and ends the training after so many steps."""
    said = []

    def say(done, total):
        said.append(done)
        if len(said) == steps + 1:
            raise Killed

    return say


def equal(left, right):
    return all(map(torch.equal, left.parameters(), right.parameters()))


def steady(history):
    """A history without the times it took."""
    return {key: value for key, value in history.items() if key not in TIMES}


def run(seed=5, gated=False, course=COURSE, **told):
    """A small model with dropout, trained; what was told of it, and its gates."""
    model = small_marian(dropout=0.1, attention_dropout=0.1)
    gates = HeadMasks(model, HeadMaskSettings(penalty=0.1, mask_rate=0.3), 4) if gated else None
    history = train_translation(model, TRAIN, HELD_OUT, course, seed, partner=gates, **told)
    return model, history, gates


def test_equal_seeds_give_equal_weights_and_the_global_generator_is_left_alone():
    state = torch.get_rng_state()
    first, history, _ = run()
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    second, again, _ = run()
    assert equal(first, second) and steady(history) == steady(again)
    assert not equal(first, run(seed=6)[0])


@pytest.mark.parametrize("stop", [1, 3, 6, 7])
@pytest.mark.parametrize("gated", [False, True])
def test_a_killed_training_goes_on_to_the_identical_result(tmp_path, stop, gated):
    """With dropout, in the second epoch, and between and behind the weights that are averaged."""
    course = COURSE if not gated else dataclasses.replace(COURSE, average=1)
    whole, history, gates = run(gated=gated, course=course)
    keepers = [Keeper(Store(tmp_path), {"run": "a"}, every_s=0) for _ in range(2)]
    with pytest.raises(Killed):
        run(gated=gated, course=course, keeper=keepers[0], say=killed_after(stop))
    said = []
    model, again, resumed = run(
        gated=gated, course=course, keeper=keepers[1], say=lambda done, total: said.append((done, total))
    )
    assert len(said) == 8 - stop and said[-1][0] == said[-1][1]
    assert equal(model, whole) and steady(again) == steady(history)
    assert again["seconds"] > keepers[1].earlier_seconds > 0
    if gated:
        assert torch.equal(resumed.logits["encoder"], gates.logits["encoder"])


def test_a_state_of_another_training_is_not_gone_on_from(tmp_path):
    whole, *_ = run()
    with pytest.raises(Killed):
        run(seed=9, keeper=Keeper(Store(tmp_path), {"run": "b"}, every_s=0), say=killed_after(4))
    assert equal(run(keeper=Keeper(Store(tmp_path), {"run": "a"}, every_s=0))[0], whole)


def test_a_dropped_state_is_gone_and_none_is_kept_before_it_is_due(tmp_path):
    keeper = Keeper(Store(tmp_path), {"run": "a"}, every_s=0)
    run(keeper=keeper)
    assert keeper.latest() is not None
    keeper.drop()
    assert keeper.latest() is None
    rare = Keeper(Store(tmp_path), {"run": "a"}, every_s=1e9)
    run(keeper=rare)
    assert rare.latest() is None
