"""Whether packed forward passes give a model's own logits, tried before they are relied on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from reprune.evaluation.packed_forward import Trunk, packed_attention, packed_logits
from reprune.evaluation.packing import Block

TOLERANCE = 2e-5  # of logits, relative to the largest
LOOSE = 5e-2  # the same in half precision
PASS_WIDE = {"dynamic", "longrope"}  # rotary frequencies that depend on the longest sequence of a pass


@torch.inference_mode()
def packs_exactly(model: Any) -> bool:
    """Whether a packed pass gives the logits of plain ones, tried on a few made tokens.

    The trial has everything that real layouts have: a trunk, a block that branches, one that does not.
    """
    if not getattr(model, "_supports_attention_backend", False) or _rope_types(model) & PASS_WIDE:
        return False
    words, generator = model.config.get_text_config().vocab_size, torch.Generator().manual_seed(0)
    tokens = torch.randint(words, (24,), generator=generator).tolist()
    trunk, left, right, other = tokens[:8], tokens[8:14], tokens[14:18], tokens[18:]
    sequences = [trunk + left[:3] + left[3:], trunk + left[:3] + right, trunk + other]
    chain, tree, line = Block(0), Block(len(trunk)), Block(len(trunk))
    chain.add(-1, trunk, 0, [])
    tree.add(1, left[:3] + right, 3, tree.add(0, left, 0, []))
    line.add(2, other, 0, [])
    ends = [tree.paths[0][-1], tree.paths[1][-1], len(tree.tokens) + line.paths[2][-1]]
    try:
        with packed_attention(model):
            kept = Trunk(len(trunk))
            packed_logits(model, [chain], [0], None, kept)
            packed = packed_logits(model, [tree, line], ends, kept, None)
    except (TypeError, KeyError, ValueError, RuntimeError) as error:
        logging.getLogger(__name__).info("packed attention does not run: %s", error)
        return False
    plain = torch.cat([plain_logits(model, sequence, 1) for sequence in sequences])
    return packed.shape == plain.shape and torch.allclose(
        wide(packed), wide(plain), rtol=0.0, atol=tolerance(plain, 1e-3), equal_nan=True
    )


@torch.inference_mode()
def plain_logits(model: Any, tokens: Sequence[int], last: int) -> Tensor:
    """Logits (last, vocabulary) after the ``last`` tokens of one sequence, by the model's own attention."""
    inputs = torch.tensor([tokens], device=model.get_input_embeddings().weight.device)
    return model(inputs, use_cache=False, logits_to_keep=last).logits[0]


def tolerance(logits: Tensor, least: float) -> float:
    """What rounding may do to logits, which are taken to be at least as large as ``least``."""
    scale = logits.float().nan_to_num(0.0, 0.0, 0.0).abs().max().item()
    return (LOOSE if logits.element_size() == 2 else TOLERANCE) * max(scale, least)


def wide(logits: Tensor) -> Tensor:
    """Logits in float32 at least."""
    return logits if logits.dtype == torch.float64 else logits.float()


def _rope_types(model: Any) -> set[str | None]:
    """The kinds of a model's rotary frequencies, which may differ between kinds of layers."""
    parameters = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    nested = [each for each in parameters.values() if isinstance(each, dict)]
    return {each.get("rope_type") for each in nested or [parameters]}
