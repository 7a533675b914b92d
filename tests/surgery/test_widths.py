"""Removing structures physically against setting them to zero, and what is left of the model."""

from __future__ import annotations

import copy

import pytest
import torch

from reprune.models.checkpoint import load_model, save_model, structure
from reprune.models.folder import ModelFolder
from reprune.surgery.coupling import families
from reprune.surgery.widths import cost, features_of, remove, silence
from tests.surgery.conftest import ARCHITECTURES, HIDDEN

every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)
TOKENS = torch.arange(24).view(2, 12)


def some_units(model) -> list:
    """One head and every third channel of the first block, other channels of the second."""
    heads, first, _, second, _ = families(model)
    return [(heads, [1]), (first, range(0, 20, 3)), (second, [4])]


@every_architecture
def test_removing_heads_and_channels_equals_setting_them_to_zero(small_model, name):
    narrow, masked = small_model(name), small_model(name)
    chosen = some_units(narrow)
    remove(narrow, [features_of(family, units) for family, units in chosen])
    silence(masked, [features_of(family, units) for family, units in chosen])
    torch.testing.assert_close(narrow(TOKENS).logits, masked(TOKENS).logits, rtol=1e-5, atol=1e-6)


@every_architecture
def test_as_many_parameters_go_as_the_structures_cost(small_model, name):
    model = small_model(name)
    before, chosen = model.num_parameters(), some_units(model)
    expected = sum(len(units) * cost(model, family) for family, units in chosen)
    remove(model, [features_of(family, units) for family, units in chosen])
    assert before - model.num_parameters() == expected


@every_architecture
def test_hidden_channels_go_through_the_whole_model(small_model, name):
    model = small_model(name)
    hidden, before = families(model)[-1], model.num_parameters()
    expected = before - 4 * cost(model, hidden)
    remove(model, [features_of(hidden, [0, 5, 6, 31])])
    assert model.num_parameters() == expected
    assert model.get_input_embeddings().weight.shape[1] == HIDDEN - 4
    assert model(TOKENS).logits.isfinite().all()
    assert families(model)[-1].units == HIDDEN - 4


def test_removing_a_hidden_channel_is_not_setting_it_to_zero(small_model):
    narrow, masked = small_model("llama"), small_model("llama")
    hidden = families(narrow)[-1]
    remove(narrow, [features_of(hidden, [3])])
    silence(masked, [features_of(hidden, [3])])
    assert not torch.allclose(narrow(TOKENS).logits, masked(TOKENS).logits, rtol=1e-3)


def test_tied_embeddings_stay_tied(small_model):
    model = small_model("llama-gqa-tied")
    remove(model, [features_of(families(model)[-1], [0, 1])])
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_rows_of_what_stays_are_unchanged(small_model):
    model = small_model("llama")
    before = copy.deepcopy(model.model.layers[0].mlp.gate_proj.weight)
    remove(model, [features_of(families(model)[1], [0, 7])])
    kept = [i for i in range(20) if i not in (0, 7)]
    assert torch.equal(model.model.layers[0].mlp.gate_proj.weight, before[kept])


@every_architecture
def test_saved_and_reloaded_the_logits_are_equal(small_model, name, tiny_folder, tmp_path):
    model = small_model(name)
    chosen = some_units(model)
    remove(model, [features_of(family, units) for family, units in chosen])
    save_model(model, ModelFolder(tiny_folder()), tmp_path, torch.float32)
    assert "config" in structure(tmp_path)
    assert torch.equal(load_model(tmp_path)(TOKENS).logits, model(TOKENS).logits)


@every_architecture
def test_generation_with_a_cache_gives_the_full_pass(small_model, name):
    model = small_model(name)
    remove(model, [features_of(family, units) for family, units in some_units(model)])
    begun = model(TOKENS[:, :6], use_cache=True)
    rest = model(TOKENS[:, 6:], past_key_values=begun.past_key_values, use_cache=True).logits
    whole = model(TOKENS, use_cache=False).logits
    torch.testing.assert_close(torch.cat([begun.logits, rest], dim=1), whole, rtol=1e-4, atol=1e-5)
