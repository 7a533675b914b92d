"""A published Marian checkpoint in a mirror: vocabularies of sentencepiece, both sides' tokens, gates, saving."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from small_project import PAPER
from small_translation import logits as logits_of

from reprune.calibration.sentences import batches, encode
from reprune.data.parallel import made_pairs
from reprune.models.attention import attention_as
from reprune.models.checkpoint import load_model, save_model, tensors_of
from reprune.models.folder import ModelFolder, load_tokenizer
from reprune.models.sources import fetch_model
from reprune.plan.inputs import folder_identity
from reprune.surgery.head_gates import retained_heads
from reprune.training.head_mask_settings import HeadMaskSettings
from reprune.training.head_masks import HeadMasks
from reprune.training.translation import TranslationCourse, held_out_loss, train_translation

PAIRS = made_pairs(120, 4)
PLACE = "Helsinki-NLP--opus-mt-en-ru"


def learn_pieces(folder, texts, name):
    """A sentencepiece model of these texts; its pieces."""
    import sentencepiece

    with (folder / f"{name}.spm").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts), model_writer=file, vocab_size=60, hard_vocab_limit=False, minloglevel=2
        )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{name}.spm"))
    return [pieces.id_to_piece(i) for i in range(pieces.get_piece_size())]


@pytest.fixture(scope="module")
def mirror(tmp_path_factory):
    """A mirror with a small model of that name: two vocabularies of pieces, one list of tokens, as published.

    Its end is 0 and its padding, which also starts the decoder, the last token; it is saved in float16.
    """
    from transformers import MarianConfig, MarianMTModel

    mirror = tmp_path_factory.mktemp("mirror")
    folder = mirror / "models" / PLACE
    folder.mkdir(parents=True)
    sides = {"source": [pair.source for pair in PAIRS], "target": [pair.target for pair in PAIRS]}
    pieces = {piece for name, texts in sides.items() for piece in learn_pieces(folder, texts, name)}
    tokens = ["</s>", "<unk>", *sorted(pieces - {"<s>", "</s>", "<unk>"}), "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "tokenizer_config.json").write_text('{"target_lang": "ru", "source_lang": "en"}')
    last = len(tokens) - 1
    sizes = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "vocab_size": len(tokens)}
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "max_position_embeddings": 64}
    feed = {"encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "activation_function": "swish", "scale_embedding": True}
    special = {"pad_token_id": last, "eos_token_id": 0, "decoder_start_token_id": last, "forced_eos_token_id": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = MarianMTModel(MarianConfig(**sizes, **heads, **feed, **special, init_std=0.15))
        model.final_logits_bias += 0.1 * torch.randn_like(model.final_logits_bias)
    model.generation_config.bad_words_ids = [[last]]
    model.half().save_pretrained(folder)
    return mirror


@pytest.fixture
def folder(mirror, tmp_path):
    """The model as it is fetched."""
    target = tmp_path / "model"
    target.mkdir()
    source = {"folder": folder_identity(mirror / "models" / PLACE)}
    fetch_model(source, "float16", facts_of(mirror), target, folder=mirror / "models" / PLACE)
    return target


def facts_of(mirror):
    tokens = len(json.loads((mirror / "models" / PLACE / "vocab.json").read_text()))
    told = {"architecture": "marian", "layers": 2, "decoder_layers": 2, "hidden_size": 32, "heads": 4}
    told |= {"kv_heads": 4, "head_dim": 8, "intermediate_size": 48, "vocab_size": tokens, "tied_embeddings": True}
    model = load_model(mirror / "models" / PLACE)
    return {**told, "parameters": sum(t.numel() for t in tensors_of(model, torch.float32).values())}


def test_a_mirrors_copy_stands_for_the_hub(mirror, project):
    project.edit("config/scales/smoke.yaml", "sources: [made]", "sources: [mirror, hub, made]")
    project.edit(PAPER, "[tiny-llama]", "[opus-mt-en-ru]")
    project.edit(PAPER, "[dense, magnitude, wanda]", "[dense]")
    plan = project.plan(mirror=str(mirror))
    (model,) = plan.models.values()
    assert model.label == f"mirror:models/{PLACE}"
    assert plan.inputs.model_folder(model) == mirror / "models" / PLACE


def test_sources_and_targets_are_read_by_their_own_vocabulary_and_end(folder):
    import sentencepiece

    tokenizer = load_tokenizer(folder)
    every = encode(tokenizer, PAIRS, 64)
    assert len(every) == len(PAIRS)
    assert {pair.source[-1] for pair in every} == {pair.target[-1] for pair in every} == {0}
    assert not any(0 in side[:-1] for pair in every for side in pair)
    vocabulary = json.loads((folder / "vocab.json").read_text())
    for side, name in enumerate(("source", "target")):
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{name}.spm"))
        for pair, found in zip(PAIRS[:10], every, strict=False):
            expected = [vocabulary.get(p, 1) for p in pieces.encode(pair[side], out_type=str)]
            assert found[side] == [*expected, 0]
    assert tokenizer.batch_decode([every[0].target], skip_special_tokens=True) == [PAIRS[0].target]


def test_it_is_trained_gated_saved_and_loaded(folder, tmp_path):
    model, tokenizer = load_model(folder), load_tokenizer(folder)
    bias = model.final_logits_bias.clone()
    every = encode(tokenizer, PAIRS, 64)
    batch = batches(model, every[100:])[0]
    assert batch.target[0, 0] == model.config.pad_token_id and model.dtype == torch.float32
    before = held_out_loss(model, [batch])
    course = TranslationCourse(12, 500, 0.3, 4, 6)
    gates = HeadMasks(model, HeadMaskSettings(penalty=0.005, mask_rate=0.4), 1)
    history = train_translation(model, every[:100], every[100:], course, 0, partner=gates)
    kept = gates.finish()
    assert history["evaluations"][-1]["loss"] < history["evaluations"][0]["loss"]
    assert held_out_loss(model, [batch]) < before and torch.equal(model.final_logits_bias, bias)
    saved = tmp_path / "saved"
    saved.mkdir()
    save_model(model, ModelFolder(folder), saved, torch.float32)
    loaded = load_model(saved)
    assert retained_heads(loaded)["encoder"] == kept["encoder"].sum(1).tolist()
    with torch.no_grad(), attention_as(loaded, "eager"), attention_as(model, "eager"):
        assert torch.equal(logits_of(loaded, batch), logits_of(model, batch))
    assert load_tokenizer(saved)([PAIRS[0].source])["input_ids"] == [every[0].source]
    assert loaded.generation_config.bad_words_ids == [[model.config.pad_token_id]]
    written = loaded.generate(batch.source[:2], attention_mask=batch.source_mask[:2], num_beams=2, max_new_tokens=6)
    assert written[0, 0] == model.config.pad_token_id not in written[:, 1:3].flatten().tolist()


def test_facts_that_contradict_it_are_refused(mirror, tmp_path):
    from reprune.data.packages import FetchError

    facts = {**facts_of(mirror), "decoder_layers": 6, "intermediate_size": 2048}
    told = "decoder_layers is 2, the plan says 6; intermediate_size is 48, the plan says 2048"
    with pytest.raises(FetchError, match=told):
        fetch_model({"folder": {}}, "float16", facts, tmp_path, folder=mirror / "models" / PLACE)


def test_a_folder_without_its_pieces_is_no_tokenizer(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "cut")
    (tmp_path / "cut" / "source.spm").unlink()
    with pytest.raises(Exception, match="source.spm|sentencepiece|NoneType|not a string"):
        load_tokenizer(tmp_path / "cut")
