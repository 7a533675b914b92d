"""Where the attention of a translation model is: an encoder's, a decoder's, and from decoder to encoder."""

from __future__ import annotations

from typing import Any

from torch import nn

from reprune.models.checkpoint import computed

KINDS = ("encoder", "decoder", "cross")


def attention_kinds(model: Any) -> dict[str, list[nn.Module]]:
    """The attention of every layer by :data:`KINDS`, or the part that stands for it where no head is left."""
    encoder, decoder = model.get_encoder().layers, model.get_decoder().layers
    return {
        "encoder": [layer.self_attn for layer in encoder],
        "decoder": [layer.self_attn for layer in decoder],
        "cross": [layer.encoder_attn for layer in decoder],
    }


def encoder_parameters(model: Any) -> dict[str, nn.Parameter]:
    """What training of the encoder alone may change, by name, so that no function can move to the decoder.

    Voita et al. (arXiv 1905.09418), section 6.2; the official code trains source embeddings too, which no
    other part of its models shares. Here embeddings that decoder or output head share stay as they are. Keys
    and values that the decoder computes from the encoder's outputs are the decoder's.
    """
    own = {id(parameter) for parameter in model.get_encoder().parameters()}
    others = [model.get_decoder(), model.get_output_embeddings()]
    own -= {id(parameter) for part in others for parameter in part.parameters()}
    fixed = computed(model)
    return {n: p for n, p in model.named_parameters() if id(p) in own and n not in fixed}
