"""Continued pre-training in a plan: identities, chains of recoveries, what is refused, what jobs are told."""

from __future__ import annotations

import dataclasses
import json

import pytest
from small_project import PAPER, THIN

from reprune.analysis.unit import _grouped
from reprune.plan import paths
from reprune.plan.code import recovery_code
from reprune.plan.estimate import recover_flops
from reprune.plan.jobs import Jobs
from reprune.plan.listing import listing
from reprune.plan.pretraining import Pretraining
from reprune.plan.resources import recover_resources

TRAINED = "{method: thin, label: trained, recovery: {kind: pretrain}}"
CHAIN = "{method: thin, label: chain, recovery: [{kind: pretrain}, {kind: full}]}"
FULL = "{method: thin, label: full, recovery: {kind: full}}"
FAMILY = "{parameters: [100, 200, 400], losses: {plain: [3, 2, 1.5], usual: [3, 2, 1.5], rich: [3, 2, 1.5]}}"


@pytest.fixture
def pretrained(project, experiment):
    """Plans the small paper with these method entries, at 20 % of parameters."""
    project.write("papers/thin/method.py", THIN)

    def plan(*entries, **keys):
        told = {"targets": "[{parameters: 0.2}]", "seeds": "[0]", **keys}
        return experiment(**{"methods": f"[{', '.join(entries)}]", **told})

    return plan


def entry(text, method="thin", label="other"):
    return f"{{method: {method}, label: {label}, recovery: {{kind: pretrain{text}}}}}"


def rows(plan):
    return {row.label: row for row in plan.units["mini"].experiments["main"]}


def run_of(plan, label):
    return plan.runs[rows(plan)[label].run]


def test_it_goes_on_from_the_shared_compression_with_the_scales_sizes_and_mixture(pretrained):
    plan = pretrained("thin", TRAINED, FULL)
    run, base = run_of(plan, "trained"), run_of(plan, "thin")
    how, data = run.recoveries[0]
    assert len(plan.runs) == 3 and run.base == base.id and run.id.startswith("thin-tiny-llama-20")
    assert "-pretrain-" in run.id and run.label == "thin 20% of parameters pretrain recovery"
    assert isinstance(how, Pretraining) and (how.steps, how.batch_size, how.evaluate_every) == (6, 4, 2)
    assert how.learning_rate == 1e-4 and how.loading == "dynamic" and how.reference == "source"
    assert data.name == "made" and plan.mixtures == {data.id: data} and run.mixture is None
    assert {corpus.id for corpus in data.corpora} <= set(plan.corpora)
    assert set(pretrained("thin", FULL).runs) == {base.id, run_of(plan, "full").id}


@pytest.mark.parametrize(
    "other",
    [
        ", steps: 7",
        ", batch_size: 5",
        ", learning_rate: 0.001",
        ", warmup: 0.3",
        ", evaluate_every: 3",
        ", loading: constant",
        ", clipped: false",
        ", floor: 0.0001",
        ", precision: bfloat16",
        ", mixture: $short_mixture",
    ],
)
def test_what_can_change_a_number_changes_the_identity(project, pretrained, other):
    own = "values:\n  short_mixture: {data: made, length: 16, windows: 100, held_out: 4}"
    project.edit("config/scales/smoke.yaml", "values:", own)
    plan = pretrained(TRAINED, entry(other))
    assert run_of(plan, "trained").id != run_of(plan, "other").id


def test_a_default_that_is_written_out_changes_nothing(pretrained):
    given = ", loading: dynamic, reference: source, clipped: true, floor: 0, start: mixture, "
    given += "precision: float32, mixture: $mixture"
    plan = pretrained(TRAINED, entry(given))
    assert run_of(plan, "trained").id == run_of(plan, "other").id


def test_an_experiments_mixture_is_its_recoveries_unless_they_name_another(project, pretrained):
    values = "values:\n  short_mixture: {data: made, length: 16, windows: 100, held_out: 4}"
    project.edit("config/scales/smoke.yaml", "values:", values)
    plan = pretrained(TRAINED, entry(", mixture: $mixture"), mixture="$short_mixture")
    lengths = {label: run_of(plan, label).recoveries[0].data.length for label in ("trained", "other")}
    assert lengths == {"trained": 16, "other": 32}


