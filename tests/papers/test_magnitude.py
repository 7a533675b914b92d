"""Magnitude pruning against its worked examples and against torch.kthvalue."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from reprune.method import Target


class Walk:
    """A model as a method walks it: copies in ``blocks``, the weights themselves in ``rewrite``."""

    def __init__(self, weights: list[list[torch.Tensor]]) -> None:
        self.weights = weights

    def blocks(self) -> Iterator[SimpleNamespace]:
        yield from self._walk(copy=True)

    def rewrite(self) -> Iterator[SimpleNamespace]:
        yield from self._walk(copy=False)

    def _walk(self, copy: bool) -> Iterator[SimpleNamespace]:
        for index, block in enumerate(self.weights):
            linears = {}
            for number, weight in enumerate(block):
                linears[str(number)] = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
                linears[str(number)].weight.data = weight.clone() if copy else weight
            yield SimpleNamespace(index=index, linears=linears)


def compress(paper, weights: list[list[torch.Tensor]], target: Target, **settings) -> torch.Tensor:
    """All weights after compression, flat, in the order of the walk."""
    module = paper("magnitude")
    weights = [[w.clone() for w in block] for block in weights]
    module.Magnitude(module.Settings(**settings), target).compress(Walk(weights))
    return torch.cat([w.flatten() for block in weights for w in block])


def random_blocks(ties: bool = False) -> list[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    blocks = [
        [torch.randn(6, 10, generator=generator), torch.randn(9, 7, generator=generator)] for _ in range(3)
    ]
    return [[(w * 4).round() / 4 for w in block] for block in blocks] if ties else blocks


def test_worked_example_exact(paper, toy):
    pruned = compress(paper, [[toy[0]]], Target.unstructured(0.5))
    assert pruned.tolist() == pytest.approx([0.5, 0, 0, -0.9, 0, 0, -0.4, 0.6])
    error = (toy[1] @ (pruned.view(2, 4) - toy[0]).T).square().sum()
    assert error.item() == pytest.approx(3.23, abs=1e-6)


def test_worked_example_official_removes_one_more(paper, toy):
    pruned = compress(paper, [[toy[0]]], Target.unstructured(0.5), count="official")
    assert pruned.tolist() == pytest.approx([0.5, 0, 0, -0.9, 0, 0, 0, 0.6])


def test_worked_example_row_of_eight(paper, row_of_eight):
    row = row_of_eight[0]
    half = compress(paper, [[row]], Target.unstructured(0.5))
    assert half.tolist() == pytest.approx([0.9, -0.4, 0.35, 0, 0, 0, 0.3, 0])
    two_of_four = compress(paper, [[row]], Target.n_of_m(2, 4))
    assert two_of_four.tolist() == pytest.approx([0.9, -0.4, 0, 0, -0.2, 0, 0.3, 0])


@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.77])
@pytest.mark.parametrize("ties", [False, True])
def test_layer_scope_counts_each_layer(paper, sparsity, ties):
    blocks = random_blocks(ties)
    pruned = compress(paper, blocks, Target.unstructured(sparsity))
    for before, after in zip([w for b in blocks for w in b], pruned.split([60, 63] * 3), strict=True):
        gone = torch.sort(before.abs().flatten(), stable=True).indices[: int(before.numel() * sparsity)]
        expected = before.flatten().clone()
        expected[gone] = 0
        assert torch.equal(after, expected)


@pytest.mark.parametrize("sparsity", [0.05, 0.3, 0.5, 0.77])
@pytest.mark.parametrize("ties", [False, True])
def test_streamed_threshold_is_the_kth_value(paper, sparsity, ties):
    blocks = random_blocks(ties)
    everything = torch.cat([w.flatten() for block in blocks for w in block])
    count = int(len(everything) * sparsity)
    threshold = everything.abs().kthvalue(count).values
    pruned = compress(paper, blocks, Target.unstructured(sparsity), scope="model")
    gone = torch.sort(everything.abs(), stable=True).indices[:count]
    expected = everything.clone()
    expected[gone] = 0
    assert torch.equal(pruned, expected)
    assert expected[everything.abs() < threshold].count_nonzero() == 0


def test_model_scope_breaks_ties_by_block_layer_position(paper):
    blocks = [[torch.full((1, 3), 0.5)], [torch.tensor([[0.25, -0.5, 0.5]])]]
    pruned = compress(paper, blocks, Target.unstructured(0.5), scope="model")
    assert pruned.tolist() == [0, 0, 0.5, 0, -0.5, 0.5]


def test_model_scope_official_takes_all_ties(paper):
    blocks = [[torch.full((1, 3), 0.5)], [torch.tensor([[0.25, -0.5, 0.75]])]]
    pruned = compress(paper, blocks, Target.unstructured(0.5), scope="model", count="official")
    assert pruned.tolist() == [0, 0, 0, 0, 0, 0.75]


def test_threshold_of_magnitudes_far_apart(paper):
    find_cut, bits = paper("magnitude").find_cut, paper("magnitude").magnitude_bits
    weights = torch.tensor([0.0, -1e-40, 1e-20, -3.0, 7e30, 3.0000002])
    for count in range(6):
        cut = find_cut(lambda: iter([weights]), count / 6 + 1e-9)
        assert cut.threshold == bits(weights).sort().values[count]
        assert int(find_cut(lambda: iter([weights]), count / 6 + 1e-9).mask(weights).sum()) == count


@pytest.mark.parametrize(("n", "m"), [(2, 4), (4, 8)])
def test_n_of_m_holds_in_every_group(paper, n, m):
    weight = torch.randn(5, 24, generator=torch.Generator().manual_seed(3))
    pruned = compress(paper, [[weight]], Target.n_of_m(n, m))
    assert ((pruned.view(-1, m) == 0).sum(dim=1) == n).all()


def test_supports(paper, facts):
    module = paper("magnitude")
    supports = module.Magnitude.supports
    assert supports(facts, Target.unstructured(0.5), module.Settings(scope="model")) is None
    assert supports(facts, Target.n_of_m(2, 4), module.Settings()) is None
    refusal = supports(facts, Target.n_of_m(2, 4), module.Settings(scope="model"))
    assert "across layers" in refusal.reason and refusal.nearest == "50%"
    assert not module.Magnitude.requires_calibration
