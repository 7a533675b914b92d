"""Evaluating: records that say all, kept task by task, measured again only when something differs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from reprune.evaluation.perplexity import window_losses
from reprune.records.schema import COLUMNS, ITEM_COLUMNS
from reprune.stages import bench as bench_module

SUITES = "[perplexity-arena, {protocol: block-error}]"


@pytest.fixture
def measured(project, bench):
    """The small paper with four tasks a run."""
    project.edit("papers/mini/paper.yaml", "[perplexity-wanda]", SUITES)
    return bench()


@pytest.fixture
def calls(monkeypatch):
    """Counts perplexity measurements; ``fail_at`` makes one fail, ``losses`` replaces what they give."""

    class Calls:
        count, fail_at, losses = 0, None, None

        def __call__(self, *args):
            self.count += 1
            if self.count == self.fail_at:
                raise MemoryError
            return self.losses or window_losses(*args)

    made = Calls()
    monkeypatch.setattr(bench_module, "window_losses", made)
    return made


def values(file):
    return [
        (r["protocol"], r["task"], r["metric"], r["value"], r["stderr"], r["n"])
        for r in json.loads(file.read_text())["records"]
    ]


def test_a_record_says_all_there_is_to_say(measured):
    run = measured.run("wanda", seed=1)
    content = json.loads(measured.evaluate(run).read_text())
    assert sorted((r["suite"], r["task"]) for r in content["records"]) == [
        ("block_error", "c4"),
        ("perplexity", "c4"),
        ("perplexity", "ptb"),
        ("perplexity", "wikitext2"),
    ]
    for row in content["records"]:
        assert tuple(row) == COLUMNS
        empty = {name for name, value in row.items() if value is None}
        assert empty - {"commit", "dirty"} == {
            "ratio_nonembedding",
            "recovery",
            "recover_s",
            "variant",
            "reason",
        }
        assert (row["run_id"], row["seed"], row["calibration"]) == (run.id, 1, run.calibration.id)
        assert (row["status"], row["data_source"], row["higher_is_better"]) == ("ok", "made", False)
        assert 0.49 < row["ratio_achieved"] < 0.51 and row["papers"] == '["mini"]'
    for item in content["items"]:
        assert tuple(item) == ITEM_COLUMNS
        empty = {name for name, value in item.items() if value is None}
        assert empty - {"part"} == {"doc_hash", "prompt_hash", "target_hash", "responses"}


def test_values_are_those_of_their_items(measured):
    content = json.loads(measured.evaluate(measured.run("magnitude")).read_text())
    for row in content["records"]:
        items = [i for i in content["items"] if (i["protocol"], i["task"]) == (row["protocol"], row["task"])]
        if row["suite"] == "perplexity":
            assert row["n"] == len(items) == 6
            assert row["value"] == pytest.approx(math.exp(sum(i["value"] for i in items) / 6), rel=1e-12)
        else:
            last = [i["value"] for i in items if i["part"] == 2]
            assert row["n"] == len(last) == len(items) / 3 == 2
            assert row["value"] == pytest.approx(sum(last) / 2, rel=1e-12)


def test_a_task_that_fails_keeps_those_before_it(measured, calls):
    run = measured.run("magnitude")
    calls.fail_at = 2
    with pytest.raises(MemoryError):
        measured.evaluate(run)
    resumed = values(measured.evaluate(run))
    assert calls.count == 2 + 2, "only the second and the third task are measured by the second job"
    Path("results/.store").rename("results/other-store")
    assert values(measured.evaluate(run)) == resumed


def test_each_checkpoint_is_measured_for_itself(bench):
    made = bench()
    found = [values(made.evaluate(run)) for run in made.plan.runs.values()]
    assert len({str(value) for value in found}) == len(made.plan.runs) == 4


def test_a_finished_task_is_measured_again_only_if_something_differs(measured, calls):
    run = measured.run("magnitude")
    first = values(measured.evaluate(run))
    assert values(measured.evaluate(run)) == first and calls.count == 3
    codes = {"perplexity": "another", "block_error": "another"}
    again = {"suite_code": codes, "separator": "<s>", "dtype": "bfloat16"}
    for i, (name, value) in enumerate(again.items(), start=2):
        measured.evaluate(run, **{name: value})
        assert calls.count == 3 * i, name


def test_code_that_a_suite_does_not_run_does_not_repeat_it(measured, calls):
    run = measured.run("magnitude")
    codes = {"perplexity": "same", "block_error": "old"}
    first = values(measured.evaluate(run, suite_code=codes))
    assert values(measured.evaluate(run, suite_code={**codes, "block_error": "new"}, code="another")) == first
    assert calls.count == 3


def test_another_suite_measures_only_that_suite(project, bench, calls):
    first = bench()
    first.evaluate(first.run("magnitude"))
    assert calls.count == 1
    project.edit("papers/mini/paper.yaml", "[perplexity-wanda]", "[perplexity-wanda, perplexity-arena]")
    second = bench()
    assert second.run("magnitude").id == first.run("magnitude").id
    second.evaluate(second.run("magnitude"))
    assert calls.count == 1 + 3


def test_a_damaged_store_entry_is_measured_again(measured, calls, capsys):
    run = measured.run("magnitude")
    first = values(measured.evaluate(run))
    damaged = next(
        file for file in Path("results/.store").rglob("result.json") if '"perplexity"' in file.read_text()
    )
    damaged.write_text(damaged.read_text().replace('"value": ', '"value": 1', 1))
    assert values(measured.evaluate(run)) == first and calls.count == 4
    assert "result.json is damaged; it is rebuilt" in capsys.readouterr().err


@pytest.mark.parametrize("losses", [[1.0, math.nan], [1.0, math.inf], [900.0, 900.0]])
def test_divergence_is_a_row(bench, calls, losses):
    made = bench()
    calls.losses = losses
    content = json.loads(made.evaluate(made.run("magnitude")).read_text())
    (row,) = content["records"]
    assert (row["status"], row["value"], row["stderr"]) == ("diverged", None, None)
    assert row["reason"] == "perplexity is not finite"
    assert [item["value"] for item in content["items"]] == [x if math.isfinite(x) else None for x in losses]


def test_dense_differs_from_dense_by_nothing(measured):
    content = json.loads(measured.evaluate(measured.run("dense")).read_text())
    assert {item["value"] for item in content["items"] if item["metric"] == "relative_error"} == {0.0}
