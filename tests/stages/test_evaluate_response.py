"""The response suite of a run, from the plan to its records."""

from __future__ import annotations

import json
import math

import pytest
import torch
from small_project import PAPER, THIN

from reprune.data.instructions import read_instructions, split
from reprune.models.checkpoint import load_model
from reprune.stages import bench as bench_module
from reprune.training.instructions import examples
from reprune.training.loss import example_losses

REPLACED = "{method: thin, label: compensated, recovery: {kind: replaced, learning_rate: 0.01}}"


@pytest.fixture
def measured(project, bench):
    """The small paper with a compression, the same recovered, and the response suite."""
    project.write("papers/thin/method.py", THIN)
    project.edit(PAPER, "{sparsity: 0.5}", "{parameters: 0.2}")
    project.edit(PAPER, "[dense, magnitude, wanda]", f"[thin, {REPLACED}]")
    project.edit(PAPER, "[perplexity-wanda]", "[response-loss]")
    project.edit(PAPER, "[0, 1]", "[0]")
    return bench()


def evaluated(workbench, run):
    content = json.loads(workbench.evaluate(run).read_text())
    (row,) = content["records"]
    return row, content["items"]


def test_records_and_items_are_those_of_a_perplexity(measured):
    run = measured.run("thin", recovery=None)
    row, items = evaluated(measured, run)
    told = {key: row[key] for key in ("suite", "task", "metric", "unit", "n", "status", "data_source")}
    assert told == {
        "suite": "response",
        "task": "alpaca",
        "metric": "perplexity",
        "unit": "token",
        "n": 4,
        "status": "ok",
        "data_source": "made",
    }
    assert row["protocol"].startswith("response-loss@1+") and row["higher_is_better"] is False
    assert [(i["metric"], i["item"], i["part"]) for i in items] == [("nll", n, None) for n in range(4)]
    assert row["value"] == pytest.approx(math.exp(sum(i["value"] for i in items) / 4), rel=1e-12)


def test_the_loss_is_that_of_the_checkpoint_on_rows_kept_from_training(measured, tmp_path):
    from transformers import AutoTokenizer

    run = next(run for run in measured.plan.runs.values() if run.recovery)
    checkpoint = measured.recover(run)
    row, items = evaluated(measured, run)
    kept = split(read_instructions(measured.instructions(run.recoveries[0].data.id)), 4)[1]
    scored = examples(kept, AutoTokenizer.from_pretrained(checkpoint), 400)
    losses = example_losses(load_model(checkpoint), scored)
    expected = [loss / example.scored for loss, example in zip(losses, scored, strict=True)]
    assert [item["value"] for item in items] == pytest.approx(expected, rel=1e-6)
    told = json.loads(checkpoint.with_suffix(".json").read_text())["notes"]["recovery"]
    weighed = sum(losses) / sum(example.scored for example in scored)
    assert told["validation_after"] == pytest.approx(weighed, rel=1e-3), "the checkpoint is rounded"
    facts = measured.instructions(run.recoveries[0].data.id).with_suffix(".json")
    assert row["data_hash"] == json.loads(facts.read_text())["hash"]


def test_recovery_lowers_it(measured):
    before = measured.run("thin", recovery=None)
    after = next(run for run in measured.plan.runs.values() if run.recovery)
    measured.recover(after)
    assert evaluated(measured, after)[0]["value"] < evaluated(measured, before)[0]["value"]


def test_a_model_that_gives_no_numbers_has_diverged(measured, monkeypatch):
    monkeypatch.setattr(bench_module, "response_losses", lambda *_: [1.0, math.nan])
    row, items = evaluated(measured, measured.run("thin", recovery=None))
    assert (row["status"], row["value"]) == ("diverged", None)
    assert [item["value"] for item in items] == [1.0, None]


def test_it_is_measured_once(measured, monkeypatch):
    run = measured.run("thin", recovery=None)
    first = evaluated(measured, run)
    monkeypatch.setattr(bench_module, "response_losses", lambda *_: pytest.fail("measured again"))
    again = evaluated(measured, run)
    assert again[0]["value"] == first[0]["value"] and again[1] == first[1]


def test_arithmetic_is_of_the_dtype_asked_for(measured):
    run = measured.run("thin", recovery=None)
    exact, _ = evaluated(measured, run)
    content = json.loads(measured.evaluate(run, dtype="bfloat16").read_text())["records"][0]
    assert content["dtype"] == "bfloat16" and content["value"] != exact["value"]
    assert content["value"] == pytest.approx(exact["value"], rel=0.05)
    assert torch.get_default_dtype() == torch.float32
