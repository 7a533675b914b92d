"""SVD-LLM: the sheet's worked example, what a singular value costs, and the closed-form update."""

from __future__ import annotations

import pytest
import torch

from papers.svd_llm.method import Settings, SvdLlm, lower_root, refitted, whitened_factors
from reprune.calibration.statistics import Gram
from reprune.method import Target
from reprune.models.parts import LowRank
from reprune.surgery.low_rank import scaled_factors, svd

WEIGHT = torch.tensor([[1.0, 0.2], [0.0, 1.1]], dtype=torch.float64)
X = torch.tensor([[4.0, -4.0, 4.0, -4.0], [1.0, 1.0, -1.0, 1.0]], dtype=torch.float64)
SHIFTED = torch.tensor([[4.0, -3.0, 4.0, -4.0], [1.0, 1.0, -0.5, 1.0]], dtype=torch.float64)


def compressed(subject, **settings):
    SvdLlm(Settings(**settings), Target.parameters(0.3, "low_rank")).compress(subject)
    return subject


def merged(subject) -> dict[str, torch.Tensor]:
    parts = {n: m for n, m in subject.model.named_modules() if isinstance(m, LowRank)}
    return {name: part.merged().weight for name, part in parts.items()}


@pytest.fixture
def random_layer() -> tuple[torch.Tensor, torch.Tensor]:
    """A weight (12, 9) and inputs (9, 40) with correlated features of unequal size."""
    generator = torch.Generator().manual_seed(0)
    weight, mixing, tokens = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((12, 9), (9, 9), (9, 40))
    )
    return weight, torch.logspace(-1, 1, 9, dtype=torch.float64).unsqueeze(1) * (mixing @ tokens)


def test_worked_example():
    gram = Gram(2)
    gram.update(X.T.float()[None, :2])
    gram.update(X.T.float()[None, 2:])
    assert gram.sum.tolist() == [[64, -8], [-8, 4]]
    lower = lower_root(gram.sum)
    assert lower.flatten().tolist() == pytest.approx([8, 0, -1, 1.732051], abs=1e-6)
    assert (WEIGHT @ lower).flatten().tolist() == pytest.approx([7.8, 0.346410, -1.1, 1.905256], abs=1e-6)
    assert svd(WEIGHT @ lower)[1].tolist() == pytest.approx([7.877582, 1.934864], abs=1e-6)
    up, down = whitened_factors(WEIGHT, lower)
    first, second = up[:, :1] @ down[:1], up[:, 1:] @ down[1:]
    assert first.flatten().tolist() == pytest.approx([0.981200, 0.046838, -0.135820, -0.006483], abs=1e-6)
    assert ((WEIGHT - first) @ X).norm().item() == pytest.approx(1.934864, abs=1e-6)
    assert ((WEIGHT - second) @ X).norm().item() == pytest.approx(7.877582, abs=1e-6)


def test_worked_example_the_transposed_root_is_not_it():
    upper = lower_root(X @ X.T).T
    u, s, vt = svd(WEIGHT @ upper)
    wrong = s[0] * torch.outer(u[:, 0], vt[0]) @ torch.linalg.inv(upper)
    assert s.tolist() == pytest.approx([8.028242, 1.898553], abs=1e-6)
    assert ((WEIGHT - wrong) @ X).norm().item() == pytest.approx(2.130575, abs=1e-6)


def test_worked_example_update():
    up, down = whitened_factors(WEIGHT, lower_root(X @ X.T))
    up, down = up[:, :1], down[:1]
    new = refitted(WEIGHT, down, SHIFTED @ SHIFTED.T)
    root = 7.877582**0.5
    assert (up / root).abs().flatten().tolist() == pytest.approx([0.990555, 0.137115], abs=1e-6)
    assert (new / root).abs().flatten().tolist() == pytest.approx([0.996361, 0.095173], abs=1e-6)
    errors = [((WEIGHT - factor @ down) @ SHIFTED).norm().item() for factor in (up, new)]
    assert errors == pytest.approx([1.896112, 1.869706], abs=1e-6)


