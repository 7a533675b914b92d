"""Translation models in and out of folders: tied embeddings once, the logits' bias, heads that are gone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_translation import HEADS, LAYERS, VOCABULARY, logits, pairs, small_marian
from transformers import AutoModelForSeq2SeqLM, GenerationConfig

from reprune.evaluation.checkpoint_facts import measure_checkpoint
from reprune.method import ModelFacts
from reprune.models.checkpoint import STRUCTURE, load_model, save_model
from reprune.models.folder import ModelFolder
from reprune.models.translation import KINDS
from reprune.surgery.head_gates import remove_heads, retained_heads

SHARED = "model.shared.weight"
BIAS = "final_logits_bias"


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    """A folder as transformers writes it, with settings of generation."""
    model = small_marian()
    model.generation_config = GenerationConfig(
        **{**model.generation_config.to_dict(), "num_beams": 3, "bad_words_ids": [[0]]}
    )
    model.save_pretrained(tmp_path / "dense")
    return tmp_path / "dense"


def saved(model: Any, source: Path, folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    folder.mkdir()
    save_model(model, ModelFolder(source), folder, dtype)
    return folder


def pruned() -> Any:
    """One layer of each kind without heads, the other with some."""
    model = small_marian()
    kept = torch.tensor([[0, 0, 0, 0], [1, 0, 1, 1]]).bool()
    remove_heads(model, {"encoder": kept.flip(0), "decoder": kept, "cross": kept.flip(0)})
    return model


@torch.no_grad()
def test_a_plain_folder_loads_with_equal_logits(dense):
    loaded = load_model(dense)
    assert torch.equal(logits(loaded, pairs()), logits(small_marian(), pairs()))
    assert loaded.lm_head.weight is loaded.model.encoder.embed_tokens.weight is loaded.model.shared.weight
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())


@torch.no_grad()
def test_a_regular_model_is_saved_as_transformers_reads_it(dense, tmp_path):
    folder = saved(load_model(dense), dense, tmp_path / "again")
    assert not (folder / STRUCTURE).exists()
    assert set(ModelFolder(folder).files) == set(ModelFolder(dense).files)
    plain = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert torch.equal(logits(plain, pairs()), logits(small_marian(), pairs()))
    assert plain.generation_config.num_beams == 3


@pytest.mark.parametrize("shared", [True, False])
@torch.no_grad()
def test_embeddings_of_two_vocabularies_or_one_survive(tmp_path, shared):
    model = small_marian(share_encoder_decoder_embeddings=shared)
    model.save_pretrained(tmp_path / "dense")
    remove_heads(model, {"encoder": torch.tensor([[1, 1, 0, 1], [1, 0, 0, 0]]).bool()})
    folder = saved(model, tmp_path / "dense", tmp_path / "cut")
    assert torch.equal(logits(load_model(folder), pairs()), logits(model, pairs()))


@torch.no_grad()
def test_a_model_without_heads_loads_with_equal_logits_and_generates_the_same(dense, tmp_path):
    model = pruned()
    folder = saved(model, dense, tmp_path / "cut")
    loaded, batch = load_model(folder), pairs()
    assert torch.equal(logits(loaded, batch), logits(model, batch))
    assert retained_heads(loaded) == {"encoder": [3, 0], "decoder": [0, 3], "cross": [3, 0]}
    assert loaded.generation_config.num_beams == 3
    assert loaded.generation_config.bad_words_ids == [[0]]
    tokens = [
        one.generate(batch.source, attention_mask=batch.source_mask, num_beams=3, max_new_tokens=12)
        for one in (model, loaded)
    ]
    assert torch.equal(*tokens)
    with pytest.raises(ValueError, match="reprune"):
        AutoModelForSeq2SeqLM.from_pretrained(folder)


@torch.no_grad()
def test_a_decoder_with_more_layers_than_the_encoder_keeps_its_places_in_the_cache(tmp_path):
    """The first decoder layer has no attention at all, which in other models would take no place."""
    model, batch = small_marian(encoder_layers=1, decoder_layers=3), pairs()
    model.save_pretrained(tmp_path / "dense")
    kept = torch.tensor([[0] * HEADS, [1] * HEADS, [1, 0, 1, 0]]).bool()
    remove_heads(model, {"decoder": kept, "cross": kept})
    loaded = load_model(saved(model, tmp_path / "dense", tmp_path / "cut"))
    found = [
        one.generate(
            batch.source, attention_mask=batch.source_mask, num_beams=3, max_new_tokens=12, use_cache=cached
        )
        for one, cached in ((model, False), (model, True), (loaded, True))
    ]
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


@torch.no_grad()
def test_tied_tensors_are_written_once_the_bias_of_logits_too_and_sinusoids_not_at_all(dense, tmp_path):
    folder = saved(pruned(), dense, tmp_path / "cut")
    files = ModelFolder(folder)
    assert [name for name in files.files if "embed" in name or "lm_head" in name] == []
    tensors = files.read([SHARED, BIAS])
    assert torch.equal(tensors[BIAS], small_marian().final_logits_bias) and tensors[BIAS].any()


@torch.no_grad()
def test_loading_leaves_nothing_to_chance_and_the_random_state_alone(dense, tmp_path):
    folder = saved(pruned(), dense, tmp_path / "cut")
    state = torch.get_rng_state()
    first, second = load_model(folder), load_model(folder)
    assert torch.equal(torch.get_rng_state(), state)
    expected = small_marian().model.encoder.embed_positions.weight
    for loaded in (first, second):
        for part in (loaded.model.encoder, loaded.model.decoder):
            assert torch.equal(part.embed_positions.weight, expected)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


@torch.no_grad()
def test_what_went_is_counted_in_the_files(dense, tmp_path):
    counted = measure_checkpoint(ModelFolder(dense), facts(0)).params
    folder = saved(pruned(), dense, tmp_path / "cut")
    whole = measure_checkpoint(ModelFolder(dense))
    assert (whole.params, whole.ratio_achieved) == (counted, 0)
    assert [layer.block for layer in whole.layers] == [*[0] * 6, *[1] * 6, *[2] * 10, *[3] * 10]
    found = measure_checkpoint(ModelFolder(folder), facts(counted))
    head = 8 * (4 * 32 + 3)
    gone = len(KINDS) * (HEADS + 1) * head
    assert found.params == counted - gone
    assert [layer.block for layer in found.layers] == [*[0] * 6, *[1] * 2, *[2] * 6, *[3] * 6]
    assert found.ratio_achieved == pytest.approx(gone / counted)
    assert found.ratio_nonembedding == pytest.approx(gone / (counted - VOCABULARY * 32))


def facts(parameters: int) -> ModelFacts:
    """What a plan knows of the small model; 2 · vocabulary · hidden stands where nothing is counted yet."""
    return ModelFacts(
        "marian", LAYERS, 32, 48, HEADS, HEADS, 8, VOCABULARY, True, parameters or 2 * VOCABULARY * 32
    )
