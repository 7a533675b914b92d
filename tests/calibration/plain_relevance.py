"""LRP by the plain rule, written out layer by layer for one sentence: another way to the same numbers.

Every step gives its output and how relevance goes back through it, R_u = Σ_v (w_uv u / v) R_v.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Back = Callable[[Tensor], Any]


def linear(layer: nn.Linear, inputs: Tensor) -> tuple[Tensor, Back]:
    outputs = layer(inputs)
    return outputs, lambda relevance: inputs * ((relevance / outputs) @ layer.weight)


def added(one: Tensor, other: Tensor) -> tuple[Tensor, Back]:
    both = one + other
    return both, lambda relevance: (one / both * relevance, other / both * relevance)


def normed(norm: nn.LayerNorm, inputs: Tensor) -> tuple[Tensor, Back]:
    """A linear map at every position: centring, then the gain over the standard deviation."""
    outputs, size = norm(inputs), inputs.shape[-1]
    deviation = (inputs.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    centring = torch.eye(size, dtype=inputs.dtype) - 1 / size
    matrices = (norm.weight / deviation).unsqueeze(-1) * centring  # (length, outputs, inputs)
    return outputs, lambda r: inputs * torch.einsum("lv,lvu->lu", r / outputs, matrices)


def attended(attention: Any, queries: Tensor, states: Tensor, causal: bool) -> tuple[Tensor, Back]:
    """Goes back to ``states`` through the values alone; also what came to the heads, (length, features)."""

    def heads(values: Tensor) -> Tensor:
        return values.unflatten(-1, (-1, attention.head_dim)).transpose(0, 1)

    values, back_to_states = linear(attention.v_proj, states)
    scores = heads(attention.q_proj(queries)) @ heads(attention.k_proj(states)).mT * attention.scaling
    if causal:
        later = torch.ones(scores.shape[-2:]).triu(1).bool()
        scores = scores.masked_fill(later, -torch.inf)
    weights = scores.softmax(-1)
    mixed = weights @ heads(values)
    outputs, back_to_heads = linear(attention.out_proj, mixed.transpose(0, 1).flatten(1))

    def back(relevance: Tensor) -> tuple[Tensor, Tensor]:
        found = back_to_heads(relevance)
        to_values = heads(values) * (weights.mT @ (heads(found) / mixed))
        return back_to_states(to_values.transpose(0, 1).flatten(1)), found

    return outputs, back


def fed_forward(layer: Any, inputs: Tensor) -> tuple[Tensor, Back]:
    """The activation hands relevance on as it is."""
    inner, back_first = linear(layer.fc1, inputs)
    outputs, back_second = linear(layer.fc2, layer.activation_fn(inner))
    return outputs, lambda relevance: back_first(back_second(relevance))


def plain_relevance(model: Any, source: Tensor, target: Tensor, step: int) -> dict[str, list[Tensor]]:
    """Relevance of heads' neurons for the highest logit of a step, (length, features) by kind and layer."""
    encoder, decoder = model.get_encoder(), model.get_decoder()
    scale = encoder.embed_scale
    memory = scale * encoder.embed_tokens(source) + encoder.embed_positions(source[None].shape)
    walk: list[tuple[str, Back]] = []
    for layer in encoder.layers:
        memory = sub_layer(walk, "encoder", memory, layer, "self_attn", memory)
        memory = feed_forward(walk, memory, layer)
    hidden = scale * decoder.embed_tokens(target) + decoder.embed_positions(target[None].shape)
    behind: list[tuple[str, Back]] = []
    for layer in decoder.layers:
        hidden = sub_layer(behind, "decoder", hidden, layer, "self_attn", hidden)
        hidden = sub_layer(behind, "cross", hidden, layer, "encoder_attn", memory)
        hidden = feed_forward(behind, hidden, layer)
    logits = hidden @ model.lm_head.weight.T + model.final_logits_bias[0]
    top = logits[step].argmax()
    relevance = torch.zeros_like(hidden)
    relevance[step] = hidden[step] * model.lm_head.weight[top] / logits[step, top]
    found: dict[str, list[Tensor]] = {"encoder": [], "decoder": [], "cross": []}
    to_memory = torch.zeros_like(memory)
    for kind, back in reversed(behind):
        relevance, own, to_states = back(relevance)
        if kind == "cross":
            to_memory += to_states
        elif kind == "decoder":
            relevance = relevance + to_states
        if own is not None:
            found[kind].insert(0, own)
    for _, back in reversed(walk):
        to_memory, own, to_states = back(to_memory)
        if own is not None:
            to_memory = to_memory + to_states
            found["encoder"].insert(0, own)
    return found


def sub_layer(walk: list, kind: str, hidden: Tensor, layer: Any, name: str, states: Tensor) -> Tensor:
    outputs, back_attention = attended(getattr(layer, name), hidden, states, kind == "decoder")
    both, back_sum = added(hidden, outputs)
    normal, back_norm = normed(getattr(layer, f"{name}_layer_norm"), both)

    def back(relevance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        residual, written = back_sum(back_norm(relevance))
        to_states, own = back_attention(written)
        return residual, own, to_states

    walk.append((kind, back))
    return normal


def feed_forward(walk: list, hidden: Tensor, layer: Any) -> Tensor:
    outputs, back_inner = fed_forward(layer, hidden)
    both, back_sum = added(hidden, outputs)
    normal, back_norm = normed(layer.final_layer_norm, both)

    def back(relevance: Tensor) -> tuple[Tensor, None, None]:
        residual, written = back_sum(back_norm(relevance))
        return residual + back_inner(written), None, None

    walk.append(("feed forward", back))
    return normal
