"""The loss of windows: transformers' own, however windows share forward passes."""

from __future__ import annotations

import pytest
import torch

from reprune.training import window_loss
from reprune.training.window_loss import held_out_losses, passes, summed_loss


def test_the_loss_is_the_one_that_transformers_computes(tiny_model, made_mixture):
    model, windows = tiny_model(), made_mixture.held_out["rich"]
    own = model(input_ids=windows, labels=windows).loss.item()
    assert summed_loss(model, windows, "float32").item() / (4 * 15) == pytest.approx(own, rel=1e-5)
    assert held_out_losses(model, made_mixture.held_out)["rich"] == pytest.approx(own, rel=1e-5)


@pytest.mark.parametrize("tokens", [1, 32, 40])
def test_how_many_share_a_pass_changes_rounding_alone(tiny_model, made_mixture, monkeypatch, tokens):
    whole = held_out_losses(tiny_model(), made_mixture.held_out)
    monkeypatch.setattr(window_loss, "TOKENS_AT_ONCE", tokens)
    assert [len(part) for part in passes(made_mixture.held_out["rich"])] == [max(1, tokens // 16)] * (
        4 // max(1, tokens // 16)
    )
    assert held_out_losses(tiny_model(), made_mixture.held_out) == pytest.approx(whole, rel=1e-5)


def test_in_bfloat16_the_loss_is_near_and_the_weights_stay(tiny_model, made_mixture):
    model = tiny_model()
    full, half = (held_out_losses(model, made_mixture.held_out, dtype) for dtype in ("float32", "bfloat16"))
    assert full != half and half == pytest.approx(full, rel=1e-2)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
