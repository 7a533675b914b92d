"""A small random translation model and a batch of padded pairs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from reprune.calibration.sentences import Batch, Encoded

LAYERS, HEADS, HIDDEN, VOCABULARY = 2, 4, 32, 60
EOS, PAD = 1, 0


def small_marian(**changes: Any) -> Any:
    """A frozen Marian model of 2 + 2 layers with 4 heads, one embedding, and biases and gains at random."""
    from transformers import MarianConfig, MarianMTModel

    told = {
        "vocab_size": VOCABULARY,
        "d_model": HIDDEN,
        "encoder_layers": LAYERS,
        "decoder_layers": LAYERS,
        "encoder_attention_heads": HEADS,
        "decoder_attention_heads": HEADS,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "max_position_embeddings": 40,
        "activation_function": "relu",
        "scale_embedding": True,
        "pad_token_id": PAD,
        "eos_token_id": EOS,
        "forced_eos_token_id": None,
        "decoder_start_token_id": PAD,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MarianMTModel(MarianConfig(**{**told, **changes}))
        for name, parameter in model.named_parameters():
            if "embed_positions" not in name:
                parameter.data += 0.15 * torch.randn_like(parameter)
        model.final_logits_bias += 0.5 * torch.randn_like(model.final_logits_bias)
    return model.eval().requires_grad_(False)


def pairs(sentences: int = 3, source: int = 7, target: int = 6, seed: int = 1) -> Batch:
    """Random pairs; each but the first is a token shorter on both sides than the one before."""
    generator = torch.Generator().manual_seed(seed)
    sides = []
    for length, padding in ((source, PAD), (target, -100)):
        tokens = torch.randint(2, VOCABULARY, (sentences, length), generator=generator)
        for row, own in enumerate(tokens):
            own[length - 1 - row], own[length - row :] = EOS, padding
        sides.append(tokens)
    labels = sides[1]
    started = torch.cat([torch.full((sentences, 1), PAD), labels[:, :-1].clamp(min=PAD)], dim=1)
    return Batch(sides[0], (sides[0] != PAD).long(), started, labels)


def random_pairs(count: int, seed: int = 0, longest: int = 8) -> list[Encoded]:
    """Encoded pairs whose sides have all lengths up to ``longest`` and end with the end of a sentence."""
    generator = torch.Generator().manual_seed(seed)

    def side() -> list[int]:
        length = int(torch.randint(1, longest, (), generator=generator))
        return [*torch.randint(2, VOCABULARY, (length,), generator=generator).tolist(), EOS]

    return [Encoded(side(), side()) for _ in range(count)]


def logits(model: Any, batch: Batch) -> Tensor:
    """(sentences, target length, vocabulary), where labels are padded too."""
    return model(
        input_ids=batch.source,
        attention_mask=batch.source_mask,
        decoder_input_ids=batch.target,
        use_cache=False,
    ).logits
