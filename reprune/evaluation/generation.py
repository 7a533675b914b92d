"""Greedy generation without padding and without waiting: a row that is done makes room for the next prompt.

lm-eval's ``hf`` model generates batch by batch until all rows have met the *same* stop sequence, so that one
row, or two different stop sequences, keep a batch at work to the last allowed token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from reprune.evaluation.packed_forward import Trunk, line_logits, packed_attention, packed_logits, passes
from reprune.evaluation.packing import Block, Group, lay_out


@dataclass
class Prompt:
    """Tokens to continue by at most ``room``, until ``stops`` says so of the new ones."""

    tokens: list[int]
    room: int
    stops: Callable[[list[int]], bool]


@dataclass
class _Row:
    """A prompt at work: the keys and values of its first ``length`` tokens, by attention module.

    Each is (heads, places, size) with places for all tokens there may be.
    """

    number: int
    prompt: Prompt
    length: int
    cache: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    new: list[int] = field(default_factory=list)

    @property
    def newest(self) -> int:
        """The token whose successor is asked for."""
        return self.new[-1] if self.new else self.prompt.tokens[-1]

    @property
    def done(self) -> bool:
        return len(self.new) == self.prompt.room or self.prompt.stops(self.new)

    def keep(self, module: int, keys: Tensor, values: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Put (heads, tokens, size) at places from ``start`` on; all up to there."""
        end = start + keys.shape[1]
        if module not in self.cache:
            places = len(self.prompt.tokens) + self.prompt.room
            self.cache[module] = tuple(
                kept.new_empty(kept.shape[0], places, kept.shape[2]) for kept in (keys, values)
            )
        for kept, added in zip(self.cache[module], (keys, values), strict=True):
            kept[:, start:end] = added
        return self.cache[module][0][:, :end], self.cache[module][1][:, :end]


@dataclass
class _Step:
    """Attention of one new token of every row to all before it in its row."""

    rows: Sequence[_Row]

    def attend(
        self,
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scaling: float | None,
        window: int | None,
    ) -> Tensor:
        heads, key_heads = query.shape[1], key.shape[1]
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        for i, row in enumerate(self.rows):
            keys, values = row.keep(id(module), key[0, :, i : i + 1], value[0, :, i : i + 1], row.length)
            seen = slice(-window if window else None, None)
            # Heads that share keys are so many queries: none of them may see less than the others.
            asked = query[0, :, i].reshape(1, key_heads, heads // key_heads, -1)
            found = scaled_dot_product_attention(
                asked, keys[None, :, seen], values[None, :, seen], scale=scaling
            )
            out[0, :, i] = found.reshape(heads, -1)
        return out


def generate(
    model: Any,
    prompts: Sequence[Prompt],
    at_once: int,
    pass_tokens: int,
    say: Callable[[int, int], None] | None = None,
) -> list[list[int]]:
    """The new tokens of every prompt, each the most likely one.

    ``at_once`` rows are at work together. Prompts run packed, at most ``pass_tokens`` to a pass, and what
    they share runs once. ``say(done, total)`` is told of finished prompts. Every prompt has a token.
    """
    found: list[list[int]] = [[] for _ in prompts]
    rows: list[_Row] = []
    done = 0
    with packed_attention(model):
        waiting = _started(model, prompts, pass_tokens)
        while rows := rows + list(islice(waiting, at_once - len(rows))):
            _advance(model, rows)
            left = [row for row in rows if not row.done]
            for row in rows:
                found[row.number] = row.new
            done += len(rows) - len(left)
            rows = left
            if say:
                say(done, len(prompts))
    return found


def _started(model: Any, prompts: Sequence[Prompt], pass_tokens: int) -> Iterator[_Row]:
    """Rows that keep all of their prompts but the last token, which is the first step's."""
    numbers = [number for number, prompt in enumerate(prompts) if len(prompt.tokens) > 1]
    yield from (_Row(number, prompt, 0) for number, prompt in enumerate(prompts) if len(prompt.tokens) == 1)
    groups = lay_out([tuple(prompts[number].tokens[:-1]) for number in numbers])
    for blocks, trunk in passes(groups, pass_tokens, lambda group: _trunk(model, group)):
        kept, start = Trunk(0), 0
        packed_logits(model, blocks, [0], trunk, kept)
        for block in blocks:
            for index, path in block.paths.items():
                row = _Row(numbers[index], prompts[numbers[index]], block.offset + len(path))
                nodes = [start + node for node in path]
                for module, (key, value) in kept.layers.items():
                    if trunk:
                        row.keep(module, trunk.layers[module][0][0], trunk.layers[module][1][0], 0)
                    row.keep(module, key[0][:, nodes], value[0][:, nodes], block.offset)
                yield row
            start += len(block.tokens)


def _trunk(model: Any, group: Group) -> Trunk:
    chain, kept = Block(0), Trunk(len(group.trunk))
    chain.add(-1, group.trunk, 0, [])
    packed_logits(model, [chain], [0], None, kept)
    return kept


def _advance(model: Any, rows: Sequence[_Row]) -> None:
    """One more token for every row."""
    tokens, places = [row.newest for row in rows], [row.length for row in rows]
    logits = line_logits(model, tokens, places, range(len(rows)), _Step(rows))
    for row, token in zip(rows, logits.argmax(dim=-1).tolist(), strict=True):
        row.new.append(token)
        row.length += 1
