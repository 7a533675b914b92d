"""How masks are learned with the weights, as a paper's settings say; without torch, for planning."""

from __future__ import annotations

from dataclasses import dataclass

from reprune.method import setting


@dataclass(frozen=True)
class MaskSettings:
    """The defaults are those of LLM-Shearing, ``scripts/pruning.sh``; the clipping is the paper's."""

    steps: int = setting(3200, "optimiser steps", minimum=1)
    batch_size: int = setting(32, "windows of a step", minimum=1)
    learning_rate: float = setting(1e-4, "highest learning rate of the weights", minimum=0)
    mask_rate: float = setting(1.0, "highest learning rate of masks and multipliers", minimum=0)
    warmup: float = setting(0.1, "steps of rising learning rates; below 1, their share of all", minimum=0)
    sparsity_warmup: float = setting(
        0.2, "share of the steps in which the target rises to its last value", minimum=0, maximum=1
    )
    temperature: float = setting(2 / 3, "β of hard concrete masks; Sheared-LLaMA's paper: 0.83", minimum=0.01)
    evaluate_every: int = setting(50, "steps between measurements of the domains' losses", minimum=1)
    loading: str = setting(
        "dynamic", "whether the domains' weights follow their losses", choices=("dynamic", "constant")
    )
    clipped: bool = setting(True, "whether a domain below its reference counts as at it; false in the code")
    floor: float = setting(0.0, "share given to all domains alike; 0.0001 in the code", minimum=0, maximum=1)

    @property
    def work(self) -> tuple[int, int]:
        """On how many windows is trained, and how often the held-out loss is measured."""
        return self.steps * self.batch_size, 2 + self.steps // self.evaluate_every
