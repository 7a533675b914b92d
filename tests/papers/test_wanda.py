"""Wanda against the worked examples of its paper's official code."""

from __future__ import annotations

import pytest
import torch

from reprune.calibration.statistics import SquaredNorms
from reprune.method import Target

HALF = Target.unstructured(0.5)


def build(paper, target: Target = HALF, **settings):
    module = paper("wanda")
    return module.Wanda(module.Settings(**settings), target)


def scores_of(paper, toy) -> torch.Tensor:
    weight, inputs = toy
    return paper("wanda").wanda_scores(weight, inputs.norm(dim=0))


def test_worked_scores(paper, toy):
    norms = SquaredNorms(4)
    norms.update(toy[1].unsqueeze(0))
    assert norms.norms.tolist() == pytest.approx([2.645751, 7.483315, 2.645751, 1.802776], abs=1e-6)
    expected = [1.322876, 1.496663, 0.793725, 1.622498, 0.529150, 0.748331, 1.058301, 1.081665]
    assert scores_of(paper, toy).flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_worked_half(paper, toy, toy_block):
    build(paper).prune_block(toy_block)
    pruned = toy_block.linears["0"].weight.detach()
    assert pruned.flatten().tolist() == pytest.approx([0, -0.2, 0, -0.9, 0, 0, -0.4, 0.6])
    assert (toy[1] @ (pruned - toy[0]).T).square().sum().item() == pytest.approx(2.98, abs=1e-5)


def test_worked_row_of_eight(paper, row_of_eight):
    row, norms = row_of_eight
    scores = paper("wanda").wanda_scores(row, norms)
    assert scores.flatten().tolist() == pytest.approx([0.9, 0.8, 0.7, 0.1, 0.6, 0.15, 0.3, 0.05])
    half = row.masked_fill(build(paper).mask(scores), 0)
    assert half.flatten().tolist() == pytest.approx([0.9, -0.4, 0.35, 0, -0.2, 0, 0, 0])
    two_of_four = row.masked_fill(build(paper, Target.n_of_m(2, 4)).mask(scores), 0)
    assert two_of_four.flatten().tolist() == pytest.approx([0.9, -0.4, 0, 0, -0.2, 0, 0.3, 0])


def test_worked_running_statistic():
    statistic = SquaredNorms(2)
    for window in ([[1.0, 2.0], [3.0, 0.0]], [[2.0, 1.0], [0.0, 1.0]]):
        statistic.update(torch.tensor([window]))
    assert statistic.mean.tolist() == [7, 3]
    assert statistic.norms.tolist() == pytest.approx([2.645751, 1.732051], abs=1e-6)


@pytest.mark.parametrize(("fraction", "count"), [(0.3, 2), (0.4, 2), (0.6, 3), (0.0, 0)])
def test_worked_cumulative_counts(paper, fraction, count):
    ordered = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert paper("wanda").cumulative_counts(ordered, fraction).tolist() == [count]


@pytest.mark.parametrize("sparsity", [0.2, 0.5, 0.7])
def test_cumulative_meets_the_target_with_uneven_rows(paper, sparsity):
    scores = torch.rand(40, 100, generator=torch.Generator().manual_seed(0))
    mask = build(paper, Target.unstructured(sparsity), variant="cumulative").mask(scores)
    assert mask.float().mean().item() == pytest.approx(sparsity, abs=1.5e-3)
    assert len(set(mask.sum(dim=1).tolist())) > 1
    assert (scores.masked_fill(~mask, 0).amax(1) <= scores.masked_fill(mask, 9).amin(1)).all()


@pytest.mark.parametrize("sparsity", [0.3, 0.5, 0.61])
def test_every_row_loses_the_floor(paper, tiny_block, sparsity):
    block = tiny_block()
    build(paper, Target.unstructured(sparsity)).prune_block(block)
    for layer in block.linears.values():
        lost = (layer.weight == 0).sum(dim=1)
        assert (lost == int(layer.in_features * sparsity)).all()


def test_statistics_come_from_the_dense_block(paper, tiny_block):
    block, dense = tiny_block(), tiny_block()
    norms = dense.statistics(SquaredNorms)
    build(paper).prune_block(block)
    for name, layer in dense.linears.items():
        scores = paper("wanda").wanda_scores(layer.weight, norms[name].norms)
        gone = torch.sort(scores, dim=1, stable=True).indices[:, : layer.in_features // 2]
        expected = layer.weight.detach().clone().scatter_(1, gone, 0.0)
        assert torch.equal(block.linears[name].weight, expected)


@pytest.mark.parametrize(("n", "m"), [(2, 4), (4, 8), (1, 4)])
def test_n_of_m_holds_in_every_group(paper, tiny_block, n, m):
    block = tiny_block()
    build(paper, Target.n_of_m(n, m)).prune_block(block)
    for layer in block.linears.values():
        assert ((layer.weight.view(-1, m) == 0).sum(dim=1) == n).all()


def test_groups_differ_in_where_they_count(paper):
    scores = torch.rand(8, 12, generator=torch.Generator().manual_seed(2)) * torch.arange(1, 13)
    by_layer = build(paper, group="layer").mask(scores)
    by_column = build(paper, group="column").mask(scores)
    assert int(by_layer.sum()) == 48 and len(set(by_layer.sum(dim=1).tolist())) > 1
    assert scores[by_layer].max() <= scores[~by_layer].min()
    assert by_column.sum(dim=0).tolist() == [4] * 12


def test_metric_magnitude_reads_no_inputs(paper, tiny_block):
    block = tiny_block()
    block.inputs = None
    before = {name: layer.weight.detach().clone() for name, layer in block.linears.items()}
    build(paper, metric="magnitude").prune_block(block)
    for name, layer in block.linears.items():
        kept = layer.weight != 0
        size = before[name].abs()
        assert (size.masked_fill(kept, 0).amax(1) <= size.masked_fill(~kept, 9).amin(1)).all()


def test_supports(paper, facts):
    module = paper("wanda")

    def answer(target: Target, **settings):
        return module.Wanda.supports(facts, target, module.Settings(**settings))

    assert answer(HALF) is None and answer(Target.n_of_m(2, 4)) is None
    assert answer(HALF, group="layer") is None and answer(HALF, variant="cumulative") is None
    assert answer(HALF, group="layer", variant="cumulative") is not None
    assert answer(Target.n_of_m(2, 4), group="column").nearest == "50%"
    assert answer(Target.n_of_m(4, 8), variant="cumulative").nearest == "50%"
    assert "divisible by 5" in answer(Target.n_of_m(1, 5)).reason
