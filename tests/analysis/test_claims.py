"""How checks make a verdict: several tasks, several seeds, missing and diverged runs."""

import json

import numpy as np
import pytest

from reprune.analysis.claims import check_claims

PPL = {"experiment": "e", "protocol": "perplexity-besa", "metric": "perplexity"}
LESS = {**PPL, "kind": "less", "left": "besa", "right": "wanda", "tasks": ["c4"]}
BASE = np.random.default_rng(0).normal(3.0, 0.5, 12)


def claim(*checks, **more):
    return {"id": "c", "statement": "s", "source": "Table 1", "checks": list(checks), **more}


def judge(results, *checks):
    return check_claims(results.unit(claims=[claim(*checks)]))[0]


def test_one_failing_task_fails_the_check_and_is_the_one_reported(results):
    results.add("besa", {"c4": BASE, "ptb": BASE})
    results.add("wanda", {"c4": BASE + 0.3, "ptb": BASE - 0.1})
    check = judge(results, {**LESS, "tasks": ["c4", "ptb"]})["checks"][0]
    assert [part["verdict"] for part in check["parts"]] == ["holds", "fails"]
    assert (check["verdict"], check["where"]) == ("fails", "PTB")
    assert check["estimate"] == pytest.approx(-0.1)


def test_a_check_that_holds_reports_its_closest_call(results):
    results.add("besa", {"c4": BASE, "ptb": BASE})
    results.add("wanda", {"c4": BASE + 0.3, "ptb": BASE + 0.1})
    check = judge(results, {**LESS, "tasks": ["c4", "ptb"]})["checks"][0]
    assert (check["verdict"], check["where"]) == ("holds", "PTB")


@pytest.mark.parametrize("second, verdict", [(BASE - 1, "fails"), (None, "undecided"), (BASE + 1, "holds")])
def test_a_claim_is_as_good_as_its_worst_check(results, second, verdict):
    results.add("besa", {"c4": BASE}).add("wanda", {"c4": BASE + 0.3})
    if second is None:
        results.add("magnitude", status="failed", reason="killed")
    else:
        results.add("magnitude", {"c4": second})
    found = judge(results, LESS, {**LESS, "right": "magnitude"})
    assert [check["verdict"] for check in found["checks"]] == ["holds", verdict]
    assert found["verdict"] == verdict


@pytest.mark.parametrize(
    "diverged, verdict", [({"wanda"}, "holds"), ({"besa"}, "fails"), ({"wanda", "besa"}, "undecided")]
)
def test_a_diverged_run_counts_as_infinite_perplexity(results, diverged, verdict):
    for name in ("besa", "wanda"):
        lost = name in diverged
        results.add(
            name,
            None if lost else {"c4": BASE},
            status="diverged" if lost else "ok",
            reason="NaN" if lost else None,
        )
    check = judge(results, LESS)["checks"][0]
    assert check["verdict"] == verdict
    assert "diverged" in check["figures"]
    assert check["estimate"] is None


def test_an_infinite_value_is_a_diverged_run(results):
    results.add("besa", {"c4": BASE}).add("wanda", {"c4": np.where(np.arange(12) == 3, np.inf, BASE)})
    assert judge(results, LESS)["verdict"] == "holds"


@pytest.mark.parametrize(
    "lost, verdict", [("magnitude", "holds"), ("sparsegpt", "fails"), ("wanda", "undecided")]
)
def test_closer_with_a_diverged_row(results, lost, verdict):
    for name in ("wanda", "sparsegpt", "magnitude"):
        results.add(name, None if name == lost else {"c4": BASE}, status="diverged" if name == lost else "ok")
    check = {
        **PPL,
        "kind": "closer",
        "tasks": ["c4"],
        "pair": ["wanda", "sparsegpt"],
        "than": ["wanda", "magnitude"],
    }
    assert judge(results, check)["verdict"] == verdict


