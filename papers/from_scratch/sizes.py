"""How many parameters a Llama-like model of other widths has, and which widths give a wanted number.

Depth, vocabulary and heads stay; hidden size and intermediate size change.
"""

from __future__ import annotations

import math

from reprune.method import ModelFacts

ROUNDING = 8  # the hidden size is a multiple of it


def parameters(facts: ModelFacts, hidden: int, inner: int) -> int:
    """The weights of the model of ``facts`` with these widths: a hidden size and an intermediate size.

    What ``facts`` count beyond weights and norms, the biases of q, k and v, does not depend on the widths.
    """
    own = _weights(facts, facts.hidden_size, facts.intermediate_size)
    return _weights(facts, hidden, inner) + facts.parameters - own


def _weights(facts: ModelFacts, hidden: int, inner: int) -> int:
    """Embedding and head, projections of every block, and its two norms and the last one."""
    embeddings = facts.vocab_size * hidden * (1 if facts.tied_embeddings else 2)
    attention = 2 * (facts.heads + facts.kv_heads) * facts.head_dim * hidden
    return embeddings + facts.layers * (attention + 3 * hidden * inner + 2 * hidden) + hidden


def widths(facts: ModelFacts) -> range:
    """The hidden sizes to choose from: multiples of 8 and of the number of heads, as Llama asks for."""
    step = math.lcm(ROUNDING, facts.heads)
    return range(step, facts.hidden_size + 1, step)


def inner_for(facts: ModelFacts, hidden: int, wanted: int) -> int:
    """The intermediate size that comes nearest to ``wanted`` parameters; below 1 where there is none."""
    return round((wanted - parameters(facts, hidden, 0)) / (3 * hidden * facts.layers))


def size_for(facts: ModelFacts, share: float) -> tuple[int, int] | None:
    """Hidden size and intermediate size of the model that is smaller by ``share`` of all parameters.

    Of all pairs with that many parameters, to within half a channel of every block, the one whose two sizes
    are most nearly the same share of the dense model's. None if no size fits.
    """
    wanted = round((1 - share) * facts.parameters)
    pairs = [(hidden, inner_for(facts, hidden, wanted)) for hidden in widths(facts)]
    fitting = [pair for pair in pairs if pair[1] >= 1]
    return min(fitting, key=lambda pair: _distortion(facts, *pair), default=None)


def _distortion(facts: ModelFacts, hidden: int, inner: int) -> float:
    return abs(math.log(inner * facts.hidden_size / (hidden * facts.intermediate_size)))


def most_removed(facts: ModelFacts) -> float:
    """The share of all parameters that the least widths leave out."""
    return 1 - parameters(facts, widths(facts).start, 1) / facts.parameters
