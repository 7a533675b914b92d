"""Parameters, multiply-accumulates and memory of a model of LLaMA's form, from its configuration alone.

Plain arithmetic on whole numbers, without torch: planning asks a method for the :class:`Shape` it leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from reprune.method import ModelFacts

HALF = 2  # bytes of a float16 number


class BlockShape(NamedTuple):
    """The widths of one decoder block."""

    heads: int
    kv_heads: int
    intermediate_size: int


@dataclass(frozen=True)
class Shape:
    """The widths of a model of LLaMA's form: RMS norms, rotary heads, a gated MLP, no biases.

    Blocks may differ from one another; ``hidden_size`` and ``head_dim``, in features, are the same in all.
    """

    hidden_size: int
    blocks: tuple[BlockShape, ...]
    head_dim: int
    vocab_size: int
    tied: bool

    @classmethod
    def of(cls, facts: ModelFacts) -> Shape:
        """The shape of a dense model.

        Raises ValueError if that many parameters are not the model's own, which then has another form.
        """
        block = BlockShape(facts.heads, facts.kv_heads, facts.intermediate_size)
        tied = facts.tied_embeddings
        shape = cls(facts.hidden_size, (block,) * facts.layers, facts.head_dim, facts.vocab_size, tied)
        if parameters(shape) != facts.parameters:
            raise ValueError(
                f"a model of LLaMA's form with these widths has {parameters(shape):,} parameters, "
                f"this one {facts.parameters:,}"
            )
        return shape

    @classmethod
    def read(cls, written: dict[str, Any]) -> Shape:
        """The shape that :func:`dataclasses.asdict` and JSON made ``written`` of."""
        return cls(**{**written, "blocks": tuple(BlockShape(*block) for block in written["blocks"])})


def parameters(shape: Shape) -> int:
    """All weights, norms included, tied embeddings once."""
    embeddings = shape.vocab_size * shape.hidden_size * (1 if shape.tied else 2)
    norms = shape.hidden_size * (2 * len(shape.blocks) + 1)
    return embeddings + norms + sum(_linear_weights(shape, block) for block in shape.blocks)


def macs(shape: Shape, tokens: int) -> int:
    """Multiply-accumulates of one pass over a sequence of ``tokens`` tokens as LLM-Pruner counts them.

    Its counter (official code, ``test_speedup.py``) adds to the matrix products what :func:`elementwise`
    counts; the token embedding costs nothing. Equals all five cells of the paper's Table 3.
    """
    return matrix_products(shape, tokens) + elementwise(shape, tokens)


def matrix_products(shape: Shape, tokens: int) -> int:
    """Multiply-accumulates of the linear layers, the output head at every token, and attention.

    Attention is QKᵀ and AV over all tokens² pairs, masked ones too, for every query head. Keys and values are
    projected for their own heads alone, of which grouped-query attention has fewer.
    """
    per_token = sum(_linear_weights(shape, block) for block in shape.blocks)
    attention = sum(2 * tokens * tokens * shape.head_dim * block.heads for block in shape.blocks)
    return tokens * (per_token + shape.hidden_size * shape.vocab_size) + attention


def elementwise(shape: Shape, tokens: int) -> int:
    """What LLM-Pruner's counter has besides matrix products: rotary embedding, softmax, SiLU and norms.

    Two for every feature of a query or key that is turned and for every feature that is normalised, one for
    every pair of tokens of a query head and for every intermediate channel.
    """
    norms = 2 * tokens * shape.hidden_size * (2 * len(shape.blocks) + 1)
    return norms + sum(
        2 * tokens * shape.head_dim * (block.heads + block.kv_heads)
        + block.heads * tokens * tokens
        + tokens * block.intermediate_size
        for block in shape.blocks
    )


def memory_mib(shape: Shape, positions: int = 2048) -> float:
    """MiB of the weights in float16 and of the sines and cosines that every block kept in that dtype.

    What LLM-Pruner's ``torch.cuda.memory_allocated`` would see of a model at rest, ``positions`` the length
    of the rotary tables. Two of the five cells of the paper's Table 3 are this number, three are larger.
    """
    rotary = len(shape.blocks) * 2 * positions * shape.head_dim
    return HALF * (parameters(shape) + rotary) / 2**20


def _linear_weights(shape: Shape, block: BlockShape) -> int:
    """The weights of a block's linear layers: q, k, v, o and gate, up, down."""
    attention = 2 * shape.head_dim * (block.heads + block.kv_heads)
    return shape.hidden_size * (attention + 3 * block.intermediate_size)
