"""The error after each block, against hidden states the model gives itself."""

from __future__ import annotations

import pytest
import torch

from reprune.evaluation.block_error import block_errors


@pytest.fixture
def pair(tiny_model):
    dense, pruned = tiny_model(), tiny_model()
    with torch.no_grad():
        for block in pruned.model.layers:
            block.mlp.down_proj.weight[:, ::2] = 0
    return dense, pruned


def test_a_model_differs_from_itself_by_nothing(tiny_model, windows):
    errors = block_errors(tiny_model(), tiny_model(), windows)
    assert errors.shape == (5, 3) and errors.dtype == torch.float64 and not errors.any()


@torch.no_grad()
def test_errors_are_the_relative_norms_of_hidden_states(pair, windows):
    dense, pruned = pair
    errors = block_errors(dense, pruned, windows)
    for w, window in enumerate(windows):
        x, y = (m.model(input_ids=window[None], output_hidden_states=True).hidden_states for m in pair)
        for block in (0, 1):  # the last hidden state of `output_hidden_states` is behind the final norm
            expected = (x[block + 1] - y[block + 1]).norm() / x[block + 1].norm()
            assert errors[w, block].item() == pytest.approx(expected.item(), rel=1e-5)
        places = torch.arange(24)[None]
        outputs = [
            m.model.layers[2](s[2], position_embeddings=m.model.rotary_emb(s[2], places))
            for m, s in zip(pair, (x, y), strict=True)
        ]
        expected = (outputs[0] - outputs[1]).norm() / outputs[0].norm()
        assert errors[w, 2].item() == pytest.approx(expected.item(), rel=1e-5)


def test_hooks_are_gone_afterwards(pair, windows):
    block_errors(*pair, windows)
    assert not any(block._forward_hooks for model in pair for block in model.model.layers)
