"""From experiments to runs: what makes two runs the same, which rows there are, what is skipped."""

from __future__ import annotations

import json

import pytest

from reprune.plan.jobs import Jobs

WANDA = "papers/wanda/method.py"
SECOND = """\
id: second
title: Another paper
summary: Asks for one run of the first, and one of its own.
experiments:
  other:
    title: Other
    models: [tiny-llama]
    seeds: [0]
    targets: [{sparsity: 0.5}, {sparsity: 0.3}]
    methods: [wanda]
    suites: [{protocol: perplexity-besa, tasks: [ptb]}]
"""


def rows(plan, unit="mini", name="main"):
    return plan.units[unit].experiments[name]


def test_threads_paths_titles_and_the_name_of_the_scale_change_no_identity(project):
    before = project.plan()
    project.edit("papers/mini/paper.yaml", "title: A small paper", "title: Renamed")
    project.edit("papers/mini/paper.yaml", "wanda]", "{method: wanda, label: Another label}]")
    project.edit("config/models.yaml", "title: random Llama, full heads", "title: renamed")
    project.edit("config/scales/smoke.yaml", "name: smoke", "name: other")
    (project.root / "config/scales/smoke.yaml").rename(project.root / "config/scales/other.yaml")
    (project.root / "papers").rename(project.root / "elsewhere")
    after = project.plan(scale="other", threads=2, papers=["elsewhere"], partial=True)
    assert list(after.runs) == list(before.runs)
    assert list(after.calibrations) == list(before.calibrations)


def test_a_new_setting_with_its_default_changes_no_identity_and_another_value_does(project, experiment):
    before = set(project.plan().runs)
    project.edit(WANDA, "class Settings:", 'class Settings:\n    extra: int = setting(3, "new")')
    assert set(project.plan().runs) == before
    assert set(experiment(methods="[dense, magnitude, {method: wanda, settings: {extra: 3}}]").runs) == before
    changed = set(experiment(methods="[dense, magnitude, {method: wanda, settings: {extra: 4}}]").runs)
    assert len(changed - before) == len(before - changed) == 2


@pytest.mark.parametrize(
    "keys",
    [
        {"targets": "[{sparsity: 0.501}]"},
        {"targets": "[{pattern: '2:4'}]"},
        {"models": "[tiny-llama-gqa]"},
        {"seeds": "[2, 3]"},
        {"methods": "[{method: wanda, settings: {group: layer}}]"},
        {"methods": "[{method: wanda, calibration: {windows: 4}}]"},
    ],
)
def test_whatever_can_change_a_number_changes_the_identity(experiment, keys):
    before = set(experiment(methods="[wanda]").runs)
    assert len(before) == 2 and not before & set(experiment(**{"methods": "[wanda]", **keys}).runs)


def test_two_papers_that_ask_for_a_run_share_it_with_the_tasks_of_both(project):
    alone = set(project.plan().runs)
    project.write("papers/second/paper.yaml", SECOND)
    plan = project.plan()
    shared = [run for run in plan.runs.values() if run.papers == {"mini", "second"}]
    assert [(run.method.id, run.target.sparsity, run.seed) for run in shared] == [("wanda", 0.5, 0)]
    assert len(plan.runs) == len(alone) + 1
    assert {suite.name for suite in shared[0].suites} == {"perplexity-wanda", "perplexity-besa"}
    assert '"papers":"[\\"mini\\",\\"second\\"]"' in Jobs(plan).evaluate(shared[0].id)


def test_tasks_of_one_protocol_asked_for_twice_are_joined(project):
    project.write("papers/second/paper.yaml", SECOND)
    project.write("papers/third/paper.yaml", SECOND.replace("second", "third").replace("[ptb]", "[c4]"))
    shared = next(r for r in project.plan().runs.values() if r.papers == {"second", "third"})
    (suite,) = shared.suites
    assert set(suite.content["tasks"]) == set(suite.corpora) == {"ptb", "c4"}


def test_methods_without_calibration_run_once_whatever_the_seeds(experiment):
    uncalibrated = set(experiment(methods="[dense, magnitude]", seeds="[7]").runs)
    plan = experiment()
    assert len(uncalibrated) == 2 and uncalibrated < set(plan.runs)
    assert [(row.method, row.seed) for row in rows(plan)] == [
        ("dense", 0),
        ("magnitude", 0),
        ("wanda", 0),
        ("wanda", 1),
    ]
    assert [c.seed for c in plan.calibrations.values()] == [0, 1]
    assert [run.calibration is None for run in plan.runs.values()] == [True, True, False, False]


def test_an_entry_may_have_seeds_of_its_own(experiment):
    methods = "[wanda, {method: wanda, label: Dear, seeds: [1]}]"
    plan = experiment(methods=methods, seeds="[0, 1]")
    assert [(row.label, row.seed) for row in rows(plan)] == [("wanda", 0), ("wanda", 1), ("Dear", 1)]


def test_each_model_draws_windows_by_its_own_tokenizer(experiment):
    plan = experiment(models="[tiny-llama, tiny-llama-gqa]", methods="[wanda]", seeds="[0]")
    assert sorted(c.model.name for c in plan.calibrations.values()) == ["tiny-llama", "tiny-llama-gqa"]


