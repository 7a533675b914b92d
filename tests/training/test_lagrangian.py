"""Penalties on open gates by hand, and that ascent and descent on them lead to the target."""

from __future__ import annotations

import pytest
import torch
from torch import nn, tensor

from reprune.training import hard_concrete
from reprune.training.hard_concrete import open_probability
from reprune.training.lagrangian import count_penalty, expected_size, fraction_penalty, sparsity, warmed

DOUBLE = {"dtype": torch.float64}
HEADS = [[2, 0, -1, 3], [1, 1, 0.5, -2]]
EXAMPLE = (0.3, 0.2)


def close(found, expected, digits=6):
    expected = tensor(expected, **DOUBLE)
    torch.testing.assert_close(found.detach(), expected, rtol=0, atol=0.5 * 10**-digits)


@pytest.fixture
def example():
    """Logits of the heads of two layers, the multipliers, and the penalty at step 160 of 640."""
    logits = nn.Parameter(tensor(HEADS, **DOUBLE))
    multipliers = nn.Parameter(tensor(EXAMPLE, **DOUBLE))
    penalty = fraction_penalty(sparsity(open_probability(logits)), warmed(0.5, 160, 640), multipliers)
    return logits, multipliers, penalty


@pytest.mark.parametrize(("step", "target"), [(0, 0.0), (160, 0.125), (640, 0.5), (3000, 0.5)])
def test_the_target_rises_to_its_final_value(step, target):
    assert warmed(0.5, step, 640) == target
    assert warmed(0.5, step, 0) == 0.5


def test_fractions_as_in_the_official_code(example):
    logits, multipliers, penalty = example
    sparsities = sparsity(open_probability(logits))
    close(sparsities, [0.139860, 0.211679])
    each = [fraction_penalty(own, 0.125, multipliers) for own in sparsities]
    close(torch.stack(each), [0.004502, 0.027506])
    close(penalty, 0.016004)


def test_gradients_of_gates_and_multipliers(example):
    logits, multipliers, penalty = example
    penalty.backward()
    close(multipliers.grad, [0.0507696, 0.0038670], digits=7)
    close(
        logits.grad,
        [[-0.000991, -0.005350, -0.008753, -0.000377], [-0.002696, -0.002696, -0.004070, -0.010048]],
    )


@pytest.mark.parametrize(
    ("optimizer", "expected"), [(torch.optim.SGD, [0.350770, 0.203867]), (torch.optim.AdamW, [1.3, 1.2])]
)
def test_multipliers_ascend(example, optimizer, expected):
    _, multipliers, penalty = example
    penalty.backward()
    optimizer([multipliers], lr=1.0, maximize=True, weight_decay=0.0).step()
    close(multipliers, expected, digits=5)


def test_counts_as_in_the_paper():
    counts = open_probability(tensor(HEADS, **DOUBLE)).sum(-1)
    close(counts, [3.440558, 3.153284])
    close(torch.stack([count_penalty(own, 2, tensor(EXAMPLE)) for own in counts]), [0.847209, 0.611998])
    close(count_penalty(counts, 2, tensor(EXAMPLE)), 1.459208)


def test_both_forms_are_one_penalty_in_different_units():
    counts = open_probability(tensor(HEADS, **DOUBLE)).sum(-1)
    by_count = count_penalty(counts, 2, (-0.3 / 4 / 2, 0.2 / 16 / 2))  # four heads, two layers
    torch.testing.assert_close(by_count, fraction_penalty(1 - counts / 4, 0.5, (0.3, 0.2)))


COFI = {
    "hidden": [3, 3, 0, -3],
    "head": [[3, -3], [3, 3]],
    "attention": [3, -3],
    "intermediate": [[3, 3, -3, -3], [0, 0, 0, 0]],
    "mlp": [3, 0],
}


def test_expected_size_of_cofi():
    opened = {name: open_probability(tensor(own, **DOUBLE)) for name, own in COFI.items()}
    size = expected_size(**opened, per_head=8, per_channel=3)
    close(size, 83.947229)
    close(1 - size / 224, 0.625236)


def test_open_gates_expect_the_whole_size():
    opened = {name: torch.ones_like(tensor(own, **DOUBLE)) for name, own in COFI.items()}
    assert expected_size(**opened, per_head=8, per_channel=3) == 224


def test_expected_size_is_the_mean_size_of_what_is_drawn():
    generator = torch.Generator().manual_seed(0)
    logits = {name: tensor(own, **DOUBLE) for name, own in COFI.items()}
    sizes = []
    for _ in range(4000):
        drawn = {
            name: (hard_concrete.sampled(own, hard_concrete.uniform_draws(own.shape, generator)) > 0).double()
            for name, own in logits.items()
        }
        sizes.append(expected_size(**drawn, per_head=8, per_channel=3))
    assert torch.stack(sizes).mean().item() == pytest.approx(83.947, abs=2)


@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_gates_end_at_the_target(rate):
    """64 gates with a linear preference instead of a model, 320 steps: the end counts, not the path to it."""
    steps, final = 320, 0.5
    logits = nn.Parameter(hard_concrete.initial((64,), torch.Generator().manual_seed(0)))
    preference = torch.linspace(-0.01, 0.01, 64)
    multipliers, seconds = nn.Parameter(torch.zeros(2)), []
    groups = [{"params": [logits]}, {"params": [multipliers], "maximize": True}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=rate / 10)
    for step in range(steps):
        hard_concrete.bound(logits)
        opened = open_probability(logits)
        target = warmed(final, step, steps // 5)
        loss = (opened * preference).sum() + fraction_penalty(sparsity(opened), target, multipliers)
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        seconds.append(multipliers[1].item())
    assert sparsity(open_probability(logits)).item() == pytest.approx(final, abs=0.02)
    assert seconds == sorted(seconds)
    assert set(logits.topk(32, largest=False).indices.tolist()) == set(range(32, 64))
