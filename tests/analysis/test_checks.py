"""Every kind of check holds, fails and stays undecided where it should."""

import numpy as np
import pytest
from downstream_unit import ACC

from reprune.analysis.allocation import GROUPS
from reprune.analysis.claims import check_claims
from reprune.analysis.names import FACT_TITLES
from reprune.plan.grammar import CHECKS, COUNTS, FACTS, OVER, PLOTS, QUANTITIES, TABLES

PPL = {"experiment": "e", "protocol": "perplexity-besa", "metric": "perplexity", "tasks": ["c4"]}
LESS = {**PPL, "kind": "less", "left": "wanda", "right": "besa"}
ERR = {"experiment": "e", "protocol": "block-error", "metric": "relative_error"}
RNG = np.random.default_rng(0)
BASE = RNG.normal(3.0, 0.5, 12)
NOISE = RNG.normal(0, 0.2, 12) - 0.01
BLOCKS = np.linspace(0.1, 0.5, 8) * (1 + 0.05 * RNG.standard_normal((6, 1)))


def ask(results, check):
    """The outcome of one check."""
    claim = {"id": "c", "statement": "s", "source": "t", "checks": [check]}
    return check_claims(results.unit(claims=[claim]))[0]["checks"][0]


def losses(results, **rows):
    for label, values in rows.items():
        results.add(label, {"c4": values})
    return results


def zeros(results, by_layer, method="besa"):
    return results.add(method, zeros=[by_layer(block) for block in range(6)])


def test_grammar_names_every_kind_and_its_keys():
    from reprune.analysis import checks, plots, trained, values

    assert set(checks.KINDS) == set(CHECKS)
    assert set(plots.KINDS) == set(PLOTS)
    assert set(FACT_TITLES) == FACTS
    assert set(GROUPS) == OVER
    assert set(trained.QUANTITIES) == QUANTITIES
    assert set(values.KINDS) == {*TABLES, COUNTS}
    assert CHECKS["less"].required >= {"left", "right", "tasks"}


@pytest.mark.parametrize(
    "right, verdict", [(BASE + 0.1, "holds"), (BASE - 0.1, "fails"), (BASE + NOISE, "undecided")]
)
def test_less(results, right, verdict):
    check = ask(losses(results, wanda=BASE, besa=right), LESS)
    assert check["verdict"] == verdict
    assert check["runs"] == "single run"
    assert (check["items"], check["seeds"]) == (12, 1)
    assert check["low"] <= check["estimate"] <= check["high"]
    assert check["estimate"] == pytest.approx((right - BASE).mean())


def test_less_says_by_what_factor_perplexity_differs(results):
    check = ask(losses(results, wanda=BASE, besa=BASE + 0.1), LESS)
    assert "perplexity × 1.105" in check["figures"]
    assert check["sentence"] == "Wanda has lower perplexity than besa on C4"


@pytest.mark.parametrize("far, verdict", [(0.9, "holds"), (0.05, "fails"), (0.2, "undecided")])
def test_closer(results, far, verdict):
    wobble = 0 if far != 0.2 else NOISE
    losses(results, wanda=BASE, sparsegpt=BASE - 0.2, magnitude=BASE + far + wobble)
    check = ask(
        results, {**PPL, "kind": "closer", "pair": ["wanda", "sparsegpt"], "than": ["wanda", "magnitude"]}
    )
    assert check["verdict"] == verdict


@pytest.mark.parametrize(
    "steps, verdict",
    [([0, 0.2, 0.9], "holds"), ([0, 0.9, 0.5], "fails"), ([0, 0.2, 0.2 + NOISE], "undecided")],
)
def test_increasing(results, steps, verdict):
    for share, step in zip((0.7, 0.3, 0.5), (steps[2], steps[0], steps[1]), strict=True):
        results.add("wanda", {"c4": BASE + step}, target=f"{share:.0%}", requested=share)
    check = ask(results, {**PPL, "kind": "increasing", "method": "wanda"})
    assert check["verdict"] == verdict
    assert [part["where"] for part in check["parts"]] == ["C4, 30% → 50%", "C4, 50% → 70%"]


def test_increasing_needs_two_targets(results):
    check = ask(losses(results, wanda=BASE), {**PPL, "kind": "increasing", "method": "wanda"})
    assert (check["verdict"], check["reason"]) == ("undecided", "wanda has a single target")


SPREAD = {"kind": "spread", "experiment": "e", "method": "besa", "over": "projection", "at_least": 0.005}


