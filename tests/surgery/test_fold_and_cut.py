"""Gates folded into weights and cut out: the logits of the gated model, in folders that load again."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from reprune.evaluation.checkpoint_facts import measure_checkpoint
from reprune.evaluation.trial import packs_exactly
from reprune.method import ModelFacts
from reprune.models.checkpoint import load_model, save_model, structure
from reprune.models.folder import ModelFolder
from reprune.surgery.gates import Gates
from tests.surgery.conftest import ARCHITECTURES, HEADS, HIDDEN, INTERMEDIATE, LAYERS
from tests.surgery.test_gates import RMS, TOKENS

every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)
CLOSED = [0, 3, 4, 7, 8, 20, 21, 30]  # hidden channels; 24 are left, of which 2 and 3 heads are a divisor
FACTS = {
    "architecture": "llama",
    "layers": LAYERS,
    "hidden_size": HIDDEN,
    "intermediate_size": INTERMEDIATE,
    "heads": HEADS,
    "kv_heads": HEADS // 2,
    "head_dim": 8,
    "vocab_size": 50,
    "tied_embeddings": True,
}
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def soft(closed: list[int], size: int, seed: int = 0) -> torch.Tensor:
    """Values between 0.5 and 1, with some gates exactly 0."""
    values = 0.5 + 0.5 * torch.rand(size, generator=torch.Generator().manual_seed(seed))
    values[closed] = 0
    return values


def alike(gates: Gates) -> dict:
    """Other heads and channels closed in each block, as many in all."""
    return {
        "layer": soft([], gates.layers),
        "head": [soft([i % n], n, i) for i, n in enumerate(gates.heads)],
        "intermediate": [soft([i, 5, 9, 10 + i], n, i) for i, n in enumerate(gates.intermediate)],
        "hidden": soft(CLOSED, gates.hidden),
    }


def uneven(gates: Gates) -> dict:
    """Different numbers closed in each block; the first one keeps no attention, the last no MLP."""
    return {
        "attention": soft([0], gates.layers),
        "mlp": soft([gates.layers - 1], gates.layers),
        "head": [soft([1], n, i) for i, n in enumerate(gates.heads)],
        "intermediate": [soft(list(range(3 + i)), n, i) for i, n in enumerate(gates.intermediate)],
    }


@torch.no_grad()
def cut(model, values_of) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits with gates applied, and then those of the model they were folded into."""
    gates = Gates(model)
    values = values_of(gates)
    if type(model).__name__ in ("OPTForCausalLM", "GPTNeoXForCausalLM"):
        values.pop("hidden", None)
    with gates.applied(values):
        applied = model(TOKENS).logits
    gates.fold_and_cut(values)
    return applied, model(TOKENS).logits


@every_architecture
@pytest.mark.parametrize("values_of", [alike, uneven])
def test_the_cut_model_gives_the_logits_of_the_gated_one(small_model, name, values_of):
    model = small_model(name)
    before = model.num_parameters()
    applied, folded = cut(model, values_of)
    torch.testing.assert_close(folded, applied, **CLOSE)
    assert model.num_parameters() < before


@pytest.mark.parametrize("name", RMS)
def test_blocks_left_alike_load_without_this_library(small_model, name, tiny_folder, tmp_path):
    model = small_model(name)
    heads = model.config.num_key_value_heads
    _, folded = cut(model, alike)
    save_model(model, ModelFolder(tiny_folder()), tmp_path, torch.float32)
    assert structure(tmp_path) == {}
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(loaded(TOKENS).logits, folded)
    config = loaded.config
    assert (config.hidden_size, config.intermediate_size) == (HIDDEN - 8, INTERMEDIATE - 4)
    assert config.num_attention_heads == HEADS * (heads - 1) // heads
    assert (config.num_key_value_heads, config.num_hidden_layers, config.head_dim) == (heads - 1, LAYERS, 8)


@every_architecture
@torch.no_grad()
def test_blocks_that_differ_load_with_it(small_model, name, tiny_folder, tmp_path):
    model = small_model(name)
    _, folded = cut(model, uneven)
    save_model(model, ModelFolder(tiny_folder()), tmp_path, torch.float32)
    parts = structure(tmp_path)["parts"]
    assert [part["kind"] for part in parts] == ["no_attention"]
    assert parts[0]["spec"]["bias"] is False
    loaded = load_model(tmp_path)
    assert torch.equal(loaded(TOKENS).logits, folded)
    assert loaded.num_parameters() == model.num_parameters()


