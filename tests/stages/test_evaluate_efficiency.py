"""Evaluating speed and size: records of every number, kept like others, and for the number of threads."""

from __future__ import annotations

import json

import pytest
import torch
from small_project import PAPER, THIN

from reprune.evaluation.efficiency import speed
from reprune.records.schema import COLUMNS
from reprune.stages import bench as bench_module

TIMED = {"throughput", "throughput_dense", "speedup", "latency"}
COUNTED = {"parameters", "nonembedding_parameters", "ratio_total", "ratio_nonembedding", "macs", "bytes"}


@pytest.fixture
def measured(project, bench):
    """The small paper with dense and a structural method, timed on three tasks."""
    project.write("papers/thin/method.py", THIN)
    project.edit(PAPER, "{sparsity: 0.5}", "{parameters: 0.2}")
    project.edit(PAPER, "[dense, magnitude, wanda]", "[dense, thin]")
    project.edit(
        PAPER, "[perplexity-wanda]", "[{protocol: efficiency-grasp, tasks: [size, prefill, batch-4x]}]"
    )
    return bench()


@pytest.fixture
def timed(monkeypatch):
    """The settings and the models of all that was timed."""
    calls = []

    def count(dense, compressed, spec, *rest):
        calls.append((spec, dense, compressed))
        return speed(dense, compressed, spec, *rest)

    monkeypatch.setattr(bench_module, "speed", count)
    return calls


def read(file):
    return json.loads(file.read_text())


def test_every_number_is_a_record(measured):
    run = measured.run("thin")
    records = read(measured.evaluate(run))["records"]
    metrics: dict[str, set[str]] = {}
    for row in records:
        metrics.setdefault(row["task"], set()).add(row["metric"])
    assert metrics == {"size": COUNTED, "prefill": TIMED, "batch-4x": TIMED}
    for row in records:
        assert tuple(row) == COLUMNS
        assert (row["suite"], row["status"], row["threads"]) == ("efficiency", "ok", 1)
        assert row["data_source"] is row["data_hash"] is None and row["value"] > 0
        assert row["n"] == (None if row["task"] == "size" else 2)
    main = [row for row in records if row["evaluate_s"] is not None]
    assert [(r["task"], r["metric"], r["unit"], r["higher_is_better"]) for r in main] == [
        ("batch-4x", "throughput", "tokens/s", True),
        ("prefill", "throughput", "tokens/s", True),
        ("size", "parameters", "count", False),
    ]


def test_a_record_has_the_batch_that_was_timed(measured):
    records = read(measured.evaluate(measured.run("thin")))["records"]
    assert {row["task"]: row["batch_size"] for row in records} == {"size": 2, "prefill": 1, "batch-4x": 4}


def test_counts_are_those_of_the_checkpoint(measured):
    run = measured.run("thin")
    records = {r["metric"]: r for r in read(measured.evaluate(run))["records"] if r["task"] == "size"}
    (dense,) = (r for r in read(measured.evaluate(measured.run("dense")))["records"] if r["metric"] == "macs")
    row = records["parameters"]
    assert row["value"] == row["params"] < 184000
    assert records["ratio_total"]["value"] == pytest.approx(row["ratio_achieved"])
    assert records["ratio_nonembedding"]["value"] == pytest.approx(row["ratio_nonembedding"])
    gone = 184000 - row["params"]
    assert dense["value"] - records["macs"]["value"] == 64 * gone, "each weight is used once for a token"


def test_values_are_the_means_of_their_items(measured):
    content = read(measured.evaluate(measured.run("thin")))
    for row in content["records"]:
        values = [
            i["value"] for i in content["items"] if (i["task"], i["metric"]) == (row["task"], row["metric"])
        ]
        if row["metric"] in ("throughput", "speedup"):
            assert row["value"] == pytest.approx(sum(values) / 2) and len(values) == row["n"] == 2
        else:
            assert values == []


def test_the_model_is_timed_beside_the_one_it_was_made_of(measured, timed):
    measured.evaluate(measured.run("thin"))
    measured.evaluate(measured.run("dense"))
    assert [spec["kind"] for spec, *_ in timed] == ["generate", "forward"] * 2
    weights = [[m.model.layers[2].mlp.up_proj for m in models] for _, *models in timed]
    for dense, thin in weights[:2]:
        assert isinstance(dense, torch.nn.Linear) and thin.kind == "low_rank"
    for dense, copy in weights[2:]:
        assert dense is not copy and torch.equal(dense.weight, copy.weight)


def test_what_was_timed_is_kept_for_its_number_of_threads(measured, timed):
    run = measured.run("thin")
    first = read(measured.evaluate(run))["records"]
    again = read(measured.evaluate(run))["records"]
    assert [r["value"] for r in again] == [r["value"] for r in first] and len(timed) == 2
    measured.threads = 2
    try:
        measured.evaluate(run)
    finally:
        torch.set_num_threads(1)
    assert len(timed) == 4
