"""The checks that structural methods need: equivalence, gains, steps, speed, layers, chosen blocks."""

import numpy as np
import pytest
from downstream_unit import ACC
from test_checks import BASE, LESS, NOISE, PPL, RIGHT, ask, losses

from reprune.analysis.evidence import ABOVE, BELOW, FAILS, HOLDS, UNDECIDED, WITHIN, verdict

WITHIN_CHECK = {**PPL, "kind": "within", "left": "besa", "right": "wanda", "margin": 0.05}
ACCURACY = {"experiment": "e", "protocol": "zeroshot-besa", "metric": "accuracy", "tasks": ["piqa"]}


@pytest.mark.parametrize(
    "low, high, bound, expected",
    [
        (0.2, 0.3, ABOVE, HOLDS),
        (0.0, 0.05, ABOVE, FAILS),
        (0.0, 0.3, ABOVE, UNDECIDED),
        (0.2, 0.3, BELOW, FAILS),
        (0.0, 0.05, BELOW, HOLDS),
        (0.0, 0.3, BELOW, UNDECIDED),
        (-0.05, 0.05, WITHIN, HOLDS),
        (-0.2, 0.05, WITHIN, UNDECIDED),
        (-0.3, 0.3, WITHIN, UNDECIDED),
        (-0.3, -0.2, WITHIN, FAILS),
        (0.2, 0.3, WITHIN, FAILS),
        (float("nan"), float("nan"), WITHIN, UNDECIDED),
    ],
)
def test_an_interval_against_a_bound_of_a_tenth(low, high, bound, expected):
    assert verdict(low, high, 0.1, bound) == expected


@pytest.mark.parametrize(
    "right, expected",
    [(BASE + 0.01, HOLDS), (BASE + 0.2, FAILS), (BASE - 0.2, FAILS), (BASE + 0.04 + NOISE, UNDECIDED)],
)
def test_within_is_equivalence_by_a_margin(results, right, expected):
    check = ask(losses(results, wanda=right, besa=BASE), WITHIN_CHECK)
    assert check["verdict"] == expected
    assert check["estimate"] == pytest.approx((BASE - right).mean())
    assert check["figures"].endswith("within ±0.05 asked")


def test_within_says_its_margin_in_the_metrics_own_words(results):
    results.add("wanda", answers={"piqa": RIGHT}).add("besa", answers={"piqa": RIGHT})
    check = {**ACCURACY, "kind": "within", "left": "besa", "right": "wanda", "margin": 1.5}
    assert ask(results, check)["sentence"] == (
        "Accuracy of besa and wanda differs by less than 1.5 points on PIQA"
    )
    check = ask(losses(results, wanda=BASE, besa=BASE), WITHIN_CHECK)
    assert check["sentence"].startswith("Perplexity of besa and wanda differs by less than a factor of 1.05")


def test_a_diverged_row_is_not_within_any_margin(results):
    losses(results, wanda=BASE).add("besa", status="diverged", reason="NaN")
    assert ask(results, WITHIN_CHECK)["verdict"] == FAILS


GAIN = {**PPL, "kind": "gain_ratio", "low": "r0", "middle": "r10", "high": "r20", "at_least": 3}


@pytest.mark.parametrize(
    "first, second, expected",
    [(0.3, 0.05, HOLDS), (0.3, 0.2, FAILS), (-0.1, -0.5, FAILS), (0.3, 0.1 + NOISE / 3, UNDECIDED)],
)
def test_gain_ratio_compares_the_gains_of_two_steps(results, first, second, expected):
    losses(results, r0=BASE, r10=BASE - first, r20=BASE - first - second)
    check = ask(results, GAIN)
    assert check["verdict"] == expected
    gain, more = check["parts"]
    assert gain["estimate"] == pytest.approx(first)
    assert more["estimate"] == pytest.approx(first - 3 * np.mean(second))
    assert more["what"].endswith("r0 to r10 minus 3 times that from r10 to r20")


