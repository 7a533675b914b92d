"""The loss of scored tokens: forward passes over examples of similar length, logits where they count."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from reprune.training.instructions import Example

TOKENS_AT_ONCE = 256  # of one forward pass: more costs memory, and saves no time on a CPU


def grouped(examples: Sequence[Example], tokens: int = TOKENS_AT_ONCE) -> list[list[int]]:
    """Positions of examples that share a forward pass: of similar length, at most ``tokens`` with padding.

    An example that is longer has a group of its own.
    """
    groups: list[list[int]] = []
    for position in sorted(range(len(examples)), key=lambda i: len(examples[i].tokens)):
        length = len(examples[position].tokens)  # the longest so far, to which its group is padded
        if groups and (len(groups[-1]) + 1) * length <= tokens:
            groups[-1].append(position)
        else:
            groups.append([position])
    return groups


def summed_losses(model: Any, examples: Sequence[Example]) -> torch.Tensor:
    """Cross-entropy summed over each example's scored tokens, (examples,) float64 nats, by one forward pass.

    Padding stands on the right, where a causal model's earlier positions never see it, so no attention mask
    is needed.
    """
    tokens = pad_sequence([torch.tensor(example.tokens) for example in examples], batch_first=True)
    rows, columns = torch.tensor(
        [(row, column) for row, e in enumerate(examples) for column in range(e.first, len(e.tokens))]
    ).unbind(1)
    with _head_at(model, rows, columns - 1):
        logits = model(input_ids=tokens, use_cache=False).logits[0]
    losses = functional.cross_entropy(logits.float(), tokens[rows, columns], reduction="none").double()
    return torch.zeros(len(examples), dtype=torch.float64).index_add(0, rows, losses)


@contextmanager
def _head_at(model: Any, rows: torch.Tensor, columns: torch.Tensor) -> Iterator[None]:
    """Let the output head see these positions only: over 49,152 words it costs a third of a training step.

    What a model does to its logits afterwards (caps, scales) it does to each by itself, and goes on doing.
    """

    def chosen(_head: Any, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        return (inputs[0][rows, columns][None],)

    hook = model.get_output_embeddings().register_forward_pre_hook(chosen)
    try:
        yield
    finally:
        hook.remove()


@torch.inference_mode()
def example_losses(
    model: Any, examples: Sequence[Example], say: Callable[[int, int], None] = lambda done, total: None
) -> list[float]:
    """The summed loss of every example in nats, in their order; ``say`` counts examples."""
    losses, done = [0.0] * len(examples), 0
    for group in grouped(examples):
        found = summed_losses(model, [examples[i] for i in group]).tolist()
        for position, loss in zip(group, found, strict=True):
            losses[position] = loss
        done += len(group)
        say(done, len(examples))
    return losses
