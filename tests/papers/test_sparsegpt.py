"""SparseGPT against its worked examples, its loss identity and the sweep as the paper writes it."""

from __future__ import annotations

import pytest
import torch

from reprune.calibration.statistics import SecondMoment
from reprune.method import Target
from reprune.surgery.masks import inverse_cholesky, lowest_overall, lowest_per_row

HALF, TWO_OF_FOUR = Target.unstructured(0.5), Target.n_of_m(2, 4)


def build(paper, target: Target = HALF, **settings):
    module = paper("sparsegpt")
    return module.SparseGPT(module.Settings(**settings), target)


def hessian_of(inputs: torch.Tensor) -> torch.Tensor:
    statistic = SecondMoment(inputs.shape[-1])
    statistic.update(inputs.unsqueeze(0))
    return statistic.hessian


def damped(hessian: torch.Tensor, percdamp: float = 0.01) -> torch.Tensor:
    return hessian + percdamp * hessian.diagonal().mean() * torch.eye(len(hessian))


def correlated(rows: int, columns: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight and inputs whose features are correlated and of unequal size."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.logspace(-1, 1, columns)[torch.randperm(columns, generator=generator)]
    mixing = torch.randn(columns, columns, generator=generator) * sizes
    return (
        torch.randn(rows, columns, generator=generator),
        torch.randn(4 * columns, columns, generator=generator) @ mixing,
    )


def sweep_of_the_paper(weight, hessian, target, blocksize, official):
    """Algorithm 1 as printed: every error is subtracted from all later columns at once."""
    w, u = weight.clone(), inverse_cholesky(hessian, 0.01)[0]
    diagonal, loss, quota = u.diagonal(), 0.0, 0
    for start in range(0, w.shape[1], blocksize):
        stop = min(start + blocksize, w.shape[1])
        mask = torch.zeros(w.shape, dtype=torch.bool)
        if target.kind != "n:m":
            scores = (w[:, start:stop] / diagonal[start:stop]).square()
            if official:
                threshold = scores.flatten().sort().values[int(scores.numel() * target.sparsity)]
                mask[:, start:stop] = scores <= threshold
            else:
                before, quota = quota, int(w.shape[0] * stop * target.sparsity)
                mask[:, start:stop] = lowest_overall(scores, quota - before)
        for j in range(start, stop):
            if target.kind == "n:m" and j % target.m == 0:
                group = slice(j, j + target.m)
                mask[:, group] = lowest_per_row((w[:, group] / diagonal[group]).square(), target.n)
            error = w[:, j] * mask[:, j] / diagonal[j]
            w[:, j] *= ~mask[:, j]
            w[:, j + 1 :] -= torch.outer(error, u[j, j + 1 :])
            loss += 0.5 * error.square().sum().item()
    return w, loss


def test_worked_hessian_and_factor(toy):
    hessian = hessian_of(toy[1])
    expected = [[14.36625, -12, 0, 3], [-12, 112.36625, 4, 12], [0, 4, 14.36625, -2], [3, 12, -2, 6.86625]]
    torch.testing.assert_close(damped(hessian), torch.tensor(expected), atol=1e-5, rtol=0)
    factor, damping = inverse_cholesky(hessian, 0.01)
    expected = [
        [0.326081, 0.066167, -0.056653, -0.274611],
        [0, 0.107016, -0.058193, -0.203980],
        [0, 0, 0.269350, 0.078456],
        [0, 0, 0, 0.381628],
    ]
    torch.testing.assert_close(factor, torch.tensor(expected), atol=1e-5, rtol=0)
    assert damping == 0.01
    scores = (toy[0] / factor.diagonal()).square()
    expected = [2.351198, 3.492730, 1.240532, 5.561663, 0.376192, 0.873182, 2.205390, 2.471850]
    assert scores.flatten().tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("blocksize", "expected", "loss"),
    [
        (128, [0, -0.301458, 0, -0.591609, 0, 0, 0, 0.978664], 3.313281),
        (2, [0, -0.301458, 0, 0, 0, 0, 0, 0.978664], 4.514877),
    ],
)
def test_worked_half_official(paper, toy, blocksize, expected, loss):
    factor, _ = inverse_cholesky(hessian_of(toy[1]), 0.01)
    pruned, found = paper("sparsegpt").sweep(toy[0], factor, HALF, blocksize, official=True)
    assert pruned.flatten().tolist() == pytest.approx(expected, abs=1e-5)
    assert found == pytest.approx(loss, abs=1e-5)


