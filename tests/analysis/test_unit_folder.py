"""Reading a unit: rows and their seeds, selection by label or method, what belongs to the unit."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from reprune.analysis.evidence import Part
from reprune.analysis.measurements import Quantity, fact, measure
from reprune.analysis.wording import basis

LOSSES = np.array([1.0, 2.0])
QUANTITY = Quantity("perplexity-besa", "perplexity", "c4")


def test_seeds_of_a_label_are_one_row_and_settings_tell_rows_apart(results):
    for seed in (0, 1):
        results.add("BESA", {"c4": LOSSES}, method="besa", seed=seed)
    results.add("BESA", {"c4": LOSSES}, method="besa", settings={"epochs": 3})
    rows = results.unit().rows("e")
    assert [len(row.runs) for row in rows] == [2, 1]
    assert rows[1].settings == {"epochs": 3}


def test_a_second_run_of_the_same_seed_is_another_row(results):
    results.add("BESA", {"c4": LOSSES}).add("BESA", {"c4": LOSSES})
    assert [len(row.runs) for row in results.unit().rows("e")] == [1, 1]


def test_a_label_wins_over_a_method_id(results):
    results.add("besa", {"c4": LOSSES}, method="other").add("BESA", {"c4": LOSSES}, method="besa")
    unit = results.unit()
    assert [row.label for row in unit.select("e", "besa")] == ["besa"]
    assert [row.label for row in unit.select("e", "other")] == ["besa"]


def test_dense_rows_fit_every_target(results):
    results.add("dense", {"c4": LOSSES}).add("wanda", {"c4": LOSSES})
    assert len(results.unit().select("e", "dense", "50%")) == 1
    assert results.unit().select("e", "wanda", "70%") == ()


def test_a_run_is_measured_with_its_error_over_windows(results):
    unit = results.add("wanda", {"c4": LOSSES}).unit()
    found = measure(unit, unit.rows("e")[0], QUANTITY)
    assert found.value == pytest.approx(4.481689, abs=1e-6)
    assert found.stderr == pytest.approx(4.481689 * 0.5, abs=1e-6)
    assert (found.stderr_over, found.n, found.seeds) == ("windows", 2, 1)


def test_answers_to_instructions_are_rows_not_windows(results):
    unit = results.add("wanda", {"alpaca": LOSSES}).unit()
    assert measure(unit, unit.rows("e")[0], replace(QUANTITY, task="alpaca")).stderr_over == "rows"
    less = {"kind": "less", "experiment": "e", "metric": "perplexity", "protocol": "p"}
    for task, words in (("alpaca", "32 rows, single run"), ("c4", "32 windows, single run")):
        assert basis({**less, "tasks": [task]}, Part("", "holds", items=32, seeds=1)) == words


def test_seeds_give_mean_and_error_over_seeds(results):
    for seed, shift in enumerate((0.0, 0.1, 0.2)):
        results.add("besa", {"c4": LOSSES + shift}, seed=seed, facts={"compress_s": 10.0 + seed})
    unit = results.unit()
    values = np.exp(1.5 + np.array([0.0, 0.1, 0.2]))
    found = measure(unit, unit.rows("e")[0], QUANTITY)
    assert found.value == pytest.approx(values.mean())
    assert found.stderr == pytest.approx(values.std(ddof=1) / np.sqrt(3))
    assert (found.stderr_over, found.seeds) == ("seeds", 3)
    assert fact(unit, unit.rows("e")[0], "compress_s") == 11.0


def test_one_diverged_seed_makes_the_row_diverged(results):
    results.add("besa", {"c4": LOSSES}).add("besa", seed=1, status="diverged", reason="NaN")
    unit = results.unit()
    found = measure(unit, unit.rows("e")[0], QUANTITY)
    assert (found.status, found.reason) == ("diverged", "1 of 2 seeds diverged")


@pytest.mark.parametrize("status", ["failed", "oom", "diverged"])
def test_a_run_that_ended_early_says_why(results, status):
    unit = results.add("besa", status=status, reason="no room").unit()
    found = measure(unit, unit.rows("e")[0], QUANTITY)
    assert (found.status, found.value, found.reason) == (status, None, "no room")


def test_two_values_of_one_quantity_are_an_error(results):
    unit = results.add("besa", {"c4": LOSSES}).unit()
    results.records.append(dict(results.records[0], variant="other"))
    unit = results.unit()
    with pytest.raises(ValueError, match="choose one by 'variant'"):
        measure(unit, unit.rows("e")[0], QUANTITY)
    assert measure(unit, unit.rows("e")[0], Quantity("perplexity-besa", "perplexity", "c4", None, "other")).ok


def test_an_accuracy_is_in_percent_with_the_error_of_its_record(results):
    results.add("besa")
    results.records.append(
        {
            "run_id": "besa-small-50%-s0-e",
            "suite": "zero_shot",
            "protocol": "lm-eval@1",
            "task": "piqa",
            "metric": "accuracy",
            "value": 0.65,
            "stderr": 0.011,
            "n": 1838,
            "higher_is_better": True,
            "status": "ok",
        }
    )
    unit = results.unit()
    found = measure(unit, unit.rows("e")[0], Quantity("lm-eval", "accuracy", "piqa"))
    assert (found.value, found.stderr) == (65.0, pytest.approx(1.1))
    assert (found.stderr_over, found.n) == ("items", 1838)
    assert unit.higher_is_better("accuracy")


def test_nothing_of_the_layer_needs_torch():
    code = (
        "import sys, reprune.analysis.report, reprune.analysis.terminal, reprune.analysis.compare; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_grammar_needs_neither_pandas_nor_matplotlib():
    code = "import sys, reprune.plan.grammar; sys.exit(bool({'pandas', 'matplotlib'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
