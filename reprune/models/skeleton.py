"""A model taken apart: the shell around its decoder blocks, and blocks built one at a time.

Nothing here knows an architecture by name: blocks are the longest list of equal modules, and what a
model hands to its blocks is recorded by letting its own forward run over recorders.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from reprune.models.folder import ModelFolder
from reprune.models.parts import put


class NoDecoderBlocks(Exception):
    """A model without a list of decoder blocks; the message names its class."""


class _Captured(Exception):
    """Ends the shell's forward once every block's arguments are known."""


class _Recorder(nn.Module):
    """Stands for a block: notes what it is called with and hands its input on."""

    def __init__(self, block: nn.Module, calls: list, last: bool) -> None:
        super().__init__()
        self._stand_for = [block]  # in a list, so that it is not registered as a submodule
        self._calls = calls
        self._last = last

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_stand_for"][0], name)

    def forward(self, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if args:
            raise TypeError(
                f"blocks of this model are called with {len(args)} further positional arguments, "
                "which cannot be replayed by name"
            )
        self._calls.append((hidden, kwargs))
        if self._last:
            raise _Captured
        return hidden


class Skeleton:
    """Blocks by index and the inputs of the first one, for a model folder.

    ``prefix`` is the blocks' place in tensor names, such as ``model.layers``.
    Raises :class:`NoDecoderBlocks` if the model has none.
    """

    def __init__(self, folder: ModelFolder) -> None:
        from transformers import AutoModelForCausalLM

        self.folder = folder
        self.config = folder.config
        try:
            with torch.device("meta"):
                self._meta = AutoModelForCausalLM.from_config(self.config)
        except ValueError as error:
            raise NoDecoderBlocks(f"{type(self.config).__name__} is not a causal language model") from error
        self.prefix, self._blocks = find_blocks(self._meta)

    def __len__(self) -> int:
        return len(self._blocks)

    def block_names(self, index: int) -> list[str]:
        """The names of block ``index``'s tensors in the folder."""
        return self.folder.names_below(f"{self.prefix}.{index}.")

    def rest_names(self) -> list[str]:
        """The names of all tensors outside the blocks."""
        return [name for name in sorted(self.folder.files) if not name.startswith(self.prefix + ".")]

    def block(self, index: int, tensors: dict[str, torch.Tensor] | None = None) -> nn.Module:
        """Block ``index`` in float32, frozen, with its own weights or the given ones (by full name)."""
        kind = type(self._blocks[index])
        with torch.device("meta"):
            block = kind(self.config, layer_idx=index)
        if set(dict(block.named_buffers())) - set(block.state_dict()):
            block = kind(self.config, layer_idx=index)  # buffers that no file holds must be computed
        tensors = tensors or self.folder.read(self.block_names(index), torch.float32)
        start = len(f"{self.prefix}.{index}.")
        block.load_state_dict({name[start:]: t.float() for name, t in tensors.items()}, assign=True)
        return block.eval().requires_grad_(False)

    def first_inputs(self, windows: torch.Tensor, batch: int) -> tuple[torch.Tensor, list[dict[str, Any]]]:
        """Inputs of block 0, and each block's keyword arguments; see :func:`first_inputs`."""
        shell = self._shell()
        shell.config.num_hidden_layers = len(self._blocks)
        return first_inputs(shell, self._blocks, windows, batch)

    def _shell(self) -> nn.Module:
        from transformers import AutoModelForCausalLM

        config = copy.deepcopy(self.config)
        config.num_hidden_layers = 1  # but all `layer_types`: masks and rotary tables are made per type
        with torch.random.fork_rng(devices=[]):  # its random weights are overwritten at once
            shell = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        shell.eval().requires_grad_(False)
        output = {f"lm_head.{n}" for n, _ in shell.get_output_embeddings().named_parameters()}
        wanted = [name for name in self.rest_names() if name not in output]
        shell.load_state_dict(self.folder.read(wanted, torch.float32), strict=False)
        return shell


@torch.no_grad()
def first_inputs(
    model: nn.Module, blocks: Sequence[nn.Module], windows: torch.Tensor, batch: int
) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    """Inputs of block 0, (windows, length, hidden size), and the keyword arguments of each of ``blocks``.

    The model runs with recorders in the place of its blocks, so none is computed. The arguments are those of
    a batch of one window; they hold for any batch of unpadded windows of that length, which broadcasting
    serves.
    """
    calls: list[tuple[torch.Tensor, dict]] = []
    prefix, own = find_blocks(model)
    recorders = [_Recorder(block, calls, i + 1 == len(blocks)) for i, block in enumerate(blocks)]
    put(model, prefix, nn.ModuleList(recorders))
    try:
        hidden = torch.cat([_recorded(model, part, calls)[0][0] for part in windows.split(batch)])
        return hidden, [kwargs for _, kwargs in _recorded(model, windows[:1], calls)]
    finally:
        put(model, prefix, own)


def _recorded(model: nn.Module, tokens: torch.Tensor, calls: list) -> list[tuple[torch.Tensor, dict]]:
    calls.clear()
    with contextlib.suppress(_Captured):  # raised by the last recorder: all is known by then
        model(input_ids=tokens, use_cache=False)
    return list(calls)


def hidden_state(output: torch.Tensor | tuple) -> torch.Tensor:
    """The hidden state in what a decoder block returns."""
    return output[0] if isinstance(output, tuple) else output


def find_blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The longest list of modules that hold linear layers: its name and itself.

    Raises :class:`NoDecoderBlocks` if there is none.
    """
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
        and len(module)
        and any(isinstance(m, nn.Linear) for m in module[0].modules())
    ]
    if not lists:
        raise NoDecoderBlocks(f"{type(model).__name__} has no list of decoder blocks with linear layers")
    return max(lists, key=lambda pair: len(pair[1]))


def linear_layers(block: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers of a block by their name inside it, in module order."""
    return {name: module for name, module in block.named_modules() if isinstance(module, nn.Linear)}


def number_blocks(model: Any) -> None:
    """Give every block's attention its place in the key-value cache, after blocks were changed.

    A cache has a place for each block, of the kind that ``layer_types`` of the configuration names, and asks
    the first one, of all or of a kind, how many tokens it holds. So a block gets the lowest free place of its
    kind, and blocks without attention, which fill none and may be of any kind, are of one that others are of.
    """
    _, blocks = find_blocks(model)
    caching = [[module for module in block.modules() if hasattr(module, "layer_idx")] for block in blocks]
    kinds = getattr(model.config, "layer_types", None) or [""] * len(blocks)
    common = next((kind for kind, found in zip(kinds, caching, strict=True) if found), kinds[0])
    kinds = [kind if found else common for kind, found in zip(kinds, caching, strict=True)]
    places = {kind: [i for i, other in enumerate(kinds) if other == kind] for kind in kinds}
    for kind, found in zip(kinds, caching, strict=True):
        place = places[kind].pop(0) if found else None
        for module in found:
            module.layer_idx = place
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = kinds


def embedding_parameters(model: Any) -> int:
    """The weights of a whole model's token embedding and output head, once if they are tied."""
    parts = (model.get_input_embeddings(), model.get_output_embeddings())
    return sum(weight.numel() for weight in {part.weight for part in parts if part is not None})
