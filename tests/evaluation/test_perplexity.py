"""Perplexity against its definition."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import Gemma2Config, Gemma2ForCausalLM

from reprune.evaluation.perplexity import summarise, window_losses


@torch.no_grad()
def by_definition(model, windows):
    """Mean nats of each window's tokens given those before, one token at a time, in float64."""
    losses = []
    for window in windows:
        logits = model(input_ids=window[None]).logits[0].double()
        chances = torch.log_softmax(logits, dim=-1)
        scored = [chances[i, token].item() for i, token in enumerate(window[1:].tolist())]
        losses.append(-sum(scored) / len(scored))
    return losses


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-llama-gqa"])
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_a_random_models_perplexity_is_the_definitions(tiny_model, windows, name, batch_size):
    model = tiny_model(name)
    with torch.no_grad():
        model.lm_head.weight.mul_(20)  # sure of itself, as trained models are: rounding of logits shows
    losses, expected = window_losses(model, windows, batch_size), by_definition(model, windows)
    assert losses == pytest.approx(expected, rel=1e-5)
    assert summarise(losses).value == pytest.approx(math.exp(sum(expected) / 5), rel=1e-5)


@pytest.mark.parametrize("length", [64, 65, 150])
def test_logits_computed_some_positions_at_a_time_score_every_token(tiny_model, length):
    tokens = torch.randint(2, 258, (2, length), generator=torch.Generator().manual_seed(4))
    model = tiny_model()
    assert window_losses(model, tokens, 2) == pytest.approx(by_definition(model, tokens), rel=1e-5)


def test_a_head_that_caps_its_logits_is_not_taken_for_a_plain_one():
    config = Gemma2Config(
        vocab_size=64,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        final_logit_softcapping=0.05,
    )
    model = Gemma2ForCausalLM(config).eval()
    tokens = torch.randint(2, 64, (2, 70), generator=torch.Generator().manual_seed(5))
    losses = window_losses(model, tokens, 1)
    assert losses == pytest.approx(by_definition(model, tokens), rel=1e-5)
    config.final_logit_softcapping = None
    assert losses != pytest.approx(by_definition(model, tokens), rel=1e-5)


def test_a_uniform_model_is_as_perplexed_as_its_vocabulary_is_large(tiny_model, windows):
    model = tiny_model()
    with torch.no_grad():
        model.lm_head.weight.zero_()
    assert summarise(window_losses(model, windows, 2)).value == pytest.approx(258, rel=1e-6)


def test_worked_example():
    result = summarise([1.0, 2.0])
    assert result.value == pytest.approx(4.481689, abs=1e-6)
    assert result.stderr == pytest.approx(4.481689 * 0.5, abs=1e-5)  # e^1.5 * sqrt(0.5 / 2)
    assert result.losses == [1.0, 2.0]


def test_the_standard_error_is_that_of_many_draws():
    """Delta method: the spread of exp(mean) over draws of 200 windows."""
    generator = torch.Generator().manual_seed(0)
    draws = 3 + 0.2 * torch.randn(2000, 200, generator=generator, dtype=torch.float64)
    spread = draws.mean(1).exp().std().item()
    assert summarise(draws[0].tolist()).stderr == pytest.approx(spread, rel=0.15)


def test_one_window_has_a_value_and_no_error():
    result = summarise([2.0])
    assert result.value == pytest.approx(math.exp(2)) and math.isnan(result.stderr)


@pytest.mark.parametrize("losses", [[1.0, math.nan], [1.0, math.inf], [800.0, 900.0]])
def test_divergence_is_a_result(losses):
    assert summarise(losses).value == math.inf


def test_short_windows_share_a_pass(tiny_model, windows):
    said = []
    window_losses(tiny_model(), windows, 1, lambda done, total: said.append((done, total)))
    assert said == [(5, 5)]


def test_progress_counts_windows(tiny_model, windows, monkeypatch):
    monkeypatch.setattr("reprune.evaluation.perplexity.TOKENS_AT_ONCE", windows.shape[1])
    said = []
    window_losses(tiny_model(), windows, 2, lambda done, total: said.append((done, total)))
    assert said == [(2, 5), (4, 5), (5, 5)]
