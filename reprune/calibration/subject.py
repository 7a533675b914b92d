"""A whole model in memory with its calibration, as a structural method sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from reprune.calibration.block import Block
from reprune.method import ModelFacts
from reprune.models.parts import put
from reprune.models.skeleton import find_blocks, first_inputs, linear_layers
from reprune.records.store import Store
from reprune.surgery.low_rank import factorise

if TYPE_CHECKING:
    from reprune.calibration.mixture import Mixture
    from reprune.data.parallel import Pair

STATISTICS = "statistics.safetensors"


@dataclass
class Subject:
    """One compression of one loaded model.

    ``model`` is float32, frozen, in evaluation mode; ``windows`` are calibration tokens, (windows, length),
    or None; ``mixture`` has the windows by domain that a method trains on, or is None, and ``keeper``, a
    :class:`reprune.training.keeping.Keeper`, what a killed job left of that training. A translation model
    comes with its ``tokenizer`` and, by part, the ``pairs`` it is for. ``key`` names model, calibration and
    code for statistics that are shared. What a method leaves in ``report`` (facts by block
    and layer), ``notes`` (facts of the run, as JSON) and ``replaced`` (blocks of the compressed model whose
    parameters recovery may train) is recorded. ``shared_seconds`` is what shared statistics would have cost
    this run had it been alone, less the time it spent on them.
    """

    model: Any
    facts: ModelFacts
    windows: torch.Tensor | None
    generator: torch.Generator
    store: Store
    key: dict[str, Any]
    batch_size: int = 1
    progress: Callable[[float], None] = lambda fraction: None
    mixture: Mixture | None = None
    keeper: Any = None
    tokenizer: Any = None
    pairs: dict[str, list[Pair]] = field(default_factory=dict)
    report: dict[int, dict[str, dict[str, float]]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    replaced: set[int] = field(default_factory=set)
    shared_seconds: float = 0.0
    _known: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        """The place of the decoder blocks in the names of parameters, such as ``model.layers``."""
        return find_blocks(self.model)[0]

    @property
    def blocks(self) -> nn.ModuleList:
        """The decoder blocks as they are now."""
        return find_blocks(self.model)[1]

    @property
    def parameters(self) -> int:
        """How many parameters the model has now, tied ones once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def draw_seed(self) -> int:
        """A seed from this run's own generator, for code that draws from a generator of its own."""
        return torch.randint(2**63 - 1, (), generator=self.generator).item()

    def batches(self) -> Iterator[torch.Tensor]:
        """The calibration tokens, ``batch_size`` windows at a time."""
        yield from self.windows.split(self.batch_size)

    def linears(self) -> dict[str, nn.Linear]:
        """Every linear layer of every block by its full name, blocks in order."""
        prefix, blocks = find_blocks(self.model)
        return {
            f"{prefix}.{index}.{name}": layer
            for index, block in enumerate(blocks)
            for name, layer in linear_layers(block).items()
        }

    def factor(self, name: str, up: torch.Tensor, down: torch.Tensor) -> None:
        """Put ``up`` (outputs, rank) · ``down`` (rank, inputs) in a linear layer's place; report the rank."""
        put(self.model, name, factorise(self.model.get_submodule(name), up, down))
        index, _, layer = name.removeprefix(f"{self.prefix}.").partition(".")
        self.report.setdefault(int(index), {})[layer] = {"rank": down.shape[0]}

    def remember(self, name: str, make: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        """Statistics of the dense model, made once for all runs of one method, model and calibration.

        Asked again, this run gets the same tensors, and they cost it nothing more.
        A run that asks while another is making them waits. ``make`` must not depend on settings or target
        other than by ``name``.
        """
        if name in self._known:
            return self._known[name]
        key = {**self.key, "kind": "statistics", "name": name}
        folder, seconds = self.store.shared(key, lambda place: save_file(make(), place / STATISTICS))
        self.shared_seconds += seconds
        self._known[name] = load_file(folder / STATISTICS)
        return self._known[name]

    def stream(self, path: str = "compressed") -> Iterator[Block]:
        """The blocks in turn with their inputs; what the caller makes of a block is in the model at once.

        ``path`` is ``compressed`` if a block's inputs come out of the blocks as the caller left them, or
        ``dense`` if out of the blocks as they were.
        """
        inputs, arguments = self.first_inputs()
        for index in range(len(self.blocks)):
            block = self._block(index, inputs, arguments[index])
            last = index + 1 == len(self.blocks)
            following = block.outputs(inputs) if path == "dense" and not last else None
            yield block
            if following is None and not last:
                following = self._block(index, inputs, arguments[index]).outputs(inputs)
            inputs = following
            self.progress((index + 1) / len(self.blocks))

    def _block(self, index: int, inputs: torch.Tensor, arguments: dict[str, Any]) -> Block:
        module = self.blocks[index]
        return Block(
            index,
            module,
            linear_layers(module),
            inputs,
            None,
            arguments,
            self.generator,
            self.batch_size,
            report=self.report.setdefault(index, {}),
        )

    def first_inputs(self) -> tuple[torch.Tensor, list[dict[str, Any]]]:
        """Inputs of the first block, and each block's keyword arguments.

        See :func:`reprune.models.skeleton.first_inputs`.
        """
        return first_inputs(self.model, list(self.blocks), self.windows, self.batch_size)
