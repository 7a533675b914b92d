"""The attention weights of an encoder's heads, sentence by sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch

from reprune.models.attention import attention_as
from reprune.models.translation import attention_kinds
from reprune.surgery.head_gates import retained_heads

Place = tuple[int, int]


def head_places(model: Any, kept: list[list[bool]] | None) -> list[Place]:
    """(layer, head) of every head of a model's encoder, numbered as before any was removed.

    ``kept`` says by layer which of the dense model's heads are there; None for a dense model.
    Raises ValueError if it has other numbers of heads than the model.
    """
    heads = retained_heads(model)["encoder"]
    if kept is None:
        kept = [[True] * count for count in heads]
    places = [(layer, head) for layer, row in enumerate(kept) for head, is_kept in enumerate(row) if is_kept]
    told = [sum(row) for row in kept]
    if told != heads:
        raise ValueError(f"the encoder has {heads} heads by layer, its notes say {told}")
    return places


def attention_maps(model: Any, tokenizer: Any, texts: list[str]) -> Iterator[tuple[list[int], np.ndarray]]:
    """The ids and the weights (heads, tokens, tokens) of each sentence, all of a batch computed at once.

    Heads are in the order of :func:`head_places`. The end of sequence, the last token that the tokenizer
    gives, is left out of both.
    """
    longest = model.config.max_position_embeddings
    batch = tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
    lengths = batch["attention_mask"].sum(1).tolist()
    with _recorded(model) as maps, torch.no_grad():
        model.get_encoder()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    layers = [maps[layer].float() for layer in sorted(maps)]
    width = batch["input_ids"].shape[1]
    weights = torch.cat(layers, 1) if layers else torch.zeros(len(texts), 0, width, width)
    for ids, of_sentence, length in zip(batch["input_ids"].tolist(), weights.numpy(), lengths, strict=True):
        real = length - 1
        yield ids[:real], of_sentence[:, :real, :real]


@contextmanager
def _recorded(model: Any) -> Iterator[dict[int, torch.Tensor]]:
    """Fills a dictionary with the weights of each layer that has heads, (sentences, heads, queries, keys)."""
    maps: dict[int, torch.Tensor] = {}
    layers = zip(attention_kinds(model)["encoder"], retained_heads(model)["encoder"], strict=True)
    handles = [
        attention.register_forward_hook(partial(_keep, maps, index))
        for index, (attention, heads) in enumerate(layers)
        if heads
    ]
    try:
        with attention_as(model, "eager"):  # the only one that gives its weights away
            yield maps
    finally:
        for handle in handles:
            handle.remove()


def _keep(maps: dict[int, torch.Tensor], layer: int, module: Any, given: Any, output: Any) -> None:
    maps[layer] = output[1]
