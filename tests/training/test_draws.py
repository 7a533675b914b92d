"""Windows drawn by domain: every one once before any comes again, chances kept, continued exactly."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch

from reprune.training.draws import Draws

SIZES = {"web": 7, "code": 3, "books": 20}
LENGTH = 4
EVEN = dict.fromkeys(SIZES, 1 / 3)


@pytest.fixture
def train() -> dict[str, torch.Tensor]:
    """Windows that tell their domain and number: 1000 · domain + number, four times."""
    return {
        domain: torch.tensor([[1000 * i + n] * LENGTH for n in range(size)], dtype=torch.int32)
        for i, (domain, size) in enumerate(SIZES.items())
    }


def numbers(draws: Draws, weights: dict[str, float], size: int) -> list[int]:
    return draws.batch(weights, size)[0][:, 0].tolist()


def test_a_batch_has_windows_and_their_domains(train):
    windows, domains = Draws(train, 0).batch(EVEN, 12)
    assert windows.shape == (12, LENGTH) and windows.dtype == torch.int64
    assert [list(SIZES)[number // 1000] for number in windows[:, 0].tolist()] == domains


def test_every_window_comes_once_before_any_comes_again(train):
    only = {"web": 1.0, "code": 0.0, "books": 0.0}
    drawn = numbers(Draws(train, 0), only, 21)
    rounds = [drawn[i : i + 7] for i in (0, 7, 14)]
    assert [sorted(of) for of in rounds] == [list(range(7))] * 3
    assert len({tuple(of) for of in rounds}) == 3


def test_seen_counts_what_was_drawn(train):
    draws, counted = Draws(train, 0), Counter()
    for _ in range(5):
        counted.update(draws.batch(EVEN, 9)[1])
    assert draws.seen == counted


def test_domains_come_as_often_as_their_weights_say_and_batches_vary(train):
    weights = {"web": 0.7, "code": 0.1, "books": 0.2}
    draws = Draws(train, 0)
    of_web = [draws.batch(weights, 10)[1].count("web") for _ in range(300)]
    assert sum(of_web) / 3000 == pytest.approx(0.7, abs=0.03)
    assert len(set(of_web)) > 3


def test_weights_may_change_from_batch_to_batch(train):
    draws = Draws(train, 0)
    draws.batch(EVEN, 8)
    assert set(draws.batch({"web": 0.0, "code": 1.0, "books": 0.0}, 8)[1]) == {"code"}


def test_the_same_seed_draws_the_same_and_another_does_not(train):
    first, again, other = (numbers(Draws(train, seed), EVEN, 30) for seed in (0, 0, 1))
    assert first == again != other


def test_what_a_domain_gives_does_not_depend_on_the_others_weights(train):
    few, many = Draws(train, 0), Draws(train, 0)
    books = [[n for n in numbers(draws, w, 40) if n >= 2000] for draws, w in
             ((few, {"web": 0.8, "code": 0.1, "books": 0.1}), (many, EVEN))]  # fmt: skip
    assert books[0] and books[0] == books[1][: len(books[0])]


def test_draws_go_on_exactly_from_a_state_that_went_through_json(train):
    whole, begun = Draws(train, 5), Draws(train, 5)
    expected = [numbers(whole, EVEN, 11) for _ in range(6)]
    for _ in range(2):
        begun.batch(EVEN, 11)
    resumed = Draws(train, 5)
    resumed.resume(json.loads(json.dumps(begun.state())))
    assert [numbers(resumed, EVEN, 11) for _ in range(4)] == expected[2:]
    assert resumed.seen == whole.seen


def test_a_kept_state_is_not_changed_by_further_draws(train):
    draws = Draws(train, 0)
    state = draws.state()
    draws.batch(EVEN, 3)
    assert state == {"batches": 0, "seen": dict.fromkeys(SIZES, 0)}


def test_a_domain_without_windows_or_weight_is_named(train):
    with pytest.raises(ValueError, match="no weight for books"):
        Draws(train, 0).batch({"web": 0.5, "code": 0.5}, 4)
    with pytest.raises(ValueError, match="no training windows for code"):
        Draws({**train, "code": train["code"][:0]}, 0)
