"""The response suite in a plan: its rows, its inputs, and that no recovery trains on what it scores."""

from __future__ import annotations

import json

import pytest
from small_project import PAPER, THIN

from reprune.plan.jobs import Jobs
from reprune.plan.problems import ConfigError
from reprune.plan.recovery import held_out

TABLE = """\
tables:
- {id: a, title: A, experiment: main, suite: response, protocol: response-loss, metric: perplexity,
   tasks: [alpaca]}
experiments:"""


@pytest.fixture
def planned(project, experiment):
    """Plans the small paper with the response suite and a method that is recovered."""
    project.write("papers/thin/method.py", THIN)

    def plan(recovery="kind: replaced", methods=None, **keys):
        entry = f"{{method: thin, label: other, recovery: {{{recovery}}}}}"
        asked = {"targets": "[{parameters: 0.2}]", "methods": methods or f"[thin, {entry}]", "seeds": "[0]"}
        return experiment(**{**asked, "suites": "[response-loss]", **keys})

    return plan


def suite_of(plan):
    return next(iter(plan.runs.values())).suites[0]


def test_a_scales_sizes_are_the_suites(planned):
    suite = suite_of(planned())
    (data,) = suite.instructions.values()
    assert suite.content == {
        "name": "response-loss",
        "version": 1,
        "suite": "response",
        "unit": "token",
        "length": 400,
        "tasks": {"alpaca": {"corpus": data.id, "rows": 4}},
    }
    assert (data.name, data.rows, suite.corpora, suite.data) == ("alpaca-cleaned", 64, {}, {})
    assert suite.tokens == 4 * 400


@pytest.mark.parametrize(("wanted", "rows", "kept"), [(2000, 51760, 2000), (2000, 1975, 197), (5, 8, 1)])
def test_at_most_a_tenth_of_the_rows_is_kept_from_training(wanted, rows, kept):
    assert held_out(wanted, rows) == kept


def test_a_model_with_a_short_context_gets_shorter_examples(project, planned):
    project.edit("config/models.yaml", "context: 512", "context: 256")
    assert suite_of(planned(methods="[thin]")).content["length"] == 256


def test_the_instructions_are_fetched_and_told_even_without_a_recovery(planned):
    plan = planned(methods="[thin]")
    (run,) = plan.runs.values()
    (data,) = plan.instructions.values()
    job = json.loads(Jobs(plan).evaluate(run.id))
    assert job["corpora"] == {
        data.id: {"file": f"results/inputs/instructions/{data.id}.parquet", "source": "made"}
    }
    assert set(job["suite_code"]) == {"response"}
    sources = json.loads(Jobs(plan).collect("mini"))["info"]["sources"]
    assert [source["name"] for source in sources] == ["alpaca-cleaned"]


def test_a_recovery_that_trains_on_scored_rows_is_refused(project, planned):
    planned("kind: replaced, validation: 6")
    project.edit(PAPER, "validation: 6", "validation: 3")
    (line,) = project.complaints()
    assert line.startswith("config/protocols/response-loss.yaml")
    assert "scores 4 rows of alpaca-cleaned, but thin is recovered with 3 of them kept" in line
    assert "set its `validation` to 4" in line


def test_a_table_may_ask_for_its_task(project, planned):
    planned()
    project.edit(PAPER, "experiments:", TABLE)
    project.plan()
    project.edit(PAPER, "tasks: [alpaca]", "tasks: [alpaka]")
    (line,) = project.complaints()
    assert "has no task 'alpaka'" in line and "alpaca" in line


def test_unknown_instruction_data_is_named(project, planned):
    project.edit("config/protocols/response-loss.yaml", "alpaca-cleaned}", "alpaca-clean}")
    with pytest.raises(ConfigError, match="unknown instruction data 'alpaca-clean'; did you mean"):
        planned()