def test_worked_two_of_four(paper, toy, toy_block):
    build(paper, TWO_OF_FOUR).prune_block(toy_block)
    pruned = toy_block.linears["0"].weight.detach()
    expected = [0, -0.301458, 0, -0.591609, 0, 0, -0.332942, 0.881684]
    assert pruned.flatten().tolist() == pytest.approx(expected, abs=1e-5)
    assert toy_block.report["0"]["loss"] == pytest.approx(2.549316, abs=1e-5)
    assert (toy[1] @ (pruned - toy[0]).T).square().sum().item() == pytest.approx(2.443243, abs=1e-5)


def test_worked_least_squares_shows_the_partial_update(toy, toy_block, paper):
    """Row 0 froze column 1 before column 2 was pruned, so only row 1 is the exact least squares."""
    build(paper, TWO_OF_FOUR).prune_block(toy_block)
    pruned, hessian, exact = toy_block.linears["0"].weight.detach(), damped(hessian_of(toy[1])), []
    for row, kept in zip(toy[0], pruned != 0, strict=True):
        exact.append(torch.zeros(4))
        exact[-1][kept] = torch.linalg.solve(hessian[kept][:, kept], hessian[kept] @ row)
    assert exact[0].tolist() == pytest.approx([0, -0.269730, 0, -0.647058], abs=1e-5)
    assert exact[1].tolist() == pytest.approx(pruned[1].tolist(), abs=1e-5)
    assert exact[0].tolist() != pytest.approx(pruned[0].tolist(), abs=1e-2)


def test_worked_running_hessian():
    statistic = SecondMoment(2)
    for window in ([[1.0, 2.0], [3.0, 0.0]], [[2.0, 1.0], [0.0, 1.0]]):
        statistic.update(torch.tensor([window]))
    assert statistic.hessian.tolist() == [[14, 4], [4, 6]]


@pytest.mark.parametrize("official", [True, False])
@pytest.mark.parametrize("target", [HALF, Target.unstructured(0.37), TWO_OF_FOUR, Target.n_of_m(4, 8)])
def test_late_updates_equal_the_paper_s(paper, target, official):
    weight, inputs = correlated(10, 40)
    hessian = hessian_of(inputs)
    factor, _ = inverse_cholesky(hessian, 0.01)
    pruned, loss = paper("sparsegpt").sweep(weight, factor, target, 16, official=official)
    expected, expected_loss = sweep_of_the_paper(weight, hessian, target, 16, official)
    torch.testing.assert_close(pruned, expected, atol=1e-4, rtol=1e-4)
    assert loss == pytest.approx(expected_loss, rel=1e-4)


@pytest.mark.parametrize("target", [HALF, TWO_OF_FOUR])
def test_loss_is_the_quadratic_form_of_the_change(paper, target):
    weight, inputs = correlated(10, 40)
    factor, _ = inverse_cholesky(hessian_of(inputs), 0.01)
    pruned, loss = paper("sparsegpt").sweep(weight, factor, target)
    change = (pruned - weight).double()
    form = 0.5 * torch.trace(change @ damped(hessian_of(inputs)).double() @ change.T)
    assert loss == pytest.approx(form.item(), rel=1e-3)


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.67])
@pytest.mark.parametrize("blocksize", [7, 128])
def test_exact_counts_to_one_weight(paper, sparsity, blocksize):
    weight, inputs = correlated(9, 33)
    factor, _ = inverse_cholesky(hessian_of(inputs), 0.01)
    pruned, _ = paper("sparsegpt").sweep(weight, factor, Target.unstructured(sparsity), blocksize)
    assert int((pruned == 0).sum()) == int(9 * 33 * sparsity)