def test_gain_of_a_metric_that_should_rise(results):
    worse = RIGHT.copy()
    worse[np.flatnonzero(RIGHT == 1)[:60]] = 0
    for label, right in (("r0", worse), ("r10", RIGHT), ("r20", RIGHT)):
        results.add(label, answers={"piqa": right})
    check = ask(results, {**GAIN, **ACCURACY})
    assert check["verdict"] == HOLDS
    assert check["parts"][0]["estimate"] == pytest.approx(20.0)


STEP = {**PPL, "kind": "step_ratio", "method": "grasp"}


def steps(results, *levels):
    """A method at 20 %, 30 % …; a level is a shift of the losses, or None for a run that diverged."""
    for i, level in enumerate(levels):
        share = 0.2 + 0.1 * i
        lost = {"status": "diverged", "reason": "NaN"} if level is None else {}
        found = None if level is None else {"c4": BASE + level}
        results.add(
            "grasp", found, target=f"{share:.0%} of parameters", requested=share, kind="layer", **lost
        )
    return results


@pytest.mark.parametrize(
    "levels, bound, expected",
    [
        ((0, 0.5, 1.0), {"at_most": 3}, HOLDS),
        ((0, 0.5, 2.0), {"at_most": 3}, FAILS),
        ((0, 0.5, 3.0), {"at_least": 10}, HOLDS),
        ((0, 0.5, 1.0), {"at_least": 10}, FAILS),
        ((0, np.log(3) + NOISE), {"at_most": 3}, UNDECIDED),
        ((0, 0.5, None), {"at_least": 10}, HOLDS),
        ((0, 0.5, None, None), {"at_most": 3}, FAILS),
        ((None, None), {"at_most": 3}, UNDECIDED),
    ],
)
def test_step_ratio_is_about_the_largest_step(results, levels, bound, expected):
    check = ask(steps(results, *levels), {**STEP, **bound})
    assert check["verdict"] == expected
    if all(level is not None for level in levels):
        gaps = [np.mean(high) - np.mean(low) for low, high in zip(levels, levels[1:], strict=False)]
        assert check["estimate"] == pytest.approx(np.exp(max(gaps)))


def test_step_ratio_says_its_bound(results):
    check = ask(steps(results, 0, 0.5), {**STEP, "at_most": 3})
    assert check["sentence"] == (
        "From one target of grasp to the next perplexity rises by a factor of at most 3 on C4"
    )
    assert check["figures"] == "1.65 [1.65, 1.65], less than 3 asked"


def test_step_ratio_needs_perplexity_and_two_targets(results):
    assert ask(steps(results, 0), {**STEP, "at_most": 3})["reason"] == "grasp has a single target"
    check = ask(results, {**STEP, "metric": "accuracy", "at_most": 3})
    assert check["reason"] == "a factor between targets is asked of perplexity, not of accuracy"


FASTER = {
    "kind": "faster",
    "experiment": "e",
    "protocol": "efficiency-grasp",
    "tasks": ["batch-2x"],
    "left": "grasp",
    "right": "dense",
    "at_least": 1.0,
}
SPEEDS = np.array([1.21, 1.25, 1.18, 1.24, 1.22])


def timed(results, **speeds):
    for label, values in speeds.items():
        results.add(label, speedups={"batch-2x": values})
    return results


@pytest.mark.parametrize("at_least, expected", [(1.0, HOLDS), (1.3, FAILS), (1.22, UNDECIDED), (1.19, HOLDS)])
def test_faster_than_dense_by_the_speedups_of_the_repeats(results, at_least, expected):
    timed(results, grasp=SPEEDS, dense=np.ones(5))
    check = ask(results, {**FASTER, "at_least": at_least})
    assert check["verdict"] == expected
    assert check["estimate"] == pytest.approx(SPEEDS.mean())
    assert check["low"] >= SPEEDS.min() and check["high"] <= SPEEDS.max()
    assert check["basis"] == "5 repeats, single run"


