"""Taking whole decoder blocks out of a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from reprune.models.parts import put
from reprune.models.skeleton import find_blocks, number_blocks


def drop_blocks(model: Any, indices: Iterable[int]) -> None:
    """Remove the decoder blocks with these indices; see :func:`keep_blocks`."""
    gone = set(indices)
    _, blocks = find_blocks(model)
    keep_blocks(model, [index for index in range(len(blocks)) if index not in gone])


def keep_blocks(model: Any, indices: list[int]) -> None:
    """Leave only the decoder blocks with these indices, in this order.

    The key-value cache goes by ``layer_idx``, so the remaining attention modules are renumbered, and the
    configuration's layer count and per-layer lists follow.
    Raises ValueError if no block would be left.
    """
    if not indices:
        raise ValueError("a model needs at least one decoder block")
    prefix, blocks = find_blocks(model)
    put(model, prefix, nn.ModuleList(blocks[index] for index in indices))
    config, count = model.config, len(blocks)
    for name, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == count:
            setattr(config, name, [value[index] for index in indices])
    config.num_hidden_layers = len(indices)
    number_blocks(model)
