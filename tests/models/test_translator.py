"""A translation model from nothing: its vocabulary, its shape and its first weights."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest
import torch
import yaml
from small_translation import small_marian
from transformers import AutoTokenizer

from reprune.data.parallel import made_pairs
from reprune.models.checkpoint import computed, tensors_of
from reprune.models.translator import (
    ALPHABET,
    END,
    PAD,
    UNKNOWN,
    WRITING,
    Shape,
    draw_weights,
    learn_tokenizer,
    new_model,
)
from reprune.surgery.head_gates import remove_heads, retained_heads

SMALL = Shape(2, 3, 32, 64, 4, 100, 64, 0.0)
TEXTS = [text for pair in made_pairs(200, 1) for text in pair]
RARE = [f"the cat {chr(0x4E00 + i)} sat" for i in range(ALPHABET + 200)]  # each of these characters once
HASH = """
import hashlib, sys
from reprune.models.translator import learn_tokenizer
told = learn_tokenizer(sys.stdin.read().splitlines(), 600).backend_tokenizer.to_str()
print(hashlib.sha256(told.encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def tokenizer():
    return learn_tokenizer(TEXTS, 120)


def weights(model):
    """All tensors that training changes, and the bias of logits."""
    return {name: tensor.clone() for name, tensor in tensors_of(model, torch.float32).items()}


def test_texts_are_read_back_as_they_were(tokenizer):
    known = sorted({text for text in TEXTS if text})[:20]
    for text in [*known, TEXTS[0].replace(".", "") + TEXTS[1] + ".", "The"]:
        ids = tokenizer(text)["input_ids"]
        assert ids[-1] == tokenizer.eos_token_id and tokenizer.eos_token_id not in ids[:-1]
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert max(len(tokenizer(text)["input_ids"]) for text in known) < 20, "words have become tokens"


def test_targets_are_read_as_sources_and_what_was_never_seen_is_unknown(tokenizer):
    assert tokenizer(text_target=["Das HUND."])["input_ids"] == tokenizer(["Das HUND."])["input_ids"]
    ids = tokenizer("The Ω.")["input_ids"]
    assert tokenizer.unk_token_id in ids and tokenizer.decode(ids, skip_special_tokens=True) == "The ."


def test_special_tokens_have_the_places_that_the_model_is_told(tokenizer):
    config = new_model(SMALL, 0).config
    found = {name: tokenizer.convert_tokens_to_ids(name) for name in (PAD, END, UNKNOWN)}
    assert found == {PAD: config.pad_token_id, END: config.eos_token_id, UNKNOWN: 2}
    assert config.decoder_start_token_id == config.pad_token_id
    padded = tokenizer(["The dog.", "The"], padding=True)
    assert padded["input_ids"][1][-1] == config.pad_token_id and padded["attention_mask"][1][-1] == 0


def test_no_more_tokens_than_asked_for(tokenizer):
    assert len(tokenizer) == 120 == len(set(tokenizer.get_vocab().values()))
    assert len(learn_tokenizer(["a b"], 120)) < 120, "there is nothing more to merge"


def test_saved_and_loaded_it_gives_the_same(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded(TEXTS)["input_ids"] == tokenizer(TEXTS)["input_ids"]
    assert (loaded.eos_token_id, loaded.pad_token_id) == (tokenizer.eos_token_id, tokenizer.pad_token_id)
    ids = loaded(TEXTS[0])["input_ids"]
    assert loaded.decode(ids, skip_special_tokens=True) == TEXTS[0]


def test_equal_texts_give_equal_merges_in_every_process(root):
    """The trainer drops rare characters in the order of a table that differs from process to process."""
    environment = {**os.environ, "PYTHONPATH": str(root), "TOKENIZERS_PARALLELISM": "true"}
    told = {"input": "\n".join(RARE), "env": environment, "encoding": "utf-8"}
    done = subprocess.run([sys.executable, "-c", HASH], capture_output=True, check=True, **told)
    own = learn_tokenizer(RARE, 600).backend_tokenizer.to_str()
    assert done.stdout.strip() == hashlib.sha256(own.encode()).hexdigest()


def test_the_most_frequent_characters_have_tokens_the_first_of_equals():
    vocabulary = learn_tokenizer([*RARE, chr(0x4E00 + ALPHABET) * 2], 600).get_vocab()
    drawn = [chr(0x4E00 + i) in vocabulary for i in range(ALPHABET + 200)]
    common = len(set("".join(RARE[:1]))) - 1  # of one text, less the rare one; the mark stands for the space
    assert drawn[ALPHABET] and sum(drawn) == ALPHABET - common
    assert drawn.index(False) == ALPHABET - common - 1 and not any(drawn[ALPHABET - common : ALPHABET])


@pytest.mark.parametrize("name", ["translator-en-de", "tiny-translator"])
def test_a_new_model_is_the_one_its_facts_describe(root, name):
    entry = yaml.safe_load((root / "config" / "models.yaml").read_text())[name]
    f = entry["facts"]
    names = ("layers", "decoder_layers", "hidden_size", "intermediate_size", "heads", "vocab_size")
    model = new_model(Shape(*(f[name] for name in names), entry["context"], 0.0), 1)
    assert sum(tensor.numel() for tensor in tensors_of(model, torch.float32).values()) == f["parameters"]
    attention, size = 4 * (f["hidden_size"] ** 2 + f["hidden_size"]), f["hidden_size"]
    forward = 2 * size * f["intermediate_size"] + size + f["intermediate_size"]
    layers = f["layers"] * (attention + forward + 4 * size)
    layers += f["decoder_layers"] * (2 * attention + forward + 6 * size)
    assert layers + f["vocab_size"] * (size + 1) == f["parameters"], "and they follow from its other facts"
    assert retained_heads(model)["encoder"] == [f["heads"]] * f["layers"]
    assert not model.training and not any(p.requires_grad for p in model.parameters())


def test_equal_seeds_give_equal_weights_and_the_global_state_is_left_alone():
    state = torch.get_rng_state()
    first = weights(new_model(SMALL, 5))
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(2)
    second, other = weights(new_model(SMALL, 5)), weights(new_model(SMALL, 6))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert {name for name in first if torch.equal(first[name], other[name])} == {
        name for name in first if name.endswith("bias") or "layer_norm" in name or "layernorm" in name
    }


def test_matrices_start_between_glorots_bounds_and_embeddings_by_the_width():
    """What is added to the residual stream is smaller: (8 · 2)^-1/4 is a half."""
    model = new_model(Shape(2, 1, 128, 512, 8, 2000, 16, 0.0), 0)
    layers = model.model.encoder.layers[1], model.model.decoder.layers[0]
    gains = {"fc1": 0.5, "fc2": 0.5, "v_proj": 0.5, "out_proj": 0.5, "k_proj": 1.0, "q_proj": 1.0}
    for place in (*layers, layers[0].self_attn, layers[1].self_attn, layers[1].encoder_attn):
        for name, gain in gains.items():
            if (module := getattr(place, name, None)) is not None:
                bound = gain * (6 / sum(module.weight.shape)) ** 0.5
                assert 0.98 * bound < module.weight.abs().max() <= bound
                assert abs(module.weight.mean()) < 0.02 * bound
    embedding = model.model.shared.weight
    assert embedding[model.config.pad_token_id].eq(0).all()
    assert embedding[1:].std().item() == pytest.approx(128**-0.5, rel=0.02)
    assert embedding is model.lm_head.weight is model.model.decoder.embed_tokens.weight


def test_six_layers_at_their_start_leave_tokens_apart():
    """Out of six post-norm layers at Glorot's gain all tokens come alike, and training stalls."""
    tokens = torch.arange(3, 43)[None]
    model = new_model(Shape(6, 1, 128, 512, 8, 100, 64, 0.0), 0)
    assert _likeness(model, tokens) < 0.3
    for name, parameter in model.named_parameters():
        if name.split(".")[-2] in WRITING and parameter.ndim == 2:
            torch.nn.init.xavier_uniform_(parameter)
    assert _likeness(model, tokens) > 0.9


def _likeness(model, tokens):
    """The mean cosine between the encoder's outputs for different tokens."""
    states = torch.nn.functional.normalize(model.get_encoder()(tokens).last_hidden_state[0], dim=-1)
    apart = ~torch.eye(len(states)).bool()
    return (states @ states.T)[apart].mean().item()


@pytest.mark.parametrize("pruned", [False, True])
def test_weights_drawn_anew_are_all_others_and_of_the_same_shape(pruned):
    model = small_marian()
    if pruned:
        remove_heads(model, {"encoder": torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0]]).bool()})
    before, heads = weights(model), retained_heads(model)
    fixed = {name: tensor.clone() for name, tensor in model.named_parameters() if name in computed(model)}
    state = torch.get_rng_state()
    draw_weights(model, 3)
    assert torch.equal(torch.get_rng_state(), state)
    after = weights(model)
    assert not [name for name in before if torch.equal(before[name], after[name])]
    assert {name: t.shape for name, t in after.items()} == {name: t.shape for name, t in before.items()}
    assert retained_heads(model) == heads
    assert all(torch.equal(dict(model.named_parameters())[name], tensor) for name, tensor in fixed.items())
    draw_weights(model, 3)
    assert all(torch.equal(tensor, after[name]) for name, tensor in weights(model).items())
    draw_weights(model, 4)
    assert not torch.equal(weights(model)["model.shared.weight"], after["model.shared.weight"])


