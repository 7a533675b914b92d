"""Two rows on the same questions: difference, interval, p-value and word."""

import numpy as np
import pytest
from downstream_unit import ABSENT, ACC

from reprune.analysis.measurements import Quantity, measure
from reprune.analysis.paired import ALIKE, HIGHER, LOWER, NONE, compare_rows, corrected, decimals
from reprune.analysis.significance import mcnemar

RNG = np.random.default_rng(3)
BASE = (RNG.random(200) < 0.6).astype(float)
AVERAGED = {ACC: {"suite": "downstream", "tasks": {}, "average": ["piqa", "rte"]}}


def accuracy(task):
    return Quantity("zeroshot-besa", "accuracy", task)


def changed(answers, gained, lost):
    """``answers`` with that many wrong ones made right and right ones made wrong."""
    new = answers.copy()
    new[np.flatnonzero(answers == 0)[:gained]] = 1
    new[np.flatnonzero(answers == 1)[:lost]] = 0
    return new


def compare(results, left, right, task="piqa", **info):
    """The only comparison of its family between two labels."""
    unit = results.unit(**info)
    rows = [unit.select("e", name)[0] for name in (left, right)]
    return corrected([compare_rows(unit, accuracy(task), *rows)])[0]


def test_a_run_and_its_copy_are_not_distinguishable(results):
    results.add("besa", answers={"piqa": BASE}).add("wanda", answers={"piqa": BASE})
    found = compare(results, "besa", "wanda")
    assert (found.interval.estimate, found.interval.low, found.interval.high) == (0, 0, 0)
    assert (found.p, found.adjusted, found.word, found.alone) == (1.0, 1.0, ALIKE, (0, 0))


def test_a_row_against_itself_is_not_distinguishable(results):
    assert compare(results.add("besa", answers={"piqa": BASE}), "besa", "besa").word == ALIKE


@pytest.mark.parametrize("gained, lost, word", [(10, 2, HIGHER), (2, 10, LOWER), (9, 3, ALIKE)])
def test_discordant_questions_decide(results, gained, lost, word):
    results.add("besa", answers={"piqa": changed(BASE, gained, lost)}).add("wanda", answers={"piqa": BASE})
    found = compare(results, "besa", "wanda")
    assert found.alone == (gained, lost)
    assert found.p == mcnemar(gained, lost)
    assert found.interval.estimate == pytest.approx(100 * (gained - lost) / 200)
    assert found.word == word


def test_values_are_percent_and_differences_points(results):
    results.add("besa", answers={"piqa": changed(BASE, 20, 0)}).add("wanda", answers={"piqa": BASE})
    found = compare(results, "besa", "wanda")
    assert found.means == pytest.approx((100 * BASE.mean() + 10, 100 * BASE.mean()))
    assert found.interval.estimate == pytest.approx(10.0)


def test_the_paired_interval_is_narrower_than_that_of_two_separate_ones(results):
    """Rows that agree on 95 % of the questions: an unpaired error is several times larger."""
    results.add("besa", answers={"piqa": changed(BASE, 7, 3)}).add("wanda", answers={"piqa": BASE})
    found = compare(results, "besa", "wanda")
    unpaired = 1.96 * 100 * np.sqrt(2 * BASE.var() / 200)
    assert (found.interval.high - found.interval.low) / 2 < unpaired / 2


def test_it_does_not_matter_which_row_is_named_first(results):
    answers = {"piqa": changed(BASE, 30, 11), "rte": changed(BASE, 4, 9)}
    results.add("besa", answers=answers).add("wanda", answers={"piqa": BASE, "rte": BASE})
    for task in ("piqa", "average"):
        there = compare(results, "besa", "wanda", task, protocols=AVERAGED)
        back = compare(results, "wanda", "besa", task, protocols=AVERAGED)
        assert (there.interval.low, there.interval.high) == (-back.interval.high, -back.interval.low)
        assert there.means == back.means[::-1] and there.p == back.p
        assert (there.word, back.word) in ((HIGHER, LOWER), (ALIKE, ALIKE))


def test_the_average_is_the_mean_of_its_tasks_whatever_their_sizes(results):
    besa = {"piqa": changed(BASE, 30, 2), "rte": changed(BASE[:50], 1, 5)}
    results.add("besa", answers=besa).add("wanda", answers={"piqa": BASE, "rte": BASE[:50]})
    found = compare(results, "besa", "wanda", "average", protocols=AVERAGED)
    assert found.interval.estimate == pytest.approx((100 * 28 / 200 - 100 * 4 / 50) / 2)
    assert found.interval.items == 250
    unit = results.unit(protocols=AVERAGED)
    assert measure(unit, found.left, accuracy("average")).value == pytest.approx(found.means[0])


