"""Walks over tiny models with small methods made for the tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from reprune.calibration.walk import Walk
from reprune.method import BlockMethod, NoSettings, Target
from reprune.models.folder import ModelFolder
from reprune.records.store import Store


@dataclass
class Seen:
    """What a method was handed, block by block."""

    indices: list[int] = field(default_factory=list)
    inputs: list[torch.Tensor] = field(default_factory=list)
    dense_inputs: list[torch.Tensor] = field(default_factory=list)


class Halve(BlockMethod):
    """Zeroes the lower half of each layer but v_proj, by score and chance; notes what it was handed.

    What stays of down_proj is scaled, so that rounding to the checkpoint's dtype matters. ``stop_at``
    raises in that block, ``fault`` is called with each block after pruning.
    """

    def __init__(
        self, stop_at: int | None = None, fault: Callable | None = None, dense: bool = False
    ) -> None:
        super().__init__(NoSettings(), Target.unstructured(0.5))
        self.stop_at, self.fault, self.dense, self.seen = stop_at, fault, dense, Seen()

    def wants_dense_inputs(self) -> bool:
        return self.dense

    def prune_block(self, block) -> None:
        if block.index == self.stop_at:
            raise KeyboardInterrupt
        self.seen.indices.append(block.index)
        self.seen.inputs.append(block.inputs.clone())
        self.seen.dense_inputs.append(None if block.dense_inputs is None else block.dense_inputs.clone())
        for name, layer in block.linears.items():
            if name != "self_attn.v_proj":
                chance = torch.rand(layer.weight.shape, generator=block.generator)
                scores = layer.weight.abs() * (0.5 + chance) * (1 + block.inputs.abs().mean())
                layer.weight[scores < scores.median()] = 0
                layer.weight.mul_(1.003 if name == "mlp.down_proj" else 1)
                block.report[name] = {"kept": float((layer.weight != 0).sum())}
        if self.fault:
            self.fault(block)


@dataclass
class Bench:
    """One model folder, calibration windows and a store: makes walks and checkpoints."""

    source: ModelFolder
    windows: torch.Tensor
    place: Path
    warnings: list[str] = field(default_factory=list)

    def walk(self, run: str = "run-0a1b", **options) -> Walk:
        store = Store(self.place / "store", self.warnings.append)
        return Walk(self.source, store, {"run": run, "code": "c", "model": "m"}, torch.float16, 2, **options)

    def checkpoint(self, method: BlockMethod, name: str = "checkpoint", run: str = "run-0a1b") -> ModelFolder:
        walk = self.walk(run)
        walk.prune_blocks(method, self.windows)
        (self.place / name).mkdir()
        self.reports = walk.write_checkpoint(self.place / name)
        return ModelFolder(self.place / name)


@pytest.fixture(params=["tiny-llama", "tiny-llama-gqa"])
def bench(request, tiny_folder, tmp_path) -> Bench:
    """Full heads, and grouped heads with tied embeddings; five windows, two at a time."""
    windows = torch.randint(2, 258, (5, 16), generator=torch.Generator().manual_seed(0))
    return Bench(ModelFolder(tiny_folder(request.param)), windows, tmp_path)


@pytest.fixture
def halve() -> type[Halve]:
    return Halve
