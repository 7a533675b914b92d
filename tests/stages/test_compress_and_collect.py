"""Compressing and collecting: counted sparsity, progress that goes, holes that show."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from reprune.models.folder import ModelFolder, ModelFolderError
from reprune.records.schema import COLUMNS, ITEM_COLUMNS
from reprune.records.store import sha256
from reprune.stages.job import JobError


def facts_of(checkpoint):
    return json.loads(checkpoint.with_suffix(".json").read_text())


def test_facts_are_counted_in_the_saved_files(bench):
    made = bench()
    checkpoint = made.compress(made.run("wanda", seed=0))
    facts, folder = facts_of(checkpoint), ModelFolder(checkpoint)
    tensors = folder.read(sorted(folder.files))
    assert facts["params"] == 184000 == sum(t.numel() for t in tensors.values())
    assert facts["nonzeros"] == sum(int(torch.count_nonzero(t)) for t in tensors.values())
    assert facts["hash"] == folder.hash() and facts["threads"] == 1
    zeros = sum(layer["size"] - layer["nonzeros"] for layer in facts["layers"])
    assert facts["ratio_achieved"] == zeros / sum(layer["size"] for layer in facts["layers"])
    assert len(facts["layers"]) == 21 and facts["compress_s"] > 0
    assert list(Path("results/.store").rglob("*.safetensors")) == [], "progress goes when the work is done"


def test_seeds_calibrate_differently_and_repeated_work_is_equal(bench):
    made = bench()
    first, second = (made.compress(made.run("wanda", seed=seed)) for seed in (0, 1))
    before = facts_of(first)["hash"]
    made.compress(made.run("wanda", seed=0))
    assert facts_of(first)["hash"] == before != facts_of(second)["hash"]


def test_progress_made_with_another_calibration_is_not_used(bench, monkeypatch):
    """The same run, whose windows were drawn anew: blocks pruned with the old ones must not be mixed in."""
    made = bench()
    run = made.run("wanda", seed=0)
    monkeypatch.setattr("reprune.calibration.walk.Walk.forget", lambda self: None)  # as if killed at the end
    first = facts_of(made.compress(run))["hash"]
    shutil.copyfile(made.calibration(made.run("wanda", seed=1)), made.calibration(run))
    assert facts_of(made.compress(run))["hash"] != first


def test_a_model_cut_short_stops_the_job_with_the_files_name(bench):
    made = bench()
    run = made.run("magnitude")
    weights = made.model(run.model.id) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelFolderError, match="model.safetensors: damaged or cut short"):
        made.compress(run)
    assert not Path("results/runs", run.id, "checkpoint").exists()


def test_a_checkpoint_cut_short_stops_the_evaluation_with_its_name(bench):
    made = bench()
    run = made.run("wanda", seed=0)
    checkpoint = made.compress(run)
    weights = checkpoint / "block-001.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelFolderError, match=f"{checkpoint}: damaged or cut short .* delete .* run again"):
        made.evaluate(run)


def test_inputs_say_what_they_are(bench):
    made = bench()
    run = made.run("wanda", seed=1)
    drawn = json.loads(made.calibration(run).with_suffix(".json").read_text())
    assert (drawn["windows"], drawn["length"], drawn["seed"], len(drawn["drawn"])) == (8, 32, 1, 8)
    assert drawn["hash"] == sha256(made.calibration(run))[:12] and drawn["source"] == "made"
    corpus = json.loads(made.corpus(run.calibration.corpus.id).with_suffix(".json").read_text())
    assert (corpus["source"], corpus["fit"], corpus["documents"]) == ("made", "stand-in", 60)
    model = json.loads(made.model(run.model.id).with_name(f"{run.model.id}.json").read_text())
    assert model == {"source": "made", "hash": ModelFolder(made.model(run.model.id)).hash()}


def test_a_units_folder_holds_every_row_skipped_ones_too(project, bench):
    project.edit("papers/mini/paper.yaml", "{sparsity: 0.5}", "{sparsity: 0.5}, {pattern: '3:7'}")
    made = bench()
    runs = made.plan.runs_of(["mini"])
    for run in runs:
        made.evaluate(run)
    folder = made.collect("mini", runs)
    records = pd.read_parquet(folder / "records.parquet")
    assert tuple(records.columns) == COLUMNS
    assert records.status.tolist() == ["ok"] * 4 + ["skipped"] * 2
    skipped = records[records.status == "skipped"]
    assert skipped.method.tolist() == ["magnitude", "wanda"] and skipped.value.isna().all()
    assert all("3:7 needs input widths divisible by 7" in reason for reason in skipped.reason)
    csv = pd.read_csv(folder / "records.csv")
    assert tuple(csv.columns) == COLUMNS and csv.value.dropna().tolist() == records.value.dropna().tolist()
    items = pd.read_parquet(folder / "items.parquet")
    assert tuple(items.columns) == ITEM_COLUMNS and set(items.run_id) == {run.id for run in runs}
    layers = pd.read_parquet(folder / "layers.parquet")
    assert len(layers) == 21 * len(runs) and {"run_id", "block", "layer", "size", "nonzeros"} <= set(layers)


def test_a_run_without_evaluation_is_an_error_or_a_hole_with_its_reason(bench):
    made = bench()
    runs = made.plan.runs_of(["mini"])
    made.evaluate(runs[0])
    with pytest.raises(JobError, match=f"no evaluation of .*{runs[1].id}"):
        made.collect("mini", runs[:1])
    note = Path("results/runs", runs[1].id, "failure.json")
    note.parent.mkdir(parents=True)
    note.write_text('{"status": "oom", "reason": "not enough memory"}')
    holes = pd.read_parquet(bench(partial=True).collect("mini", runs[:1]) / "records.parquet")
    assert dict(zip(holes.run_id, holes.status, strict=True)) == {
        runs[0].id: "ok",
        runs[1].id: "oom",
        runs[2].id: "failed",
        runs[3].id: "failed",
    }
    reasons = dict(zip(holes.run_id, holes.reason, strict=True))
    assert pd.isna(reasons.pop(runs[0].id)) and reasons == {
        runs[1].id: "not enough memory",
        runs[2].id: "not computed yet",
        runs[3].id: "not computed yet",
    }


def test_what_methods_noted_is_kept_by_run(bench):
    made = bench()
    runs = made.plan.runs_of(["mini"])
    for run in runs:
        made.evaluate(run)
    told = Path("results/runs", runs[0].id, "checkpoint.json")
    told.write_text(json.dumps({**json.loads(told.read_text()), "notes": {"chosen": [2, 1]}}))
    folder = made.collect("mini", runs)
    assert json.loads((folder / "notes.json").read_text()) == {runs[0].id: {"chosen": [2, 1]}}
