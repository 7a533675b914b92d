"""BESA against its worked examples, autograd of the dense formula, and Wanda."""

from __future__ import annotations

import math

import pytest
import torch

from papers.besa.grid import candidates, mean_sparsity, reachable, tilt_towards
from papers.besa.masking import Allocation, MaskedWeight, SortedLayer, exact_counts
from reprune.method import Target

HALF = Target.unstructured(0.5)
THETA = torch.tensor([[0.0, 0, 1, 2, 0], [3, 1, 0, 0, -1]])


def build(paper, target: Target = HALF, **settings):
    module = paper("besa")
    return module.Besa(module.Settings(**settings), target)


def sort(weight: torch.Tensor, scores: torch.Tensor, grid: list[float]) -> SortedLayer:
    return SortedLayer(weight, scores, grid, torch.empty(2, weight.numel()))


def toy_allocation(toy, theta: torch.Tensor, smooth: str = "sigmoid") -> Allocation:
    weight, inputs = toy
    layer = sort(weight, weight.abs() * inputs.norm(dim=0), candidates(0.25))
    allocation = Allocation([layer], "row", smooth, 0.0)
    allocation.logits.data.copy_(theta)
    return allocation


def prune_probabilities(beta: torch.Tensor, layer: SortedLayer) -> torch.Tensor:
    """The dense formula: P = Σ β_d over cuts above the rank, (rows, columns), differentiable."""
    above = (layer.cuts > layer.ranks.unsqueeze(2)).float()
    return (above * beta.unsqueeze(1)).sum(dim=2)


def pruned(block) -> dict[str, torch.Tensor]:
    return {name: layer.weight == 0 for name, layer in block.linears.items()}


def test_worked_order_and_staircase(toy):
    allocation = toy_allocation(toy, torch.zeros(2, 5))
    layer, beta = allocation.layers[0], allocation.coefficients()
    assert layer.order.view(2, 4).tolist() == [[2, 0, 1, 3], [4, 5, 6, 7]]
    assert layer.cuts.tolist() == [4, 3, 2, 1, 0]
    assert allocation.sparsity(beta).item() == pytest.approx(0.5)
    by_rank = prune_probabilities(beta, layer).flatten()[layer.order]
    assert by_rank.tolist() == pytest.approx([0.8, 0.6, 0.4, 0.2] * 2, abs=1e-6)
    assert layer.keep(layer.counts(beta, "count")[1]).tolist() == [[0, 1, 0, 1], [0, 0, 1, 1]]


def test_worked_mixture(toy):
    allocation = toy_allocation(toy, THETA)
    layer, beta = allocation.layers[0], allocation.coefficients()
    expected = [
        0.174722,
        0.174722,
        0.220138,
        0.255697,
        0.174722,
        0.279481,
        0.223949,
        0.177747,
        0.177747,
        0.141076,
    ]
    assert beta.flatten().tolist() == pytest.approx(expected, abs=1e-6)
    assert (beta @ allocation.grid).tolist() == pytest.approx([0.479756, 0.580753], abs=1e-6)
    assert layer.counts(beta, "count")[1].tolist() == [1, 2]
    expected = [0.569581, 0.349444, 0.825278, 0.174722, 0.858924, 0.681177, 0.503430, 0.279481]
    assert prune_probabilities(beta, layer).flatten().tolist() == pytest.approx(expected, abs=1e-6)
    plain = toy_allocation(toy, THETA, smooth="none")
    alpha = plain.coefficients() @ plain.grid
    assert alpha.tolist() == pytest.approx([0.378140, 0.908729], abs=1e-6)
    assert plain.layers[0].counts(plain.coefficients(), "count")[1].tolist() == [1, 3]


@pytest.mark.parametrize(
    ("theta", "error", "loss", "gradient"),
    [
        (
            torch.zeros(2, 5),
            0.1943745,
            0.1943745,
            [
                0.004131,
                0.006248,
                0.003739,
                -0.005412,
                -0.008706,
                0.006900,
                0.000606,
                0.001538,
                -0.003590,
                -0.005455,
            ],
        ),
        (
            THETA,
            0.1028712,
            0.1211780,
            [
                0.014914,
                0.007073,
                0.001005,
                -0.003438,
                -0.015079,
                0.004710,
                0.004224,
                -0.001631,
                -0.012910,
                -0.013289,
            ],
        ),
    ],
)
def test_worked_loss_and_gradient(paper, toy, toy_block, theta, error, loss, gradient):
    allocation = toy_allocation(toy, theta)
    wanted = toy_block.forward(toy_block.inputs).detach()
    found, found_error = build(paper).loss(toy_block, allocation, toy_block.inputs, wanted)
    found.backward()
    assert found_error.item() == pytest.approx(error, abs=1e-6)
    assert found.item() == pytest.approx(loss, abs=1e-6)
    assert allocation.logits.grad.flatten().tolist() == pytest.approx(gradient, abs=1e-5)


