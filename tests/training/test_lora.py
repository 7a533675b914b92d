"""Adapters: which layers get them, of which rank, and the model they leave behind."""

from __future__ import annotations

import pytest
import torch

from reprune.models.parts import LowRank
from reprune.models.skeleton import find_blocks
from reprune.training.lora import attach, merge, rank_for_share, targeted
from reprune.training.trainer import TrainingError

TOKENS = torch.arange(2, 22)[None]


def structure(model):
    modules = [(name, type(module)) for name, module in model.named_modules()]
    return modules, [(n, p.shape, p.dtype) for n, p in model.named_parameters()], sorted(vars(model))


def taught(model, names, **arguments):
    """The model with adapters that are not zero."""
    adapted = attach(model, names, **{"rank": 4, "alpha": 16.0, "dropout": 0.0, **arguments})
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return adapted


def test_a_name_means_the_layers_of_that_name_in_every_block(tiny_model):
    model = tiny_model()
    found = targeted(model, ["q_proj", "up_proj"])
    assert sorted(found) == sorted(
        f"model.layers.{i}.{name}" for i in range(3) for name in ("self_attn.q_proj", "mlp.up_proj")
    )
    assert all(model.get_submodule(name) is layer for name, layer in found.items())


def test_a_name_means_both_factors_and_a_longer_one_means_one(low_rank_model):
    model = low_rank_model()
    last = "model.layers.2.self_attn.q_proj"
    assert [n for n in targeted(model, ["q_proj"]) if n.startswith(last)] == [f"{last}.down", f"{last}.up"]
    assert list(targeted(model, ["q_proj.up"])) == [f"{last}.up"]
    assert len(targeted(model, ["up"])) == 7, "the factor, not the projection up_proj"


def test_a_name_that_means_nothing_is_refused(tiny_model):
    with pytest.raises(TrainingError, match="'qproj'; there are q_proj, k_proj, v_proj, o_proj, gate_proj"):
        targeted(tiny_model(), ["q_proj", "qproj"])


def test_the_head_gets_no_adapter(tiny_model):
    with pytest.raises(TrainingError, match="'lm_head'"):
        targeted(tiny_model("tiny-llama-gqa"), ["lm_head"])


def test_the_rank_comes_nearest_to_the_share(tiny_model):
    """q_proj 64 + 64 and down_proj 176 + 64, three blocks: 1,104 parameters for every rank."""
    layers = targeted(tiny_model(), ["q_proj", "down_proj"])
    for share, rank in [(0.06, 10), (0.03, 5), (0.0328, 5), (0.0331, 6), (0.0001, 1)]:
        assert rank_for_share(layers, share, 184_000) == rank, share


def test_only_adapters_of_that_rank_are_trained(low_rank_model):
    model = low_rank_model()
    layers = targeted(model, ["q_proj", "down_proj"])
    expected = 3 * sum(layer.in_features + layer.out_features for layer in layers.values())
    attach(model, layers, rank=3, alpha=16.0, dropout=0.05)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all(".lora_" in name for name in trained)
    assert sum(p.numel() for p in trained.values()) == expected
    assert {name.split(".lora_")[0] for name in trained} == set(layers)


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-llama-gqa"])
def test_fresh_adapters_change_nothing(tiny_model, name):
    model = tiny_model(name)
    before = model(input_ids=TOKENS).logits
    attach(model, targeted(model, ["v_proj", "gate_proj"]), rank=4, alpha=16.0, dropout=0.05)
    assert torch.equal(model.eval()(input_ids=TOKENS).logits, before)


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["q_proj", "k_proj", "o_proj", "down_proj"]])
@torch.no_grad()
def test_a_merged_model_has_the_adapters_logits_and_its_old_structure(low_rank_model, targets):
    model = low_rank_model()
    told, plain = structure(model), model(input_ids=TOKENS).logits
    adapted = taught(model, targeted(model, targets))
    expected = model.eval()(input_ids=TOKENS).logits
    merge(adapted)
    assert structure(model) == told
    torch.testing.assert_close(model(input_ids=TOKENS).logits, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(plain, expected, atol=1e-2)
    assert not any(p.requires_grad for p in model.parameters())
    _, blocks = find_blocks(model)
    assert sum(isinstance(m, LowRank) for m in blocks[2].modules()) == 7


@torch.no_grad()
def test_the_merged_weight_is_w_plus_alpha_over_rank_times_b_a(tiny_model):
    model = tiny_model()
    name = "model.layers.1.self_attn.q_proj"
    weight = model.get_submodule(name).weight.clone()
    adapted = taught(model, [name], rank=2, alpha=6.0)
    a, b = (model.get_parameter(f"{name}.lora_{side}.default.weight").clone() for side in "AB")
    merge(adapted)
    torch.testing.assert_close(model.get_submodule(name).weight, weight + 3.0 * b @ a)


def test_tied_embeddings_stay_tied(tiny_model):
    model = tiny_model("tiny-llama-gqa")
    merge(taught(model, targeted(model, ["q_proj"])))
    assert model.lm_head.weight is model.model.embed_tokens.weight
