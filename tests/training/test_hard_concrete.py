"""The hard concrete distribution: its values at known logits, its draws, and its settled gates."""

from __future__ import annotations

import pytest
import torch
from torch import tensor

from reprune.training import hard_concrete
from reprune.training.hard_concrete import expected_kept, open_probability, sampled, settled

DOUBLE = {"dtype": torch.float64}
LOGITS = tensor([hard_concrete.BOUNDS[0], -2, 0, 2, hard_concrete.BOUNDS[1]], **DOUBLE)
ROW = tensor([2, 0, -1, 3], **DOUBLE)


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        (2 / 3, [0.0471298, 0.4009753, 0.8318222, 0.9733667, 0.9979823]),
        (0.83, [0.0681845, 0.4975633, 0.8797699, 0.9818408, 0.9986353]),
    ],
)
def test_chances_to_be_open(temperature, expected):
    torch.testing.assert_close(
        open_probability(LOGITS, temperature), tensor(expected, **DOUBLE), rtol=0, atol=5e-8
    )


def test_soft_values_of_kept_gates():
    expected = tensor([0.0039653, 0.0831727, 0.5, 0.9168273, 0.9960347], **DOUBLE)
    torch.testing.assert_close(settled(LOGITS, 5), expected, rtol=0, atol=5e-8)


@pytest.mark.parametrize(
    ("logit", "uniform", "gate"),
    [(0.0, 0.5, 0.5), (0.0, 0.1, 0.0), (0.0, 0.9, 1.0), (hard_concrete.BOUNDS[1], 0.01, 0.5045225)],
)
def test_samples(logit, uniform, gate):
    drawn = sampled(tensor(logit, **DOUBLE), tensor(uniform, **DOUBLE))
    assert drawn.item() == pytest.approx(gate, abs=1e-7)


def test_draws_are_open_and_fully_open_as_often_as_the_formula_says():
    generator = torch.Generator().manual_seed(0)
    logits = LOGITS.unsqueeze(1).expand(-1, 40_000)
    drawn = sampled(logits, hard_concrete.uniform_draws(logits.shape, generator).double())
    assert 0 <= drawn.min() and drawn.max() <= 1
    torch.testing.assert_close((drawn > 0).double().mean(1), open_probability(LOGITS), rtol=0, atol=0.01)
    fully = tensor([0.0020177, 0.0266333, 0.1681778, 0.5990247, 0.9528702], **DOUBLE)
    torch.testing.assert_close((drawn == 1).double().mean(1), fully, rtol=0, atol=0.01)


def test_uniform_draws_stay_off_the_ends_where_logits_are_infinite():
    draws = hard_concrete.uniform_draws((1000, 1000), torch.Generator().manual_seed(0))
    assert draws.logit().isfinite().all()


def test_expected_number_and_sparsity():
    opened = open_probability(ROW)
    torch.testing.assert_close(
        opened, tensor([0.973367, 0.831822, 0.645335, 0.990034], **DOUBLE), rtol=0, atol=5e-7
    )
    assert opened.sum().item() == pytest.approx(3.440558, abs=5e-7)
    assert expected_kept(ROW).item() == 3


@pytest.mark.parametrize(("kept", "zeros"), [(3, [2]), (2, [1, 2]), (4, []), (0, [0, 1, 2, 3])])
def test_the_lowest_gates_are_closed_and_others_keep_their_soft_value(kept, zeros):
    expected = tensor([0.916827, 0.5, 0.231475, 0.973403], **DOUBLE)
    expected[zeros] = 0
    gates = settled(ROW, kept)
    torch.testing.assert_close(gates, expected, rtol=0, atol=5e-7)
    assert (gates == 0).sum() == 4 - kept


def test_rows_are_settled_each_by_itself():
    logits = torch.stack([ROW, ROW.flip(0), torch.full((4,), -4.0, **DOUBLE)])
    kept = expected_kept(logits)
    assert kept.tolist() == [3, 3, round(4 * open_probability(tensor(-4.0)).item())]
    gates = settled(logits, kept)
    assert torch.equal(
        gates, torch.stack([settled(row, int(n)) for row, n in zip(logits, kept, strict=True)])
    )