@pytest.mark.parametrize("v_proj, verdict", [(0.46, "holds"), (0.5, "fails")])
def test_spread(results, v_proj, verdict):
    zeros(results, lambda _: {"self_attn.v_proj": v_proj, "self_attn.k_proj": 0.5, "mlp.up_proj": 0.5})
    check = ask(results, SPREAD)
    assert check["verdict"] == verdict
    assert check["estimate"] == pytest.approx(np.std([v_proj, 0.5, 0.5]), abs=1e-4)
    assert (check["low"], check["high"]) == (None, None)


def test_spread_over_blocks_weighs_layers_by_size(results):
    zeros(results, lambda block: {"self_attn.v_proj": 0.4 if block < 3 else 0.6, "mlp.up_proj": 0.5})
    share = 192 / (192 + 1536) * 0.1
    check = ask(results, {**SPREAD, "over": "block"})
    assert check["estimate"] == pytest.approx(share, abs=1e-5)


def test_spread_without_layers_is_undecided(results):
    check = ask(losses(results, besa=BASE), SPREAD)
    assert (check["verdict"], check["reason"]) == ("undecided", "besa at 50%: no layers were reported")


NEAR = {"kind": "near_target", "experiment": "e", "method": "besa", "over": "block", "tolerance": 0.01}


@pytest.mark.parametrize("worst, verdict", [(0.509, "holds"), (0.48, "fails")])
def test_near_target_is_about_the_farthest_block(results, worst, verdict):
    zeros(results, lambda block: {"mlp.up_proj": worst if block == 4 else 0.5})
    check = ask(results, NEAR)
    assert check["verdict"] == verdict
    assert check["estimate"] == pytest.approx(abs(worst - 0.5), abs=1e-4)


def test_near_target_of_a_skipped_row_is_undecided(results):
    results.add("besa", status="skipped", reason="too wide")
    assert ask(results, NEAR)["verdict"] == "undecided"


DEPTH = {**ERR, "kind": "depth_less", "left": "besa", "right": "wanda", "share": 0.5}


@pytest.mark.parametrize(
    "change, verdict",
    [(np.full(8, -0.02), "holds"), (np.full(8, 0.02), "fails"), (RNG.normal(0, 0.1, (6, 8)), "undecided")],
)
def test_depth_less(results, change, verdict):
    results.add("wanda", errors=BLOCKS)
    check = ask(results.add("besa", errors=BLOCKS + change), DEPTH)
    assert check["verdict"] == verdict


def test_depth_less_needs_most_blocks_as_well_as_the_mean(results):
    change = np.array([-0.2, -0.2, 0.01, 0.01, 0.01, 0.01, 0.01, 0.01])
    results.add("wanda", errors=BLOCKS + 0.3)
    check = ask(results.add("besa", errors=BLOCKS + 0.3 + change), DEPTH)
    mean, share = check["parts"]
    assert (mean["verdict"], share["verdict"], check["verdict"]) == ("holds", "fails", "fails")
    assert share["estimate"] == 0.25


@pytest.mark.parametrize(
    "errors, verdict",
    [(BLOCKS, "holds"), (BLOCKS[:, ::-1], "fails"), (RNG.normal(0.3, 0.1, (6, 8)), "undecided")],
)
def test_rises_with_depth(results, errors, verdict):
    check = ask(results.add("wanda", errors=errors), {**ERR, "kind": "rises_with_depth", "method": "wanda"})
    assert check["verdict"] == verdict
    assert check["estimate"] == pytest.approx(errors[:, -2:].mean() - errors[:, :2].mean())


COST = {
    "kind": "cost_order",
    "experiment": "e",
    "fact": "compress_s",
    "order": ["wanda", "sparsegpt", "besa"],
}


@pytest.mark.parametrize(
    "seconds, verdict", [((1, 5, 60), "holds"), ((1, 70, 60), "fails"), ((1, None, 60), "undecided")]
)
def test_cost_order(results, seconds, verdict):
    for name, cost in zip(COST["order"], seconds, strict=True):
        results.add(name, {"c4": BASE}, facts={"compress_s": cost})
    check = ask(results, COST)
    assert check["verdict"] == verdict
    assert check["low"] is None
    if verdict != "undecided":
        assert check["basis"] == "single run, no interval"


RIGHT = (RNG.random(300) < 0.5).astype(float)
ACC_TASKS = {"piqa": RIGHT, "rte": RIGHT[:90]}
ACCURACY = {
    "experiment": "e",
    "protocol": "zeroshot-besa",
    "metric": "accuracy",
    "left": "besa",
    "right": "wanda",
}
GREATER = {**ACCURACY, "kind": "greater", "tasks": ["piqa"]}
NOT_LESS = {**ACCURACY, "kind": "not_less", "tasks": ["average"], "margin": 2}


