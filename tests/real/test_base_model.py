"""The translation model in the repository is the one its record tells of, and its recipe makes it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import yaml

from reprune.calibration.sentences import batches, encode
from reprune.data.parallel import pairs_hash, read_pairs
from reprune.models.checkpoint import load_model, tensors_of
from reprune.models.folder import ModelFolder, load_tokenizer
from reprune.plan.paths import PARALLEL
from reprune.plan.plan import ROOT, build_plan
from reprune.records.files import read_json
from reprune.stages.train_model import RECORD, recipe_of
from reprune.training.translation import held_out_loss
from reprune.training.translator import train_translator

BASE = ROOT / "papers" / "voita_heads" / "base"
STEPS, TOLERANCE = 50, 0.03  # a rate a fifth higher is 0.1 nats ahead by then
FAR = 10  # times the BLEU of copies, and of translations of other sentences
MOST_BYTES = 12e6


@pytest.fixture(scope="module")
def record() -> dict:
    return read_json(BASE / RECORD)


@pytest.fixture(scope="module")
def entry() -> dict:
    """What ``config/models.yaml`` says of the model that is trained here."""
    return yaml.safe_load((ROOT / "config/models.yaml").read_text(encoding="utf-8"))[
        "translator-en-de-trained"
    ]


@pytest.fixture(scope="module")
def pairs() -> dict:
    """The text that it was trained on; skips where it was never fetched."""
    plan = build_plan({"scale": "local", "mirror": None})
    text = next(run.model.parallel for run in plan.runs_of(["voita_heads"]))
    file = ROOT / PARALLEL / f"{text.id}.parquet"
    if not file.is_file():
        pytest.skip("needs the parallel text: snakemake --cores all --until fetch_parallel")
    return {part: read_pairs(file, part) for part in ("train", "validation", "test")}


def test_the_weights_are_those_that_the_record_tells_of(record):
    assert ModelFolder(BASE).hash() == record["model_hash"]


def test_the_recipe_is_the_one_of_the_configuration(record, entry):
    assert record["recipe"] == entry["source"]["trained"]


def test_it_has_as_many_parameters_as_the_plan_says_and_few_bytes(entry):
    model = load_model(BASE)
    assert sum(t.numel() for t in tensors_of(model, torch.bfloat16).values()) == entry["facts"]["parameters"]
    assert len(load_tokenizer(BASE)) == entry["facts"]["vocab_size"]
    assert sum(file.stat().st_size for file in BASE.iterdir()) < MOST_BYTES


def test_the_data_are_those_that_the_record_tells_of(record, pairs):
    for part, found in pairs.items():
        assert record["data"][part] == {"pairs": len(found), "hash": pairs_hash(found)}


def test_it_translates(record):
    """By its record, which another test holds against the weights: far above what needs no translation."""
    bleu, copies, others = (record["test"][name]["value"] for name in ("bleu", "copy_bleu", "shuffled_bleu"))
    assert bleu > FAR * max(copies, others)


def test_its_held_out_loss_is_the_recorded_one(record, pairs):
    model = load_model(BASE)
    model.set_attn_implementation("eager")
    encoded = encode(load_tokenizer(BASE), pairs["validation"], record["recipe"]["max_length"])
    loss = held_out_loss(model, batches(model, encoded), record["recipe"]["dtype"])
    assert loss == pytest.approx(record["history"]["evaluations"][-1]["loss"], abs=0.01)  # rounded weights


def test_the_recipe_makes_its_first_steps_again(record, entry, pairs):
    recipe = recipe_of(entry["source"]["trained"], {"decoder_layers": 0, **entry["facts"]}, entry["context"])
    steps = dataclasses.replace(recipe.course, steps=STEPS, evaluate_every=STEPS, average=1)
    # The rate at a step does not depend on how many follow.
    _, tokenizer, history = train_translator(
        dataclasses.replace(recipe, course=steps), pairs["train"], pairs["validation"][:50]
    )
    assert history["losses"] == pytest.approx(record["history"]["losses"][:STEPS], abs=TOLERANCE)
    own = load_tokenizer(BASE)
    assert tokenizer.get_vocab() == own.get_vocab()