def test_a_chain_goes_on_from_the_run_with_the_first_recovery_alone(pretrained):
    plan = pretrained("thin", TRAINED, CHAIN)
    chain, first = run_of(plan, "chain"), run_of(plan, "trained")
    assert chain.base == first.id and first.base == run_of(plan, "thin").id and len(plan.runs) == 3
    assert [how.kind for how, _ in chain.recoveries] == ["pretrain", "full"]
    assert "-pretrain-full-" in chain.id and chain.label.endswith("pretrain + full recovery")
    other = pretrained(CHAIN.replace("{kind: pretrain}, {kind: full}", "{kind: full}, {kind: pretrain}"))
    assert run_of(other, "chain").id not in plan.runs
    assert set(pretrained(CHAIN).runs) == set(plan.runs), "what nobody measures is made all the same"


def test_jobs_and_records_of_a_chain_tell_both(pretrained):
    plan = pretrained("thin", CHAIN)
    chain, jobs = run_of(plan, "chain"), Jobs(plan)
    first = plan.runs[chain.base]
    told = [json.loads(jobs.recover(run.id)) for run in (first, chain)]
    assert [(t["stage"], t["file"], t["earlier"]) for t in told] == [
        ("pretrain", "mixture", 0),
        ("tune", "instructions", 1),
    ]
    assert Pretraining(**told[0]["recovery"]) == first.recovery
    evaluation = json.loads(jobs.evaluate(chain.id))
    codes = [recovery_code(how) for how, _ in chain.recoveries]
    assert evaluation["checkpoint_code"].endswith("+".join(codes)) and codes[0] != codes[1]
    column = json.loads(evaluation["columns"]["recovery"])
    (before,) = column["after"]
    assert (column["kind"], before["kind"]) == ("full", "pretrain")
    assert before["data"] == first.recoveries[0].data.id
    info = json.loads(jobs.collect("mini"))
    assert info["bases"] == {chain.id: first.id, first.id: first.base}
    names = {s["name"] for s in info["info"]["sources"]}
    assert "alpaca-cleaned" in names and {c.name for c in first.recoveries[0].data.corpora} <= names
    row = _grouped(info["info"]["experiments"]["main"]["rows"])[1]
    assert [settings["kind"] for settings in row.recoveries] == ["pretrain", "full"]
    assert row.recoveries[0]["steps"] == 6


def test_settings_are_those_that_the_loading_has():
    dynamic, constant = Pretraining(), Pretraining(loading="constant")
    assert set(dynamic.settings) - set(constant.settings) == {"reference", "clipped", "floor"}
    by_law = dataclasses.replace(dynamic, reference="scaling")
    assert set(by_law.settings) - set(dynamic.settings) == {"scaling"}


def test_a_mask_is_not_trained_on_and_the_dense_model_may_be(pretrained):
    plan = pretrained(entry("", "magnitude"), targets="[{sparsity: 0.5}]")
    assert rows(plan)["other"].reason == "a mask would be lost: training fills the zeros again"
    (skipped,) = json.loads(Jobs(plan).collect("mini"))["skipped"]
    assert json.loads(skipped["recovery"])["kind"] == "pretrain"
    assert run_of(pretrained(entry("", "dense")), "other").target.kind == "none"


