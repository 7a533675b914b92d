"""Downstream suites through the stage: their records and items, kept task by task."""

from __future__ import annotations

import importlib.metadata
import json
import math
from pathlib import Path

import pytest

from reprune.evaluation.downstream import score
from reprune.records.schema import COLUMNS, ITEM_COLUMNS
from reprune.stages import bench as bench_module

PROTOCOL = """\
name: zeroshot-mini
version: 1
suite: downstream
title: For tests
source: none
special_tokens: none
chat_template: false
seed: 1234
limit: 4
tasks:
  piqa: {metric: acc_norm, shots: 0}
  boolq: {metric: acc, shots: 2}
  openbookqa: {metric: acc, shots: 0}
average: [piqa, boolq]
"""


@pytest.fixture
def protocol(project):
    """Writes the protocol, changed or not, for the small paper."""

    def write(old="", new=""):
        assert old in PROTOCOL
        project.write("config/protocols/zeroshot-mini.yaml", PROTOCOL.replace(old, new) if old else PROTOCOL)

    project.edit("papers/mini/paper.yaml", "[perplexity-wanda]", "[zeroshot-mini]")
    write()
    return write


@pytest.fixture
def calls(monkeypatch):
    """The tasks that were measured; the task ``fail_at`` is killed, ``changed`` is put into every result."""

    class Calls:
        def __init__(self):
            self.tasks, self.fail_at, self.changed = [], None, {}

        def __call__(self, lm, folder, shots, content, say):
            task = folder.name.rpartition("-")[0]
            self.tasks.append(task)
            if task == self.fail_at:
                raise MemoryError
            return {**score(lm, folder, shots, content, say), **self.changed}

    made = Calls()
    monkeypatch.setattr(bench_module, "score", made)
    return made


def read(file):
    return json.loads(file.read_text())


def row_of(content, task, metric="accuracy"):
    (row,) = [r for r in content["records"] if (r["task"], r["metric"]) == (task, metric)]
    return row


def test_every_task_is_a_row_and_so_is_the_average(protocol, bench):
    made = bench()
    run = made.run("wanda", seed=1)
    content = read(made.evaluate(run))
    assert [(r["task"], r["metric"], r["variant"], r["status"]) for r in content["records"]] == [
        ("boolq", "accuracy", "acc", "ok"),
        ("piqa", "accuracy", "acc_norm", "ok"),
        ("piqa", "acc", None, "ok"),
        ("openbookqa", "accuracy", None, "skipped"),
        ("average", "accuracy", None, "ok"),
    ]
    for row in content["records"]:
        assert tuple(row) == COLUMNS
        assert (row["run_id"], row["suite"], row["protocol"]) == (run.id, "downstream", "zeroshot-mini@1")
        assert (row["model_hash"], row["dtype"]) == (content["records"][0]["model_hash"], "float32")
    for task, variant in (("piqa", "acc_norm"), ("boolq", "acc")):
        row = row_of(content, task)
        assert (row["unit"], row["n"], row["higher_is_better"], row["reason"]) == ("share", 4, True, None)
        assert (row["data_source"], len(row["data_hash"])) == ("made", 12), variant
        assert row["evaluate_s"] > 0


def test_rows_are_those_of_their_items(protocol, bench):
    made = bench()
    content = read(made.evaluate(made.run("magnitude")))
    for task in ("piqa", "boolq"):
        items = [item for item in content["items"] if item["task"] == task]
        assert [item["item"] for item in items] == [0, 1, 2, 3]
        for item in items:
            assert tuple(item) == ITEM_COLUMNS
            assert (item["metric"], item["part"], item["protocol"]) == ("accuracy", None, "zeroshot-mini@1")
            assert all(len(item[f"{name}_hash"]) == 64 for name in ("doc", "prompt", "target"))
            assert len(json.loads(item["responses"])) == 2, "a log-likelihood for each of two choices"
        values = [item["value"] for item in items]
        assert row_of(content, task)["value"] == pytest.approx(sum(values) / 4)
    parts = [row_of(content, task) for task in ("piqa", "boolq")]
    average = row_of(content, "average")
    assert average["value"] == pytest.approx(sum(row["value"] for row in parts) / 2)
    assert average["stderr"] == pytest.approx(math.hypot(*(row["stderr"] for row in parts)) / 2)
    assert average["n"] == 8
    assert average["evaluate_s"] is None, "its tasks have it: sums of seconds count nothing twice"


def test_a_task_without_data_is_a_visible_hole(protocol, bench):
    protocol("average: [piqa, boolq]", "average: [piqa, boolq, openbookqa]")
    made = bench()
    content = read(made.evaluate(made.run("dense")))
    absent, average = row_of(content, "openbookqa"), row_of(content, "average")
    assert (absent["status"], absent["value"]) == ("skipped", None)
    assert absent["reason"].startswith("no data: openbookqa: test split: ")
    assert (average["status"], average["value"]) == ("skipped", None)
    assert average["reason"] == "an average over 3 tasks lacks openbookqa"


def test_what_the_scale_skips_is_a_row_for_each_task_and_loads_no_model(
    project, protocol, bench, monkeypatch
):
    project.edit(
        "config/scales/smoke.yaml", "protocols:\n", "protocols:\n  zeroshot-mini: {skip: too hard}\n"
    )
    monkeypatch.setattr(bench_module, "load_model", None)
    made = bench()
    content = read(made.evaluate(made.run("magnitude")))
    rows = [(r["protocol"], r["task"], r["status"], r["value"], r["reason"]) for r in content["records"]]
    tasks = ("boolq", "openbookqa", "piqa", "average")
    assert rows == [("zeroshot-mini@1", task, "skipped", None, "too hard") for task in tasks]
    assert content["items"] == [] and not Path("results/inputs/tasks").exists()


