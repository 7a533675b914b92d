"""The suite of head roles of a run, from the plan to its records, on a made translation model."""

from __future__ import annotations

import json

import pytest
import torch
from small_project import PAPER

from reprune.data.parallel import Pair, pairs_hash
from reprune.plan import paths
from reprune.stages import bench as bench_module
from reprune.stages.bench import Bench

PROTOCOL = "config/protocols/head-roles-voita.yaml"
MADE = "corpus: made-validation, frequencies: made-pairs, parser: english"
PAIRS = [Pair(f"the {a} sees {b} near the {c} sea", "x") for a in "abc" for b in "de" for c in "fgh"]


@pytest.fixture(scope="module")
def translator():
    """A tiny encoder-decoder with random weights, and a tokenizer of words that ends in </s>."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast

    words = ["<pad>", "</s>", "<unk>", *dict.fromkeys(" ".join(pair.source for pair in PAIRS).split())]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", eos_token="</s>")
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=len(words),
        d_model=16,
        encoder_layers=2,
        decoder_layers=1,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    return MarianMTModel(config).eval(), tokenizer


@pytest.fixture
def measured(project, bench, translator, monkeypatch):
    """The small paper's dense run with the suite; its model and texts are put in place by hand."""
    tasks = (project.root / PROTOCOL).read_text().partition("tasks:")[2]
    project.edit(PROTOCOL, tasks, f"\n  made: {{{MADE}}}\n")
    project.edit(PROTOCOL, "instances: 100", "instances: 10")
    project.edit(PAPER, "[perplexity-wanda]", "[head-roles-voita]")
    project.edit(PAPER, "[dense, magnitude, wanda]", "[dense]")
    monkeypatch.setattr(Bench, "model", translator[0])
    monkeypatch.setattr(Bench, "tokenizer", translator[1])
    workbench = bench()
    write_texts(workbench.plan)
    return workbench


def write_texts(plan):
    """Made parallel text in the place of what the plan would fetch."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    paths.PARALLEL.mkdir(parents=True)
    for text in plan.parallel:
        pq.write_table(pa.Table.from_pylist([p._asdict() for p in PAIRS]), paths.PARALLEL / f"{text}.parquet")


def evaluated(workbench):
    (run,) = workbench.plan.runs.values()
    for parser in workbench.plan.parsers:
        folder = paths.PARSERS / parser
        outputs = {"folder": folder, "facts": folder.with_suffix(".json")}
        workbench.stage("fetch", workbench.jobs.parser(parser), {}, outputs)
    return json.loads(workbench.evaluate(run).read_text())


def test_records_count_heads_and_items_are_by_layer_and_head(measured):
    told = evaluated(measured)
    rows = {row["metric"]: row for row in told["records"]}
    first = rows["labelled_heads"]
    assert (first["suite"], first["task"], first["unit"], first["n"]) == ("head_roles", "made", "heads", 8)
    assert (first["status"], first["data_source"], first["data_hash"]) == ("ok", "made", pairs_hash(PAIRS))
    assert rows["labelled_share"]["value"] == first["value"] / 8
    heads = [(i["item"], i["part"]) for i in told["items"] if i["metric"] == "functions"]
    assert heads == [(layer, head) for layer in range(2) for head in range(4)]


def test_what_it_tells_beside_reaches_the_notes(measured):
    told = evaluated(measured)
    ((protocol, by_task),) = told["told"].items()
    assert protocol.startswith("head-roles-voita@1") and by_task["made"]["sentences"] == len(PAIRS)
    assert by_task["made"]["example"]["words"] == PAIRS[0].source.split()
    (run,) = measured.plan.runs.values()
    notes = json.loads((measured.collect("mini", [run]) / "notes.json").read_text())
    assert notes[run.id]["measured"] == told["told"]


def test_heads_keep_the_numbers_they_had_before_others_were_removed(measured, monkeypatch):
    (run,) = measured.plan.runs.values()
    measured.compress(run)
    facts = paths.checkpoint_facts(run.id)
    kept = [[True, False, True, True, False, True], [False, True, True, True, True, False]]
    noted = json.loads(facts.read_text())
    facts.write_text(json.dumps({**noted, "notes": {"heads": {"kept": {"encoder": kept}}}}))
    told = evaluated(measured)
    heads = [(i["item"], i["part"]) for i in told["items"] if i["metric"] == "functions"]
    assert heads == [(0, 0), (0, 2), (0, 3), (0, 5), (1, 1), (1, 2), (1, 3), (1, 4)]


def test_it_is_measured_once(measured, monkeypatch):
    first = evaluated(measured)
    monkeypatch.setattr(bench_module, "measure_roles", lambda *_: pytest.fail("measured again"))
    assert evaluated(measured)["items"] == first["items"]
