"""What is counted in a checkpoint's files."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from reprune.evaluation.checkpoint_facts import measure_checkpoint
from reprune.models.folder import SINGLE, ModelFolder

LINEAR = 3 * (4 * 64 * 64 + 3 * 64 * 176)


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-llama-gqa"])
def test_parameters_are_counted_exactly_and_tied_ones_once(tiny_folder, model_entry, name):
    facts = measure_checkpoint(ModelFolder(tiny_folder(name)))
    expected = model_entry(name)["facts"]["parameters"]
    assert (facts.params, facts.nonzeros, facts.bytes, facts.ratio_achieved) == (
        expected,
        expected,
        2 * expected,
        0,
    )


def test_zeros_are_counted_where_they_are_and_the_ratio_is_of_the_linear_layers(tiny_folder, tmp_path):
    ModelFolder(tiny_folder()).link_companions(tmp_path)
    tensors = load_file(tiny_folder() / SINGLE)
    tensors["model.layers.1.mlp.up_proj.weight"][:, :32] = 0  # half of 64 x 176
    tensors["model.layers.2.self_attn.q_proj.weight"][0, :10] = 0
    tensors["model.embed_tokens.weight"][5] = 0  # 64 zeros outside the blocks
    save_file(tensors, tmp_path / SINGLE)
    facts = measure_checkpoint(ModelFolder(tmp_path))
    zeros = 32 * 176 + 10
    assert facts.nonzeros == 184000 - zeros - 64
    assert facts.ratio_achieved == zeros / LINEAR
    assert facts.ratio_basis == "zeros in the linear layers of the decoder blocks"
    layers = {(layer.block, layer.layer): (layer.size, layer.size - layer.nonzeros) for layer in facts.layers}
    assert len(layers) == 21 and sum(size for size, _ in layers.values()) == LINEAR
    assert {place: counts for place, counts in layers.items() if counts[1]} == {
        (1, "mlp.up_proj"): (64 * 176, 32 * 176),
        (2, "self_attn.q_proj"): (64 * 64, 10),
    }


def test_the_dense_count_is_not_fooled_by_the_dtype(tiny_folder, tmp_path):
    """A weight that float16 cannot hold but float32 can is not zero."""
    ModelFolder(tiny_folder()).link_companions(tmp_path)
    tensors = {name: t.float() for name, t in load_file(tiny_folder() / SINGLE).items()}
    tensors["model.layers.0.mlp.up_proj.weight"][0, 0] = 1e-30
    save_file(tensors, tmp_path / SINGLE)
    assert torch.tensor(1e-30).half() == 0
    facts = measure_checkpoint(ModelFolder(tmp_path))
    assert facts.ratio_achieved == 0 and facts.nonzeros == 184000 and facts.bytes == 4 * 184000
