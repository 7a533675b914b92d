"""Checks on trainings on a mixture: every quantity by hand, single runs and seeds, equal tokens."""

from __future__ import annotations

import numpy as np
import pytest
from mixture_unit import history, mixture_unit
from scipy.stats import spearmanr
from test_checks import ask

from reprune.analysis.evidence import FAILS, HOLDS, UNDECIDED
from reprune.analysis.histories import histories
from reprune.analysis.trained import QUANTITIES

LOSSES = {"a": 1.5, "b": 3.0, "c": 4.5}
TO_REACH = {"a": 1.0, "b": 2.0, "c": 3.0}
VALUE = {"kind": "history_value", "experiment": "e", "method": "r"}


def run_of(results, notes):
    unit = results.add("r", notes=notes).unit()
    return histories(unit, unit.rows("e")[0])[0]


def value(results, quantity, notes):
    return QUANTITIES[quantity].of(run_of(results, notes))


def pruning(*measured):
    """A pruning of so many measurements, each (share of heads closed, share wanted, overlap)."""
    told = history(*[{"a": 2.0}] * len(measured), tokens_per_second=20.0)
    for evaluation, (closed, wanted, overlap) in zip(told["evaluations"], measured, strict=True):
        evaluation |= {
            "sparsity": {"head": closed, "layer": wanted},
            "overlap": {"head": overlap, "layer": overlap},
        }
        evaluation |= {"wanted": {"head": wanted, "layer": wanted}}
    return {"pruning": told}


def trained(*losses, **more):
    return {"recovery": history(*losses, references=TO_REACH, **more)}


def test_the_gap_is_the_mean_distance_from_the_last_target(results):
    notes = pruning((0.0, 0.0, None), (0.9, 0.1, 0.5), (0.44, 0.5, 0.9))
    assert value(results, "sparsity_gap", notes) == pytest.approx((0.06 + 0) / 2)


def test_the_overlap_is_that_of_the_last_fifth(results):
    shares = [(0.5, 0.5, overlap) for overlap in (None, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)]
    assert value(results, "overlap", pruning(*shares)) == pytest.approx(0.95)


def test_sums_of_the_losses_at_the_end(results):
    notes = trained(dict.fromkeys(LOSSES, 9.0), LOSSES)
    assert value(results, "mean_loss", notes) == 3.0
    assert value(results, "excess_spread", notes) == pytest.approx(np.std([0.5, 1.0, 1.5]))
    assert value(results, "rank_correlation", notes) == pytest.approx(1.0)


def test_the_rank_correlation_is_of_references_and_excess(results):
    notes = trained(LOSSES, {"a": 3.0, "b": 3.0, "c": 3.5})  # 2, 1 and 0.5 above
    assert value(results, "rank_correlation", notes) == pytest.approx(-1.0)


def test_the_rank_correlation_with_ties_is_scipys(results):
    reached = dict(zip("abcdef", (1.0, 2.0, 2.0, 3.0, 4.0, 5.0), strict=True))
    excess = np.array([0.5, 0.25, 0.75, 0.5, 0.5, 1.0])
    losses = {domain: own + above for (domain, own), above in zip(reached.items(), excess, strict=True)}
    notes = {"recovery": history(losses, references=reached)}
    expected = spearmanr(list(reached.values()), excess).statistic
    assert value(results, "rank_correlation", notes) == pytest.approx(expected)


def test_domains_that_follow_were_drawn_more_where_the_excess_is_above_the_mean(results):
    """The excess at the start is 0.5, 1 and 1.8; a is drawn less, b more though it is below, c more."""
    notes = trained({**LOSSES, "c": 4.8}, LOSSES)
    notes["recovery"]["evaluations"][-1]["seen"] = {"a": 10, "b": 40, "c": 50}
    assert value(results, "followed", notes) == pytest.approx(2 / 3)


def test_domains_follow_from_where_the_first_training_began(results):
    """Continuation begins with what pruning moved to, and draws just that."""
    moved = {"a": 0.2, "b": 0.2, "c": 0.6}
    notes = trained({**LOSSES, "c": 4.8}, LOSSES, weights=moved) | {"pruning": history(LOSSES, LOSSES)}
    notes["recovery"]["evaluations"][-1]["seen"] = {"a": 20, "b": 20, "c": 60}
    assert value(results, "followed", notes) == 1.0


def weighed(*shares, steps=None):
    """A training whose domain a has these shares from each measurement on, the first of them at step 0."""
    told = history(*[{"a": 2.0, "b": 2.0}] * len(shares))
    for evaluation, share in zip(told["evaluations"], shares, strict=True):
        evaluation["weights"] = {"a": share, "b": 1 - share}
    return {"recovery": {**told, "steps": steps or told["steps"]}}


def test_settling_compares_changes_before_and_after_a_third(results):
    """Ten updates: three of 0.1 each, seven of 0.02; changes of both domains double both alike."""
    shares = [0.1, 0.2, 0.3, 0.4, *(0.4 + 0.02 * i for i in range(1, 8))]
    assert value(results, "settling", weighed(*shares)) == pytest.approx(0.2)


