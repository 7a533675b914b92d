"""Standard errors and bootstrap intervals against direct calculations."""

import math

import numpy as np
import pytest

from reprune.analysis import statistics as st


def difference(means):
    return means[:, 1, 0] - means[:, 0, 0]


def stacked(*rows):
    """One stratum, (rows, 1 seed, items, 1 part), from rows of item values."""
    return [np.array(rows, dtype=float)[:, None, :, None]]


def test_perplexity_of_two_windows():
    assert st.perplexity(np.array([1.0, 2.0])) == pytest.approx(4.481689, abs=1e-6)


def test_delta_method_is_perplexity_times_standard_error_of_the_mean_loss():
    losses = np.random.default_rng(0).normal(3.0, 0.3, 12)
    direct = math.exp(losses.mean()) * losses.std(ddof=1) / math.sqrt(12)
    assert st.perplexity_stderr(losses) == pytest.approx(direct, rel=1e-12)


def test_delta_method_agrees_with_the_bootstrap_of_perplexity():
    losses = np.random.default_rng(1).normal(3.0, 0.2, 400)
    found = st.bootstrap(stacked(losses), lambda m: np.exp(m[:, 0, 0]), seed=3)
    half_width = 1.96 * st.perplexity_stderr(losses)
    assert found.high - found.estimate == pytest.approx(half_width, rel=0.08)
    assert found.estimate - found.low == pytest.approx(half_width, rel=0.08)


def test_one_window_has_no_error():
    assert math.isnan(st.perplexity_stderr(np.array([2.0])))
    assert math.isnan(st.stderr_of_mean(np.array([2.0])))


def test_constant_shift_has_zero_width():
    losses = np.random.default_rng(2).normal(3.0, 0.3, 12)
    found = st.bootstrap(stacked(losses, losses + 0.25), difference, seed=0)
    assert found.estimate == pytest.approx(0.25, abs=1e-12)
    assert found.high - found.low == pytest.approx(0.0, abs=1e-12)


def test_pairing_removes_what_both_rows_share():
    """Windows differ by 1 nat, rows by 0.02: unpaired it would drown."""
    rng = np.random.default_rng(3)
    shared = rng.normal(3.0, 1.0, 12)
    found = st.bootstrap(stacked(shared, shared + 0.02 + rng.normal(0, 0.005, 12)), difference, seed=0)
    assert 0 < found.low < 0.02 < found.high < 0.03


def test_interval_matches_a_plain_loop():
    rng = np.random.default_rng(4)
    values = rng.normal(0.1, 0.3, (2, 1, 15, 1))
    paired = (values[1] - values[0])[0, :, 0]
    loop = [paired[rng.integers(0, 15, 15)].mean() for _ in range(20_000)]
    found = st.bootstrap([values], difference, seed=9)
    assert [found.low, found.high] == pytest.approx(list(np.percentile(loop, [2.5, 97.5])), abs=0.01)


def test_seeds_widen_the_interval_by_their_own_spread():
    """Seeds far apart, items alike: the interval must reflect three seeds, not 600 items."""
    rng = np.random.default_rng(5)
    seed_effect = np.array([-0.3, 0.0, 0.3])[:, None]
    left = rng.normal(3.0, 0.01, (3, 200))
    several = st.bootstrap([np.array([left, left + 0.1 + seed_effect])[..., None]], difference, seed=0)
    single = st.bootstrap(stacked(left[1], left[1] + 0.1), difference, seed=0)
    assert (several.seeds, several.items) == (3, 200)
    assert several.low < 0 < several.high
    assert single.low > 0.09


def test_same_seed_same_interval_and_chunks_change_nothing_of_note(monkeypatch):
    values = [np.random.default_rng(6).normal(0, 1, (2, 1, 40, 1))]
    first, again = (st.bootstrap(values, difference, seed=7) for _ in range(2))
    assert first == again
    monkeypatch.setattr(st, "CHUNK", 40 * 64)
    chunked = st.bootstrap(values, difference, seed=7)
    assert [chunked.low, chunked.high] == pytest.approx([first.low, first.high], abs=0.02)


def test_a_quantity_of_many_parts_is_resampled_together():
    """All parts of an item are drawn together, so a sum over opposite parts has no spread."""
    noise = np.random.default_rng(8).normal(0, 1, (1, 1, 20, 1))
    values = np.concatenate([noise, -noise + 1.0], axis=-1)
    found = st.bootstrap([values], lambda m: m[:, 0].sum(axis=-1), seed=0)
    assert [found.low, found.high] == pytest.approx([1.0, 1.0], abs=1e-12)


def test_strata_weigh_alike_and_their_error_is_the_root_of_the_summed_squares():
    """Tasks of 30, 200 and 1,000 questions: the standard error of the mean of their means."""
    rng = np.random.default_rng(10)
    tasks = [(rng.random(n) < level).astype(float) for n, level in ((30, 0.7), (200, 0.5), (1000, 0.3))]
    found = st.bootstrap([stacked(task)[0] for task in tasks], lambda m: m[:, 0, 0], seed=2)
    assert found.estimate == pytest.approx(np.mean([task.mean() for task in tasks]))
    assert found.items == 1230
    stderr = math.sqrt(sum(task.var() / len(task) for task in tasks)) / 3
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * stderr, rel=0.05)


def test_a_stratified_interval_matches_a_plain_loop():
    """Paired differences of 25 and 60 questions, drawn task by task."""
    rng = np.random.default_rng(11)
    tasks = [rng.choice([-1.0, 0.0, 1.0], n, p=[0.2, 0.5, 0.3]) for n in (25, 60)]
    loop = [np.mean([rng.choice(task, len(task)).mean() for task in tasks]) for _ in range(20_000)]
    found = st.bootstrap([stacked(task)[0] for task in tasks], lambda m: m[:, 0, 0], seed=9)
    assert [found.low, found.high] == pytest.approx(list(np.percentile(loop, [2.5, 97.5])), abs=0.015)


def test_right_and_wrong_answers_are_drawn_by_kind_as_if_one_by_one(monkeypatch):
    """Equal items are counted together, which changes the cost and not the distribution."""
    rng = np.random.default_rng(12)
    values = stacked(rng.random(300) < 0.6, rng.random(300) < 0.5)
    together = st.bootstrap(values, difference, seed=1)
    monkeypatch.setattr(st, "_kinds", lambda v: (v, np.ones(v.shape[2])))
    one_by_one = st.bootstrap(values, difference, seed=1)
    assert [together.low, together.high] == pytest.approx([one_by_one.low, one_by_one.high], abs=0.008)
    assert together.estimate == one_by_one.estimate


def test_seeds_of_strata_are_drawn_together():
    """A seed that is better on one task and worse on the other: the mean over tasks does not move."""
    effect = np.array([-0.3, 0.0, 0.3])[:, None, None]
    base = np.random.default_rng(13).normal(0, 1e-3, (3, 50, 1))
    strata = [np.array([base + effect]), np.array([base - effect])]
    found = st.bootstrap(strata, lambda m: m[:, 0, 0], seed=0)
    assert found.high - found.low < 0.01