def test_gates_at_the_bound_are_apart_by_position_so_the_number_is_exact():
    gates = settled(torch.full((2, 6), hard_concrete.BOUNDS[1]), 4)
    assert gates.eq(0).tolist() == [[True, True, False, False, False, False]] * 2


def test_the_start_is_almost_all_open():
    logits = hard_concrete.initial((30, 1000), torch.Generator().manual_seed(0))
    assert logits.mean().item() == pytest.approx(5, abs=1e-3)
    assert logits.std().item() == pytest.approx(0.01, abs=1e-3)
    hard_concrete.bound(logits)
    assert logits.eq(hard_concrete.BOUNDS[1]).all()


def test_bounding_is_outside_the_gradient():
    logits = torch.nn.Parameter(tensor([9.0, 0.0]))
    hard_concrete.bound(logits)
    open_probability(logits).sum().backward()
    assert logits.grad.isfinite().all() and logits.grad.ne(0).all()


HEADS = tensor([-3, -2.397895, -1, 0, 1, 3], **DOUBLE)


def test_gates_of_heads_at_known_logits():
    """Voita et al.'s gates at temperature 0.33: chances, test-time gates of paper and code, and draws."""
    closed = tensor([0.901028, 0.832937, 0.551985, 0.311888, 0.142913, 0.022068], **DOUBLE)
    near = {"rtol": 0, "atol": 5e-7}
    torch.testing.assert_close(1 - open_probability(HEADS, 0.33), closed, **near)
    fully = tensor([0.022068, 0.039574, 0.142913, 0.311888, 0.551985, 0.901028], **DOUBLE)
    torch.testing.assert_close(hard_concrete.fully_open_probability(HEADS, 0.33), fully, **near)
    undrawn = tensor([0, 0, 0.222730, 0.5, 0.777270, 1], **DOUBLE)
    torch.testing.assert_close(hard_concrete.undrawn(HEADS), undrawn, **near)
    assert hard_concrete.hardened(HEADS).tolist() == [False] * 4 + [True] * 2  # a tie is closed
    for uniform, gates in (
        (0.1, [0, 0, 0, 0, 0, 1]),
        (0.5, [0, 0, 0, 0.5, 1, 1]),
        (0.9, [0, 0.322993, 1, 1, 1, 1]),
    ):
        drawn = sampled(HEADS, torch.full_like(HEADS, uniform), 0.33)
        torch.testing.assert_close(drawn, tensor(gates, **DOUBLE), **near)


def test_paper_and_code_count_open_heads_differently_between_the_thresholds():
    threshold = torch.tensor(11.0, **DOUBLE).log()
    around = torch.stack([-threshold - 1e-6, -threshold + 1e-6, threshold + 1e-6])
    assert (hard_concrete.undrawn(around) > 0).tolist() == [False, True, True]
    assert (hard_concrete.undrawn(around) == 1).tolist() == [False, False, True]
    assert hard_concrete.hardened(around).tolist() == [False, False, True]


def test_the_rule_of_the_paper_is_the_one_of_the_chances():
    logits = torch.linspace(-4, 4, 101, **DOUBLE)
    for temperature in (0.33, 0.5, 2 / 3):
        likelier = hard_concrete.fully_open_probability(logits, temperature) > 1 - open_probability(
            logits, temperature
        )
        apart = logits.abs() > 1e-9
        assert torch.equal(hard_concrete.hardened(logits)[apart], likelier[apart])


def test_draws_of_heads_are_as_often_0_and_1_as_the_chances_say():
    generator = torch.Generator().manual_seed(0)
    drawn = sampled(
        torch.full((200_000,), -1.0), hard_concrete.uniform_draws((200_000,), generator), 0.33
    ).double()
    # four standard errors of 200,000 draws are 0.0045 for a share near 1/2
    assert (drawn == 0).double().mean().item() == pytest.approx(0.551985, abs=0.0045)
    assert (drawn == 1).double().mean().item() == pytest.approx(0.142913, abs=0.0032)
    assert drawn.mean().item() == pytest.approx(0.2757, abs=0.0035)
