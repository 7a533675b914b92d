"""The loss of scored tokens: forward passes over examples of similar length, logits where they count.

The distillation loss is that of DistilBERT (Sanh et al., arXiv 1910.01108, section 2; official code
``examples/research_projects/distillation/distiller.py`` of transformers), without its cosine term on hidden
states: a pruned width has no hidden state in common with the dense model's, and the official code's default
leaves the term out as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from reprune.training.instructions import Example

TOKENS_AT_ONCE = 256  # of one forward pass: more costs memory, and saves no time on a CPU
TEMPERATURE = 2.0  # of teacher and student in the distillation loss: DistilBERT's official code


@dataclass(frozen=True)
class Teacher:
    """A frozen model whose chances a student learns; ``weight``, 0 to 1, is their share of its loss."""

    model: Any
    weight: float


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


def summed_losses(model: Any, examples: Sequence[Example], teacher: Teacher | None = None) -> torch.Tensor:
    """The loss summed over each example's scored tokens, (examples,) float64 nats, by one forward pass.

    It is cross-entropy, of which a teacher's share gives way to :func:`divergence`. Padding stands on the
    right, where a causal model's earlier positions never see it, so no attention mask is needed.
    """
    tokens = pad_sequence([torch.tensor(example.tokens) for example in examples], batch_first=True)
    rows, columns = torch.tensor(
        [(row, column) for row, e in enumerate(examples) for column in range(e.first, len(e.tokens))]
    ).unbind(1)
    logits = _logits(model, tokens, rows, columns - 1)
    losses = functional.cross_entropy(logits, tokens[rows, columns], reduction="none").double()
    if teacher is not None:
        with torch.no_grad():
            wanted = _logits(teacher.model, tokens, rows, columns - 1)
        distilled = divergence(logits, wanted).double()
        losses = (1 - teacher.weight) * losses + teacher.weight * distilled
    return torch.zeros(len(examples), dtype=torch.float64).index_add(0, rows, losses)


def divergence(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """T² KL(teacher || student) of each position's chances at temperature T = 2, (positions,) nats.

    Takes logits, (positions, vocabulary). T² gives the gradient the size that it has at T = 1 (Hinton et al.,
    arXiv 1503.02531, section 2).
    """
    logs = [functional.log_softmax(logits / TEMPERATURE, dim=-1) for logits in (student, teacher)]
    return TEMPERATURE**2 * functional.kl_div(*logs, reduction="none", log_target=True).sum(-1)


def _logits(model: Any, tokens: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """What a model expects after these positions of ``tokens``, (positions, vocabulary) float32."""
    with _head_at(model, rows, columns):
        return model(input_ids=tokens, use_cache=False).logits[0].float()


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