@pytest.mark.parametrize(("n", "m"), [(2, 4), (4, 8)])
def test_n_of_m_holds_in_every_group(paper, tiny_block, n, m):
    block = tiny_block()
    build(paper, Target.n_of_m(n, m)).prune_block(block)
    for layer in block.linears.values():
        assert ((layer.weight.view(-1, m) == 0).sum(dim=1) == n).all()


@pytest.mark.parametrize("target", [HALF, TWO_OF_FOUR])
def test_error_is_below_wanda_s_and_magnitude_s(paper, target):
    weight, inputs = correlated(16, 48)
    factor, _ = inverse_cholesky(hessian_of(inputs), 0.01)
    wanda = paper("wanda")
    rule = wanda.Wanda(wanda.Settings(), target)

    def error(pruned: torch.Tensor) -> float:
        return (inputs @ (pruned - weight).T).square().sum().item()

    magnitude = error(weight.masked_fill(rule.mask(weight.abs()), 0))
    scored = error(weight.masked_fill(rule.mask(wanda.wanda_scores(weight, inputs.norm(dim=0))), 0))
    assert error(paper("sparsegpt").sweep(weight, factor, target)[0]) < scored < magnitude


def test_inputs_that_never_fire_are_pruned(paper, toy_block):
    toy_block.inputs[..., 2] = 0
    build(paper).prune_block(toy_block)
    weight = toy_block.linears["0"].weight
    assert (weight[:, 2] == 0).all() and weight.isfinite().all() and int((weight == 0).sum()) == 4


def test_damping_grows_until_the_factor_exists():
    direction = torch.tensor([1.0, 2.0, 3.0])
    hessian = torch.outer(direction, direction) - 0.2 * torch.eye(3)
    factor, damping = inverse_cholesky(hessian, 0.001)
    assert damping == pytest.approx(0.1)
    torch.testing.assert_close(factor @ damped(hessian, damping) @ factor.T, torch.eye(3), atol=1e-4, rtol=0)
    with pytest.raises(ArithmeticError, match="not positive definite"):
        inverse_cholesky(hessian - 20 * torch.eye(3), 0.01)


def test_sequential_groups_see_what_was_pruned_before(paper, tiny_block):
    block, whole = tiny_block(), tiny_block()
    seen = []
    for names, statistic in build(paper, sequential=True).groups(block):
        seen.append([name.split(".")[-1] for name in names])
        present = block.statistics(SecondMoment)[names[0]].hessian
        torch.testing.assert_close(statistic.hessian, present)
        with torch.no_grad():
            for name in names:
                block.linears[name].weight.mul_(0.5)
    assert seen == [["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]]
    last = list(build(paper).groups(whole))[-1][1]
    assert not torch.allclose(last.hessian, statistic.hessian)


def test_block_report_and_exact_total(paper, tiny_block):
    block = tiny_block()
    build(paper, Target.unstructured(0.45)).prune_block(block)
    assert set(block.report) == set(block.linears)
    for name, layer in block.linears.items():
        assert int((layer.weight == 0).sum()) == int(layer.weight.numel() * 0.45)
        assert block.report[name]["damping"] == 0.01 and block.report[name]["loss"] > 0


def test_supports(paper, facts):
    module = paper("sparsegpt")
    supports = module.SparseGPT.supports
    assert supports(facts, HALF, module.Settings()) is None
    assert supports(facts, Target.n_of_m(4, 8), module.Settings()) is None
    refusal = supports(facts, Target.n_of_m(4, 8), module.Settings(blocksize=4))
    assert "multiple of 8" in refusal.reason and refusal.nearest == "50%"
    assert "divisible by 3" in supports(facts, Target.n_of_m(1, 3), module.Settings(blocksize=3)).reason
