"""Recovering: what is trained, what is told of it, and that its compression stays as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_project import PAPER, THIN

from reprune.models.checkpoint import structure
from reprune.models.folder import ModelFolder, ModelFolderError
from reprune.training.trainer import TrainingError

LORA = "{method: thin, label: trained, recovery: {kind: lora, rank: 4, learning_rate: 0.01}}"
REPLACED = "{method: thin, label: compensated, recovery: {kind: replaced, learning_rate: 0.01}}"


@pytest.fixture
def made(project, bench):
    """Plans the small paper with these method entries."""
    project.write("papers/thin/method.py", THIN)
    project.edit(PAPER, "{sparsity: 0.5}", "{parameters: 0.2}")

    def plan(*entries, seeds="[0]"):
        project.edit(PAPER, "[dense, magnitude, wanda]", f"[{', '.join(entries)}]")
        project.edit(PAPER, "[0, 1]", seeds)
        return bench()

    return plan


def recovered(workbench, kind):
    return next(r for r in workbench.plan.runs.values() if r.recovery and r.recovery.kind == kind)


def facts_of(checkpoint):
    return json.loads(checkpoint.with_suffix(".json").read_text())


def tensors_of(checkpoint):
    folder = ModelFolder(checkpoint)
    return folder.read(sorted(folder.files))


def changed(before, after):
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_compensation_trains_the_replaced_block_and_keeps_its_shape(made):
    workbench = made("thin", REPLACED)
    run = recovered(workbench, "replaced")
    checkpoint = workbench.recover(run)
    base = checkpoint.parents[1] / run.base / "checkpoint"
    names = changed(tensors_of(base), tensors_of(checkpoint))
    assert names and all(name.startswith("model.layers.2.") for name in names)
    assert "model.layers.2.mlp.up_proj.down.weight" in names
    assert structure(checkpoint) == structure(base) and structure(base)["replaced"] == ["model.layers.2"]


def test_adapters_are_merged_into_every_layer(made):
    workbench = made(LORA)
    run = recovered(workbench, "lora")
    checkpoint = workbench.recover(run)
    base = checkpoint.parents[1] / run.base / "checkpoint"
    names = changed(tensors_of(base), tensors_of(checkpoint))
    assert {name.split(".")[2] for name in names} == {"0", "1", "2"}
    assert all("_proj" in name for name in names)


def test_all_of_the_model_is_trained_towards_the_dense_one(made):
    full = "{method: thin, label: full, recovery: {kind: full, learning_rate: 0.01}}"
    taught = full.replace("label: full", "label: taught").replace("0.01", "0.01, distil: 0.5")
    workbench = made(full, taught)
    checkpoints = {
        run.recovery.distil: workbench.recover(run) for run in workbench.plan.runs.values() if run.recovery
    }
    base = Path("results/runs", recovered(workbench, "full").base, "checkpoint")
    before, alone, learnt = map(tensors_of, (base, checkpoints[0.0], checkpoints[0.5]))
    assert changed(before, alone) == changed(before, learnt) == changed(alone, learnt) == set(before)
    assert structure(checkpoints[0.5]) == structure(base)


def test_the_facts_are_the_compressions_and_the_trainings(made):
    workbench = made("thin", LORA)
    run = recovered(workbench, "lora")
    facts = facts_of(workbench.recover(run))
    base = facts_of(Path("results/runs", run.base, "checkpoint"))
    for key in ("compress_s", "params", "ratio_achieved", "ratio_nonembedding", "ratio_basis"):
        assert facts[key] == base[key]
    assert facts["recover_s"] > 0 and "recover_s" not in base and facts["hash"] != base["hash"]
    told = facts["notes"].pop("recovery")
    assert facts["notes"] == base["notes"] == {"chosen": [2]}
    assert (told["kind"], told["rank"], told["merged"], told["examples"], told["steps"]) == (
        "lora",
        4,
        True,
        16,
        4,
    )
    assert len(told["losses"]) == 4 and told["validation_after"] < told["validation_before"]


def test_recovering_again_gives_the_same_and_another_seed_another(made):
    workbench = made(LORA, seeds="[0, 1]")
    first, second = (run for run in workbench.plan.runs.values() if run.recovery)
    hashes = [facts_of(workbench.recover(run))["hash"] for run in (first, second, first)]
    assert hashes[0] == hashes[2] != hashes[1]


def test_records_say_that_a_run_was_recovered(made):
    workbench = made("thin", LORA)
    run = recovered(workbench, "lora")
    workbench.recover(run)
    (row, *_) = json.loads(workbench.evaluate(run).read_text())["records"]
    (plain, *_) = json.loads(workbench.evaluate(workbench.plan.runs[run.base]).read_text())["records"]
    assert json.loads(row["recovery"])["rank"] == 4 and row["recover_s"] > 0
    assert plain["recovery"] is plain["recover_s"] is None and plain["compress_s"] == row["compress_s"]
    assert row["value"] != plain["value"]


def test_a_damaged_compression_is_not_trained(made):
    workbench = made(LORA)
    run = recovered(workbench, "lora")
    base = workbench.compress(workbench.plan.runs[run.base])
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelFolderError, match="damaged or cut short"):
        workbench.recover(run)
    assert not Path("results/runs", run.id, "checkpoint").exists()


def test_a_compression_that_replaced_nothing_has_nothing_to_compensate(project, made):
    project.write("papers/thin/method.py", THIN.replace("subject.replaced.add(last)", "pass"))
    workbench = made(REPLACED)
    with pytest.raises(TrainingError, match="replaced no block"):
        workbench.recover(recovered(workbench, "replaced"))


def test_a_recovery_whose_compression_failed_says_why(project, made):
    workbench = made(LORA)
    run = recovered(workbench, "lora")
    note = Path("results/runs", run.base, "failure.json")
    note.parent.mkdir(parents=True)
    note.write_text('{"status": "oom", "reason": "not enough memory"}')
    workbench.plan.partial = True
    records = workbench.collect("mini", []) / "records.csv"
    assert "oom,not enough memory" in records.read_text()
