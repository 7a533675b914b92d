"""What a saved checkpoint is: parameters, zeros and bytes, counted in its files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from reprune.method import ModelFacts
from reprune.models.checkpoint import load_model
from reprune.models.folder import ModelFolder
from reprune.models.skeleton import Skeleton, embedding_parameters, find_blocks, linear_layers

ZEROS = "zeros in the linear layers of the decoder blocks"
REMOVED = "parameters, tied embeddings once"


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

    ``ratio_achieved`` is measured on ``ratio_basis``: the share of zeros in the linear layers of the decoder
    blocks, which unstructured pruning papers report (Wanda's ``check_sparsity``), or for structural methods
    the share of all parameters that is gone, ``ratio_nonembedding`` being the same without the token
    embedding and the output head.
    """

    params: int
    nonzeros: int
    bytes: int
    ratio_achieved: float
    layers: list[LayerFacts]
    ratio_basis: str = ZEROS
    ratio_nonembedding: float | None = None

    def summary(self) -> dict[str, Any]:
        """The record columns of these facts."""
        facts = asdict(self)
        del facts["layers"]
        return facts


def measure_checkpoint(folder: ModelFolder, dense: ModelFacts | None = None) -> CheckpointFacts:
    """Count in the files of a checkpoint.

    One block at a time; with ``dense``, the facts of the model that a structural method compressed, the
    checkpoint is loaded whole, since its shape is its own. So is a translation model, whose decoder's layers
    are counted behind those of the encoder.
    """
    params = nonzeros = size = 0
    for name in sorted(folder.files):
        tensor = folder.read([name])[name]
        params += tensor.numel()
        nonzeros += int(torch.count_nonzero(tensor))
        size += tensor.numel() * tensor.element_size()
    if dense is None:
        layers = _layers(folder)
        weights = sum(layer.size for layer in layers)
        zeros = weights - sum(layer.nonzeros for layer in layers)
        return CheckpointFacts(params, nonzeros, size, zeros / weights, layers)
    model = load_model(folder.path)
    body = dense.parameters - dense.embedding_parameters
    return CheckpointFacts(
        params,
        nonzeros,
        size,
        1 - params / dense.parameters,
        [fact for index, block in enumerate(_blocks(model)) for fact in _of_block(index, block)],
        REMOVED,
        1 - (params - embedding_parameters(model)) / body,
    )


def _layers(folder: ModelFolder) -> list[LayerFacts]:
    if folder.config.is_encoder_decoder:
        blocks: Iterable[nn.Module] = _blocks(load_model(folder.path))
    else:
        skeleton = Skeleton(folder)
        blocks = (skeleton.block(index) for index in range(len(skeleton)))
    return [fact for index, block in enumerate(blocks) for fact in _of_block(index, block)]


def _blocks(model: Any) -> Iterable[nn.Module]:
    """The blocks of a whole model; with an encoder its layers, then the decoder's."""
    if model.config.is_encoder_decoder:
        return [*model.get_encoder().layers, *model.get_decoder().layers]
    return find_blocks(model)[1]


def _of_block(index: int, block: nn.Module) -> Iterator[LayerFacts]:
    for name, layer in linear_layers(block).items():
        yield LayerFacts(index, name, layer.weight.numel(), int(torch.count_nonzero(layer.weight)))
