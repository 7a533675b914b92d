"""Collapsed models by the merges that lead to them, and how similar their outputs are to the original's."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from papers.laco.loop import Merge
from reprune.calibration.subject import Subject
from reprune.models.skeleton import linear_layers


class Layer(NamedTuple):
    """A layer of a collapsed model, and the original layers in it, its base first."""

    module: nn.Module
    members: tuple[int, ...]


Layers = tuple[Layer, ...]


class HandOn(nn.Module):
    """Takes a block's place and hands on what it is given, or ``state`` if there is one."""

    def __init__(self, state: Tensor | None = None) -> None:
        super().__init__()
        self.state = state

    def forward(self, hidden_states: Tensor, **_: Any) -> Tensor:
        return hidden_states if self.state is None else self.state


class Trials:
    """Merges tried on one model, whose own blocks are never changed.

    ``tokens`` are the sentences, (sentences, tokens), ``rule`` is one of :func:`merge_weights`.
    """

    def __init__(self, subject: Subject, tokens: Tensor, rule: str) -> None:
        self.subject, self.tokens, self.rule = subject, tokens, rule
        self.blocks = subject.blocks
        self.values: dict[tuple[Merge, ...], float] = {}
        self.dense = tuple(Layer(block, (index,)) for index, block in enumerate(self.blocks))
        self.state: tuple[tuple[Merge, ...], Layers] = ((), self.dense)
        self.inputs, self.wanted = self.run(self.dense)

    def layers(self, merges: tuple[Merge, ...]) -> Layers:
        """The model after ``merges``; the one asked for last is kept, with the inputs of its layers."""
        if merges != self.state[0]:
            self.state = merges, functools.reduce(self.merge, merges, self.dense)
            self.inputs, _ = self.run(self.state[1])
        return self.state[1]

    def merge(self, state: Layers, merge: Merge) -> Layers:
        """``state`` after one more merge: the weights are merged, the base's norms and biases stay."""
        first, last = merge.base, merge.base + merge.count
        config = self.subject.model.config  # shared by all blocks, so the new one shares it too
        module = copy.deepcopy(state[first].module, {id(config): config})
        for name, linear in linear_layers(module).items():
            following = [layer.module.get_submodule(name).weight for layer in state[first + 1 : last + 1]]
            linear.weight.copy_(merge_weights(linear.weight, following, self.rule))
        members = sum((layer.members for layer in state[first : last + 1]), ())
        return (*state[:first], Layer(module, members), *state[last + 1 :])

    def similarity(self, merges: tuple[Merge, ...], merge: Merge) -> float:
        """Of the output after ``merges`` and one more with the original model's."""
        made = (*merges, merge)
        if made not in self.values:
            found = self.merge(self.layers(merges), merge)
            _, output = self.run(found, merge.base)
            self.values[made] = output_similarity(output, self.wanted)
            self.subject.progress(min(1.0, len(self.values) / len(self.dense)))
        return self.values[made]

    @torch.no_grad()
    def run(self, state: Layers, first: int = 0) -> tuple[list[Tensor], Tensor]:
        """The inputs of the layers from ``first`` on, and the output after the final norm.

        The input of ``first`` itself is known. Each is (sentences, tokens, hidden size).
        """
        inputs: list[Tensor] = []
        with standing(self.blocks, state, first, self.inputs[first] if first else None):
            hooks = [
                layer.module.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
                for layer in state[first:]
            ]
            try:
                decoder = self.subject.model.get_decoder()
                output = decoder(input_ids=self.tokens, use_cache=False).last_hidden_state
            finally:
                for hook in hooks:
                    hook.remove()
        return inputs, output

    def told(self, merges: tuple[Merge, ...]) -> dict[str, Any]:
        """The original layers that went, in order, and for each merge its base, which went, how similar."""
        rows = []
        for done, merge in enumerate(merges):
            taken = self.layers(merges[:done])[merge.base : merge.base + merge.count + 1]
            base, *gone = (layer.members[0] for layer in taken)
            rows.append({"base": base, "gone": gone, "similarity": self.values[merges[: done + 1]]})
        return {"chosen": [index for row in rows for index in row["gone"]], "merges": rows}


@contextmanager
def standing(blocks: nn.ModuleList, state: Layers, first: int, given: Tensor | None) -> Iterator[None]:
    """The layers of ``state`` in their bases' places, with ``given`` as the input of layer ``first``.

    The places of layers before it, and of blocks that went into others, cost nothing.
    """
    before = list(blocks)
    for index in range(len(blocks)):
        blocks[index] = HandOn(given if index < state[first].members[0] else None)
    for layer in state[first:]:
        blocks[layer.members[0]] = layer.module
    try:
        yield
    finally:
        for index, module in enumerate(before):
            blocks[index] = module


def merge_weights(base: Tensor, following: Sequence[Tensor], rule: str) -> Tensor:
    """One matrix in the place of ``base`` and those ``following`` it, all of one shape.

    ``rdsc_sum`` is the paper's base + sum of (each - base). The official code adds each difference to the
    matrix that the one before has already changed, so that the sum telescopes to the last matrix.
    """
    if rule == "telescoping":
        return following[-1]
    return base + sum(other - base for other in following)


def output_similarity(found: Tensor, wanted: Tensor) -> float:
    """Mean over sentences of the cosine of two outputs, each (sentences, tokens, hidden size).

    A sentence's states are one vector, over tokens and features, as in the official code. An output that is
    not a number is as unlike as can be.
    """
    cosine = F.cosine_similarity(found.flatten(1), wanted.flatten(1), dim=1)
    return cosine.nan_to_num(-1.0).mean().item()