def test_heads_left_start_as_in_the_whole_projection():
    """One head of four: Glorot's bound is that of 32 x 32, as with the others' gates held at 0."""
    whole, pruned = new_model(SMALL, 1), new_model(SMALL, 1)
    remove_heads(pruned, {"encoder": torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0]]).bool()})
    draw_weights(pruned, 3)
    for name, tensor in weights(pruned).items():
        if "encoder.layers" in name and "self_attn" in name and name.endswith("weight"):
            assert tensor.numel() > 0
            assert tensor.abs().max().item() == pytest.approx(
                weights(whole)[name].abs().max().item(), rel=0.03
            )


def test_drawn_anew_a_model_starts_as_a_new_one_does():
    """The same distribution: what is constant in one is so in the other, and the rest has its spread."""
    new, drawn = new_model(SMALL, 1), new_model(SMALL, 2)
    with torch.no_grad():
        for tensor in tensors_of(drawn, torch.float32).values():
            tensor.fill_(7.0)
    draw_weights(drawn, 3)
    for name, tensor in weights(new).items():
        other = weights(drawn)[name]
        assert other.std().item() == pytest.approx(tensor.std().item(), rel=0.2, abs=1e-6), name
        assert other.mean().item() == pytest.approx(tensor.mean().item(), abs=0.03), name
