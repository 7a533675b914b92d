"""How much the heads of a translation model matter: confidence, relevance, and gradients of the loss.

Voita et al. (arXiv 1905.09418), sections 3 and 5.1 and appendix A; Michel et al., "Are Sixteen Heads Really
Better than One?" (arXiv 1905.10650), section 4.1. Results have a row (heads,) for each layer, by kind of
attention. Pads count nowhere, and it does not matter how sentences are put into batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from reprune.calibration.linearised import linearised
from reprune.calibration.sentences import IGNORED, Batch
from reprune.models.attention import attention_as
from reprune.models.translation import KINDS, attention_kinds
from reprune.surgery.head_gates import retained_heads

Rows = dict[str, list[Tensor]]
EPSILON = 1e-9  # keeps a logit and a layer's sum of relevances from dividing by 0


class Relevance(NamedTuple):
    """The shares of heads in what goes through their layer, by LRP.

    ``signed`` sums a head's neurons first, so that they may cancel, and lies between -1 and 1, ``absolute``
    between 0 and 1; of each the magnitudes in a layer add up to 1 at every step.
    """

    signed: Rows
    absolute: Rows


@torch.no_grad()
def confidence(model: Any, batches: Iterable[Batch], kinds: Sequence[str] = KINDS) -> Rows:
    """The highest attention weight of a query, its mean over queries; section 3.

    The source's end token is left out as a key, without renormalising what is left, and as a query; the paper
    leaves it out of the maximum and tells no more. Queries of decoder and cross attention are all steps that
    have a label, the one that ends the sentence too.
    """
    sums, count = _zeros(model, kinds), dict.fromkeys(kinds, 0)
    seen: dict[nn.Module, Tensor] = {}

    def note(module: nn.Module, inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        seen[module] = output[1]

    with attention_as(model, "eager"), _hooked(model, kinds, "register_forward_hook", note) as places:
        for batch in batches:
            logits_of(model, batch)
            words = batch.source_mask.bool() & (batch.source != model.config.eos_token_id)
            steps = batch.labels != IGNORED
            masks = {"encoder": (words, words), "decoder": (steps, None), "cross": (steps, words)}
            for module, (kind, layer) in places.items():
                sums[kind][layer] += maxima(seen[module], *masks[kind])
            for kind in kinds:
                count[kind] += int(masks[kind][0].sum())
    return {kind: [row / count[kind] for row in rows] for kind, rows in sums.items()}


def maxima(weights: Tensor, queries: Tensor, keys: Tensor | None) -> Tensor:
    """(heads,) sums over ``queries`` of the highest of (sentences, heads, queries, keys) attention weights.

    ``queries`` and ``keys`` are booleans (sentences, length); None are all keys.
    """
    if keys is not None:
        weights = weights.masked_fill(~keys[:, None, None], 0.0)
    return (weights.amax(-1) * queries.unsqueeze(1)).sum((0, 2))


def gradient(model: Any, batches: Iterable[Batch], kinds: Sequence[str] = KINDS) -> Rows:
    """|∂L/∂g| of a gate g = 1 on each head, its mean over sentences; Michel et al., equation 2.

    L is the mean cross-entropy of a sentence's tokens. The official code sums the absolute values of single
    positions instead; the equation has them of a whole example.
    """
    sums, sentences = _zeros(model, kinds), 0
    with torch.enable_grad(), _outputs(model, kinds) as outputs:
        for batch in batches:
            logits = logits_of(model, batch)
            losses = F.cross_entropy(
                logits.transpose(1, 2), batch.labels, ignore_index=IGNORED, reduction="none"
            )
            total = (losses.sum(1) / (batch.labels != IGNORED).sum(1)).sum()
            places, values = list(outputs), list(outputs.values())
            slopes = torch.autograd.grad(total, values, materialize_grads=True)
            for (kind, layer), value, slope in zip(places, values, slopes, strict=True):
                own = sums[kind][layer]
                own += _by_head(value.detach() * slope, len(own)).sum((1, 3)).abs().sum(0)
            sentences += len(batch.source)
    return {kind: [row / sentences for row in rows] for kind, rows in sums.items()}


def relevance(model: Any, batches: Iterable[Batch], kinds: Sequence[str] = KINDS) -> Relevance:
    """LRP of the highest logit at every step to the heads, whose outputs stand before their projection.

    The relevance 1 of a logit, its prefix being ``target``, goes back by the plain rule on the model that is
    :func:`~reprune.calibration.linearised.linearised`; at each step it is summed over a head's neurons at all
    positions and divided by the sum of magnitudes over the heads of its layer, which the paper leaves open;
    then the mean over all steps. Biases keep what falls to them, no rule but the first division has an ε.
    One backward pass for each step of a batch.
    """
    signed, absolute, steps = _zeros(model, kinds), _zeros(model, kinds), 0
    with torch.enable_grad(), linearised(model), _outputs(model, kinds) as outputs:
        for batch in batches:
            top = logits_of(model, batch).amax(-1)
            active = batch.labels != IGNORED
            places, values = list(outputs), list(outputs.values())
            for step in range(top.shape[1]):
                counted = active[:, step]
                for (kind, layer), found in zip(places, sent_back(top[:, step], values), strict=True):
                    own = shares(found[counted], len(signed[kind][layer]))
                    signed[kind][layer] += own[0].sum(0)
                    absolute[kind][layer] += own[1].sum(0)
            steps += int(active.sum())
    return Relevance(
        *({kind: [row / steps for row in rows] for kind, rows in of.items()} for of in (signed, absolute))
    )


def sent_back(logits: Tensor, outputs: Sequence[Tensor]) -> list[Tensor]:
    """What of the relevance 1 of each of (sentences,) logits comes to each neuron, shaped as ``outputs``.

    The graph between them, which is kept, must be linear in the sense of :func:`linearised`.
    """
    stable = logits.detach() + EPSILON * torch.where(logits < 0, -1.0, 1.0)
    slopes = torch.autograd.grad(logits, outputs, 1 / stable, retain_graph=True, materialize_grads=True)
    return [output.detach() * slope for output, slope in zip(outputs, slopes, strict=True)]


def shares(found: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """(sentences, heads) shares of (sentences, length, heads · size) relevances, signed and absolute."""
    by_head = _by_head(found, heads)
    sums = by_head.sum((1, 3)), by_head.abs().sum((1, 3))
    signed, absolute = (own / own.abs().sum(1, keepdim=True).clamp(min=EPSILON) for own in sums)
    return signed, absolute


def logits_of(model: Any, batch: Batch) -> Tensor:
    """(sentences, target length, vocabulary) logits with the batch's own prefixes."""
    arguments = {"input_ids": batch.source, "attention_mask": batch.source_mask}
    return model(**arguments, decoder_input_ids=batch.target, use_cache=False).logits


