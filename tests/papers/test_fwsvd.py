"""FWSVD: the sheet's worked examples, the Fisher information by one backward pass, and the settings."""

from __future__ import annotations

import sys

import pytest
import torch

from papers.fwsvd.method import FWSVD, Settings, input_fisher, input_scale, measured
from reprune.calibration.gradients import token_loss
from reprune.method import Target
from reprune.surgery.low_rank import even_ranks, scaled_factors


def rank_one(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    up, down = scaled_factors(weight, scale)
    return up[:, :1] @ down[:1]


def weighted_error(left: torch.Tensor, right: torch.Tensor, fisher: torch.Tensor) -> float:
    return ((left - right).square() * fisher).sum().item()


def test_worked_example_the_larger_value_goes_where_the_loss_does_not_depend_on_it():
    weight = torch.diag(torch.tensor([3.0, 2.0]))
    batches = torch.tensor([[[0.1, 0], [0, 0.4]], [[0.1, 0.2], [0, 0.2]]])
    fisher = torch.stack([input_fisher(gradient) for gradient in batches]).mean(dim=0)
    assert fisher.tolist() == pytest.approx([0.01, 0.12])
    assert fisher.sqrt().tolist() == pytest.approx([0.1, 0.346410], abs=1e-6)
    assert torch.linalg.svdvals(weight * fisher.sqrt()).tolist() == pytest.approx([0.692820, 0.3], abs=1e-6)
    found = rank_one(weight, input_scale(fisher, 1, 0))
    torch.testing.assert_close(found, torch.diag(torch.tensor([0.0, 2.0])))
    assert weighted_error(found, weight, fisher) == pytest.approx(0.09)
    plain = rank_one(weight, input_scale(fisher, 0, 0))
    torch.testing.assert_close(plain, torch.diag(torch.tensor([3.0, 0.0])))
    assert weighted_error(plain, weight, fisher) == pytest.approx(0.48)


def test_worked_example_scale_is_proportional_to_the_asvd_codes():
    scale = input_scale(torch.tensor([0.01, 0.12]), 1, 0)
    assert (scale / scale[0]).tolist() == pytest.approx([1, 0.244949 / 0.070711], abs=1e-4)


def test_worked_example_of_a_full_matrix():
    weight, fisher = torch.tensor([[2.0, 1.0], [1.0, 2.0]]), torch.tensor([0.01, 0.16])
    values = torch.linalg.svdvals(weight * fisher.sqrt()).tolist()
    assert values == pytest.approx([0.912528, 0.131503], abs=1e-6)
    found = rank_one(weight, input_scale(fisher, 1, 0)).T  # the example has inputs as rows
    assert found.flatten().tolist() == pytest.approx([0.865099, 1.609866, 1.057999, 1.968833], abs=1e-5)
    assert weighted_error(found.T, weight, fisher) == pytest.approx(0.017293, abs=1e-6)
    assert (found - weight).square().sum(dim=1).tolist() == pytest.approx([1.659936, 0.004335], abs=1e-5)
    plain = rank_one(weight, torch.ones(2))
    assert plain.flatten().tolist() == pytest.approx([1.5] * 4)
    assert weighted_error(plain, weight, fisher) == pytest.approx(0.085)


def test_a_common_factor_of_the_fisher_information_changes_nothing():
    fisher = torch.rand(9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(input_scale(fisher, 1, 1e-6), input_scale(1e-8 * fisher, 1, 1e-6))


def test_inputs_without_any_gradient_are_weighed_alike():
    assert input_scale(torch.zeros(3), 1, 1e-6).tolist() == pytest.approx([1e-6] * 3)


def test_the_fisher_information_is_the_mean_over_windows_of_squared_gradients(subject_of):
    subject = subject_of("tiny-llama-gqa")
    names = ["model.layers.0.self_attn.k_proj", "model.layers.2.mlp.down_proj"]
    weights = [subject.linears()[name].weight for name in names]
    found = measured(subject)
    assert set(found) == set(subject.linears())
    for weight in weights:
        weight.requires_grad_(True)
    windows = [torch.autograd.grad(token_loss(subject.model, w), weights) for w in subject.windows.split(1)]
    for name, gradients in zip(names, zip(*windows, strict=True), strict=True):
        expected = sum(gradient**2 for gradient in gradients).sum(dim=0) / len(gradients)
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=0)


def test_one_gradient_pass_serves_all_ratios_of_a_sweep(subject_of, monkeypatch):
    calls = []
    method = sys.modules[FWSVD.__module__]
    monkeypatch.setattr(method, "measured", lambda subject: calls.append(1) or measured(subject))
    for share in (0.2, 0.4):
        FWSVD(Settings(), Target.parameters(share, "low_rank")).compress(subject_of("tiny-llama"))
    assert calls == [1]


def test_the_weighted_error_is_the_least_where_the_gradients_say(subject_of):
    errors = {}
    for alpha in (0.0, 1.0):
        subject = subject_of("tiny-llama")
        name, linear = list(subject.linears().items())[4]
        shapes = {n: layer.weight.shape for n, layer in subject.linears().items()}
        fisher = measured(subject)[name]
        method = FWSVD(Settings(alpha=alpha), Target.parameters(0.3, "low_rank"))
        method.factor(subject, even_ranks(shapes, 0.3 * subject.parameters))
        merged = subject.model.get_submodule(name).merged().weight
        errors[alpha] = weighted_error(merged, linear.weight, fisher)
    assert errors[1.0] < errors[0.0]
