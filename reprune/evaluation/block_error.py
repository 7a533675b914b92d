"""How far a compressed model's hidden states are from the dense model's, block by block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


@torch.inference_mode()
def block_errors(
    dense: Any, pruned: Any, windows: torch.Tensor, say: Callable[[int, int], None] = lambda done, total: None
) -> torch.Tensor:
    """‖X_dense − X_pruned‖ / ‖X_dense‖ after each block, (windows, blocks), float64.

    Both models read the same tokens; X are the outputs of a block for one window (BESA, Figure 1(a)).
    """
    rows = []
    for tokens in windows.split(1):
        reference, states = _block_outputs(dense, tokens), _block_outputs(pruned, tokens)
        rows.append([((x - y).norm() / x.norm()).item() for x, y in zip(reference, states, strict=True)])
        say(len(rows), len(windows))
    return torch.tensor(rows, dtype=torch.float64)


def _block_outputs(model: Any, tokens: torch.Tensor) -> list[torch.Tensor]:
    from reprune.models.skeleton import find_blocks, hidden_state

    outputs: list[torch.Tensor] = []

    def keep(_module: Any, _inputs: Any, output: Any) -> None:
        outputs.append(hidden_state(output).float())

    hooks = [block.register_forward_hook(keep) for block in find_blocks(model)[1]]
    try:
        model.get_decoder()(input_ids=tokens, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs
