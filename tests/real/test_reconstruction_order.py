"""On the real model and real calibration text: SparseGPT's layer error <= Wanda's <= magnitude's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from reprune.calibration.block import Block
from reprune.calibration.statistics import SecondMoment
from reprune.discovery import load_method
from reprune.method import Target
from reprune.models.folder import ModelFolder
from reprune.models.skeleton import Skeleton, linear_layers
from reprune.plan.paths import CALIBRATION, MODELS
from reprune.plan.plan import ROOT, build_plan

BLOCKS = (0, 10, 20, 29)
METHODS = ("magnitude", "wanda", "sparsegpt")


@pytest.fixture(scope="module")
def run():
    """The plan's SparseGPT run; skips where its model or calibration was never fetched."""
    plan = build_plan({"scale": "local", "mirror": None})
    run = next(r for r in plan.runs_of(["besa"]) if r.method.id == "sparsegpt")
    if not (ROOT / MODELS / run.model.id).is_dir() or not (ROOT / _windows(run)).is_file():
        pytest.skip("needs the real model: snakemake --cores all --until draw_calibration")
    return run


def _windows(run) -> Path:
    return CALIBRATION / f"{run.calibration.id}.safetensors"


@pytest.fixture(scope="module")
def errors(run) -> dict[tuple[int, str], dict[str, float]]:
    """trace(ΔW H ΔWᵀ) of each layer of some blocks for each method, inputs along the dense path."""
    torch.set_num_threads(1)
    skeleton = Skeleton(ModelFolder(ROOT / MODELS / run.model.id))
    tokens = load_file(ROOT / _windows(run))["tokens"]
    hidden, arguments = skeleton.first_inputs(tokens, 8)
    found: dict[tuple[int, str], dict[str, float]] = {}
    for index in range(len(skeleton)):
        if index in BLOCKS:
            found |= _block_errors(skeleton, index, hidden, arguments[index])
        hidden = _block(skeleton, index, hidden, arguments[index]).outputs(hidden)
    return found


def _block(skeleton: Skeleton, index: int, hidden: torch.Tensor, arguments: dict) -> Block:
    module = skeleton.block(index)
    return Block(index, module, linear_layers(module), hidden, None, arguments, torch.Generator(), 8)


def _block_errors(skeleton: Skeleton, index: int, hidden: torch.Tensor, arguments: dict) -> dict:
    dense = _block(skeleton, index, hidden, arguments)
    moments = dense.statistics(SecondMoment)
    found: dict[tuple[int, str], dict[str, float]] = {(index, name): {} for name in dense.linears}
    for method in METHODS:
        pruned = _block(skeleton, index, hidden, arguments)
        entry = load_method(ROOT / "papers" / method / "method.py")
        instance = entry.cls(entry.cls.Settings(), Target.unstructured(0.5))
        if method == "magnitude":
            instance.compress(_OneBlock(pruned))
        else:
            instance.prune_block(pruned)
        for name, layer in pruned.linears.items():
            change = layer.weight - dense.linears[name].weight
            found[index, name][method] = ((change @ moments[name].hessian) * change).sum().item()
    return found


class _OneBlock:
    """A model of one block, for a method that wants a whole model."""

    def __init__(self, block: Block) -> None:
        self._block = block

    def blocks(self):
        yield self._block

    rewrite = blocks


@pytest.mark.parametrize(("better", "worse"), [("sparsegpt", "wanda"), ("wanda", "magnitude")])
def test_the_better_method_never_has_the_larger_error(errors, better, worse):
    wrong = {layer: e for layer, e in errors.items() if e[better] > e[worse]}
    assert len(errors) == 7 * len(BLOCKS)
    assert not wrong