def test_the_squared_output_error_is_the_energy_of_the_values_left_out(random_layer):
    weight, x = random_layer
    lower = lower_root(x @ x.T)
    values = svd(weight @ lower)[1]
    up, down = whitened_factors(weight, lower)
    for rank in range(1, 9):
        error = ((weight - up[:, :rank] @ down[:rank]) @ x).square().sum()
        torch.testing.assert_close(error, values[rank:].square().sum())


def test_whitening_equals_projecting_on_the_outputs_largest_directions(random_layer):
    weight, x = random_layer
    up, down = whitened_factors(weight, lower_root(x @ x.T))
    directions = svd(weight @ x)[0]
    for rank in range(1, 10):
        u = directions[:, :rank]
        torch.testing.assert_close(up[:, :rank] @ down[:rank], u @ u.T @ weight, rtol=1e-6, atol=1e-8)


def test_no_diagonal_scaling_has_a_smaller_error(random_layer):
    weight, x = random_layer
    errors = {}
    for name, (up, down) in {
        "whitened": whitened_factors(weight, lower_root(x @ x.T)),
        "activations": scaled_factors(weight, x.abs().mean(dim=1).sqrt()),
        "plain": scaled_factors(weight, torch.ones(9, dtype=torch.float64)),
    }.items():
        errors[name] = ((weight - up[:, :4] @ down[:4]) @ x).norm().item()
    assert errors["whitened"] < min(errors["activations"], errors["plain"])


@pytest.mark.parametrize("tokens", [1, 5])
def test_fewer_tokens_than_inputs_are_repaired(random_layer, tokens):
    weight, x = random_layer[0], random_layer[1][:, :tokens]
    lower = lower_root(x @ x.T)
    torch.testing.assert_close(lower @ lower.T, x @ x.T, rtol=1e-4, atol=1e-4)
    up, down = whitened_factors(weight, lower)
    torch.testing.assert_close(up @ down, weight, rtol=1e-5, atol=1e-6)
    assert ((weight - up[:, :tokens] @ down[:tokens]) @ x).abs().max() < 1e-2


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6])
def test_the_repair_holds_at_every_size(size):
    rows = size * torch.randn(3, 30, generator=torch.Generator().manual_seed(0))
    lower = lower_root(rows.T @ rows)
    assert torch.isfinite(lower).all()
    assert (lower.diagonal() > 0).all()


def test_the_refitted_factor_is_the_least_squares_solution(random_layer):
    weight, x = random_layer
    down = whitened_factors(weight, lower_root(x @ x.T))[1][:4]
    moved = x + 0.3 * x.roll(1, dims=1)
    expected = torch.linalg.lstsq((down @ moved).T, (weight @ moved).T).solution.T
    torch.testing.assert_close(refitted(weight, down, moved @ moved.T), expected)


def test_the_update_changes_nothing_where_the_inputs_are_the_dense_ones(subject_of):
    none, sequential = (
        merged(compressed(subject_of("tiny-llama-gqa"), update=update)) for update in ("none", "sequential")
    )
    first = [name for name in none if ".layers.0." in name]
    assert len(first) == 7
    for name in first:
        torch.testing.assert_close(sequential[name], none[name], rtol=1e-3, atol=1e-5)
    assert not torch.allclose(sequential["model.layers.1.mlp.up_proj"], none["model.layers.1.mlp.up_proj"])


@torch.no_grad()
def test_the_update_lowers_the_error_on_the_inputs_that_a_layer_gets(subject_of):
    name, errors = "model.layers.1.self_attn.q_proj", {}  # whose inputs are the same with both
    weight = subject_of("tiny-llama").linears()[name].weight
    for update in ("none", "sequential"):
        subject, inputs = compressed(subject_of("tiny-llama"), update=update), []
        part = subject.model.get_submodule(name)
        part.register_forward_pre_hook(lambda _, args, inputs=inputs: inputs.append(args[0]))
        subject.model(subject.windows)
        errors[update] = (inputs[0] @ (weight - part.merged().weight).T).norm().item()
    assert errors["sequential"] < errors["none"]
