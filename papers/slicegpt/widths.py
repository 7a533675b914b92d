"""How many parameters a sliced model has, and which width removes a given share of them.

Residual matrices and the head's own weights come on top of a narrower model, so that the share removed is far
below the share of dimensions cut off.
"""

from __future__ import annotations

from reprune.method import ModelFacts


def sliced_parameters(facts: ModelFacts, width: int) -> int:
    """The weights of a model sliced to ``width``: embedding, head, layers and residual matrices.

    The norms have none, and the last block gives back the whole width.
    """
    full, inner = facts.hidden_size, facts.intermediate_size
    attention = 2 * (facts.heads + facts.kv_heads) * facts.head_dim * width

    def block(outputs: int) -> int:
        return attention + 2 * inner * width + inner * outputs + width * width + width * outputs

    return facts.vocab_size * (width + full) + (facts.layers - 1) * block(width) + block(full)


def removed(facts: ModelFacts, width: int) -> float:
    """The share of all parameters that slicing to ``width`` removes; biases are taken to stay."""
    full = facts.hidden_size
    heads = 2 * (facts.heads + facts.kv_heads) * facts.head_dim
    block = (heads + 3 * facts.intermediate_size + 2) * full
    dense = facts.embedding_parameters + facts.layers * block + full
    return (dense - sliced_parameters(facts, width)) / facts.parameters


def widths(facts: ModelFacts, rounding: int) -> list[int]:
    """The multiples of ``rounding`` that remove parameters, rising."""
    return [width for width in range(rounding, facts.hidden_size, rounding) if removed(facts, width) > 0]


def width_for(facts: ModelFacts, share: float, rounding: int) -> int:
    """The width that comes nearest to removing ``share`` of all parameters."""
    return min(widths(facts, rounding), key=lambda width: abs(removed(facts, width) - share))
