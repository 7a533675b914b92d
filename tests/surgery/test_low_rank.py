"""Ranks from shares, to the digit of the official codes; factors against plain linear algebra."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from reprune.models.parts import put
from reprune.surgery.low_rank import (
    balanced,
    even_ranks,
    factored_size,
    factorise,
    merge_low_rank,
    rank_for,
    scaled_factors,
    svd,
)

# The linear layers of a block of SmolLM2-135M, three times: 9 heads, 3 of them keys'.
BLOCK = {"q": (576, 576), "k": (192, 576), "v": (192, 576), "o": (576, 576)}
SHAPES = {
    f"{i}.{n}": s
    for i in range(3)
    for n, s in (BLOCK | {"gate": (1536, 576), "up": (1536, 576), "down": (576, 1536)}).items()
}


@pytest.mark.parametrize(
    ("rows", "columns", "rank"),
    [
        (4096, 4096, 204),
        (4096, 11008, 298),
        (1024, 4096, 81),
        (4096, 14336, 318),
        (896, 896, 44),
        (128, 896, 11),
        (4864, 896, 75),
        (576, 576, 28),
        (192, 576, 14),
        (1536, 576, 41),
    ],
)
def test_ranks_at_nine_tenths_removed(rows, columns, rank):
    assert rank_for(rows, columns, 0.9) == rank_for(columns, rows, 0.9) == rank


@pytest.mark.parametrize(("size", "exact", "rank"), [(640, 32, 31), (100, 5, 4)])
def test_exact_multiples_lose_a_rank_since_a_tenth_is_not_one_minus_nine_tenths(size, exact, rank):
    assert 10 * exact * 2 * size == size * size
    assert rank_for(size, size, 0.9) == rank


def test_no_rank_is_zero():
    assert int(16 * 8 * (1 - 0.9) / (16 + 8)) == 0
    assert rank_for(16, 8, 0.9) == 1


def test_nothing_removed_is_half_the_rank_of_a_square_and_so_nothing_is_factored():
    assert rank_for(64, 64, 0) == 32
    assert even_ranks(SHAPES, 0) == {}


@pytest.mark.parametrize("share", [0.01, 0.2, 0.253, 0.5, 0.9, 0.98])
def test_even_ranks_meet_the_total_within_one_rank(share):
    total = sum(map(math.prod, SHAPES.values()))
    ranks = even_ranks(SHAPES, share * total)
    removed = total - sum(factored_size(*SHAPES[name], rank) for name, rank in ranks.items())
    assert -1e-6 <= removed - share * total < 576 + 1536
    assert {rank - rank_for(*SHAPES[name], share) for name, rank in ranks.items()} <= {0, 1}


def test_a_matrix_whose_factors_would_not_be_smaller_stays_dense():
    assert even_ranks({"gate": (1, 64), "square": (64, 64)}, 400) == {"square": 28}


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_svd_of_tall_and_wide_matrices(shape, dtype):
    weight = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    u, s, vt = svd(weight)
    assert (u.shape[1], len(s), vt.shape[0]) == (min(shape),) * 3
    assert (s[:-1] >= s[1:]).all()
    torch.testing.assert_close(u * s @ vt, weight)
    up, down = balanced(u, s, vt)
    torch.testing.assert_close(up @ down, weight)
    torch.testing.assert_close(up.norm(dim=0), down.norm(dim=1))


def test_scaled_factors_cut_anywhere_are_the_best_of_their_rank():
    generator = torch.Generator().manual_seed(1)
    weight, scale = torch.randn(7, 5, generator=generator), torch.rand(5, generator=generator) + 0.1
    up, down = scaled_factors(weight, scale)
    torch.testing.assert_close(up @ down, weight, rtol=1e-4, atol=1e-5)
    values = torch.linalg.svdvals(weight * scale)
    for rank in range(1, 5):
        error = (weight - up[:, :rank] @ down[:rank]) * scale
        assert error.norm().item() == pytest.approx(values[rank:].norm().item(), rel=1e-4)


@torch.no_grad()
def test_factors_keep_the_bias_and_merge_to_the_same_outputs():
    linear, inputs = nn.Linear(6, 4), torch.randn(3, 6, generator=torch.Generator().manual_seed(2))
    model = nn.Sequential(linear)
    expected = linear(inputs)
    put(model, "0", factorise(linear, *balanced(*svd(linear.weight))))
    torch.testing.assert_close(model(inputs), expected)
    merge_low_rank(model)
    assert type(model[0]) is nn.Linear
    torch.testing.assert_close(model(inputs), expected)