def test_a_skipped_row_leaves_the_claim_undecided_with_its_reason(results):
    results.add("besa", status="skipped", reason="serves only unstructured").add("wanda", {"c4": BASE})
    check = judge(results, LESS)["checks"][0]
    assert check["verdict"] == "undecided"
    assert check["reason"] == "besa at 50%: skipped (serves only unstructured)"


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"left": "nobody"}, "no row is called 'nobody'"),
        ({"experiment": "elsewhere"}, "experiment 'elsewhere' was not run"),
    ],
)
def test_what_is_not_there_leaves_the_claim_undecided(results, change, reason):
    results.add("besa", {"c4": BASE}).add("wanda", {"c4": BASE})
    found = judge(results, {**LESS, **change}, LESS)
    assert (found["checks"][0]["verdict"], found["checks"][0]["reason"]) == ("undecided", reason)


def test_a_method_with_two_labels_must_be_named_by_label(results):
    for label in ("BESA (row)", "BESA (layer)"):
        results.add(label, {"c4": BASE}, method="besa")
    results.add("wanda", {"c4": BASE + 0.1})
    assert "means 2 rows" in judge(results, LESS)["checks"][0]["reason"]
    assert judge(results, {**LESS, "left": "BESA (row)"})["verdict"] == "holds"


def test_dense_is_compared_at_every_target(results):
    results.add("dense", {"c4": BASE})
    for share in (0.3, 0.5):
        results.add("wanda", {"c4": BASE + share}, target=f"{share:.0%}", requested=share)
    check = {**LESS, "left": "dense", "right": "wanda"}
    parts = judge(results, check)["checks"][0]["parts"]
    assert [part["where"] for part in parts] == ["C4, 30%", "C4, 50%"]
    assert len(judge(results, {**check, "target": "50%"})["checks"][0]["parts"]) == 1


def test_each_model_is_a_comparison_of_its_own(results):
    for model in ("small", "llama-7b"):
        results.add("besa", {"c4": BASE}, model=model).add("wanda", {"c4": BASE + 0.1}, model=model)
    parts = judge(results, LESS)["checks"][0]["parts"]
    assert [part["where"] for part in parts] == [
        "C4, SmolLM2-135M-Instruct (Q4_1 dequantised)",
        "C4, llama-7b",
    ]


def test_several_seeds_are_resampled_and_a_single_run_stands_beside_each(results):
    results.add("dense", {"c4": BASE})
    for seed, shift in enumerate((0.5, 0.55, 0.45)):
        results.add("besa", {"c4": BASE + shift}, seed=seed)
        results.add("wanda", {"c4": BASE + shift + (0.1, -0.3, 0.3)[seed]}, seed=seed)
    order = judge(results, LESS)["checks"][0]
    assert (order["seeds"], order["runs"], order["verdict"]) == (3, "3 seeds", "undecided")
    assert order["estimate"] == pytest.approx(0.1 / 3)
    assert judge(results, {**LESS, "left": "dense", "right": "besa"})["verdict"] == "holds"


def test_only_shared_windows_are_compared(results):
    results.add("besa", {"c4": BASE}).add("wanda", {"c4": np.append(BASE[:8] + 0.1, [9, 9])})
    check = judge(results, LESS)["checks"][0]
    assert check["items"] == 10


def test_the_interval_depends_on_the_check_not_on_its_place(results):
    results.add("besa", {"c4": BASE}).add("wanda", {"c4": BASE + np.linspace(-0.1, 0.2, 12)})
    results.add("magnitude", {"c4": BASE + 1})
    alone = judge(results, LESS)["checks"][0]
    second = judge(results, {**LESS, "right": "magnitude"}, LESS)["checks"][1]
    assert alone == second


def test_claims_are_json_without_nan(besa):
    found = check_claims(besa)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    verdicts = {c["id"]: c["verdict"] for c in found}
    assert verdicts["besa-c1-ppl-order"] == "holds"
    assert verdicts["besa-c2-nonuniform"] == "fails"
    assert verdicts["patterns"] == "undecided"


def test_claims_about_other_experiments_are_left_to_their_unit(results):
    results.add("besa", {"c4": BASE})
    assert check_claims(results.unit(claims=[claim({**LESS, "experiment": "elsewhere"})])) == []
