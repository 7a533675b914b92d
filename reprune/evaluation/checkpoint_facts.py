"""What a saved checkpoint is: parameters, zeros and bytes, counted in its files."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from reprune.models.folder import ModelFolder
from reprune.models.skeleton import Skeleton, linear_layers


@dataclass(frozen=True)
class LayerFacts:
    """One linear layer of one block: its weights and how many of them are not zero."""

    block: int
    layer: str
    size: int
    nonzeros: int


@dataclass(frozen=True)
class CheckpointFacts:
    """Counts over a whole checkpoint; tied embeddings count once. ``bytes`` are those of its tensors.

    ``ratio_achieved`` is the share of zeros in the linear layers of the decoder blocks, the basis that
    unstructured pruning papers report (Wanda's ``check_sparsity``).
    """

    params: int
    nonzeros: int
    bytes: int
    ratio_achieved: float
    layers: list[LayerFacts]
    ratio_basis: str = "zeros in the linear layers of the decoder blocks"

    def summary(self) -> dict[str, Any]:
        """The record columns of these facts."""
        facts = asdict(self)
        del facts["layers"]
        return facts


def measure_checkpoint(folder: ModelFolder) -> CheckpointFacts:
    """Count in the files of a checkpoint, one block at a time."""
    skeleton = Skeleton(folder)
    params = nonzeros = size = 0
    layers: list[LayerFacts] = []
    for names in [skeleton.rest_names(), *(skeleton.block_names(i) for i in range(len(skeleton)))]:
        for tensor in folder.read(names).values():
            params += tensor.numel()
            nonzeros += int(torch.count_nonzero(tensor))
            size += tensor.numel() * tensor.element_size()
    for index in range(len(skeleton)):
        for name, layer in linear_layers(skeleton.block(index)).items():
            layers.append(
                LayerFacts(index, name, layer.weight.numel(), int(torch.count_nonzero(layer.weight)))
            )
    weights = sum(layer.size for layer in layers)
    zeros = weights - sum(layer.nonzeros for layer in layers)
    return CheckpointFacts(params, nonzeros, size, zeros / weights, layers)