@pytest.mark.parametrize("right, expected", [(1.22, HOLDS), (1.4, FAILS), (1.355, UNDECIDED)])
def test_faster_than_another_row_by_the_ratio_of_their_speedups(results, right, expected):
    timed(results, grasp=SPEEDS, deleted=SPEEDS[::-1] * right / SPEEDS.mean())
    check = ask(results, {**FASTER, "right": "deleted", "at_least": 0.9})
    assert check["verdict"] == expected
    assert check["estimate"] == pytest.approx(SPEEDS.mean() / right)
    assert check["what"] == "speed of grasp over deleted"
    assert check["sentence"] == "Grasp is at least 0.9 times as fast as deleted on Generation at 2× batch"


def test_repeats_of_two_rows_are_drawn_apart(results):
    """Equal repeats in equal order would cancel if they were paired, and leave no interval."""
    timed(results, grasp=SPEEDS, deleted=SPEEDS)
    check = ask(results, {**FASTER, "right": "deleted"})
    assert check["low"] < 1 < check["high"] and check["verdict"] == UNDECIDED


def test_a_single_repeat_or_none_is_undecided(results):
    timed(results, grasp=SPEEDS[:1], dense=np.ones(5))
    assert ask(results, FASTER)["reason"] == "grasp at 50%: 1 repeats, an interval needs two"
    assert ask(results, {**FASTER, "tasks": ["prefill"]})["reason"] == "grasp at 50%: not measured"


FACT = {"kind": "layer_fact", "experiment": "e", "method": "grasp", "fact": "overlap", "at_most": 0.5}
OVERLAPS = [0.2, 0.3, 0.25, 0.4, 0.35, 0.3]


def layers(results, overlaps, seed=0):
    told = [(20 + i, "mlp.up_proj", {"overlap": value}) for i, value in enumerate(overlaps)]
    return results.add("grasp", told=told, seed=seed)


@pytest.mark.parametrize("at_most, expected", [(0.5, HOLDS), (0.2, FAILS), (0.3, UNDECIDED)])
def test_layer_fact_is_the_mean_over_layers_with_its_interval(results, at_most, expected):
    check = ask(layers(results, OVERLAPS), {**FACT, "at_most": at_most})
    assert check["verdict"] == expected
    assert check["estimate"] == pytest.approx(0.3)
    assert min(OVERLAPS) <= check["low"] < 0.3 < check["high"] <= max(OVERLAPS)
    assert check["basis"] == "6 layers, single run"
    assert check["sentence"] == (
        f"Overlap with the largest singular values, mean over the layers of grasp, is at most {at_most}"
    )


def test_layer_fact_of_several_seeds_is_on_the_layers_all_of_them_have(results):
    layers(results, OVERLAPS)
    check = ask(layers(results, [0.4, 0.5], seed=1), FACT)
    assert (check["items"], check["seeds"]) == (2, 2)
    assert check["estimate"] == pytest.approx((0.2 + 0.3 + 0.4 + 0.5) / 4)


def test_layer_fact_that_nobody_reported_is_undecided(results):
    check = ask(layers(results, OVERLAPS), {**FACT, "fact": "spearman"})
    assert check["reason"] == "grasp at 50%: spearman is known of 0 layers, an interval needs two"


CHOSEN = {"kind": "chosen_in", "experiment": "e", "methods": ["shortgpt", "grasp"], "after": 0.4}


def chosen(results, label, blocks, seed=0):
    """A row whose model has 30 blocks."""
    return results.add(
        label, {"c4": BASE}, notes={"chosen": blocks, "similarity": [0.9] * 30}, seed=seed, kind="layer"
    )


@pytest.mark.parametrize(
    "blocks, expected", [([22, 21, 12], HOLDS), ([22, 11], FAILS), ([29, 20], FAILS), ([28, 20], HOLDS)]
)
def test_chosen_blocks_lie_late_and_before_the_last(results, blocks, expected):
    chosen(results, "shortgpt", [25, 24])
    check = ask(chosen(results, "grasp", blocks), CHOSEN)
    assert check["verdict"] == expected
    before, behind = check["parts"][2:]
    assert before["estimate"] == pytest.approx(min(blocks) / 30)
    assert behind["estimate"] == 29 - max(blocks)
    assert check["low"] is None and "exact count" in check["basis"]
    assert "the blocks that shortgpt and grasp chose lie behind 40%" in check["sentence"].lower()


