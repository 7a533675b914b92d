"""The real workflow on models that lose parts: compressed once, trained again, saved, measured and drawn."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from workflow_tree import Tree

import reprune

pytestmark = pytest.mark.dag


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    made = Tree(tmp_path_factory.mktemp("project"))
    made.first = made.run("reshaped")
    assert made.first.returncode == 0, made.first.stdout
    return made


@pytest.fixture(scope="module")
def records(tree):
    return pd.read_csv(tree.results / "smoke" / "reshaped" / "records.csv")


def facts_of(tree) -> list[dict]:
    return [json.loads(file.read_text()) for file in tree.results.glob("runs/grasp-*/checkpoint.json")]


def test_with_and_without_recovery_share_one_compression(tree):
    log = tree.first.stdout
    assert log.count("compress grasp 40% of parameters: done") == 1
    assert log.count("recover grasp 40% of parameters") == 1
    with_, without = sorted(
        facts_of(tree), key=lambda facts: "recover_s" not in facts or not facts["recover_s"]
    )
    assert with_["compress_s"] == without["compress_s"] and with_["recover_s"] > 0
    assert with_["params"] == without["params"] and with_["hash"] != without["hash"]


def test_both_ratios_are_measured_and_their_basis_is_named(records):
    grasp = records[(records.method == "grasp") & (records.suite == "perplexity")]
    assert grasp.ratio_achieved.tolist() == pytest.approx([0.4, 0.4], abs=0.01)
    assert (grasp.ratio_nonembedding > grasp.ratio_achieved).all()
    assert set(grasp.ratio_basis) == {"parameters, tied embeddings once"}
    assert set(grasp.target_kind) == {"low_rank"}


def test_what_cannot_be_measured_or_served_is_a_row_with_its_reason(records):
    skipped = records[records.status == "skipped"]
    assert (skipped[skipped.protocol == "longbench-grasp@1"].reason.str.len() > 0).all()
    assert skipped[skipped.method == "wanda"].reason.tolist() == ["serves only unstructured, n:m targets"]


def test_every_suite_has_its_rows(records):
    measured = records[records.status == "ok"].groupby("suite").run_id.nunique().to_dict()
    assert measured == {"perplexity": 4, "response": 4, "efficiency": 4}


def test_a_chain_trains_on_text_and_then_on_instructions(tree, records):
    assert tree.first.stdout.count("draw mixture made-100x32") >= 1
    (written,) = {w for w in records.recovery.dropna() if "after" in w}
    assert [told["kind"] for told in json.loads(written)["after"]] == ["pretrain"]
    notes = json.loads((tree.results / "smoke" / "reshaped" / "notes.json").read_text())
    (chain,) = (told for told in notes.values() if "earlier_recoveries" in told)
    (first,) = chain["earlier_recoveries"]
    assert (first["kind"], chain["recovery"]["kind"]) == ("pretrain", "lora")
    assert first["steps"] == len(first["losses"]) == 6


def test_the_pictures_are_drawn(tree):
    plots = tree.results / "smoke" / "reshaped" / "plots"
    for name in ("layers", "spectrum", "training", "throughput"):
        assert (plots / f"{name}.svg").stat().st_size > 1000 and (plots / f"{name}.csv").is_file()


def test_a_saved_checkpoint_loads_and_generates(tree):
    folder = next(tree.results.glob("runs/grasp-*/checkpoint"))
    model = reprune.load(folder)
    tokens = model.generate(
        model.dummy_inputs["input_ids"][:1] % 256, min_new_tokens=3, max_new_tokens=3, do_sample=False
    )
    assert tokens.shape[1] == model.dummy_inputs["input_ids"].shape[1] + 3


def test_a_second_run_has_nothing_to_do(tree):
    assert "Nothing to be done" in tree.run("reshaped").stdout
