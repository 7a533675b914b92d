"""Recovery on instructions: how a compressed model is tuned, as users write it in a paper and a scale."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from reprune.method import Target, Unsupported, setting
from reprune.plan.training import Training, Work

if TYPE_CHECKING:
    from reprune.discovery import MethodEntry
    from reprune.plan.inputs import Instructions, Model
    from reprune.plan.recoveries import Reader

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PROMPTS = ("alpaca", "sheared_llama")  # templates of reprune.training.instructions
ADAPTERS = ("rank", "alpha", "dropout", "targets", "trainable_share")
LACKS: dict[str, dict[str, tuple[str, ...]]] = {
    "lora": {},
    "full": {"adapters": ADAPTERS},
    "replaced": {"adapters": ADAPTERS, "teacher": ("distil",)},
}
"""What each kind does without, and the settings that belong to it."""


def held_out(wanted: int, rows: int) -> int:
    """How many of ``rows`` rows are kept from training: ``wanted``, but at most a tenth."""
    return min(wanted, max(1, rows // 10))


@dataclass(frozen=True)
class Recovery(Training):
    """Training after compression: the defaults are those of GRASP's official code.

    ``replaced`` is GRASP's compensation (``alpaca_grasp.py``): all parameters of the blocks that the
    compression replaced are trained, nothing else. ``lora`` trains low-rank adapters, which are merged
    afterwards (``baseline/run_lora.py``). ``full`` trains all parameters of the compressed model.
    """

    noun: ClassVar[str] = "recovery"
    stage: ClassVar[str] = "tune"
    file: ClassVar[str] = "instructions"
    at_once: ClassVar[int] = 256

    kind: str = setting("lora", "what is trained", choices=tuple(LACKS))
    data: str = setting("alpaca-cleaned", "instruction data of config/data.yaml")
    rows: int | None = setting(None, "rows to train on at most; null for all", minimum=1)
    validation: int = setting(2000, "rows to measure the loss on, at most a tenth of the data", minimum=1)
    prompt: str = setting("alpaca", "whose prompt a row is put into", choices=PROMPTS)
    length: int = setting(256, "tokens of an example at most, prompt and answer", minimum=8)
    epochs: int = setting(1, "times each row is seen", minimum=1)
    batch_size: int = setting(32, "examples of one optimiser step", minimum=1)
    learning_rate: float = setting(3e-4, "highest learning rate of AdamW", minimum=0)
    warmup: float = setting(100.0, "steps of rising learning rate; below 1, their share of all", minimum=0)
    decay: str = setting("linear", "how the learning rate falls to nothing", choices=("linear", "cosine"))
    weight_decay: float = setting(0.0, "weight decay of AdamW", minimum=0)
    rank: int = setting(128, "rank of the adapters", minimum=1)
    alpha: float = setting(16.0, "scale of the adapters: alpha / rank", minimum=0)
    dropout: float = setting(0.05, "dropout before the adapters", minimum=0, maximum=1)
    targets: tuple[str, ...] = setting(PROJECTIONS, "layers that get adapters", choices=PROJECTIONS)
    trainable_share: float | None = setting(
        None, "choose the rank that trains this share of the dense model's parameters", minimum=0, maximum=1
    )
    train_on_inputs: bool = setting(False, "whether the prompt's tokens count in the loss")
    stop: int | None = setting(
        None, "end after so many of the training's steps, as a snapshot of it; null for all", minimum=1
    )
    distil: float = setting(
        0.0, "weight of learning the dense model's chances, by DistilBERT's loss", minimum=0, maximum=1
    )

    @classmethod
    def of(cls, settings: dict[str, Any]) -> Recovery:
        """From a job's parameters, in which JSON has made a list of a tuple."""
        return cls(**{**settings, "targets": tuple(settings["targets"])})

    @property
    def lacks(self) -> dict[str, tuple[str, ...]]:
        return LACKS[self.kind]

    @property
    def teacher(self) -> bool:
        return self.distil > 0

    def data_from(self, reader: Reader, given: dict[str, Any]) -> Instructions | None:
        return reader.instructions(self.data)

    def clash(self, given: dict[str, Any]) -> str | None:
        if {"rank", "trainable_share"} <= set(given):
            return "recovery has both rank and trainable_share; the share chooses the rank"
        return None

    def faults(self, data: Instructions, model: Model, method: MethodEntry) -> Iterator[str]:
        if self.length > model.context:
            yield (
                f"recovery on examples of {self.length} tokens goes beyond the context of {model.name}, "
                f"{model.context}"
            )

    def split(self, rows: int) -> tuple[int, int]:
        """On how many of ``rows`` rows a recovery trains, and how many others are kept for validation."""
        validation = held_out(self.validation, rows)
        return min(self.rows or rows, rows - validation), validation

    def steps(self, rows: int) -> int:
        """Optimiser steps of the whole training on data of ``rows`` rows; rows may drop out as too long."""
        return self.epochs * math.ceil(self.split(rows)[0] / self.batch_size)

    def trained(self, rows: int) -> int:
        """How many examples training sees at most until it stops, one seen twice counted twice."""
        every = self.epochs * self.split(rows)[0]
        return every if self.stop is None else min(every, self.stop * self.batch_size)

    def supports(self, target: Target, data: Instructions) -> Unsupported | None:
        if refusal := super().supports(target, data):
            return refusal
        if target.kind == "none" and self.kind == "replaced":
            return Unsupported("nothing is replaced in the dense model", "recovery of kind lora")
        if self.stop is not None and self.stop > self.steps(data.rows):
            end = self.steps(data.rows)
            return Unsupported(f"training ends after step {end}, before step {self.stop}", f"stop {end}")
        return None

    def longest(self, data: Instructions) -> int:
        return self.length

    def work(self, data: Instructions) -> Work:
        """Every row counts as long as it may be; those for validation are read twice, by a teacher all."""
        trained = self.trained(data.rows)
        read = 2 * self.split(data.rows)[1] + (trained if self.teacher else 0)
        return Work(trained * self.length, read * self.length)