def _by_head(values: Tensor, heads: int) -> Tensor:
    return values.unflatten(-1, (heads, -1))


def _zeros(model: Any, kinds: Sequence[str]) -> Rows:
    counts, like = retained_heads(model), next(model.parameters())
    return {kind: [like.new_zeros(heads) for heads in counts[kind]] for kind in kinds}


@contextmanager
def _outputs(model: Any, kinds: Sequence[str]) -> Iterator[Mapping[tuple[str, int], Tensor]]:
    """What all heads of a layer gave in the last forward pass, by kind and layer, to be differentiated by."""
    seen: dict[tuple[str, int], Tensor] = {}

    def note(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        (given,) = inputs
        if not given.requires_grad:  # nothing below is differentiated, the model is frozen
            given = given.detach().requires_grad_(True)
        seen[places[module]] = given
        return (given,)

    with _hooked(model, kinds, "register_forward_pre_hook", note, "out_proj") as places:
        yield seen


@contextmanager
def _hooked(
    model: Any, kinds: Sequence[str], kind_of_hook: str, hook: Callable[..., Any], within: str = ""
) -> Iterator[dict[nn.Module, tuple[str, int]]]:
    """The attention of all layers that have heads, or a layer ``within`` it, with a hook; kind and layer."""
    attentions = attention_kinds(model)
    places = {
        attention.get_submodule(within): (kind, layer)
        for kind in kinds
        for layer, attention in enumerate(attentions[kind])
        if hasattr(attention, "out_proj")
    }
    with ExitStack() as stack:
        for module in places:
            stack.callback(getattr(module, kind_of_hook)(hook).remove)
        yield places
