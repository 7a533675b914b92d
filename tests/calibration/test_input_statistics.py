"""Statistics against direct computation over all inputs at once."""

from __future__ import annotations

import pytest
import torch

from reprune.calibration.block import Block
from reprune.calibration.statistics import (
    AbsoluteMaximum,
    AbsoluteMean,
    Gram,
    SecondMoment,
    SquaredNorms,
)
from reprune.models.skeleton import linear_layers

FIRST, SECOND = torch.tensor([[[1.0, 2], [3, 0]]]), torch.tensor([[[2.0, 1], [0, 1]]])
SHARED = [
    {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
    {"self_attn.o_proj"},
    {"mlp.gate_proj", "mlp.up_proj"},
    {"mlp.down_proj"},
]


@pytest.mark.parametrize("batches", [[FIRST, SECOND], [torch.cat([FIRST, SECOND])], [FIRST[0], SECOND[0]]])
def test_worked_examples_whatever_the_batches(batches):
    norms, moment = SquaredNorms(2), SecondMoment(2)
    for batch in batches:
        norms.update(batch)
        moment.update(batch)
    assert norms.mean.tolist() == [7, 3]
    assert norms.norms.tolist() == pytest.approx([7**0.5, 3**0.5])
    assert moment.hessian.tolist() == [[14, 4], [4, 6]]


@pytest.mark.parametrize("batches", [[FIRST, -SECOND], [torch.cat([-FIRST, SECOND])], [-FIRST[0], SECOND[0]]])
def test_sums_means_and_maxima_over_tokens_whatever_the_batches(batches):
    gram, mean, maximum = Gram(2), AbsoluteMean(2), AbsoluteMaximum(2)
    for statistic in (gram, mean, maximum):
        for batch in batches:
            statistic.update(batch)
    assert gram.sum.tolist() == [[14, 4], [4, 6]]
    assert mean.value.tolist() == [1.5, 1]
    assert maximum.value.tolist() == [3, 2]


@pytest.fixture
def block(bench):
    """The first block of a walk, with its inputs."""
    walk = bench.walk()
    inputs, arguments = walk.skeleton.first_inputs(bench.windows, 2)
    module = walk.skeleton.block(0)
    return Block(0, module, linear_layers(module), inputs, None, arguments[0], torch.Generator(), 2)


@torch.no_grad()
def direct_inputs(block):
    """Every linear layer's input of all windows in one batch, (tokens, features), float64."""
    found, hooks = {}, []
    for name, layer in block.linears.items():
        hooks.append(
            layer.register_forward_pre_hook(
                lambda _, args, name=name: found.update({name: args[0].flatten(0, 1).double()})
            )
        )
    block.forward(block.inputs)
    for hook in hooks:
        hook.remove()
    return found


def test_statistics_equal_direct_computation(block):
    norms, moments = block.statistics(SquaredNorms), block.statistics(SecondMoment)
    windows = len(block.inputs)
    for name, x in direct_inputs(block).items():
        sums = x.square().sum(0) / windows
        torch.testing.assert_close(norms[name].mean.double(), sums, rtol=1e-5, atol=1e-7)
        expected = 2 / windows * x.T @ x
        torch.testing.assert_close(
            moments[name].hessian.double(), expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item()
        )


def test_layers_that_read_the_same_tensor_share_one_statistic(block):
    made = []

    def make(features):
        made.append(features)
        return SquaredNorms(features)

    found = block.statistics(make)
    groups = {}
    for name, statistic in found.items():
        groups.setdefault(id(statistic), set()).add(name)
    assert list(groups.values()) == SHARED
    assert sorted(made) == [64, 64, 64, 176]


def test_statistics_leave_the_block_as_it_was(block):
    before = block.outputs(block.inputs)
    block.statistics(SquaredNorms)
    assert torch.equal(block.outputs(block.inputs), before)
    assert not any(layer._forward_pre_hooks for layer in block.linears.values())


def test_the_last_layers_output_is_not_computed_for_statistics(block):
    """It runs once, in the pass that finds out who shares inputs, and not again for the five windows."""
    ran = []
    block.linears["mlp.down_proj"].register_forward_hook(lambda *_: ran.append(1))
    block.statistics(SquaredNorms)
    assert len(ran) == 1


def test_statistics_are_of_the_present_weights(block):
    dense = block.statistics(SquaredNorms)["mlp.down_proj"].mean
    with torch.no_grad():
        block.linears["mlp.gate_proj"].weight.zero_()
    assert not block.statistics(SquaredNorms)["mlp.down_proj"].mean.any() and dense.all()
