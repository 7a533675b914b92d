"""How much decoder blocks change the hidden state: cosines of states some blocks apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch.nn import functional as F

from reprune.calibration.subject import Subject
from reprune.models.skeleton import hidden_state

NO_DIRECTION = 0.5  # a cosine that is not a number counts as this (official codes of GRASP and ShortGPT)


def cosines(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """(windows, length): the cosine of two states, each (windows, length, hidden size), at every token."""
    return F.cosine_similarity(left, right, dim=-1).nan_to_num(NO_DIRECTION)


def last_angles(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """(windows,): 1 − arccos(cos) / π at each window's last token, so that 1 is the same direction.

    Gromov et al., "The Unreasonable Ineffectiveness of the Deeper Layers" (arXiv 2403.17887). In float64, and
    held to [−1, 1], since rounding would otherwise give cosines beyond 1, which have no arccos.
    """
    cosine = cosines(left[:, -1].double(), right[:, -1].double())
    return 1 - cosine.clamp(-1, 1).arccos() / torch.pi


@torch.no_grad()
def similarities(
    subject: Subject,
    spans: Iterable[int] = (1,),
    last: str = "pre_norm",
    compare: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = cosines,
) -> dict[int, torch.Tensor]:
    """For each span n, (blocks + 1 − n,) means of ``compare(H_i, H_i+n)``, H_i being what enters block i.

    ShortGPT's block influence is 1 − the mean cosine for span 1; LLM-Streamline looks for the largest at its
    span. ``last`` says what stands for the state after the last block: itself, or with ``post_norm`` what the
    final norm makes of it, as the official codes of GRASP and LLM-Streamline have it.
    """
    sums = {n: torch.zeros(len(subject.blocks) + 1 - n, dtype=torch.float64) for n in spans}
    counts = dict.fromkeys(sums, 0)
    for batch in subject.batches():
        states = hidden_states(subject, batch, last)
        for n in sums:
            values = [compare(states[i], states[i + n]) for i in range(len(states) - n)]
            sums[n] += torch.stack([value.sum().double() for value in values])
            counts[n] += values[0].numel()
    return {n: sums[n] / counts[n] for n in sums}


@torch.no_grad()
def hidden_states(subject: Subject, batch: torch.Tensor, last: str = "pre_norm") -> list[torch.Tensor]:
    """H_0 … H_blocks for a batch of tokens, each (windows, length, hidden size)."""
    states: list[torch.Tensor] = []
    hooks = [
        block.register_forward_pre_hook(lambda _, args: states.append(args[0])) for block in subject.blocks
    ]
    hooks.append(
        subject.blocks[-1].register_forward_hook(lambda _, args, output: states.append(hidden_state(output)))
    )
    try:
        final = subject.model.get_decoder()(input_ids=batch, use_cache=False).last_hidden_state
    finally:
        for hook in hooks:
            hook.remove()
    return states if last == "pre_norm" else [*states[:-1], final]
