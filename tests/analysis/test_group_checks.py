"""Checks by how many times perplexity grows, and of one row or several against a group of others."""

import numpy as np
import pytest
from test_checks import BASE, NOISE, PPL, RIGHT, ask, losses

from reprune.analysis.evidence import FAILS, HOLDS, UNDECIDED

ACCURACY = {"experiment": "e", "protocol": "zeroshot-besa", "metric": "accuracy", "tasks": ["piqa"]}
TIMES = {**PPL, "kind": "times", "left": "loose", "right": "coupled", "at_least": 5}


@pytest.mark.parametrize(
    "shift, expected",
    [(np.log(6), HOLDS), (np.log(4), FAILS), (np.log(5) + NOISE, UNDECIDED)],
)
def test_times_is_the_ratio_of_perplexities(results, shift, expected):
    check = ask(losses(results, coupled=BASE, loose=BASE + shift), TIMES)
    assert check["verdict"] == expected
    assert check["estimate"] == pytest.approx(np.exp(np.mean(shift)))
    assert check["sentence"] == "Perplexity of loose is more than 5 times that of coupled on C4"


def test_times_shows_the_ratio_with_its_unit_and_decides_by_divergence(results):
    check = ask(losses(results, coupled=BASE, loose=BASE + np.log(6)), TIMES)
    assert check["figures"] == "6.00 [6.00, 6.00] ×, more than 5 asked"
    results.add("gone", status="diverged", reason="NaN")
    assert ask(results, {**TIMES, "left": "gone"})["verdict"] == HOLDS
    refused = ask(results, {**TIMES, "metric": "accuracy"})
    assert refused["reason"] == "so many times is asked of perplexity, not of accuracy"


ENDS = {**PPL, "kind": "mean_greater", "left": ["first", "last"], "right": ["a", "b", "c"]}


@pytest.mark.parametrize("last, expected", [(0.4, HOLDS), (-0.6, FAILS), (-0.1 + 2 * NOISE, UNDECIDED)])
def test_mean_greater_compares_the_means_of_two_groups(results, last, expected):
    """The others lie 0.1 above the base on their mean, and the first 0.3."""
    rows = {"first": BASE + 0.3, "last": BASE + last, "a": BASE, "b": BASE + 0.1, "c": BASE + 0.2}
    check = ask(losses(results, **rows), ENDS)
    assert check["verdict"] == expected
    assert check["estimate"] == pytest.approx((0.3 + np.mean(last)) / 2 - 0.1)
    assert check["sentence"] == (
        "Perplexity of first and last is on the mean higher than that of a, b and c on C4"
    )


END = {**PPL, "kind": "not_best", "method": "end", "others": ["early", "half"]}


@pytest.mark.parametrize(
    "early, half, expected",
    [(0.2, -0.1, HOLDS), (0.2, 0.1, FAILS), (-0.1, 0.2, HOLDS), (0.2, NOISE, UNDECIDED)],
)
def test_not_best_asks_whether_any_other_row_is_better(results, early, half, expected):
    check = ask(losses(results, end=BASE, early=BASE + early, half=BASE + half), END)
    assert check["verdict"] == expected
    assert check["estimate"] == pytest.approx(-min(np.mean(early), np.mean(half)))
    assert check["what"] == "log-perplexity of end minus the lowest of early and half"


def test_rows_that_planning_skipped_are_no_rivals(results):
    losses(results, end=BASE, early=BASE - 0.1)
    results.add("half", status="skipped", reason="training ends before")
    assert ask(results, END)["verdict"] == HOLDS
    alone = ask(results, {**END, "others": ["half"]})
    assert (alone["verdict"], alone["reason"]) == (UNDECIDED, "half: skipped (training ends before)")


def test_not_worst_follows_the_metrics_direction(results):
    losses(results, sum=BASE, last=BASE + 0.3, best=BASE - 0.3)
    check = {**END, "kind": "not_worst", "method": "sum", "others": ["last", "best"]}
    found = ask(results, check)
    assert (found["verdict"], found["estimate"]) == (HOLDS, pytest.approx(0.3))
    assert found["what"] == "log-perplexity of the highest of last and best minus sum"
    assert found["sentence"] == "Sum does not have the worst perplexity beside last and best on C4"
    assert ask(results, {**check, "method": "last", "others": ["sum", "best"]})["verdict"] == FAILS


def test_not_worst_of_accuracies_is_above_the_lowest(results):
    worse = RIGHT.copy()
    worse[np.flatnonzero(RIGHT == 1)[:60]] = 0
    results.add("sum", answers={"piqa": RIGHT}).add("product", answers={"piqa": worse})
    check = {**ACCURACY, "kind": "not_worst", "method": "sum", "others": ["product"]}
    found = ask(results, check)
    assert (found["verdict"], found["estimate"]) == (HOLDS, pytest.approx(20.0))
    assert ask(results, {**check, "kind": "not_best"})["verdict"] == FAILS
