"""Where models come from, and that each is the model the plan means."""

from __future__ import annotations

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from reprune.data.packages import FetchError
from reprune.models.folder import ModelFolder, ModelFolderError
from reprune.models.sources import fetch_model


def test_every_llamas_parameters_follow_from_its_other_facts(root):
    for name, entry in yaml.safe_load((root / "config" / "models.yaml").read_text()).items():
        f = entry["facts"]
        if f["architecture"] == "llama":
            attention = 2 * f["hidden_size"] * f["head_dim"] * (f["heads"] + f["kv_heads"])
            block = attention + f["hidden_size"] * (3 * f["intermediate_size"] + 2)
            embeddings = f["vocab_size"] * f["hidden_size"] * (1 if f["tied_embeddings"] else 2)
            assert f["layers"] * block + embeddings + f["hidden_size"] == f["parameters"], name


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-llama-gqa"])
def test_a_random_model_is_the_one_its_facts_describe(tiny_folder, model_entry, name):
    entry, model = model_entry(name), AutoModelForCausalLM.from_pretrained(tiny_folder(name))
    assert sum(p.numel() for p in model.parameters()) == entry["facts"]["parameters"]
    assert model.dtype == getattr(torch, entry["dtype"])
    assert model.config.num_key_value_heads == entry["facts"]["kv_heads"]
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tied == entry["facts"]["tied_embeddings"]


def test_a_random_model_comes_from_its_seed_alone(tiny_folder, model_entry, tmp_path):
    entry, hashes = model_entry("tiny-llama"), []
    for seed in (1, 2):
        torch.manual_seed(5)
        (tmp_path / str(seed)).mkdir()
        fetch_model(
            {"random": {"seed": seed, "max_position_embeddings": 256}},
            entry["dtype"],
            entry["facts"],
            tmp_path / str(seed),
        )
        drawn = torch.rand(1)
        hashes.append(ModelFolder(tmp_path / str(seed)).hash())
    torch.manual_seed(5)
    assert drawn == torch.rand(1), "the process's own random stream was moved"
    assert hashes[0] == ModelFolder(tiny_folder()).hash() != hashes[1]


def test_the_made_tokenizer_reads_any_text_byte_by_byte(tiny_folder):
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder())
    text = "Grüße,\n\n 1 2\t<unk>"
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == len(text.encode()) and tokenizer.decode(ids) == text
    assert tokenizer.convert_tokens_to_ids("<|endoftext|>") == 1


@pytest.mark.parametrize(
    ("fact", "value", "found"),
    [("layers", 4, 3), ("kv_heads", 2, 4), ("head_dim", 8, 16), ("tied_embeddings", True, False)],
)
def test_contradicting_facts_are_refused(tiny_folder, model_entry, tmp_path, fact, value, found):
    facts = {**model_entry("tiny-llama")["facts"], fact: value, "hidden_size": 65}
    with pytest.raises(FetchError) as caught:
        fetch_model({"folder": "x"}, "float16", facts, tmp_path, folder=tiny_folder())
    assert f"{fact} is {found}, the plan says {value}; " in str(caught.value)
    assert "hidden_size is 64, the plan says 65; " in str(caught.value)
    assert str(caught.value).endswith("; correct config/models.yaml")


def test_a_folder_is_taken_as_it_is(tiny_folder, model_entry, tmp_path):
    facts = model_entry("tiny-llama")["facts"]
    fetch_model({"folder": "x"}, "float16", facts, tmp_path, folder=tiny_folder())
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in tiny_folder().iterdir())
    assert ModelFolder(tmp_path).hash() == ModelFolder(tiny_folder()).hash()


def test_pickled_weights_are_refused(tiny_folder, model_entry, tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source, target):
        folder.mkdir()
    (source / "config.json").write_text((tiny_folder() / "config.json").read_text())
    (source / "pytorch_model.bin").write_bytes(b"\x80\x02")
    fetch_model({"folder": "x"}, "float16", model_entry("tiny-llama")["facts"], target, folder=source)
    with pytest.raises(ModelFolderError, match="no model.safetensors and no .*; only safetensors are read"):
        ModelFolder(target).hash()


def test_a_hub_model_that_cannot_be_had_is_one_line(model_entry, tmp_path):
    with pytest.raises(FetchError) as caught:
        fetch_model({"hub": {"id": "no/such-model"}}, "float16", model_entry("tiny-llama")["facts"], tmp_path)
    message = str(caught.value)
    assert message.startswith("hub model no/such-model could not be had: ") and "\n" not in message
    assert "put a copy into the mirror as models/no--such-model" in message
