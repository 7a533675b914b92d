"""Answers of two tuned runs, compared by a judge, from the plan to records and verdict."""

from __future__ import annotations

import json
import statistics

import pandas as pd
import pytest
from small_project import PAPER, THIN

from reprune.analysis.unit import load_unit
from reprune.analysis.wins import win_rate_of
from reprune.evaluation.judge import JUDGES, Likelihood
from reprune.models.checkpoint import load_model
from reprune.plan import paths
from reprune.records.files import write_json
from reprune.stages.job import JobError

TUNED = "recovery: {kind: full, prompt: sheared_llama, learning_rate: 0.01}"
METHODS = f"[{{method: thin, label: tuned, {TUNED}}}, {{method: dense, label: dense tuned, {TUNED}}}]"
JUDGED = "    judged: {judge: $sheared_judge, pairs: [[tuned, dense tuned]]}\n"


@pytest.fixture
def judged(project, bench):
    """The small paper with two tuned rows whose answers are compared."""
    project.write("papers/thin/method.py", THIN)
    project.edit(PAPER, "{sparsity: 0.5}", "{parameters: 0.2}")
    project.edit(PAPER, "[dense, magnitude, wanda]", METHODS)
    project.edit(PAPER, "[perplexity-wanda]\n", f"[answers-sheared-llama]\n{JUDGED}")
    project.edit(PAPER, "[0, 1]", "[0]")
    return bench


@pytest.fixture
def answered(judged):
    workbench = judged()
    for run in (run for run in workbench.plan.runs.values() if run.recovery):
        workbench.recover(run)
        workbench.evaluate(run)
    return workbench


def only(workbench):
    (judgement,) = workbench.plan.judgements.values()
    return judgement


def answers_of(run):
    items = json.loads(paths.evaluation_file(run.id, run.evaluation()).read_text())["items"]
    return [json.loads(item["responses"]) for item in items]


def content(file):
    found = json.loads(file.read_text())
    return found["records"], found["items"]


def test_every_comparison_is_the_judges_in_both_orders(answered):
    from transformers import AutoTokenizer

    judgement = only(answered)
    records, items = content(answered.judge(judgement.id))
    folder = answered.model(judgement.model.id)
    judge = Likelihood(load_model(folder), AutoTokenizer.from_pretrained(folder))
    pairs = zip(answers_of(judgement.left), answers_of(judgement.right), strict=True)
    scores = [[judge.score(own["prompt"], a["answer"]) for a in (own, other)] for own, other in pairs]
    expected = [0.5 if a == b else float(a > b) for a, b in scores]
    assert [item["value"] for item in items] == [value for value in expected for _ in range(2)]
    assert [(item["item"], item["part"]) for item in items] == [
        (i, part) for i in range(4) for part in (0, 1)
    ]
    told = {record["metric"]: record for record in records}
    assert set(told) == {"win_rate", "win_rate_first", "win_rate_second"}
    rate = told["win_rate"]
    assert rate["value"] == statistics.fmean(expected) and rate["n"] == 4
    assert rate["stderr"] == pytest.approx(statistics.stdev(expected) / 2)
    assert (rate["run_id"], rate["task"]) == (judgement.left.id, judgement.right.id)
    assert (rate["suite"], rate["variant"], rate["unit"]) == ("judged", "likelihood", "share")


def test_a_judge_that_sees_the_place_alone_finds_no_winner(answered, monkeypatch):
    class First:
        def __init__(self, model, tokenizer):
            pass

        def prefers(self, question, first, second):
            return 1.0

    monkeypatch.setitem(JUDGES, "likelihood", First)
    records, items = content(answered.judge(only(answered).id))
    assert [record["value"] for record in records] == [0.5, 1.0, 0.0]
    assert records[0]["stderr"] == 0.0 and [item["value"] for item in items] == [1.0, 0.0] * 4


def test_a_language_model_by_name_judges(project, judged):
    scale = "config/scales/smoke.yaml"
    named = "sheared_judge: {kind: language_model, model: judge}"
    project.edit(scale, "sheared_judge: {kind: likelihood}", named)
    models = project.root / "config/models.yaml"
    tiny = models.read_text().split("tiny-llama-gqa:")[1].split("\n\n")[0].replace("512", "4096")
    project.write(models, f"judge:{tiny}\n\n{models.read_text()}")
    workbench = judged()
    for run in (run for run in workbench.plan.runs.values() if run.recovery):
        workbench.recover(run)
        workbench.evaluate(run)
    records, items = content(workbench.judge(only(workbench).id))
    assert {record["variant"] for record in records} == {"judge"}
    assert {item["value"] for item in items} <= {0.0, 0.5, 1.0}


def test_answers_to_other_prompts_are_not_compared(answered):
    right = only(answered).right
    file = paths.evaluation_file(right.id, right.evaluation())
    changed = json.loads(file.read_text())
    changed["items"][0]["prompt_hash"] = "0"
    write_json(file, changed)
    with pytest.raises(JobError, match="the two runs did not answer the same prompts"):
        answered.judge(only(answered).id)


def test_the_unit_has_the_comparisons_and_its_table_the_rate(project, answered):
    judgement = only(answered)
    records, _ = content(answered.judge(judgement.id))
    folder = answered.collect("mini", [judgement.left, judgement.right])
    unit = load_unit(folder, project.root / "papers")
    (left,) = unit.select("main", "tuned")
    found = win_rate_of(unit, "main", "against dense tuned", left)
    assert found.value == pytest.approx(100 * records[0]["value"]) and found.n == 4
    assert found.stderr == pytest.approx(100 * records[0]["stderr"])
    items = pd.read_parquet(folder / "items.parquet")
    answers = items[items.metric == "answer_tokens"]
    assert len(answers) == 8 and answers.responses.notna().all() and answers.prompt_hash.notna().all()


def test_a_comparison_that_is_not_there_is_a_hole_in_partial_mode_alone(project, judged, answered):
    judgement = only(answered)
    runs = [judgement.left, judgement.right]
    with pytest.raises(JobError, match=f"no judgement {judgement.id}"):
        answered.collect("mini", runs)
    partial = judged(partial=True)
    write_json(paths.judgement_failure(judgement.id), {"status": "oom", "reason": "not enough memory"})
    unit = load_unit(partial.collect("mini", runs), project.root / "papers")
    (left,) = unit.select("main", "tuned")
    found = win_rate_of(unit, "main", "against dense tuned", left)
    assert (found.status, found.reason) == ("missing", "tuned at 20% of parameters: oom (not enough memory)")