def test_an_average_that_lacks_a_task_is_not_compared(results):
    for name in ("besa", "wanda"):
        results.add(name, answers={"piqa": BASE}, absent=ABSENT)
    protocols = {ACC: {"tasks": {}, "average": ["piqa", "mathqa"]}}
    found = compare(results, "besa", "wanda", "average", protocols=protocols)
    assert (found.word, found.interval) == (NONE, None)
    assert "no data: mathqa" in found.reason


def test_a_protocol_without_average_has_none_to_compare(results):
    results.add("besa", answers={"piqa": BASE}).add("wanda", answers={"piqa": BASE})
    found = compare(results, "besa", "wanda", "average")
    assert found.reason == "protocol zeroshot-besa has no average over one set of tasks"


def test_different_questions_under_one_number_are_never_compared(results):
    results.add("besa", answers={"piqa": BASE}).add("wanda", answers={"piqa": BASE}, asked="other ")
    found = compare(results, "besa", "wanda")
    assert found.word == NONE
    assert "wanda at 50%" in found.reason and "200 of 200 questions (PIQA) differ" in found.reason


def test_a_prompt_that_differs_is_another_question(results):
    results.add("besa", answers={"piqa": BASE}).add("wanda", answers={"piqa": BASE})
    for item in results.items:
        item["prompt_hash"] = "short" if item["run_id"].startswith("besa") and item["item"] < 3 else "long"
    assert "3 of 200 questions" in compare(results, "besa", "wanda").reason


def test_a_diverged_row_is_not_compared(results):
    results.add("besa", answers={"piqa": BASE}).add("wanda", status="diverged", reason="NaN")
    results.records[-1]["protocol"] = ACC
    assert compare(results, "besa", "wanda").reason == "wanda at 50% diverged"


def test_seeds_are_averaged_by_question_and_resampled(results):
    """Three draws that lose and gain by turns: certain for these draws' questions, open for another draw."""
    results.add("dense", answers={"piqa": BASE})
    for seed, (gained, lost) in enumerate(((40, 0), (0, 0), (0, 20))):
        results.add("besa", answers={"piqa": changed(BASE, gained, lost)}, seed=seed)
    found = compare(results, "besa", "dense")
    assert (found.interval.seeds, found.alone) == (3, None)
    assert found.interval.estimate == pytest.approx((20 + 0 - 10) / 3)
    assert found.p < 0.05 and found.interval.low < 0 < found.interval.high
    assert found.word == ALIKE


def test_perplexity_is_compared_by_its_logarithm_and_has_no_p_value(results):
    losses = RNG.normal(3, 0.5, 12)
    results.add("besa", {"c4": losses}).add("wanda", {"c4": losses + 0.1})
    unit = results.unit()
    rows = [unit.select("e", name)[0] for name in ("besa", "wanda")]
    found = compare_rows(unit, Quantity("perplexity-besa", "perplexity", "c4"), *rows)
    assert found.interval.estimate == pytest.approx(-0.1)
    assert (found.p, found.word) == (None, LOWER)


def test_averages_and_tasks_are_corrected_apart(results):
    answers = {"piqa": changed(BASE, 10, 2), "rte": changed(BASE, 10, 2)}
    results.add("besa", answers=answers).add("wanda", answers={"piqa": BASE, "rte": BASE})
    unit = results.unit(protocols=AVERAGED)
    rows = [unit.select("e", name)[0] for name in ("besa", "wanda")]
    tasks = ("piqa", "rte", "average")
    found = corrected([compare_rows(unit, accuracy(task), *rows) for task in tasks])
    assert [c.adjusted for c in found[:2]] == pytest.approx([2 * mcnemar(10, 2)] * 2)
    assert [c.word for c in found] == [ALIKE, ALIKE, HIGHER]
    assert found[2].adjusted == found[2].p


def test_a_single_question_can_be_seen_in_the_decimals(results):
    few = compare(results.add("besa", answers={"piqa": BASE}), "besa", "besa")
    many = np.tile(BASE, 6)
    results.add("wanda", answers={"piqa": many})
    assert (decimals([few]), decimals([compare(results, "wanda", "wanda")]), decimals([])) == (1, 2, 1)