def test_dense_has_one_row_whatever_the_targets(experiment):
    plan = experiment(targets="[{sparsity: 0.3}, {sparsity: 0.5}]", methods="[dense, magnitude]")
    assert [row.target.label for row in rows(plan)] == ["dense", "30%", "50%"]


def test_what_a_method_cannot_do_is_a_row_with_reason_and_nearest_target(experiment):
    plan = experiment(
        targets="[{pattern: '2:4'}, {pattern: '3:7'}, {sparsity: 0.5}]",
        methods="[{method: magnitude, label: whole, settings: {scope: model}}, magnitude]",
    )
    skipped = {(row.target.label, row.settings.get("scope")): row for row in rows(plan) if row.reason}
    assert set(skipped) == {("2:4", "model"), ("3:7", "model"), ("3:7", None)}
    assert all(row.run is None for row in skipped.values())
    assert skipped["2:4", "model"].reason.endswith("; nearest: 50%")
    assert skipped["3:7", None].reason == (
        "3:7 needs input widths divisible by 7, llama has a layer with 64 inputs; nearest: 4:8"
    )
    assert len(plan.runs) == 3


def test_nothing_is_run_on_a_model_to_skip_and_every_row_of_it_says_why(project, experiment):
    """ChatGLM-6B: its code lies on the hub alone, and such code is never run."""
    before = experiment(models="[tiny-llama, tiny-llama-gqa]")
    project.edit("config/models.yaml", "  title: random Llama, full heads", "  title: T\n  skip: no code")
    plan = experiment(models="[tiny-llama, tiny-llama-gqa]")
    skipped = [row for row in rows(plan) if row.model == "tiny-llama"]
    assert [(row.method, row.reason, row.run) for row in skipped] == [
        (method, "no code", None) for method in ("dense", "magnitude", "wanda")
    ]
    assert set(plan.runs) < set(before.runs)
    assert {m.name for m in plan.models.values()} == {"tiny-llama-gqa"}
    alone = experiment(models="[tiny-llama]")
    assert (alone.runs, alone.models, alone.calibrations, alone.corpora) == ({}, {}, {}, {})
    info = json.loads(Jobs(alone).collect("mini"))["info"]
    assert info["model_titles"] == {"tiny-llama": "T"}


DROPPER = """\
from reprune.method import StructuralMethod, Unsupported


class Dropper(StructuralMethod):
    \"\"\"Drops layers, not those of a model with four heads.\"\"\"

    @classmethod
    def supports(cls, facts, target, settings):
        return super().supports(facts, target, settings) or (
            Unsupported("four key heads are too many") if facts.kv_heads == 4 else None
        )
"""


def test_every_method_is_found_by_itself(experiment):
    assert [row.method for row in rows(experiment(methods="all"))] == ["dense", "magnitude", "wanda", "wanda"]


def test_all_means_dense_and_what_serves_a_target_by_its_kind(project, experiment):
    project.write("papers/dropper/method.py", DROPPER)
    unstructured = rows(experiment(methods="all"))
    assert [row.method for row in unstructured] == ["dense", "magnitude", "wanda", "wanda"]
    plan = experiment(methods="all", targets="[{parameters: 0.2}]", models="[tiny-llama-gqa]", seeds="[0]")
    assert [(row.method, row.target.kind) for row in rows(plan)] == [("dense", "none"), ("dropper", "layer")]
    both = experiment(methods="all", targets="[{parameters: 0.2}, {sparsity: 0.5}]", seeds="[0]")
    assert {row.method for row in rows(both)} == {"dense", "dropper", "magnitude", "wanda"}


def test_all_shows_what_serves_the_kind_and_refuses_the_model(project, experiment):
    project.write("papers/dropper/method.py", DROPPER)
    refused = rows(experiment(methods="all", targets="[{parameters: 0.2}]", models="[tiny-llama]"))[1]
    assert (refused.method, refused.run, refused.reason) == ("dropper", None, "four key heads are too many")


def test_an_entry_may_have_targets_of_its_own(experiment):
    own = "[dense, magnitude, {method: wanda, targets: $sweep}, {method: wanda, label: n:m, "
    plan = experiment(methods=own + "targets: [{pattern: '2:4'}]}]", seeds="[0]")
    assert [(row.label, row.target.label) for row in rows(plan)] == [
        ("dense", "dense"),
        ("magnitude", "50%"),
        ("wanda", "40%"),
        ("wanda", "50%"),
        ("n:m", "2:4"),
    ]
    assert rows(plan)[3].run in experiment(seeds="[0]").runs, "the run is the one of the experiment's target"


def test_job_parameters_are_text_that_the_order_of_keys_cannot_change(project):
    first = Jobs(project.plan())
    project.edit(
        "papers/mini/paper.yaml", "wanda]", "{method: wanda, settings: {group: layer, metric: magnitude}}]"
    )
    forward = Jobs(project.plan())
    project.edit(
        "papers/mini/paper.yaml", "{group: layer, metric: magnitude}", "{metric: magnitude, group: layer}"
    )
    backward = Jobs(project.plan())
    runs = list(forward.plan.runs)
    assert runs == list(backward.plan.runs) != list(first.plan.runs)
    assert [forward.compress(r) for r in runs] == [backward.compress(r) for r in runs]
