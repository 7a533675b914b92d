"""Structures found by watching a model run against what its architecture says."""

from __future__ import annotations

import pytest
import torch

from reprune.surgery.coupling import NotTraceable, Place, apart, families
from reprune.surgery.widths import cost
from tests.surgery.conftest import ARCHITECTURES, HEADS, HIDDEN, INTERMEDIATE, LAYERS

every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)
KV_HEADS = {"llama": 4, "opt": 4, "gpt-neox": 4}


@every_architecture
def test_each_block_has_its_heads_and_channels_and_all_share_the_hidden_channels(small_model, name):
    found = families(small_model(name))
    heads = KV_HEADS.get(name, 2)
    expected = [(i, units) for i in range(LAYERS) for units in (heads, INTERMEDIATE)] + [(None, HIDDEN)]
    assert [(family.block, family.units) for family in found] == expected


def test_a_head_is_its_rows_of_q_k_v_and_its_columns_of_o(small_model):
    heads = families(small_model("llama"))[0].members
    q, k, v = (Place(f"model.layers.0.self_attn.{n}_proj", "out") for n in "qkv")
    assert list(heads) == [q, k, v, Place("model.layers.0.self_attn.o_proj", "in")]
    for features in heads.values():
        assert features.tolist() == [list(range(8 * h, 8 * h + 8)) for h in range(HEADS)]


def test_a_grouped_head_goes_with_the_query_heads_that_read_it(small_model):
    heads = families(small_model("llama-gqa-tied"))[0].members
    q, k, v, o = heads.values()
    assert k.tolist() == v.tolist() == [list(range(8)), list(range(8, 16))]
    assert q.tolist() == o.tolist() == [list(range(16)), list(range(16, 32))]


def test_a_channel_is_a_row_of_gate_and_up_and_a_column_of_down(small_model):
    channels = families(small_model("llama"))[1].members
    places = [("gate_proj", "out"), ("up_proj", "out"), ("down_proj", "in")]
    assert list(channels) == [Place(f"model.layers.0.mlp.{name}", side) for name, side in places]
    assert all(own.flatten().tolist() == list(range(INTERMEDIATE)) for own in channels.values())


def test_fused_projections_are_taken_apart_by_heads(small_model):
    fused, dense = families(small_model("gpt-neox"))[0].members.values()
    assert fused.shape == (HEADS, 24)
    assert dense.shape == (HEADS, 8)


def test_hidden_channels_run_through_embedding_norms_and_head(small_model):
    hidden = families(small_model("llama"))[-1]
    layers = {place.layer.removeprefix("model.layers.0.") for place in hidden.members}
    norms = {"input_layernorm", "post_attention_layernorm", "model.norm"}
    assert layers >= norms | {"model.embed_tokens", "lm_head", "self_attn.o_proj", "mlp.down_proj"}
    assert hidden.units * cost(small_model("llama"), hidden) == small_model("llama").num_parameters()


def test_tied_embeddings_are_one_place(small_model):
    layers = [place.layer for place in families(small_model("llama-gqa-tied"))[-1].members]
    assert len({"model.embed_tokens", "lm_head"} & set(layers)) == 1


@every_architecture
def test_tracing_leaves_the_model_as_it_was(small_model, name):
    model, tokens = small_model(name), torch.arange(12).view(2, 6)
    before = model(tokens).logits
    families(model)
    assert torch.equal(model(tokens).logits, before)
    assert model.config.num_hidden_layers == LAYERS


def test_places_of_a_family_can_be_looked_at_alone(small_model):
    family = families(small_model("llama"))[0]
    assert [list(alone.members) for alone in apart(family)] == [[place] for place in family.members]


def test_weights_of_an_unknown_kind_are_refused_by_name(small_model):
    model = small_model("llama")
    model.model.layers[0].mlp.up_proj = torch.nn.Conv1d(HIDDEN, INTERMEDIATE, 1)
    with pytest.raises(NotTraceable, match="Conv1d is neither"):
        families(model)
