"""The suite of head roles of a run, from the plan to its records, on a model trained for seconds."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from small_project import PAPER

from reprune.data.parallel import pairs_hash, read_pairs
from reprune.models.checkpoint import load_model, save_model
from reprune.models.folder import ModelFolder
from reprune.plan import paths
from reprune.stages import bench as bench_module
from reprune.surgery.head_gates import remove_heads

KEPT = [[True, False, False, True], [False] * 4]


@pytest.fixture
def measured(project, bench):
    """The small paper's dense run of a tiny translator, with the suite; all its inputs are there."""
    project.edit(PAPER, "[tiny-llama]", "[tiny-translator]")
    project.edit(PAPER, "[dense, magnitude, wanda]", "[dense]")
    project.edit(PAPER, "[perplexity-wanda]", "[head-roles-voita]")
    project.edit("config/protocols/head-roles-voita.yaml", "instances: 100", "instances: 10")
    workbench = bench()
    for text in workbench.plan.parallel:
        file = paths.PARALLEL / f"{text}.parquet"
        outputs = {"pairs": file, "facts": file.with_suffix(".json")}
        workbench.stage("fetch", workbench.jobs.parallel(text), {}, outputs)
    for parser in workbench.plan.parsers:
        outputs = {"folder": paths.PARSERS / parser, "facts": paths.PARSERS / f"{parser}.json"}
        workbench.stage("fetch", workbench.jobs.parser(parser), {}, outputs)
    (model,) = workbench.plan.models
    outputs = {"folder": paths.MODELS / model, "facts": paths.MODELS / f"{model}.json"}
    workbench.stage("train_model", workbench.jobs.train_model(model), {"parallel": file}, outputs)
    return workbench


def evaluated(workbench):
    (run,) = workbench.plan.runs.values()
    return json.loads(workbench.evaluate(run).read_text())


def heads(told):
    return [(item["item"], item["part"]) for item in told["items"] if item["metric"] == "functions"]


def test_records_count_heads_and_items_are_by_layer_and_head(measured):
    told = evaluated(measured)
    rows = {row["metric"]: row for row in told["records"]}
    first = rows["labelled_heads"]
    assert (first["suite"], first["task"], first["unit"]) == ("head_roles", "sources", "heads")
    (text,) = measured.plan.parallel
    file = paths.PARALLEL / f"{text}.parquet"
    pairs = [pair for part in ("validation", "test") for pair in read_pairs(file, part)]
    assert (first["status"], first["data_source"], first["data_hash"]) == ("ok", "made", pairs_hash(pairs))
    assert first["n"] == 8 and rows["labelled_share"]["value"] == first["value"] / 8
    assert heads(told) == [(layer, head) for layer in range(2) for head in range(4)]


def test_what_it_tells_beside_reaches_the_notes(measured):
    told = evaluated(measured)
    ((protocol, by_task),) = told["told"].items()
    assert protocol.startswith("head-roles-voita@1") and by_task["sources"]["sentences"] == 48
    assert sum(found["instances"] for found in by_task["sources"]["functions"].values()) > 0
    (run,) = measured.plan.runs.values()
    notes = json.loads((measured.collect("mini", [run]) / "notes.json").read_text())
    assert notes[run.id]["measured"] == told["told"]


def test_heads_keep_the_numbers_they_had_before_others_were_removed(measured):
    (run,) = measured.plan.runs.values()
    dense = {(i["item"], i["part"], i["metric"]): i["value"] for i in evaluated(measured)["items"]}
    folder = ModelFolder(paths.RUNS / run.id / "checkpoint")
    model = load_model(folder.path)
    remove_heads(model, {"encoder": torch.tensor(KEPT)})
    shutil.rmtree(folder.path)
    folder.path.mkdir()
    save_model(model, ModelFolder(paths.MODELS / run.model.id), folder.path, torch.float32)
    facts = paths.checkpoint_facts(run.id)
    told = json.loads(facts.read_text()) | {"hash": ModelFolder(folder.path).hash()}
    facts.write_text(json.dumps({**told, "notes": {"heads": {"kept": {"encoder": KEPT}}}}))
    pruned = evaluated(measured)
    assert heads(pruned) == [(0, 0), (0, 3)]
    first_layer = {key: value for key, value in dense.items() if key[:2] in ((0, 0), (0, 3))}
    for item in pruned["items"]:
        value = first_layer[item["item"], item["part"], item["metric"]]
        assert item["value"] == pytest.approx(value, abs=1e-5), "a first layer sees no other head's removal"


def test_it_is_measured_once(measured, monkeypatch):
    first = evaluated(measured)
    monkeypatch.setattr(bench_module, "measure_roles", lambda *_: pytest.fail("measured again"))
    assert evaluated(measured)["items"] == first["items"]
