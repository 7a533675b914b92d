"""A translation model trained from nothing as a stage: its folder, its record, and going on after a kill."""

from __future__ import annotations

import json

import pytest
import torch
from small_project import PAPER
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from reprune.calibration.sentences import batches, encode
from reprune.data.packages import FetchError
from reprune.data.parallel import pairs_hash, read_pairs
from reprune.models.folder import ModelFolder
from reprune.models.translator import new_model
from reprune.plan import paths
from reprune.records.progress import Rate
from reprune.stages import train_model
from reprune.training.keeping import Keeper
from reprune.training.translation import held_out_loss


@pytest.fixture
def made(project, bench):
    """A workbench with the toy translator, and its one model's id."""
    project.edit(PAPER, "[tiny-llama]", "[tiny-translator]")
    project.edit(PAPER, "[dense, magnitude, wanda]", "[dense]")
    project.edit(PAPER, "[perplexity-wanda]", "[translation-voita]")
    workbench = bench()
    (model_id,) = workbench.plan.models
    return workbench, model_id


def pairs_of(workbench, part):
    (data_id,) = workbench.plan.parallel
    return read_pairs(workbench.parallel(data_id), part)


def test_a_whole_folder_that_transformers_load_alone(made):
    workbench, model_id = made
    folder = workbench.model(model_id)
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert {f.name for f in folder.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert (model.config.decoder_layers, model.config.max_position_embeddings) == (2, 64)
    assert model.dtype == torch.float32 and type(model).__name__ == "MarianMTModel"
    record = json.loads((folder / train_model.RECORD).read_text())
    held_out = batches(model, encode(tokenizer, pairs_of(workbench, "validation"), 32))
    last = record["history"]["evaluations"][-1]["loss"]
    assert held_out_loss(model.eval(), held_out) == pytest.approx(last, rel=1e-5)
    assert last < record["history"]["evaluations"][0]["loss"] - 0.5
    source = tokenizer([pairs_of(workbench, "test")[0].source], return_tensors="pt")
    written = model.generate(**{k: source[k] for k in ("input_ids", "attention_mask")}, max_new_tokens=8)
    assert written[0, 0] == model.config.decoder_start_token_id and written.shape[1] > 2


def test_the_record_has_what_the_model_was_made_of(made):
    workbench, model_id = made
    folder = workbench.model(model_id)
    record = json.loads((folder / train_model.RECORD).read_text())
    facts = json.loads((paths.MODELS / f"{model_id}.json").read_text())
    assert facts == {"source": "made", "hash": ModelFolder(folder).hash()}
    assert record["model_hash"] == facts["hash"]
    told = {part: record["data"][part] for part in ("train", "validation")}
    assert told == {
        part: {"pairs": len(found), "hash": pairs_hash(found)}
        for part, found in ((part, pairs_of(workbench, part)) for part in told)
    }
    fetched = json.loads((paths.PARALLEL / f"{next(iter(workbench.plan.parallel))}.json").read_text())
    assert {part: fetched[part] for part in told} == told and set(fetched) > {"test", "source", "fit"}
    assert record["recipe"]["steps"] == record["history"]["steps"] == 150
    assert model_id in record["command"] and record["threads"] == 1
    assert {"commit", "versions"} <= set(record)


def test_killed_and_resumed_it_is_the_same_model(made, monkeypatch):
    workbench, model_id = made
    folder = workbench.model(model_id)
    whole = ModelFolder(folder).hash()
    assert not list(paths.STORE.rglob("state.json")), "what was kept is dropped in the end"
    folder.rename("other")
    monkeypatch.setattr(Keeper, "due", lambda self: True)
    call = Rate.__call__

    def killed(self, done, total):
        call(self, done, total)
        if done > total / 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Rate, "__call__", killed)
    with pytest.raises(KeyboardInterrupt):
        workbench.model(model_id)
    assert not folder.exists() and list(paths.STORE.rglob("state.json"))
    begun = []
    monkeypatch.setattr(Rate, "__call__", lambda self, done, total: begun.append(done / total))
    assert ModelFolder(workbench.model(model_id)).hash() == whole and begun[0] > 0.5
    assert not list(paths.STORE.rglob("state.json"))


def test_a_state_of_another_shape_is_not_gone_on_from(made, monkeypatch):
    workbench, model_id = made
    monkeypatch.setattr(Keeper, "due", lambda self: True)
    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "drop", lambda self: None)
        workbench.model(model_id).rename("other")
    params = json.loads(workbench.jobs.train_model(model_id))
    params["facts"] |= {"decoder_layers": 1, "parameters": 1}
    monkeypatch.setattr(workbench.jobs, "train_model", lambda model_id: json.dumps(params))
    workbench.model(model_id)
    assert AutoModelForSeq2SeqLM.from_pretrained(paths.MODELS / model_id).config.decoder_layers == 1


def test_a_model_that_is_not_the_plans_is_refused_and_nothing_is_left(made, monkeypatch):
    workbench, model_id = made
    monkeypatch.setattr(
        "reprune.training.translator.new_model",
        lambda shape, seed: new_model(type(shape)(**{**vars(shape), "heads": 2}), seed),
    )
    with pytest.raises(FetchError, match="heads is 2, the plan says 4"):
        workbench.model(model_id)
    assert not (paths.MODELS / model_id).exists()
