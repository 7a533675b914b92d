"""Judged answers in a plan: which runs are compared, by whom, and what is refused with its place."""

from __future__ import annotations

import json

import pytest
from small_project import PAPER, THIN

from reprune.plan.grid import Run
from reprune.plan.jobs import Jobs
from reprune.plan.listing import listing
from reprune.plan.problems import ConfigError
from reprune.plan.resources import judge_resources

TUNED = "recovery: {kind: full, prompt: sheared_llama, learning_rate: 0.01}"
METHODS = f"[dense, {{method: thin, label: tuned, {TUNED}}}, {{method: dense, label: dense tuned, {TUNED}}}]"
JUDGED = "{judge: {kind: likelihood}, pairs: [[tuned, dense tuned]]}"
VIEWS = """\
tables:
- {id: a, title: A, kind: win_rate, experiment: main, tasks: [against dense tuned]}
claims:
- id: c
  statement: S
  source: T
  checks:
  - {kind: win_rate, experiment: main, left: tuned, right: dense tuned, at_least: 50}
experiments:"""


@pytest.fixture
def judged(project, experiment):
    """Plans the small paper with tuned rows, the answers suite and a judge."""
    project.write("papers/thin/method.py", THIN)

    def plan(**keys):
        asked = {"targets": "[{parameters: 0.2}]", "methods": METHODS, "seeds": "[0]", "judged": JUDGED}
        return experiment(**{**asked, "suites": "[answers-sheared-llama]", **keys})

    return plan


def called(plan, label) -> list[Run]:
    return [plan.runs[row.run] for row in plan.units["mini"].experiments["main"] if row.label == label]


def test_a_pair_of_rows_is_one_comparison_of_their_runs(judged):
    plan = judged()
    (judgement,) = plan.judgements.values()
    assert [judgement.left] == called(plan, "tuned") and [judgement.right] == called(plan, "dense tuned")
    assert judgement.model == judgement.left.model, "the model that was compressed decides"
    assert judgement.suite.content["prompt"] == "sheared_llama"
    assert judgement.suite.content["tasks"]["alpaca"]["rows"] == 4
    assert judge_resources(judgement)["mem_mb"] > 900


def test_answers_are_measured_and_told_like_any_suite(judged):
    plan = judged()
    (judgement,) = plan.judgements.values()
    job = json.loads(Jobs(plan).evaluate(judgement.left.id))
    assert set(job["suite_code"]) == {"answers"}
    (told,) = (suite["content"] for suite in job["suites"])
    assert (told["suite"], told["new_tokens"]) == ("answers", 12)
    assert judgement.suite.tokens > 0


def test_runs_keep_their_identities_when_they_are_judged(judged):
    with_judge = judged()
    without = judged(judged=JUDGED.replace("[tuned, dense tuned]", "[dense tuned, tuned]"))
    assert with_judge.runs.keys() == without.runs.keys()
    assert with_judge.judgements.keys() != without.judgements.keys()


def test_seeds_and_targets_are_paired(judged):
    plan = judged(seeds="[0, 1]", targets="[{parameters: 0.2}, {parameters: 0.3}]")
    pairs = {(j.left.target.sparsity, j.left.seed, j.right.seed) for j in plan.judgements.values()}
    assert pairs == {(0.2, 0, 0), (0.2, 1, 1), (0.3, 0, 0), (0.3, 1, 1)}
    other = JUDGED.replace("dense tuned", "dense")
    plan = judged(seeds="[0, 1]", judged=other)
    assert {(j.left.seed, j.right.method.id) for j in plan.judgements.values()} == {
        (0, "dense"),
        (1, "dense"),
    }


def test_a_language_model_by_name_is_an_input(project, judged):
    scale = "config/scales/smoke.yaml"
    asked = "sheared_judge: {kind: language_model, model: tiny-llama-gqa}"
    project.edit(scale, "sheared_judge: {kind: likelihood}", asked)
    plan = judged(judged=JUDGED.replace("{kind: likelihood}", "$sheared_judge"))
    (judgement,) = plan.judgements.values()
    assert (judgement.model.name, judgement.judge.name) == ("tiny-llama-gqa", "tiny-llama-gqa")
    assert judgement.model.id in plan.models and judgement.left.model.name == "tiny-llama"
    assert judgement.judge.title.endswith("asked to choose: not GPT-4")
    assert "tiny-llama-gqa" in judgement.id
    project.edit(scale, "model: tiny-llama-gqa}", "model: tiny-lama-gqa}")
    (line,) = project.complaints()
    assert line.startswith(f"{scale}:") and "unknown model 'tiny-lama-gqa'; did you mean" in line


