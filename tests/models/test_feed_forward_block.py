"""A feed-forward block among decoder blocks: saved, loaded again, and generation with a cache around it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from reprune.models.checkpoint import load_model, save_model
from reprune.models.folder import ModelFolder
from reprune.models.parts import FeedForwardBlock
from reprune.models.skeleton import find_blocks
from reprune.surgery.layers import drop_blocks, keep_blocks

MODELS = ("tiny-llama", "tiny-llama-gqa", "OPT", "Qwen2", "Gemma3")


def with_block(folder: Path, place: int, dropped: tuple[int, ...] = ()):
    """A model whose decoder block at ``place`` is a random feed-forward block, and some blocks are gone."""
    model = load_model(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(place)
        block = FeedForwardBlock(model.config.hidden_size, 40, 0.5)
        torch.nn.init.normal_(block.down.weight, 0, 0.5)
    find_blocks(model)[1][place] = block.eval().requires_grad_(False)
    drop_blocks(model, dropped)
    return model


def tokens(model, length=12):
    return torch.randint(3, 50, (2, length), generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_the_block_is_what_it_says():
    block = FeedForwardBlock(4, 6, 0.5).eval()
    x = torch.randn(2, 3, 4)
    norm = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    expected = x + (norm @ block.up.weight.T).clamp(min=0) @ block.down.weight.T + block.down.bias
    torch.testing.assert_close(block(x, attention_mask=None, position_ids=None), expected)
    assert block.up.bias is None
    assert sum(p.numel() for p in block.parameters()) == 4 * (2 * 6 + 3)


@torch.no_grad()
def test_dropout_acts_in_training_only():
    block, x = FeedForwardBlock(4, 64, 0.5).eval(), torch.randn(1, 3, 4)
    assert torch.equal(block(x), block(x))
    assert not torch.equal(block.train()(x), block.eval()(x))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("place", [0, 1, 2])
@torch.no_grad()
def test_saved_and_loaded_again_the_logits_are_equal(architecture, tmp_path, name, place):
    model = with_block(architecture(name), place)
    save_model(model, ModelFolder(architecture(name)), tmp_path, torch.float32, replaced=[place])
    loaded = load_model(tmp_path)
    assert type(find_blocks(loaded)[1][place]) is FeedForwardBlock
    assert torch.equal(loaded(tokens(model)).logits, model(tokens(model)).logits)
    agree(loaded)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("place", "dropped"), [(0, ()), (0, (1,)), (1, ()), (1, (0,)), (2, (0,)), (2, (1,))])
@torch.no_grad()
def test_a_cache_gives_the_full_forward_pass(architecture, name, place, dropped):
    agree(with_block(architecture(name), place, dropped))


def agree(model):
    """Logits of a prompt and of steps after it, and generated tokens, are those without a cache."""
    given = tokens(model)
    whole = model(given, use_cache=False).logits
    begun = model(given[:, :9], use_cache=True)
    parts, cache = [begun.logits], begun.past_key_values
    for place in range(9, given.shape[1]):
        parts.append(model(given[:, place : place + 1], past_key_values=cache, use_cache=True).logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-4)
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    with_cache, without = (model.generate(given, use_cache=use, **options) for use in (True, False))
    assert torch.equal(with_cache, without)


@pytest.mark.parametrize("kept", [[0], [1], [2, 0], [1, 2], [0, 2]])
@torch.no_grad()
def test_kinds_of_attention_keep_their_places(architecture, kept):
    """Of sliding, full and sliding attention; a place of the cache serves one kind."""
    model = load_model(architecture("Gemma3"))
    keep_blocks(model, kept)
    kinds = model.config.layer_types
    assert kinds == [("sliding_attention", "full_attention", "sliding_attention")[i] for i in kept]
    assert [b.self_attn.layer_idx for b in model.model.layers] == list(range(len(kept)))
    agree(model)


@pytest.mark.parametrize(
    ("name", "place", "places", "kinds"),
    [("Qwen2", 0, [0, 1], "fff"), ("Gemma3", 0, [0, 2], "ffs"), ("Gemma3", 1, [0, 1], "sss")],
)
def test_blocks_without_attention_leave_the_last_places_of_a_kind(architecture, name, place, places, kinds):
    model = with_block(architecture(name), place)
    attention = [block.self_attn for block in model.model.layers if hasattr(block, "self_attn")]
    assert [module.layer_idx for module in attention] == places
    assert "".join(kind[0] for kind in model.config.layer_types) == kinds
