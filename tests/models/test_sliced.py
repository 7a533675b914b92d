"""Blocks with matrices on the residual path: wired as the dense ones, saved and loaded, generating."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from torch import nn

from reprune.models.checkpoint import load_model, save_model, structure
from reprune.models.folder import ModelFolder
from reprune.models.parts import put
from reprune.models.sliced import PlainRMSNorm, SlicedBlock

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
FAMILIES = {
    "llama": transformers.LlamaConfig(tie_word_embeddings=False, **SIZES),
    "mistral": transformers.MistralConfig(sliding_window=6, tie_word_embeddings=False, **SIZES),
    "qwen2": transformers.Qwen2Config(
        use_sliding_window=True, sliding_window=6, max_window_layers=1, tie_word_embeddings=False, **SIZES
    ),
}
TOKENS = torch.randint(50, (2, 16), generator=torch.Generator().manual_seed(0))


def sliced_around(old: nn.Module, inputs: int = 32, middle: int = 32, outputs: int = 32) -> SlicedBlock:
    block = SlicedBlock(old, inputs, middle, outputs).eval().requires_grad_(False)
    for shortcut in (block.attn_shortcut, block.mlp_shortcut):
        nn.init.eye_(shortcut.weight)
    return block


@pytest.fixture
def model_of():
    """A random model of a family, whose norms' gains differ."""

    def build(family: str):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = transformers.AutoModelForCausalLM.from_config(FAMILIES[family])
            for parameter in model.parameters():
                nn.init.normal_(parameter, 0, 0.2)
        return model.eval().requires_grad_(False)

    return build


@pytest.fixture
def narrow(model_of):
    """A model whose states are 20, 24 and 32 features wide in turn, with norms that divide by 32."""

    def build(family: str):
        model = model_of(family)
        widths = [(20, 24, 20), (20, 24, 32)]
        cut(model.model.embed_tokens, columns=20)
        put(model, "model.norm", PlainRMSNorm(32, 1e-5))
        for index, (inputs, middle, outputs) in enumerate(widths):
            old = model.model.layers[index]
            for reader in (old.self_attn.q_proj, old.self_attn.k_proj, old.self_attn.v_proj):
                cut(reader, columns=inputs)
            for reader in (old.mlp.gate_proj, old.mlp.up_proj):
                cut(reader, columns=middle)
            cut(old.self_attn.o_proj, rows=middle)
            cut(old.mlp.down_proj, rows=outputs)
            for norm in ("input_layernorm", "post_attention_layernorm"):
                put(old, norm, PlainRMSNorm(32, 1e-5))
            put(model, f"model.layers.{index}", sliced_around(old, inputs, middle, outputs))
        return model

    return build


def cut(layer: nn.Module, rows: int | None = None, columns: int | None = None) -> None:
    """Leave the first rows and columns of a layer's weight and bias."""
    layer.weight = nn.Parameter(layer.weight[:rows, :columns], requires_grad=False)
    if rows and layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias[:rows], requires_grad=False)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_with_identities_on_the_path_it_is_the_dense_block(model_of, family):
    model = model_of(family)
    dense = model(TOKENS).logits
    for index, old in enumerate(list(model.model.layers)):
        put(model, f"model.layers.{index}", sliced_around(old))
    torch.testing.assert_close(model(TOKENS).logits, dense, rtol=1e-5, atol=1e-5)


def test_the_norm_is_a_dense_one_with_the_gain_of_its_width():
    """x / √(Σx²/d + eps) = √(d/D) · x / √(Σx²/D + eps · d/D) for D of d features."""
    states = torch.randn(4, 20, generator=torch.Generator().manual_seed(1))
    regular = nn.RMSNorm(20, eps=1e-2 * 32 / 20)
    nn.init.constant_(regular.weight, (32 / 20) ** 0.5)
    torch.testing.assert_close(PlainRMSNorm(32, 1e-2)(states), regular(states).detach())


def test_the_norm_counts_what_was_cut_off_as_zeros():
    states = torch.randn(4, 20, generator=torch.Generator().manual_seed(1))
    whole = PlainRMSNorm(32, 1e-5)(nn.functional.pad(states, (0, 12)))
    torch.testing.assert_close(PlainRMSNorm(32, 1e-5)(states), whole[:, :20])


def test_the_norm_keeps_half_precision_and_computes_in_full():
    states = torch.full((1, 32), 1000.0, dtype=torch.float16)
    found = PlainRMSNorm(32, 1e-5)(states)
    assert found.dtype == torch.float16 and found.tolist() == [[1.0] * 32]


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_saved_and_reloaded_the_logits_are_equal(narrow, tiny_folder, tmp_path: Path, family):
    model = narrow(family)
    save_model(model, ModelFolder(tiny_folder()), tmp_path, torch.float32)
    loaded = load_model(tmp_path)
    assert torch.equal(loaded(TOKENS).logits, model(TOKENS).logits)
    kinds = [part["kind"] for part in structure(tmp_path)["parts"]]
    assert kinds.count("sliced_block") == 2 and kinds.count("plain_rms_norm") == 5
    assert loaded.model.layers[1].spec() == {"inputs": 20, "middle": 24, "outputs": 32}


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_with_a_cache_follows_the_full_forward_pass(narrow, family):
    model = narrow(family)
    made = model.generate(
        TOKENS[:1], attention_mask=torch.ones(1, 16), max_new_tokens=12, do_sample=False, eos_token_id=None
    )
    with torch.no_grad():
        best = model(made, use_cache=False).logits.argmax(dim=-1)
    assert made.shape == (1, 28)
    assert torch.equal(made[0, 16:], best[0, 15:-1])


def test_building_a_block_leaves_the_global_random_state_alone(model_of):
    old = model_of("llama").model.layers[0]
    state = torch.get_rng_state()
    SlicedBlock.rebuild({"inputs": 20, "middle": 24, "outputs": 20}, old)
    assert torch.equal(torch.get_rng_state(), state)