@every_architecture
@torch.no_grad()
def test_generation_with_a_cache_gives_the_full_pass_without_attention_in_the_first_block(small_model, name):
    model = small_model(name)
    _, whole = cut(model, uneven)
    begun = model(TOKENS[:, :6], use_cache=True)
    rest = model(TOKENS[:, 6:], past_key_values=begun.past_key_values, use_cache=True).logits
    torch.testing.assert_close(torch.cat([begun.logits, rest], dim=1), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-llama-gqa"])
@pytest.mark.parametrize("closed", ["layer", "halves"])
def test_a_block_that_writes_nothing_is_dropped(tiny_folder, tmp_path, name, closed):
    model = load_model(tiny_folder(name))
    kept = [model.model.layers[0].mlp.up_proj, model.model.layers[2].mlp.up_proj]
    names = ("layer",) if closed == "layer" else ("attention", "mlp")
    applied, folded = cut(model, lambda gates: {n: soft([1], gates.layers) for n in names})
    torch.testing.assert_close(folded, applied, **CLOSE)
    assert [block.mlp.up_proj for block in model.model.layers] == kept
    save_model(model, ModelFolder(tiny_folder(name)), tmp_path, torch.float32)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.config.num_hidden_layers == 2
    assert torch.equal(loaded(TOKENS).logits, folded)


@torch.no_grad()
def test_biases_of_a_block_without_open_heads_or_channels_are_still_written(
    small_model, tiny_folder, tmp_path
):
    model = small_model("llama-biased")
    biases = {"self_attn.bias", "mlp.down_proj.bias"}
    applied, folded = cut(
        model,
        lambda gates: {
            "layer": soft([], LAYERS),
            "head": [torch.zeros(2), torch.ones(2)],
            "intermediate": [torch.zeros(INTERMEDIATE), torch.ones(INTERMEDIATE)],
            "hidden": soft([4], HIDDEN),
        },
    )
    torch.testing.assert_close(folded, applied, **CLOSE)
    assert biases <= {name for name, own in model.model.layers[0].named_parameters() if own.any()}
    save_model(model, ModelFolder(tiny_folder()), tmp_path, torch.float32)
    assert torch.equal(load_model(tmp_path)(TOKENS).logits, folded)


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_without_biases_a_block_with_no_open_unit_is_dropped(small_model, name):
    model = small_model(name)
    applied, folded = cut(
        model,
        lambda gates: {
            "head": [torch.zeros(gates.heads[0]), torch.ones(gates.heads[0])],
            "intermediate": [torch.zeros(INTERMEDIATE), torch.ones(INTERMEDIATE)],
        },
    )
    torch.testing.assert_close(folded, applied, **CLOSE)
    assert model.config.num_hidden_layers == len(model.model.layers) == 1


def test_sizes_that_the_architecture_does_not_allow_are_left_to_this_library(
    small_model, tiny_folder, tmp_path
):
    """Llama's configuration wants a hidden size that is a multiple of the heads; 31 and 4 are not."""
    model = small_model("llama")
    _, folded = cut(model, lambda gates: {"hidden": soft([3], HIDDEN)})
    assert model.config.hidden_size == HIDDEN
    save_model(model, ModelFolder(tiny_folder()), tmp_path, torch.float32)
    assert "config" in structure(tmp_path)
    assert torch.equal(load_model(tmp_path)(TOKENS).logits, folded)


@pytest.mark.parametrize("name", RMS)
def test_open_gates_leave_the_model_as_it_is(small_model, name):
    model = small_model(name)
    before = {name: own.clone() for name, own in model.named_parameters()}
    config = {**model.config.to_dict(), "head_dim": 8}
    Gates(model).fold_and_cut({"layer": torch.ones(LAYERS), "hidden": torch.ones(HIDDEN)})
    assert all(torch.equal(own, before[name]) for name, own in model.named_parameters())
    assert model.config.to_dict() == config


def test_tied_embeddings_stay_tied_and_are_cut_but_not_multiplied(small_model):
    model = small_model("llama-gqa-tied")
    before = model.model.embed_tokens.weight.clone()
    cut(model, alike)
    kept = [i for i in range(HIDDEN) if i not in CLOSED]
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert torch.equal(model.lm_head.weight, before[:, kept])


def test_a_model_being_trained_can_be_cut(small_model):
    model = small_model("llama").requires_grad_(True)
    applied, folded = cut(model, alike)
    torch.testing.assert_close(folded, applied, **CLOSE)


@pytest.mark.parametrize("name", ["llama-gqa-tied", "llama-biased"])
def test_an_uneven_model_is_measured_packed_and_trained_like_any_other(
    small_model, name, tiny_folder, tmp_path
):
    model = small_model(name)
    cut(model, uneven)
    save_model(model, ModelFolder(tiny_folder()), tmp_path, torch.float32)
    loaded = load_model(tmp_path)
    facts = measure_checkpoint(ModelFolder(tmp_path), ModelFacts(**FACTS, parameters=10_000))
    assert facts.params == model.num_parameters()
    assert packs_exactly(loaded)
    loaded.requires_grad_(True)
    optimizer = torch.optim.AdamW(loaded.parameters(), lr=1e-3)
    before = loaded(TOKENS, labels=TOKENS).loss
    before.backward()
    assert torch.nn.utils.clip_grad_norm_(loaded.parameters(), 1.0).isfinite()
    optimizer.step()
    assert loaded(TOKENS, labels=TOKENS).loss < before


def test_a_model_needs_a_block(small_model):
    gates = Gates(small_model("llama"))
    with pytest.raises(ValueError, match="at least one decoder block"):
        gates.fold_and_cut({"layer": torch.zeros(LAYERS)})
