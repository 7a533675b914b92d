"""What a training keeps of itself, so that a killed job goes on where it was, to the identical result."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from reprune.records.files import read_json, write_json
from reprune.records.store import Store

TENSORS, FACTS = "state.safetensors", "state.json"
EVERY_S = 600.0  # a state of weights and both moments is three times the model; writing it takes seconds


class Keeper:
    """The last state of one training, in a store.

    ``key`` names all that its result depends on (run, code, model, data): a state of anything else is not
    found. A new state replaces the one before, and is due ``every_s`` seconds after it. ``earlier_seconds``
    are those that the jobs took which left the state that was read.
    """

    earlier_seconds = 0.0

    def __init__(
        self,
        store: Store,
        key: dict[str, Any],
        every_s: float = EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._key, self._every_s, self._clock = store, {**key, "kind": "state"}, every_s, clock
        self._start = self._last = clock()

    def latest(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """The tensors and the facts of the last state, or None if there is none that can be used."""
        folder = self._store.get(self._key)
        if folder is None:
            return None
        told = read_json(folder / FACTS)
        self.earlier_seconds = told["seconds"]
        return load_file(folder / TENSORS), told["facts"]

    def due(self) -> bool:
        """Whether it is time to keep a state."""
        return self._clock() - self._last >= self._every_s

    def save(self, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        """Keep a state instead of the one before; ``facts`` must be JSON."""

        seconds = self.earlier_seconds + self._clock() - self._start

        def write(place: Path) -> None:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, place / TENSORS)
            write_json(place / FACTS, {"seconds": seconds, "facts": facts})

        self._store.put(self._key, write)
        self._last = self._clock()

    def drop(self) -> None:
        """Forget the state: the training's result is written."""
        self._store.drop(self._key)
