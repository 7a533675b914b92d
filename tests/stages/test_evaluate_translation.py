"""The translation suite of a run, from the plan to its records, its lines of text and its examples."""

from __future__ import annotations

import json
import subprocess
import sys

import pandas as pd
import pytest
from sacrebleu.metrics import BLEU, CHRF
from small_project import PAPER

from reprune.data.parallel import pairs_hash, read_pairs
from reprune.plan import paths
from reprune.stages import bench as bench_module

METRICS = ["bleu", "chrf", "copy_bleu", "shuffled_bleu", "tokens_per_second"]


@pytest.fixture
def measured(project, bench):
    """The small paper with the toy translation model alone."""
    project.edit(PAPER, "[tiny-llama]", "[tiny-translator]")
    project.edit(PAPER, "[dense, magnitude, wanda]", "[dense]")
    project.edit(PAPER, "[perplexity-wanda]", "[translation-voita]")
    return bench()


def evaluated(workbench):
    run = workbench.run("dense")
    file = workbench.evaluate(run)
    return run, file, json.loads(file.read_text())


def lines(file, name):
    text = (file.with_suffix("") / f"translation-voita-test.{name}.txt").read_text(encoding="utf-8")
    return text.splitlines()


def test_records_items_lines_and_examples(measured):
    run, file, content = evaluated(measured)
    rows = {row["metric"]: row for row in content["records"]}
    assert list(rows) == METRICS
    (text,) = measured.plan.parallel.values()
    pairs = read_pairs(paths.PARALLEL / f"{text.id}.parquet", "test")
    assert lines(file, "source") == [pair.source for pair in pairs]
    assert lines(file, "reference") == [pair.target for pair in pairs]
    score = BLEU().corpus_score(lines(file, "hypothesis"), [lines(file, "reference")])
    told = {key: rows["bleu"][key] for key in ("suite", "task", "unit", "n", "status", "data_source")}
    assert told == {
        "suite": "translation",
        "task": "test",
        "unit": "points",
        "n": 24,
        "status": "ok",
        "data_source": "made",
    }
    assert rows["bleu"]["value"] == score.score and rows["bleu"]["data_hash"] == pairs_hash(pairs)
    assert rows["bleu"]["variant"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert (
        rows["chrf"]["value"]
        == CHRF().corpus_score(lines(file, "hypothesis"), [lines(file, "reference")]).score
    )
    assert [rows[metric]["higher_is_better"] for metric in METRICS] == [True, True, None, None, True]
    assert [rows[metric]["evaluate_s"] is None for metric in METRICS] == [False, True, True, True, True]
    assert {row["batch_size"] for row in rows.values()} == {None}
    assert len(content["items"]) == 24 * 10
    assert [example["item"] for example in content["examples"]] == [i * 24 // 10 for i in range(10)]
    assert content["examples"][3]["hypothesis"] == lines(file, "hypothesis")[7]


def test_sacrebleus_command_line_prints_the_recorded_bleu(measured):
    _, file, content = evaluated(measured)
    folder = file.with_suffix("")
    command = [sys.executable, "-m", "sacrebleu", folder / "translation-voita-test.reference.txt"]
    command += ["-i", folder / "translation-voita-test.hypothesis.txt", "-b", "-w", "10"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert printed == f"{content['records'][0]['value']:.10f}"


def test_it_is_measured_once_and_its_lines_come_back(measured, monkeypatch):
    _, file, first = evaluated(measured)
    for text in file.with_suffix("").iterdir():
        text.unlink()
    monkeypatch.setattr(bench_module, "translations", lambda *_: pytest.fail("measured again"))
    _, file, again = evaluated(measured)
    assert again["items"] == first["items"] and len(lines(file, "hypothesis")) == 24


def test_examples_are_collected_among_a_runs_notes(measured):
    run, _, content = evaluated(measured)
    folder = measured.collect("mini", [run])
    notes = json.loads((folder / "notes.json").read_text())
    assert notes[run.id]["examples"] == content["examples"]
    items = pd.read_parquet(folder / "items.parquet")
    assert set(items.metric) == {"bleu_statistics"} and items.doc_hash.nunique() <= 24
