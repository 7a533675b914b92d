"""Half of each row goes, by score and chance. Notes which block it is at, and stops at the second if told."""

from __future__ import annotations

import os
import time
from pathlib import Path

from reprune.lazy import LazyModule, torch
from reprune.method import BlockMethod

masks = LazyModule("reprune.surgery.masks")
statistics = LazyModule("reprune.calibration.statistics")


class Stall(BlockMethod):
    """Depends on everything a method may depend on: weights, calibration, and the block's random stream."""

    def prune_block(self, block) -> None:
        with Path(os.environ["STALL_TRACE"]).open("a") as trace:
            trace.write(f"{block.index}\n")
        if block.index == 1 and "STALL" in os.environ:
            time.sleep(120)
        for name, statistic in block.statistics(statistics.SquaredNorms).items():
            layer = block.linears[name]
            chance = 0.5 + torch.rand(layer.weight.shape, generator=block.generator)
            scores = layer.weight.detach().abs() * statistic.norms * chance
            masks.prune(layer, masks.lowest_per_row(scores, layer.in_features // 2))
