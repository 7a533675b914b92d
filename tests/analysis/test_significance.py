"""McNemar's test, random swaps and Holm's correction against direct counts and printed examples."""

import math
from itertools import product

import numpy as np
import pytest

from reprune.analysis.significance import holm, mcnemar, swap_test


@pytest.mark.parametrize(
    "wins, losses, p",
    [
        (10, 2, 0.0386),
        (1, 8, 0.0391),
        (6, 0, 0.03125),
        (0, 5, 0.0625),
        (5, 5, 1.0),
        (4, 5, 1.0),
        (0, 0, 1.0),
        (121, 59, 4.434e-6),  # p as SciPy's binomtest gives it
    ],
)
def test_mcnemar_on_known_tables(wins, losses, p):
    assert mcnemar(wins, losses) == pytest.approx(p, rel=2e-3)
    assert mcnemar(losses, wins) == mcnemar(wins, losses)


def test_mcnemar_is_twice_the_smaller_tail():
    for n, k in ((7, 1), (20, 6), (33, 12)):
        tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
        assert mcnemar(k, n - k) == pytest.approx(2 * tail, rel=1e-12)


def test_mcnemar_bears_ten_thousand_questions():
    assert mcnemar(5000, 5000) == 1.0
    assert 0 < mcnemar(4700, 5300) < 1e-8
    assert mcnemar(0, 10_000) == 0.0


def all_swaps(strata):
    """The exact p-value: every way to swap answers, counted."""
    observed = abs(np.mean([d.mean() for d in strata]))
    sizes = [len(d) for d in strata]
    reached = 0
    for signs in product((1, -1), repeat=sum(sizes)):
        parts = np.split(np.array(signs), np.cumsum(sizes)[:-1])
        mean = np.mean([(d * part).mean() for d, part in zip(strata, parts, strict=True)])
        reached += abs(mean) >= observed - 1e-9
    return reached / 2 ** sum(sizes)


def test_swaps_on_one_task_are_mcnemar_s_test():
    differences = np.array([100.0] * 10 + [-100.0] * 2 + [0.0] * 40)
    assert swap_test([differences], seed=0) == pytest.approx(mcnemar(10, 2), abs=0.006)


def test_swaps_weigh_tasks_alike_whatever_their_number_of_questions():
    strata = [np.array([1.0, 1.0, 0.0, -1.0]), np.array([1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, -1.0])]
    assert swap_test(strata, seed=1) == pytest.approx(all_swaps(strata), abs=0.015)
    few = [np.array([1.0, 1.0]), np.array([-0.5, 0.25, 0.0, 1.0])]
    assert swap_test(few, seed=1) == pytest.approx(all_swaps(few), abs=0.015)


def test_swaps_never_give_zero_and_equal_rows_give_one():
    assert swap_test([np.ones(300)], seed=0) == pytest.approx(1 / 10_001)
    assert swap_test([np.zeros(300), np.zeros(3)], seed=0) == 1.0
    assert swap_test([np.ones(9)], seed=5) == swap_test([np.ones(9)], seed=5)


@pytest.mark.parametrize(
    "p_values, adjusted",
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.01, 0.02, 0.03, 0.04, 0.05], [0.05, 0.08, 0.09, 0.09, 0.09]),
        ([0.6, 0.7], [1.0, 1.0]),
        ([0.04], [0.04]),
        ([], []),
    ],
)
def test_holm_as_p_adjust_of_r_has_it(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted)


def test_holm_keeps_false_findings_at_five_percent():
    """Ten comparisons without a difference, 400 times: one of the ten is called real at most 5 % of times."""
    rng = np.random.default_rng(0)
    wins = rng.binomial(60, 0.5, (400, 10))
    found = [min(holm([mcnemar(w, 60 - w) for w in row])) < 0.05 for row in wins.tolist()]
    alone = [min(mcnemar(w, 60 - w) for w in row) < 0.05 for row in wins.tolist()]
    assert np.mean(found) <= 0.06
    assert np.mean(alone) > 0.2