def test_worked_gradient_of_the_coefficients(toy):
    layer = toy_allocation(toy, torch.zeros(2, 5)).layers[0]
    beta = torch.full((2, 5), 0.2, requires_grad=True)
    by_mask = torch.tensor(
        [[-0.183007, -0.050196, -0.065882, 0.042353], [-0.037296, -0.102564, 0.018648, -0.125874]]
    )
    MaskedWeight.apply(beta, torch.tensor([2, 2]), layer).backward(by_mask / toy[0])
    expected = [0.256732, 0.299085, 0.248889, 0.065882, 0, 0.247086, 0.121212, 0.139860, 0.037296, 0]
    assert beta.grad.flatten().tolist() == pytest.approx(expected, abs=1e-5)


def test_worked_rules_of_the_mask():
    layer = sort(torch.ones(1, 10), torch.arange(10.0).unsqueeze(0), [0.7, 0.5, 0.3])
    beta = torch.tensor([[0.0, 0.8, 0.2]])
    assert (beta @ layer.grid).item() == pytest.approx(0.46)
    expected = [1, 1, 1, 0.8, 0.8, 0, 0, 0, 0, 0]
    assert prune_probabilities(beta, layer).flatten().tolist() == pytest.approx(expected)
    assert layer.counts(beta, "count")[1].tolist() == [4]
    assert layer.counts(beta, "threshold")[1].tolist() == [5]
    layer = sort(torch.ones(1, 10), torch.arange(10.0).unsqueeze(0), [0.9, 0.5, 0.1])
    far_apart = torch.tensor([[0.5, 0.0, 0.5]])
    assert [layer.counts(far_apart, rule)[1].item() for rule in ("count", "threshold")] == [5, 9]


def test_worked_prodigy(paper):
    position = torch.zeros(2, requires_grad=True)
    optimizer = build(paper).optimizer(position)
    steps = []
    for _ in range(6):
        optimizer.zero_grad()
        (0.5 * (position - torch.tensor([1.0, -2.0])).square().sum()).backward()
        optimizer.step()
        steps.append(optimizer.param_groups[0]["d"])
    expected = [1e-6, 7.907662e-06, 3.615648e-05, 1.796754e-04, 8.499833e-04, 4.132639e-03]
    assert steps == pytest.approx(expected, rel=1e-5)


def test_worked_grid_and_its_bounds():
    assert [len(candidates(step)) for step in (0.01, 0.05, 0.1, 0.001)] == [101, 21, 11, 1001]
    assert reachable(candidates(0.01), 0.0, "sigmoid") == pytest.approx((0.3763170, 0.6236830), abs=1e-7)
    assert reachable(candidates(0.01), 0.0, "none") == (0, 1)


@pytest.mark.parametrize("target", [0.02, 0.3, 0.5, 0.62, 0.7, 0.95])
def test_tilted_start_is_the_target_and_can_move_both_ways(target):
    grid = candidates(0.01)
    tilt = tilt_towards(target, grid)
    assert mean_sparsity(grid, [tilt * p for p in grid]) == pytest.approx(target, abs=1e-9)
    assert (tilt == 0) == (target == 0.5)
    low, high = reachable(grid, tilt, "sigmoid")
    assert low < target < high


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("columns", [7, 40])
def test_gradient_is_autograd_of_the_keep_probability(shared, columns):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, columns, generator=generator)
    layer = sort(weight, weight.abs(), candidates(0.05))
    logits = torch.randn(1 if shared else 5, 21, generator=generator)
    outside = torch.randn(5, columns, generator=generator)
    fast, dense = (torch.softmax(logits, 1).requires_grad_() for _ in range(2))
    masked = MaskedWeight.apply(fast, layer.counts(fast, "count")[1], layer)
    masked.backward(outside)
    (weight * (1 - prune_probabilities(dense.expand(5, -1), layer)) * outside).sum().backward()
    torch.testing.assert_close(fast.grad, dense.grad, atol=1e-5, rtol=1e-4)
    assert torch.equal(masked == 0, layer.ranks < layer.counts(fast, "count")[1].unsqueeze(1))