def answers(results, gained, lost):
    """Wanda, and BESA with that many answers of each task made right and made wrong."""
    results.info["protocols"] = {ACC: {"tasks": {}, "average": list(ACC_TASKS)}}
    besa = {task: right.copy() for task, right in ACC_TASKS.items()}
    for right in besa.values():
        wrong, good = np.flatnonzero(right == 0)[:gained], np.flatnonzero(right == 1)[:lost]
        right[wrong], right[good] = 1, 0
    return results.add("wanda", answers=ACC_TASKS).add("besa", answers=besa)


@pytest.mark.parametrize("gained, lost, verdict", [(12, 1, "holds"), (1, 12, "fails"), (6, 5, "undecided")])
def test_greater(results, gained, lost, verdict):
    check = ask(answers(results, gained, lost), GREATER)
    assert check["verdict"] == verdict
    assert check["estimate"] == pytest.approx(100 * (gained - lost) / 300)
    assert check["what"] == "accuracy of besa minus wanda"
    assert check["sentence"] == "Besa has higher accuracy than wanda on PIQA"
    assert check["figures"].endswith("] points")
    assert check["basis"] == "300 items, single run"


@pytest.mark.parametrize("gained, lost, verdict", [(12, 1, "fails"), (1, 12, "holds")])
def test_less_and_greater_are_opposites(results, gained, lost, verdict):
    assert ask(answers(results, gained, lost), {**GREATER, "kind": "less"})["verdict"] == verdict


@pytest.mark.parametrize(
    "gained, lost, margin, verdict",
    [
        (0, 0, 1, "holds"),
        (3, 3, 3, "holds"),
        (3, 3, 1, "undecided"),
        (0, 2, 4, "holds"),
        (0, 20, 3, "fails"),
        (9, 0, 0, "holds"),
    ],
)
def test_not_less_is_non_inferiority_by_a_margin(results, gained, lost, margin, verdict):
    check = ask(answers(results, gained, lost), {**NOT_LESS, "margin": margin})
    assert check["verdict"] == verdict
    assert check["threshold"] == -margin
    assert check["items"] == 390


def test_not_less_says_what_it_asks(results):
    check = ask(answers(results, 3, 3), NOT_LESS)
    assert check["sentence"] == "Accuracy of besa is at most 2 points below that of wanda on average"
    assert check["figures"] == f"0.00 [−{-check['low']:.2f}, +{check['high']:.2f}] points, more than −2 asked"


def test_a_check_on_the_average_weighs_tasks_alike(results):
    check = ask(answers(results, 6, 0), {**GREATER, "tasks": ["average"]})
    assert check["estimate"] == pytest.approx(100 * (6 / 300 + 6 / 90) / 2)
    assert (check["where"], check["verdict"]) == ("Average", "holds")


def test_a_check_on_different_questions_is_undecided(results):
    results.add("wanda", answers=ACC_TASKS).add("besa", answers=ACC_TASKS, asked="other ")
    check = ask(results, GREATER)
    assert check["verdict"] == "undecided"
    assert "were not asked the same" in check["reason"]


def test_a_check_on_a_task_that_was_skipped_is_undecided_with_its_reason(results):
    for name in ("wanda", "besa"):
        results.add(name, answers=ACC_TASKS, absent={"mathqa": "no data: nowhere"})
    check = ask(results, {**GREATER, "tasks": ["mathqa"]})
    assert (check["verdict"], check["reason"]) == ("undecided", "wanda at 50%: skipped (no data: nowhere)")


def test_a_diverged_row_has_the_worst_accuracy(results):
    results.add("wanda", answers=ACC_TASKS).add("besa", status="diverged", reason="NaN")
    results.records[-1]["protocol"] = ACC
    assert ask(results, GREATER)["verdict"] == "fails"
    assert ask(results, {**GREATER, "left": "wanda", "right": "besa"})["verdict"] == "holds"


def test_another_metric_of_the_task_that_diverged_disturbs_no_accuracy(results):
    answers(results, 12, 1)
    diverged = {"metric": "perplexity", "value": np.inf, "higher_is_better": False}
    results.records += [{**row, **diverged} for row in results.records if row["task"] == "piqa"][:1]
    assert ask(results, GREATER)["verdict"] == "holds"