def test_a_last_measurement_out_of_turn_is_no_update(results):
    notes = weighed(0.1, 0.2, 0.3, 0.4, 0.42, 0.44, 0.46, 0.48, 0.5, 0.52, 0.54, 0.54)
    for step, evaluation in enumerate(notes["recovery"]["evaluations"]):
        evaluation["step"] = min(2 * step, 21)
    notes["recovery"]["steps"] = 21
    assert value(results, "settling", notes) == pytest.approx(0.2)


@pytest.mark.parametrize("shares", [[0.5] * 11, [0.2, 0.4]])
def test_weights_that_never_change_or_once_only_are_undecided(results, shares):
    check = ask(results.add("r", notes=weighed(*shares)), {**VALUE, "quantity": "settling", "at_most": 0.25})
    assert (check["verdict"], check["reason"]) == (
        UNDECIDED,
        "r at 50%: weights changed too seldom, or not at all",
    )


def test_the_slowdown_is_of_the_two_stages(results):
    notes = pruning((0.5, 0.5, None), (0.5, 0.5, 1.0)) | trained(LOSSES, tokens_per_second=90.0)
    check = ask(results.add("r", notes=notes), {**VALUE, "quantity": "slowdown", "at_least": 1})
    assert (check["verdict"], check["figures"]) == (HOLDS, "4.50 ×, at least 1 asked")


@pytest.mark.parametrize("at_most, verdict", [(0.05, HOLDS), (0.02, FAILS)])
def test_a_single_run_has_no_interval_and_says_so(results, at_most, verdict):
    notes = pruning((0.0, 0.0, None), (0.44, 0.5, 0.9))
    asked = {**VALUE, "quantity": "sparsity_gap", "at_most": at_most}
    check = ask(results.add("r", notes=notes), asked)
    assert (check["verdict"], check["low"], check["seeds"]) == (verdict, None, 1)
    assert check["basis"] == "single run, no interval" and check["runs"] == "single run"
    assert check["sentence"].startswith(
        "R: distance of the masks' expected sparsity from the target at the end"
    )
    assert check["figures"] == f"0.0300, at most {at_most} asked"


@pytest.mark.parametrize(
    "closed, verdict", [((0.46, 0.47), HOLDS), ((0.46, 0.2), UNDECIDED), ((0.2, 0.1), FAILS)]
)
def test_several_seeds_have_an_interval_over_them(results, closed, verdict):
    for seed, share in enumerate(closed):
        results.add("r", notes=pruning((0.0, 0.0, None), (share, 0.5, 0.9)), seed=seed)
    check = ask(results, {**VALUE, "quantity": "sparsity_gap", "at_most": 0.05})
    gaps = [(0.5 - share) / 2 for share in closed]
    assert (check["verdict"], check["seeds"]) == (verdict, 2)
    assert check["estimate"] == pytest.approx(np.mean(gaps))
    assert (check["low"], check["high"]) == (pytest.approx(min(gaps)), pytest.approx(max(gaps)))
    assert check["basis"] == "2 seeds"


def test_what_was_not_noted_is_undecided(results):
    results.add("r", notes={"recovery": history(LOSSES)}).add("dense")
    for quantity, reason in (
        ("sparsity_gap", "r at 50%: no pruning on a mixture was noted"),
        ("excess_spread", "r at 50%: no losses to reach were noted"),
    ):
        check = ask(results, {**VALUE, "quantity": quantity, "at_most": 1})
        assert (check["verdict"], check["reason"]) == (UNDECIDED, reason)
    check = ask(results, {**VALUE, "method": "dense", "quantity": "mean_loss", "at_most": 1})
    assert check["reason"] == "dense: no training on a mixture was noted"


def test_nothing_to_rank_and_a_spread_of_nothing_are_undecided(results):
    alike = {domain: loss + 1 for domain, loss in TO_REACH.items()}
    results.add("r", notes=trained(LOSSES)).add("s", notes=trained(alike))
    check = ask(results, {**VALUE, "method": "s", "quantity": "rank_correlation", "at_least": 0})
    assert check["reason"] == "s at 50%: the excess loss is the same on every domain"
    check = ask(results, {**RATIO, "at_most": 1})
    assert check["verdict"] == UNDECIDED and check["reason"].endswith("r over s is not a number")


RATIO = {"kind": "history_ratio", "experiment": "e", "quantity": "excess_spread", "left": "r", "right": "s"}


@pytest.mark.parametrize("at_most, verdict", [(0.7, HOLDS), (0.4, FAILS)])
def test_a_ratio_of_two_rows_held_against_the_same_losses(results, at_most, verdict):
    """Constant loading notes no losses to reach, so it takes those of the row beside it."""
    results.add("r", notes=trained(LOSSES))
    results.add("s", notes={"recovery": history({"a": 1.0, "b": 3.0, "c": 5.0}, references={})})
    check = ask(results, {**RATIO, "at_most": at_most})
    assert check["verdict"] == verdict and check["estimate"] == pytest.approx(0.5)
    assert check["sentence"].endswith(f"at the end: r has at most {at_most:g} times that of s")
    assert check["figures"] == f"0.500 ×, at most {at_most} asked"