def test_mean_prune_probability_is_alpha():
    """With unit weights and gradient, −⟨∂L/∂β, β⟩ is the sum of P over the row."""
    torch.manual_seed(0)
    layer = sort(torch.ones(3, 200), torch.rand(3, 200), candidates(0.01))
    beta = torch.softmax(torch.randn(3, 101), dim=1).requires_grad_()
    MaskedWeight.apply(beta, torch.tensor([0, 0, 0]), layer).sum().backward()
    means = -(beta.grad * beta).sum(dim=1) / 200
    torch.testing.assert_close(means, (beta @ layer.grid), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 0},
        {"optimizer": "adamw", "adamw_lr": 0.0},
        {"epochs": 0, "start": "zeros", "exact": False},
        {"epochs": 0, "granularity": "layer", "mask_rule": "threshold"},
    ],
)
def test_frozen_at_half_is_wanda(paper, tiny_block, settings):
    block, reference = tiny_block(), tiny_block()
    build(paper, **settings).prune_block(block)
    wanda = paper("wanda")
    wanda.Wanda(wanda.Settings(), HALF).prune_block(reference)
    for name, mask in pruned(reference).items():
        assert torch.equal(pruned(block)[name], mask)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"granularity": "layer"},
        {"mask_rule": "threshold"},
        {"metric": "sparsegpt"},
        {"optimizer": "adamw", "recon_norm": "frobenius"},
    ],
)
@pytest.mark.parametrize("sparsity", [0.37, 0.5, 0.7])
def test_exact_total_and_only_zeros_change(paper, tiny_block, settings, sparsity):
    block, before = tiny_block(), tiny_block()
    build(paper, Target.unstructured(sparsity), d_coef=50.0, **settings).prune_block(block)
    masks = pruned(block)
    total = sum(mask.numel() for mask in masks.values())
    assert sum(int(mask.sum()) for mask in masks.values()) == round(sparsity * total)
    for name, layer in block.linears.items():
        assert torch.equal(layer.weight, before.linears[name].weight.masked_fill(masks[name], 0))
        assert block.report[name]["sparsity"] == pytest.approx(masks[name].float().mean().item())
    assert torch.equal(block.module.input_layernorm.weight, before.module.input_layernorm.weight)


def test_learning_lowers_the_error_below_wanda_s(paper, tiny_block):
    errors = {}
    for epochs in (0, 20):
        block = tiny_block(windows=12)
        dense = block.outputs(block.inputs)
        build(paper, epochs=epochs, optimizer="adamw", adamw_lr=0.1).prune_block(block)
        errors[epochs] = (block.outputs(block.inputs) - dense).square().sum()
    assert errors[20] < 0.95 * errors[0]
    assert set(block.report) == set(block.linears)
    assert min(line["alpha_std"] for line in block.report.values()) > 0.005
    assert all(line["block_loss"] >= line["block_error"] > 0 for line in block.report.values())


def test_dense_target_reads_the_dense_path(paper, tiny_block):
    masks = []
    for shift in (0.0, 3.0):
        block = tiny_block()
        block.dense_inputs = block.inputs + shift * torch.randn(32)
        method = build(paper, recon_target="dense", optimizer="adamw", adamw_lr=0.1)
        assert method.wants_dense_inputs() and not build(paper).wants_dense_inputs()
        method.prune_block(block)
        masks.append(torch.cat([m.flatten() for m in pruned(block).values()]))
    assert not torch.equal(*masks)


def test_exact_counts_follow_the_largest_remainders():
    shares, widths = torch.tensor([1.6, 2.3, 0.1], dtype=torch.float64), torch.tensor([4, 4, 4])
    assert exact_counts(shares, widths, 4).tolist() == [2, 2, 0]
    assert exact_counts(shares, widths, 5).sum() == 5
    capped = exact_counts(torch.tensor([3.9, 3.9, 0.2], dtype=torch.float64), widths, 10)
    assert capped.sum() == 10 and (capped <= 4).all()


def test_trainable_ratio(paper, tiny_block):
    block = tiny_block()
    build(paper, epochs=0).prune_block(block)
    rows = sum(layer.out_features for layer in block.linears.values())
    weights = sum(layer.weight.numel() for layer in block.linears.values())
    assert math.isclose(block.report["mlp.up_proj"]["trainable_ratio"], 101 * rows / weights)


def test_supports(paper, facts):
    module = paper("besa")

    def answer(sparsity: float, **settings):
        return module.Besa.supports(facts, Target.unstructured(sparsity), module.Settings(**settings))

    assert answer(0.7) is None and answer(0.1) is None and answer(0.6, start="zeros") is None
    assert answer(0.7, start="zeros").nearest == "62%" and answer(0.3, start="zeros").nearest == "38%"
    assert "(0.3763, 0.6237)" in answer(0.7, start="zeros").reason
    assert answer(0.7, start="zeros", smooth="none") is None
    assert module.Besa.supports(facts, Target.n_of_m(2, 4), module.Settings()) is not None
    assert module.Besa.passes(module.Settings(epochs=2, recon_target="dense")) == 12
