"""The translation suite in a plan: its text, its languages, its sizes and its inputs."""

from __future__ import annotations

import json

import pytest
from small_project import PAPER

from reprune.plan.jobs import Jobs

PROTOCOL = "config/protocols/translation-voita.yaml"
DATA = "config/data.yaml"


@pytest.fixture
def planned(experiment):
    def plan(**keys):
        asked = {"models": "[tiny-translator]", "methods": "[dense]", "seeds": "[0]"}
        return experiment(**{**asked, "suites": "[translation-voita]", **keys})

    return plan


def suite_of(plan):
    return next(iter(plan.runs.values())).suites[0]


def test_the_test_part_of_the_models_own_text_is_translated(planned):
    suite = suite_of(planned())
    (text,) = suite.parallel.values()
    assert suite.content == {
        "name": "translation-voita",
        "version": 1,
        "suite": "translation",
        "beams": 4,
        "length_penalty": 0.6,
        "tokenize": "13a",
        "longest": 64,
        "limit": None,
        "tasks": {"test": {"corpus": text.id, "part": "test"}},
    }
    assert (text.name, suite.tokens) == ("made-pairs", 24 * 24 * 5)
    assert suite.protocol.startswith("translation-voita@1+")


def test_a_scale_may_ask_for_fewer_sentences(project, planned):
    planned()
    project.edit(
        "config/scales/smoke.yaml", "  response-loss:", "  translation-voita: {limit: 8}\n  response-loss:"
    )
    suite = suite_of(project.plan())
    assert (suite.content["limit"], suite.tokens) == (8, 8 * 24 * 5)


def test_another_text_of_the_same_languages_may_be_named(project, planned):
    project.edit(PROTOCOL, "{part: test}", "{parallel: interface-en-de, part: test}")
    project.edit(DATA, "languages: [en, xx]", "languages: [en, de]")
    project.edit("config/scales/smoke.yaml", "sources: [made]", "sources: [made, package]")
    plan = planned()
    assert {text.name for text in plan.parallel.values()} == {"made-pairs", "interface-en-de"}
    assert "homeassistant" in plan.packages


def test_another_language_is_refused(project, planned):
    planned()
    project.edit(PROTOCOL, "{part: test}", "{parallel: interface-en-ru, part: test}")
    project.edit("config/scales/smoke.yaml", "sources: [made]", "sources: [made, package]")
    (line,) = project.complaints()
    assert line.startswith(PROTOCOL)
    assert "'interface-en-ru' is en to ru, model 'tiny-translator' translates en to xx" in line


def test_language_models_do_not_translate_and_translators_have_no_perplexity(project, planned):
    planned()
    project.edit(PAPER, "[tiny-translator]", "[tiny-llama]")
    (line,) = project.complaints()
    assert "measures translation models, 'tiny-llama' is none" in line
    project.edit(PAPER, "[tiny-llama]", "[tiny-translator]")
    project.edit(PAPER, "[translation-voita]", "[perplexity-wanda]")
    (line,) = project.complaints()
    assert "measures language models, 'tiny-translator' is none" in line


def test_the_text_is_fetched_and_told(planned):
    plan = planned()
    (run,) = plan.runs.values()
    (text,) = plan.parallel.values()
    job = json.loads(Jobs(plan).evaluate(run.id))
    assert job["corpora"] == {
        text.id: {"file": f"results/inputs/parallel/{text.id}.parquet", "source": "made"}
    }
    assert set(job["suite_code"]) == {"translation"}
    sources = json.loads(Jobs(plan).collect("mini"))["info"]["sources"]
    assert [source["name"] for source in sources] == ["made-pairs"]
