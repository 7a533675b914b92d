"""Walking over a model block by block: one decoder block in memory, progress kept after each.

Weights stream from safetensors; a pruned block is cast to the checkpoint's dtype before its outputs go
on, so what later blocks see is what the checkpoint holds. A killed walk goes on at its next block and
ends with the same weights.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from reprune.calibration.block import Block
from reprune.method import BlockMethod
from reprune.models.folder import REST, ModelFolder, write_index
from reprune.models.skeleton import Skeleton, linear_layers
from reprune.plan.identity import stream_seed
from reprune.records.files import link_or_copy, read_json, write_json
from reprune.records.store import Store

WEIGHTS, FACTS = "block.safetensors", "facts.json"


class MethodFault(Exception):
    """A method that broke the rules: it changed what it must not, or left weights that are not finite."""


@dataclass
class Walk:
    """One compression of one model folder.

    ``key`` identifies the work for the store (run, code, model, calibration); ``dtype`` is the
    checkpoint's; ``say`` takes progress as (blocks done, blocks in all).
    """

    source: ModelFolder
    store: Store
    key: dict[str, Any]
    dtype: torch.dtype
    batch_size: int = 1
    say: Callable[[float, int], None] = lambda done, total: None
    skeleton: Skeleton = field(init=False)
    earlier_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.skeleton = Skeleton(self.source)

    def prune_blocks(self, method: BlockMethod, windows: torch.Tensor | None) -> None:
        """Hand every block to ``method`` with its inputs and keep the results in the store.

        ``windows`` are calibration tokens, (windows, length); None for methods that need none.
        """
        pruned = dense = None
        arguments: list[dict[str, Any]] = [{} for _ in range(len(self.skeleton))]
        if windows is not None:
            pruned, arguments = self.skeleton.first_inputs(windows, self.batch_size)
            dense = pruned if method.wants_dense_inputs() else None
        for index in range(len(self.skeleton)):
            block = self._block(index, self.skeleton.block(index), pruned, dense, arguments[index])
            next_dense = block.outputs(dense) if dense is not None else None
            kept = self.store.get(self._key(index))
            if kept is None:
                start = time.monotonic()
                method.prune_block(block)
                self._keep(block, time.monotonic() - start)
            else:
                self.earlier_seconds += read_json(kept / FACTS)["seconds"]
            block.module = self.skeleton.block(index, self._kept(index))
            pruned = block.outputs(pruned) if pruned is not None and index + 1 < len(self.skeleton) else None
            dense = next_dense
            self.say(index + 1, len(self.skeleton))

    def _block(
        self,
        index: int,
        module: nn.Module,
        pruned: torch.Tensor | None,
        dense: torch.Tensor | None,
        arguments: dict[str, Any],
    ) -> Block:
        generator = torch.Generator().manual_seed(stream_seed(self.key["run"], "block", index))
        total = len(self.skeleton)
        return Block(
            index,
            module,
            linear_layers(module),
            pruned,
            dense,
            arguments,
            generator,
            self.batch_size,
            lambda fraction: self.say(index + fraction, total),
        )

    def blocks(self) -> Iterator[Block]:
        """The blocks with their present weights, one at a time; changes are not kept."""
        for index in range(len(self.skeleton)):
            yield self._block(index, self.skeleton.block(index), None, None, {})

    def rewrite(self) -> Iterator[Block]:
        """The blocks one at a time; what each looks like when the next is asked for is kept."""
        for block in self.blocks():
            yield block
            self._keep(block, 0.0)
            self.say(block.index + 1, len(self.skeleton))

    def _key(self, index: int) -> dict[str, Any]:
        return {**self.key, "kind": "block", "block": index}

    def _keep(self, block: Block, seconds: float) -> None:
        names = self.skeleton.block_names(block.index)
        start = len(f"{self.skeleton.prefix}.{block.index}.")
        state = block.module.state_dict()
        tensors = {name: state[name[start:]].to(self.dtype).contiguous() for name in names}
        self._check(block, tensors, start)

        def write(folder: Path) -> None:
            save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
            write_json(folder / FACTS, {"seconds": seconds, "report": block.report})

        self.store.put(self._key(block.index), write)

    def _check(self, block: Block, tensors: dict[str, torch.Tensor], start: int) -> None:
        free = {f"{name}.weight" for name in block.linears}
        fixed = self.source.read([name for name in tensors if name[start:] not in free], self.dtype)
        for name, tensor in tensors.items():
            # One sum instead of a mask per weight: a NaN or infinity anywhere shows in it.
            if not torch.isfinite(tensor.sum(dtype=torch.float32)):
                raise MethodFault(f"block {block.index}: {name[start:]} is not finite after pruning")
            if name in fixed and not torch.equal(tensor, fixed[name]):
                raise MethodFault(
                    f"block {block.index}: {name[start:]} was changed; "
                    "a method may change the weights of linear layers only"
                )

    def _kept(self, index: int) -> dict[str, torch.Tensor]:
        folder = self.store.get(self._key(index))
        assert folder is not None
        return load_file(folder / WEIGHTS)

    def write_checkpoint(self, target: Path) -> dict[int, dict[str, dict[str, float]]]:
        """Write the compressed model as a Hugging Face folder; returns what the method reported by block.

        The folder ``target`` must exist. One file per block, so memory does not grow with depth. A walk
        that changed nothing links the source's files.
        """
        kept = [self.store.get(self._key(index)) for index in range(len(self.skeleton))]
        if not any(kept):
            self.source.link_into(target)
            return {}
        weight_map: dict[str, str] = {}
        reports = {}
        for index, folder in enumerate(kept):
            if folder is None:
                raise MethodFault(f"block {index} was left out by a method that rewrote others")
            file = f"block-{index:03d}.safetensors"
            link_or_copy(folder / WEIGHTS, target / file)
            weight_map.update(dict.fromkeys(self.skeleton.block_names(index), file))
            reports[index] = read_json(folder / FACTS)["report"]
        rest = self.source.read(self.skeleton.rest_names())
        save_file(rest, target / REST, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(rest, REST))
        write_index(target, weight_map)
        self.source.link_companions(target)
        return reports

    def forget(self) -> None:
        """Remove the progress of a finished walk."""
        for index in range(len(self.skeleton)):
            self.store.drop(self._key(index))
