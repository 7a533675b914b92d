"""What the loss of a few windows becomes when a single layer is factored: ASVD's sensitivity, exactly."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional as F

from reprune.calibration.block import Block
from reprune.calibration.subject import Subject
from reprune.models.parts import put
from reprune.surgery.low_rank import factorise, scaled_factors


@torch.no_grad()
def sensitivities(
    subject: Subject, scales: dict[str, torch.Tensor], ranks: dict[str, list[int]], windows: torch.Tensor
) -> dict[str, torch.Tensor]:
    """For every layer the mean next-token loss, (ranks,), with it alone at each of its ``ranks``.

    Measured on the tokens of ``windows``, (windows, length). Blocks before the layer's are not run again,
    since nothing in them changes.
    """
    few = dataclasses.replace(subject, windows=windows, progress=lambda fraction: None)
    losses: dict[str, torch.Tensor] = {}
    for block in few.stream("dense"):
        for layer in block.linears:
            name = f"{subject.prefix}.{block.index}.{layer}"
            outputs = torch.cat(list(factored_outputs(block, layer, scales[name], ranks[name])))
            losses[name] = losses_behind(few, block.index, outputs).view(-1, len(windows)).mean(dim=1)
            subject.progress(len(losses) / len(ranks))
    return losses


def factored_outputs(
    block: Block, layer: str, scale: torch.Tensor, ranks: list[int]
) -> Iterator[torch.Tensor]:
    """The block's outputs with one layer at each of its ``ranks``, (windows, length, hidden size)."""
    linear = block.linears[layer]
    up, down = scaled_factors(linear.weight, scale)
    for rank in ranks:
        put(block.module, layer, factorise(linear, up[:, :rank], down[:rank]))
        yield block.outputs(block.inputs)
    put(block.module, layer, linear)


def losses_behind(subject: Subject, index: int, outputs: torch.Tensor) -> torch.Tensor:
    """(n,) the mean loss of each window if block ``index`` gives ``outputs``, (n, length, hidden size).

    The outputs belong to the subject's windows, which repeat until there are n.
    """
    tokens = subject.windows.repeat(len(outputs) // len(subject.windows), 1)
    nothing = torch.full((len(tokens), 1), -100)  # what cross_entropy ignores
    following = torch.cat([tokens[:, 1:], nothing], dim=1)
    losses = []
    parts = (whole.split(subject.batch_size) for whole in (tokens, following, outputs))
    for batch, labels, states in zip(*parts, strict=True):
        with standing_in(subject.blocks[: index + 1], states):
            logits = subject.model(input_ids=batch, use_cache=False).logits
        found = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        losses.append(found.view(labels.shape)[:, :-1].mean(dim=1))
    return torch.cat(losses)


@contextmanager
def standing_in(blocks: nn.ModuleList, states: torch.Tensor) -> Iterator[None]:
    """Within, these blocks compute nothing and give ``states``."""
    for block in blocks:
        block.forward = lambda *_, **__: states
    try:
        yield
    finally:
        for block in blocks:
            del block.forward