def test_a_scaling_law_comes_from_the_scale(project, pretrained):
    project.edit(
        "config/scales/smoke.yaml", "values:", f"values:\n  law_pretraining: {{steps: 3, scaling: {FAMILY}}}"
    )
    plan = pretrained(TRAINED, entry(", sizes: $law_pretraining, reference: scaling"))
    how = run_of(plan, "other").recovery
    assert how.steps == 3 and how.scaling["parameters"] == [100, 200, 400]
    assert "scaling" not in run_of(pretrained(entry(", sizes: $law_pretraining")), "other").recovery.settings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (", stepz: 8", "recovery has no setting 'stepz'; did you mean 'steps'?"),
        (", steps: 0", "setting 'steps' of recovery is 0; expected a number from 1 to …"),
        (", rank: 8", "recovery has no setting 'rank'; known: batch_size,"),
        (", loading: static", "setting 'loading' of recovery is 'static'; expected"),
        (", precision: float16", "setting 'precision' of recovery is 'float16'; expected did you mean"),
        (
            ", loading: constant, clipped: false",
            "recovery of kind 'pretrain' with constant loading has no references, found clipped",
        ),
        (
            f", scaling: {FAMILY}",
            "recovery of kind 'pretrain' with dynamic loading by source has no scaling law, found scaling",
        ),
        (", reference: scaling", "reference is 'scaling', but the scale gives no losses of a model family"),
        (", start: pruning", "start is 'pruning', but thin ends with no weights of domains; use the mixture"),
        (", mixture: $mixtur", "mixture is '$mixtur', which the scale does not define; did you mean"),
        (", sizes: $pretrainin", "sizes is '$pretrainin', which the scale does not define; did you mean"),
    ],
)
def test_a_wrong_pretraining_is_one_line_with_its_place(project, pretrained, text, words):
    pretrained("thin")
    project.edit(PAPER, "[thin]", f"[{entry(text)}]")
    (line,) = project.complaints()
    assert line.startswith(f"{PAPER}:10: {words}")


def test_only_pretraining_has_a_mixture(project, pretrained):
    pretrained("thin")
    project.edit(PAPER, "[thin]", "[{method: thin, recovery: {kind: full, mixture: $mixture}}]")
    (line,) = project.complaints()
    assert line.startswith(f"{PAPER}:10: recovery has no setting 'mixture'")


def test_losses_of_a_family_must_be_those_of_the_domains(project, pretrained):
    law = FAMILY.replace("usual", "unusual")
    values = f"values:\n  law_pretraining: {{reference: scaling, scaling: {law}}}"
    project.edit("config/scales/smoke.yaml", "values:", values)
    pretrained("thin")
    project.edit(PAPER, "[thin]", f"[{entry(', sizes: $law_pretraining')}]")
    (line,) = project.complaints()
    assert line.endswith("reference is 'scaling', but the scale's losses lack usual")
    project.edit("config/scales/smoke.yaml", "rich: [3, 2, 1.5]", "rich: [3, 2]")
    assert any("values.law_pretraining.scaling.losses.rich" in line for line in project.complaints())


def test_a_chain_is_not_empty(project, pretrained):
    pretrained("thin")
    project.edit(PAPER, "[thin]", "[{method: thin, recovery: []}]")
    assert any("recovery" in line for line in project.complaints())


def test_time_and_memory_count_tokens_forward_and_backward(pretrained):
    """50,304 weights in each of 3 blocks, a final norm of 64, a head of 258 x 64.

    6 steps of 4 windows of 32 tokens, forward and backward; 4 windows of 3 domains forward, at steps 0, 2, 4
    and 6, for the references, and once more at most for an end between two measurements.
    """
    run = run_of(pretrained(TRAINED), "trained")
    tokens = 3 * 6 * 4 * 32 + 6 * 3 * 4 * 32
    assert recover_flops(run) == 2 * (3 * 50_304 + 64 + 258 * 64) * tokens
    longer = run_of(pretrained(entry(", steps: 600000")), "other")
    assert recover_resources(longer)["runtime"] > recover_resources(run)["runtime"]


def test_the_listing_names_the_texts_and_counts_every_unfinished_part_of_a_chain(pretrained, tmp_path):
    plan = pretrained(CHAIN)
    lines = listing(plan, ["mini"], 1, tmp_path)
    chain = run_of(plan, "chain")
    for corpus in plan.runs[chain.base].recoveries[0].data.corpora:
        assert f"  text {corpus.name}: {corpus.label} ({corpus.fit})" in lines
    assert any(line.startswith("  instructions alpaca-cleaned") for line in lines)
    assert lines[1].startswith("1 runs, 1 to compute")


def test_the_file_of_what_is_trained_on_is_the_one_its_rule_writes(pretrained):
    chain = run_of(pretrained(CHAIN), "chain")
    (first, mixture), (second, data) = chain.recoveries
    assert paths.trained_on_file(first.file, mixture.id) == paths.MIXTURES / f"{mixture.id}.safetensors"
    assert paths.trained_on_file(second.file, data.id) == paths.INSTRUCTIONS / f"{data.id}.parquet"