def test_nobody_takes_the_stand_in_for_gpt_4(judged, tmp_path):
    plan = judged()
    told = "likelihood under the source model, a stand-in: not GPT-4"
    assert any(line.endswith(f"judged by {told}") for line in listing(plan, ["mini"], 1, tmp_path))
    info = json.loads(Jobs(plan).collect("mini"))["info"]
    assert info["experiments"]["main"]["judged"] == {
        "name": "likelihood",
        "title": told,
        "protocol": "answers-sheared-llama",
        "pairs": [["tuned", "dense tuned"]],
    }


def test_records_are_the_left_runs_and_name_opponent_and_judge(judged):
    plan = judged()
    (judgement,) = plan.judgements.values()
    job = json.loads(Jobs(plan).judge(judgement.id))
    columns = job["columns"]
    assert (columns["run_id"], columns["task"]) == (judgement.left.id, judgement.right.id)
    assert (columns["suite"], columns["variant"]) == ("judged", "likelihood")
    assert json.loads(Jobs(plan).collect("mini"))["judgements"] == {judgement.id: columns}


WRONG = {
    "an unknown row": (
        {"judged": JUDGED.replace("[tuned,", "[tune,")},
        "12: no row is called 'tune'; did you mean 'tuned'?",
    ),
    "an unknown judge": (
        {"judged": JUDGED.replace("{kind: likelihood}", "$judge")},
        "12: judge is '$judge', which the scale does not define; did you mean 'sheared_judge'?",
    ),
    "no answers": (
        {"suites": "[response-loss]"},
        "12: a judge compares the answers of one suite, found 0; known: answers-sheared-llama",
    ),
    "another prompt": (
        {"methods": METHODS.replace("prompt: sheared_llama, ", "", 1)},
        "12: thin is tuned on the prompt 'alpaca', answers-sheared-llama asks in that of 'sheared_llama'",
    ),
    "no model": (
        {"judged": JUDGED.replace("{kind: likelihood}", "{kind: language_model}")},
        "12: ",
    ),
    "a prompt that is none": (
        {"methods": METHODS.replace("prompt: sheared_llama", "prompt: sheared-llama", 1)},
        "10: setting 'prompt' of recovery is 'sheared-llama'; expected did you mean 'sheared_llama'?",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said_in_one_line(judged, what):
    changed, message = WRONG[what]
    with pytest.raises(ConfigError) as caught:
        judged(**changed)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{PAPER}:{message}"), line


def test_a_recovery_that_trains_on_what_is_asked_is_refused(project, judged):
    judged()
    project.edit(PAPER, "prompt: sheared_llama,", "prompt: sheared_llama, validation: 3,")
    (line,) = project.complaints()
    assert (
        "answers-sheared-llama scores 4 rows of alpaca-cleaned, but thin is recovered with 3 of them" in line
    )


def test_answers_longer_than_the_context_are_refused(project, judged):
    project.edit("config/scales/smoke.yaml", "{new_tokens: 12, limit: 4}", "{new_tokens: 512, limit: 4}")
    with pytest.raises(ConfigError, match="answers of 512 tokens leave no room for a prompt, the model's"):
        judged()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("against dense tuned", "against dense", "2: nothing is judged 'against dense'; did you mean"),
        ("left: tuned", "left: dense", "8: 'dense against dense tuned' is not judged; did you mean"),
        (", at_least: 50", "", "8: missing key 'at_least'"),
    ],
)
def test_views_ask_only_of_pairs_that_are_judged(project, judged, old, new, message):
    judged()
    project.edit(PAPER, "experiments:", VIEWS)
    project.plan()
    project.edit(PAPER, old, new)
    (line,) = project.complaints()
    number, told = message.split(": ", 1)
    assert line.startswith(f"{PAPER}:{int(number) + 3}: {told}"), line
