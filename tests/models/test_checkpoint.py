"""Models of any shape: saved and loaded with equal logits; transformers must not guess at them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import reprune
from reprune.models.checkpoint import STRUCTURE, load_model, save_model, structure
from reprune.models.folder import ModelFolder, ModelFolderError
from reprune.models.parts import put
from reprune.surgery.layers import drop_blocks
from reprune.surgery.low_rank import balanced, factorise, svd

MODELS = ("tiny-llama", "tiny-llama-gqa")


@pytest.fixture
def factored(subject_of, tiny_folder, tmp_path: Path):
    """A model with two low-rank layers, and the folder it was saved in."""

    def build(name: str):
        subject = subject_of(name)
        for layer in ("model.layers.0.self_attn.k_proj", "model.layers.2.mlp.down_proj"):
            linear = subject.model.get_submodule(layer)
            u, s, vt = svd(linear.weight)
            put(subject.model, layer, factorise(linear, *balanced(u[:, :5], s[:5], vt[:5])))
        folder = tmp_path / name
        folder.mkdir()
        save_model(subject.model, ModelFolder(tiny_folder(name)), folder, torch.float32, replaced=[2, 0])
        return subject, folder

    return build


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_low_rank_layers_are_stored_as_two_factors_and_load_again(factored, name):
    subject, folder = factored(name)
    files = ModelFolder(folder).files
    assert "model.layers.0.self_attn.k_proj.down.weight" in files
    assert "model.layers.0.self_attn.k_proj.weight" not in files
    loaded = load_model(folder)
    assert torch.equal(loaded(subject.windows).logits, subject.model(subject.windows).logits)
    assert structure(folder)["replaced"] == ["model.layers.0", "model.layers.2"]
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


@torch.no_grad()
def test_loading_leaves_no_parameter_or_buffer_to_chance(factored):
    """Memory of an empty model may hold anything: two loads must agree in every tensor."""
    _, folder = factored("tiny-llama-gqa")
    first, second = load_model(folder), load_model(folder)
    for (name, left), (_, right) in zip(
        [*first.named_parameters(), *first.named_buffers()],
        [*second.named_parameters(), *second.named_buffers()],
        strict=True,
    ):
        assert torch.equal(left, right), name


def test_transformers_refuses_an_irregular_folder(factored):
    _, folder = factored("tiny-llama")
    with pytest.raises(ValueError, match="reprune"):
        AutoModelForCausalLM.from_pretrained(folder)


@torch.no_grad()
def test_merged_factors_give_a_folder_that_transformers_loads(factored, tiny_folder, tmp_path):
    subject, folder = factored("tiny-llama-gqa")
    merged = reprune.load(folder, merge=True)
    target = tmp_path / "merged"
    target.mkdir()
    save_model(merged, ModelFolder(tiny_folder("tiny-llama-gqa")), target, torch.float32)
    assert not (target / STRUCTURE).exists()
    plain = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32).eval()
    expected = subject.model(subject.windows).logits
    torch.testing.assert_close(plain(subject.windows).logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_fewer_layers_are_a_plain_folder(subject_of, tiny_folder, tmp_path, name):
    subject = subject_of(name)
    drop_blocks(subject.model, [1])
    (tmp_path / "cut").mkdir()
    save_model(subject.model, ModelFolder(tiny_folder(name)), tmp_path / "cut", torch.float32)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "cut", dtype=torch.float32).eval()
    assert torch.equal(plain(subject.windows).logits, subject.model(subject.windows).logits)
    assert plain.config.num_hidden_layers == 2


@torch.no_grad()
def test_narrower_layers_load_with_the_shapes_of_their_tensors(subject_of, tiny_folder, tmp_path):
    subject = subject_of("tiny-llama")
    mlp = subject.blocks[1].mlp
    for layer, rows in ((mlp.gate_proj, True), (mlp.up_proj, True), (mlp.down_proj, False)):
        layer.weight = torch.nn.Parameter(layer.weight[:40] if rows else layer.weight[:, :40])
    (tmp_path / "thin").mkdir()
    save_model(subject.model, ModelFolder(tiny_folder("tiny-llama")), tmp_path / "thin", torch.float32)
    loaded = load_model(tmp_path / "thin")
    assert torch.equal(loaded(subject.windows).logits, subject.model(subject.windows).logits)
    assert loaded.model.layers[1].mlp.down_proj.in_features == 40


def test_a_folder_whose_tensors_do_not_fit_is_refused(factored):
    _, folder = factored("tiny-llama")
    told = json.loads((folder / STRUCTURE).read_text())
    told["parts"] = told["parts"][1:]
    (folder / STRUCTURE).write_text(json.dumps(told))
    with pytest.raises(ModelFolderError, match="do not fit"):
        load_model(folder)


def test_a_format_of_the_future_is_refused(factored):
    _, folder = factored("tiny-llama")
    (folder / STRUCTURE).write_text(json.dumps({"format": 99}))
    with pytest.raises(ModelFolderError, match="format 99"):
        load_model(folder)