def test_every_seed_must_choose_so(results):
    chosen(results, "grasp", [22, 21])
    check = ask(chosen(results, "grasp", [22, 3], seed=1), {**CHOSEN, "methods": ["grasp"]})
    assert (check["verdict"], check["estimate"], check["seeds"]) == (FAILS, 0.1, 2)


def test_the_depth_is_known_from_layers_where_no_similarity_was_noted(results):
    results.add("dense", zeros=[{"mlp.up_proj": 0.0}] * 10, losses={"c4": BASE})
    results.add("laco", {"c4": BASE}, notes={"chosen": [6, 5]}, kind="layer")
    check = ask(results, {**CHOSEN, "methods": ["laco"]})
    assert check["parts"][0]["estimate"] == 0.5


def test_blocks_that_nobody_noted_are_undecided(results):
    check = ask(losses(results, grasp=BASE), {**CHOSEN, "methods": ["grasp"]})
    assert check["reason"] == "grasp at 50%: no chosen blocks were noted"


def test_a_row_at_a_single_target_stands_beside_other_targets(results):
    results.add("wanda", {"c4": BASE + 0.2}, kind="n:m", target="2:4")
    results.add("grasp", {"c4": BASE + 0.3}, target="20%", requested=0.2, kind="low_rank")
    asked = {**LESS, "left": "wanda", "right": "grasp"}
    check = ask(results, asked)
    assert [(part["where"], part["verdict"]) for part in check["parts"]] == [("C4, 2:4 and 20%", HOLDS)]
    results.add("grasp", {"c4": BASE + 0.1}, target="30%", requested=0.3, kind="low_rank")
    check = ask(results, asked)
    assert [part["where"] for part in check["parts"]] == ["C4, 2:4 and 20%", "C4, 2:4 and 30%"]
    assert [part["estimate"] for part in check["parts"]] == pytest.approx([0.1, -0.1])
    results.add("wanda", {"c4": BASE}, target="50%")
    assert ask(results, asked)["reason"] == "the rows have no target in common"


def test_cost_order_of_rows_with_and_without_recovery(results):
    results.add("GRASP", {"c4": BASE}, method="grasp", facts={"compress_s": 20.0})
    results.add(
        "GRASP*",
        {"c4": BASE},
        method="grasp",
        recovery={"kind": "replaced"},
        facts={"compress_s": 20.0, "recover_s": 50.0},
    )
    results.add("LaCo", {"c4": BASE}, method="laco", facts={"compress_s": 5.0})
    cost = {"kind": "cost_order", "experiment": "e"}
    assert ask(results, {**cost, "fact": "compress_s", "order": ["LaCo", "GRASP*"]})["verdict"] == HOLDS
    unclear = ask(results, {**cost, "fact": "compress_s", "order": ["LaCo", "grasp"]})
    assert unclear["reason"].endswith("(GRASP, GRASP*); use a label")
    none = ask(results, {**cost, "fact": "recover_s", "order": ["GRASP", "GRASP*"]})
    assert none["reason"] == "GRASP at 50%: recovery time is not known"


def test_accuracy_items_of_the_average_serve_equivalence(results):
    results.info["protocols"] = {ACC: {"tasks": {}, "average": ["piqa", "rte"]}}
    tasks = {"piqa": RIGHT, "rte": RIGHT[:90]}
    results.add("one-shot", answers=tasks).add("iterative", answers=tasks)
    check = {**ACCURACY, "tasks": ["average"], "kind": "within", "left": "one-shot", "right": "iterative"}
    assert ask(results, {**check, "margin": 1})["verdict"] == HOLDS
