"""Sizes of smaller regular models: those that a paper names, or those that a share of parameters asks for.

Plain arithmetic on whole numbers, without torch. All blocks of a regular model are alike, so
``AutoModelForCausalLM`` builds it from its configuration. Vocabulary, head dimension and the number of query
heads to a key-value head stay those of the dense model.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from reprune.method import ModelFacts, Target, Unsupported, setting
from reprune.models.counts import BlockShape, Shape
from reprune.models.counts import parameters as counted

FAMILIES = ("llama", "mistral", "qwen2")  # what Shape counts, qwen2's biases aside
ROUNDING = 8  # a hidden size that is chosen here is a multiple of it
NEAR = 0.005  # a target may be rounded to a whole percent


class Sizes(NamedTuple):
    """Blocks, hidden size, query heads of a block, and its intermediate size."""

    layers: int
    hidden_size: int
    heads: int
    intermediate_size: int


@dataclass(frozen=True)
class SizeSettings:
    """Sizes that a method may be told; a size left out is the dense model's where another one is given."""

    layers: int | None = setting(None, "blocks of the smaller model", minimum=1)
    hidden_size: int | None = setting(None, "its hidden size", minimum=1)
    heads: int | None = setting(None, "its query heads in a block", minimum=1)
    intermediate_size: int | None = setting(None, "its intermediate size", minimum=1)

    @property
    def given(self) -> tuple[int | None, ...]:
        return (self.layers, self.hidden_size, self.heads, self.intermediate_size)


def own(facts: ModelFacts) -> Sizes:
    """The sizes of the dense model."""
    return Sizes(facts.layers, facts.hidden_size, facts.heads, facts.intermediate_size)


def kv_heads(facts: ModelFacts, sizes: Sizes) -> int:
    """The key-value heads that go with these query heads."""
    return sizes.heads * facts.kv_heads // facts.heads


def shape(facts: ModelFacts, sizes: Sizes) -> Shape:
    """The widths of the model of ``facts`` with other sizes."""
    block = BlockShape(sizes.heads, kv_heads(facts, sizes), sizes.intermediate_size)
    blocks = (block,) * sizes.layers
    return Shape(sizes.hidden_size, blocks, facts.head_dim, facts.vocab_size, facts.tied_embeddings)


def parameters(facts: ModelFacts, sizes: Sizes) -> int:
    """All weights of that model; biases of q, k and v, where there are any, go with heads and blocks."""
    biases = facts.parameters - counted(shape(facts, own(facts)))
    kept = biases * sizes.layers * sizes.heads // (facts.layers * facts.heads)
    return counted(shape(facts, sizes)) + kept


def configured(config: Any, facts: ModelFacts, sizes: Sizes) -> Any:
    """A copy of a transformers configuration with other sizes."""
    made = copy.deepcopy(config)
    made.num_hidden_layers, made.hidden_size = sizes.layers, sizes.hidden_size
    made.num_attention_heads, made.num_key_value_heads = sizes.heads, kv_heads(facts, sizes)
    made.intermediate_size = sizes.intermediate_size
    made.head_dim = facts.head_dim  # else it would follow the hidden size
    if getattr(made, "layer_types", None):
        made.layer_types = made.layer_types[: sizes.layers]
    return made


def wanted(facts: ModelFacts, target: Target, settings: SizeSettings) -> Sizes | Unsupported:
    """The sizes that ``settings`` name, else those that ``target`` asks for; why there are none."""
    if facts.architecture not in FAMILIES:
        return Unsupported(f"counts models built as Llama ({', '.join(FAMILIES)}), not {facts.architecture}")
    return _named(facts, target, settings) if any(settings.given) else _chosen(facts, target)


def refusal(facts: ModelFacts, target: Target, settings: SizeSettings) -> Unsupported | None:
    """Why a model has no such sizes, None if it has."""
    found = wanted(facts, target, settings)
    return found if isinstance(found, Unsupported) else None


def _named(facts: ModelFacts, target: Target, settings: SizeSettings) -> Sizes | Unsupported:
    sizes = Sizes(*(n or dense for n, dense in zip(settings.given, own(facts), strict=True)))
    for name, size, dense in zip(Sizes._fields, sizes, own(facts), strict=True):
        if size > dense:
            return Unsupported(f"{name} {size} is more than the dense model's {dense}", f"{name} {dense}")
    group = facts.heads // facts.kv_heads
    if sizes.heads % group:
        fitting = max(group, sizes.heads - sizes.heads % group)
        return Unsupported(
            f"{group} query heads share a key-value head, {sizes.heads} are no multiple", f"heads {fitting}"
        )
    if sizes.hidden_size % sizes.heads:
        fitting = sizes.hidden_size - sizes.hidden_size % sizes.heads
        return Unsupported(
            f"Llama's configuration asks for a multiple of the {sizes.heads} heads, "
            f"hidden_size {sizes.hidden_size} is none",
            f"hidden_size {fitting}",
        )
    removed = 1 - parameters(facts, sizes) / facts.parameters
    if abs(removed - target.sparsity) > NEAR:
        return Unsupported(
            f"these sizes leave out {removed:.1%} of the parameters, not {target.sparsity:.1%}",
            f"{removed:.2f} of parameters",
        )
    return sizes


def _chosen(facts: ModelFacts, target: Target) -> Sizes | Unsupported:
    found = size_for(facts, target.sparsity)
    if found is None:
        least, most = hidden_sizes(facts).start, most_removed(facts)
        return Unsupported(
            f"at the least hidden size, {least}, {most:.1%} of the parameters are gone",
            f"{int(100 * most)}% of parameters",
        )
    return found


def hidden_sizes(facts: ModelFacts) -> range:
    """The hidden sizes to choose from: multiples of 8 and of the number of heads, as Llama asks for."""
    step = math.lcm(ROUNDING, facts.heads)
    return range(step, facts.hidden_size + 1, step)


def size_for(facts: ModelFacts, share: float) -> Sizes | None:
    """The sizes of the model that is smaller by ``share`` of all parameters; depth and heads stay.

    Of all pairs of hidden and intermediate size with that many parameters, to within half a channel of every
    block, the one whose two sizes are most nearly the same share of the dense model's. None if none fits.
    """
    count = round((1 - share) * facts.parameters)
    pairs = [(hidden, _inner_for(facts, hidden, count)) for hidden in hidden_sizes(facts)]
    fitting = [_as_deep(facts, *pair) for pair in pairs if pair[1] >= 1]
    return min(fitting, key=lambda sizes: _distortion(facts, sizes), default=None)


def most_removed(facts: ModelFacts) -> float:
    """The share of all parameters that the least of these sizes leave out."""
    return 1 - parameters(facts, _as_deep(facts, hidden_sizes(facts).start, 1)) / facts.parameters


def _as_deep(facts: ModelFacts, hidden: int, inner: int) -> Sizes:
    return Sizes(facts.layers, hidden, facts.heads, inner)


def _inner_for(facts: ModelFacts, hidden: int, count: int) -> int:
    """The intermediate size that comes nearest to ``count`` parameters; below 1 where there is none."""
    return round((count - parameters(facts, _as_deep(facts, hidden, 0))) / (3 * hidden * facts.layers))


def _distortion(facts: ModelFacts, sizes: Sizes) -> float:
    dense = own(facts)
    return abs(
        math.log(sizes.intermediate_size * dense.hidden_size / (sizes.hidden_size * dense.intermediate_size))
    )