def test_seeds_are_paired_and_a_single_run_stands_beside_all(results):
    for seed, factor in enumerate((0.5, 0.6)):
        losses = {domain: factor * own + TO_REACH[domain] for domain, own in {"a": 0, "b": 1, "c": 2}.items()}
        results.add("r", notes=trained(losses), seed=seed)
    results.add("s", notes=trained({"a": 1.0, "b": 3.0, "c": 5.0}))
    check = ask(results, {**RATIO, "at_most": 0.7})
    assert (check["verdict"], check["seeds"]) == (HOLDS, 2)
    assert (check["low"], check["high"]) == (pytest.approx(0.5), pytest.approx(0.6))
    other = history({"a": 1.0, "b": 3.0, "c": 5.0}, references=TO_REACH)
    for seed in (7, 8):
        results.add("t", notes={"recovery": other}, seed=seed)
    assert ask(results, {**RATIO, "right": "t", "at_most": 1})["reason"] == "the rows have no seed in common"


@pytest.mark.parametrize("ends, verdict", [((3.0, 2.5, 2.0), HOLDS), ((3.0, 2.0, 2.5), FAILS)])
def test_a_quantity_falls_along_rows_that_differ_in_a_setting(results, ends, verdict):
    for label, end in zip(("4 %", "8 %", "16 %"), ends, strict=True):
        results.add(label, notes={"recovery": history({"a": 5.0}, {"a": end})}, method="sheared_llama")
    asked = {
        "kind": "history_falls",
        "experiment": "e",
        "quantity": "mean_loss",
        "order": ["4 %", "8 %", "16 %"],
    }
    check = ask(results, asked)
    assert check["verdict"] == verdict and len(check["parts"]) == 2
    assert check["sentence"] == "Mean held-out loss over domains at the end falls in the order 4 %, 8 %, 16 %"


BELOW = {"kind": "history_below", "experiment": "e", "left": "r", "right": "s", "after": 0.25}


def falling(*losses, tokens):
    return history(*({"a": loss, "b": loss} for loss in losses), tokens=tokens)


@pytest.mark.parametrize(
    "scratch, verdict, lead",
    [((9.0, 1.0, 6.0, 5.0, 4.0), HOLDS, 1.0), ((9.0, 8.0, 2.5, 5.0, 4.0), FAILS, -1.5)],
)
def test_the_lead_is_asked_where_both_were_measured_behind_the_warm_up(results, scratch, verdict, lead):
    """Pruning took 100 tokens of 400; only measurements from there on count, and those after a quarter."""
    pruned = {"pruning": falling(2.0, 9.0, tokens=100), "recovery": falling(9.0, 4.0, 4.0, 3.0, tokens=100)}
    results.add("r", notes=pruned).add("s", notes={"recovery": falling(*scratch, tokens=100)})
    check = ask(results, BELOW)
    assert (check["verdict"], check["items"]) == (verdict, 3)
    assert check["estimate"] == pytest.approx(lead)
    assert check["basis"] == "3 measurements, single run, no interval"


def test_measurements_at_other_tokens_are_left_out(results):
    results.add("r", notes={"recovery": falling(9.0, 4.0, 3.0, tokens=200)})
    results.add("s", notes={"recovery": falling(9.0, 1.0, 5.0, 1.0, 4.0, tokens=100)})
    check = ask(results, BELOW)
    assert (check["verdict"], check["items"], check["estimate"]) == (HOLDS, 2, 1.0)


def test_other_numbers_of_tokens_are_undecided(results):
    results.add(
        "r", notes={"pruning": falling(2.0, 2.0, tokens=50), "recovery": falling(2.0, 1.0, tokens=2000)}
    )
    results.add("s", notes={"recovery": falling(9.0, 8.0, tokens=2000)})
    assert ask(results, BELOW)["reason"] == "trained on different numbers of tokens, 2,050 (r) and 2,000 (s)"


def test_the_made_unit_tells_the_papers_story(results):
    """Masks converge, and a pruned model is ahead of one from scratch; over three seeds with intervals."""
    mixture_unit(results, seeds=(0, 1, 2))
    asked = [
        {**VALUE, "method": "Pruned", "quantity": "sparsity_gap", "at_most": 0.02},
        {**VALUE, "method": "Pruned", "quantity": "overlap", "at_least": 0.9},
        {**VALUE, "method": "Pruned + constant", "quantity": "rank_correlation", "at_least": 0},
        {**BELOW, "left": "Pruned + dynamic", "right": "From scratch"},
    ]
    for check in asked:
        found = ask(results, check)
        assert (found["verdict"], found["seeds"]) == (HOLDS, 3) and found["low"] is not None
