"""Sentences with their translations as tokens, and the batches that a translation model reads.

Batches are of sentences of similar length, as Voita et al. (arXiv 1905.09418) make them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reprune.data.parallel import Pair

IGNORED = -100  # the label of padding
AT_ONCE = 4096  # tokens of one forward pass, source and target, padding included
NOISE = 0.3  # of a sentence's length in tokens, when sentences of similar length are put together


class Encoded(NamedTuple):
    """The tokens of a sentence and of its translation; both end with the end of sentence."""

    source: list[int]
    target: list[int]


class Batch(NamedTuple):
    """Sentences padded to one length: all (sentences, length), ``target`` is what the decoder reads.

    ``labels`` are :data:`IGNORED` at padding.
    """

    source: Tensor
    source_mask: Tensor
    target: Tensor
    labels: Tensor

    @property
    def scored(self) -> int:
        """How many target tokens have a label."""
        return int((self.labels != IGNORED).sum())


@dataclass(frozen=True)
class Translations:
    """What a method trains on: encoded pairs of a model's training text, and of its validation text."""

    train: list[Encoded]
    held_out: list[Encoded]


def readable(model: Any, longest: int) -> int:
    """``longest`` tokens of a sentence, or as many as the model has positions for."""
    return min(longest, model.config.max_position_embeddings)


def encode(tokenizer: Any, pairs: Sequence[Pair], longest: int) -> list[Encoded]:
    """The pairs as tokens; those with a side of more than ``longest`` tokens are left out."""
    sources = tokenizer([pair.source for pair in pairs])["input_ids"]
    targets = tokenizer(text_target=[pair.target for pair in pairs])
    targets = targets.get("input_ids", targets.get("labels"))
    found = (Encoded(list(s), list(t)) for s, t in zip(sources, targets, strict=True))
    return [pair for pair in found if max(map(len, pair)) <= longest]


def collate(pairs: Sequence[Encoded], padding: int, start: int) -> Batch:
    """One batch; ``start`` is what the decoder reads first."""
    source = _padded([pair.source for pair in pairs], padding)
    labels = _padded([pair.target for pair in pairs], IGNORED)
    target = _padded([[start, *pair.target[:-1]] for pair in pairs], padding)
    lengths = torch.tensor([len(pair.source) for pair in pairs])
    mask = (torch.arange(source.shape[1]) < lengths[:, None]).long()
    return Batch(source, mask, target, labels)


def grouped(
    pairs: Sequence[Encoded], tokens: int, generator: torch.Generator | None = None
) -> list[list[int]]:
    """The indices of ``pairs`` in groups of at most ``tokens`` with their padding, alike in length.

    Without a generator from short to long; with one, lengths are blurred a little, and groups come in a new
    order.
    """
    sizes = torch.tensor([[len(pair.source), len(pair.target)] for pair in pairs], dtype=torch.float)
    keys = sizes.sum(1)
    if generator is not None:
        keys = keys * (1 + NOISE * torch.rand(len(pairs), generator=generator))
    groups: list[list[int]] = [[]]
    widest = torch.zeros(2)
    for index in keys.argsort(stable=True).tolist():
        wider = torch.maximum(widest, sizes[index])
        if groups[-1] and (len(groups[-1]) + 1) * wider.sum() > tokens:
            groups.append([])
            wider = sizes[index]
        groups[-1].append(index)
        widest = wider
    if generator is None:
        return groups
    return [groups[i] for i in torch.randperm(len(groups), generator=generator).tolist()]


def batches(model: Any, pairs: Sequence[Encoded], tokens: int = AT_ONCE) -> list[Batch]:
    """All pairs in batches for ``model``, from short to long."""
    return [
        collate([pairs[i] for i in group], model.config.pad_token_id, model.config.decoder_start_token_id)
        for group in grouped(pairs, tokens)
    ]


def _padded(rows: Sequence[Sequence[int]], padding: int) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([[*row, *[padding] * (width - len(row))] for row in rows])