def test_a_protocol_need_not_average(protocol, bench):
    protocol("average: [piqa, boolq]\n", "")
    made = bench()
    content = read(made.evaluate(made.run("dense")))
    assert {row["task"] for row in content["records"]} == {"piqa", "boolq", "openbookqa"}


def test_values_that_are_not_finite_are_rows_and_leave_no_average(protocol, bench, calls):
    made = bench()
    nothing = {"acc": [None, None], "acc_norm": [None, None]}
    calls.changed = {"measured": nothing, "reason": "4 of 4 items are broken"}
    content = read(made.evaluate(made.run("dense")))
    rows = [r for r in content["records"] if r["metric"] == "accuracy"]
    told = [(r["task"], r["status"], r["value"], r["reason"]) for r in rows]
    assert told[:2] == [(task, "diverged", None, "4 of 4 items are broken") for task in ("boolq", "piqa")]
    assert told[-1] == ("average", "diverged", None, "not finite: piqa, boolq")


def test_prompts_that_were_cut_are_told(protocol, bench, calls):
    made = bench()
    calls.changed = {"truncated": 3}
    content = read(made.evaluate(made.run("dense")))
    told = "3 prompts were longer than the model's window and lost their beginnings"
    row = row_of(content, "piqa")
    assert (row["status"], row["reason"]) == ("ok", told) and row["value"] is not None
    assert f"piqa: {told}" in made.log.getvalue()


def test_a_job_killed_in_a_task_keeps_those_before_it(protocol, bench, calls):
    made = bench()
    run = made.run("magnitude")
    calls.fail_at = "piqa"
    with pytest.raises(MemoryError):
        made.evaluate(run)
    calls.fail_at = None
    resumed = read(made.evaluate(run))
    assert calls.tasks == ["boolq", "piqa", "piqa"]
    Path("results/.store").rename("results/other-store")
    again = read(made.evaluate(run))
    assert again["items"] == resumed["items"] and calls.tasks[3:] == ["boolq", "piqa"]


def test_a_finished_task_is_measured_again_only_if_something_differs(protocol, bench, calls):
    made = bench()
    run = made.run("magnitude")
    first = read(made.evaluate(run))["items"]
    assert read(made.evaluate(run))["items"] == first and len(calls.tasks) == 2
    again = {"suite_code": {"downstream": "another"}, "separator": "<s>", "dtype": "bfloat16"}
    for i, (name, value) in enumerate(again.items(), start=2):
        made.evaluate(run, **{name: value})
        assert len(calls.tasks) == 2 * i, name


def test_what_is_averaged_or_absent_does_not_repeat_a_measurement(protocol, bench, calls):
    first = bench()
    first.evaluate(first.run("magnitude"))
    protocol("  openbookqa: {metric: acc, shots: 0}\naverage: [piqa, boolq]\n", "")
    second = bench()
    content = read(second.evaluate(second.run("magnitude")))
    assert calls.tasks == ["boolq", "piqa"]
    assert {row["task"] for row in content["records"]} == {"boolq", "piqa"}


def test_a_task_asked_otherwise_is_the_only_one_measured(protocol, bench, calls):
    first = bench()
    first.evaluate(first.run("magnitude"))
    protocol("boolq: {metric: acc, shots: 2}", "boolq: {metric: acc, shots: 1}")
    second = bench()
    second.evaluate(second.run("magnitude"))
    assert calls.tasks == ["boolq", "piqa", "boolq"]


def test_another_suites_code_does_not_repeat_it(project, protocol, bench, calls):
    project.edit("papers/mini/paper.yaml", "[zeroshot-mini]", "[zeroshot-mini, perplexity-wanda]")
    made = bench()
    run = made.run("magnitude")
    codes = {"downstream": "same", "perplexity": "old"}
    first = read(made.evaluate(run, suite_code=codes))
    second = read(made.evaluate(run, suite_code={**codes, "perplexity": "new"}, code="another"))
    assert second["items"] == first["items"] and calls.tasks == ["boolq", "piqa"]


def test_another_lm_eval_measures_again(protocol, bench, calls, monkeypatch):
    made = bench()
    run = made.run("magnitude")
    made.evaluate(run)
    version = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "another" if name == "lm-eval" else version(name)
    )
    made.evaluate(run)
    assert calls.tasks == ["boolq", "piqa"] * 2


def test_the_model_is_loaded_once_for_all_tasks(protocol, bench, monkeypatch):
    loads, load = [], bench_module.load_model
    monkeypatch.setattr(
        bench_module, "load_model", lambda folder, dtype: loads.append(folder) or load(folder, dtype)
    )
    made = bench()
    made.evaluate(made.run("magnitude"))
    assert len(loads) == 1


def test_another_variant_of_the_same_answers_is_not_measured_again(protocol, bench, calls):
    first = bench()
    content = read(first.evaluate(first.run("magnitude")))
    protocol("piqa: {metric: acc_norm", "piqa: {metric: acc")
    second = bench()
    other = read(second.evaluate(second.run("magnitude")))
    assert calls.tasks == ["boolq", "piqa"]
    assert row_of(other, "piqa")["variant"] == "acc"
    assert row_of(other, "piqa")["value"] == row_of(content, "piqa", "acc")["value"]
