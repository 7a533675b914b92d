"""A translation model made from nothing but pairs of sentences: its vocabulary and its first weights.

The architecture is transformers' Marian, so that published Marian checkpoints are read by the same code. One
sub-word vocabulary serves both languages and one matrix all embeddings, as in those checkpoints; Voita et al.
(arXiv 1905.09418) learn a vocabulary for each language.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
WORD = "\u2581"  # begins a word, where a space was
SPECIAL = (PAD, END, UNKNOWN)
ALPHABET = 400  # characters that have a token
WRITING = ("v_proj", "out_proj", "fc1", "fc2")  # modules that make what is added to the residual stream


@dataclass(frozen=True)
class Shape:
    """Sizes of a translation model; ``hidden_size`` is a multiple of ``heads``, ``context`` counts tokens."""

    encoder_layers: int
    decoder_layers: int
    hidden_size: int
    intermediate_size: int
    heads: int
    vocab_size: int
    context: int
    dropout: float


def learn_tokenizer(texts: Sequence[str], vocab_size: int) -> Any:
    """Byte-pair merges of characters learned on ``texts`` (Sennrich et al. 2016), at most so many tokens.

    Words are split at spaces, a word's first piece is marked, punctuation stands alone. Every encoding ends
    with ``</s>``. Equal texts in equal order give equal merges: which of equally rare characters have no
    token is settled here, since the trainer settles it by chance.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation(behavior="isolated")]
    )
    tokenizer.decoder = decoders.Metaspace()
    alphabet = _alphabet([tokenizer.normalizer.normalize_str(text) for text in texts])
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    end = (END, tokenizer.token_to_id(END))
    tokenizer.post_processor = processors.TemplateProcessing(single=f"$A {END}", special_tokens=[end])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, unk_token=UNKNOWN, padding_side="right"
    )


def _alphabet(texts: Sequence[str]) -> list[str]:
    """The mark of words, and the most frequent characters that are not a space, first those of lower code."""
    counts = Counter(character for text in texts for character in text if character != " ")
    ranked = sorted(counts, key=lambda character: (-counts[character], character))
    return [WORD, *ranked[: ALPHABET - 1]]


def new_model(shape: Shape, seed: int) -> Any:
    """A Marian model of that shape with random weights, in float32."""
    from transformers import MarianConfig, MarianMTModel

    config = MarianConfig(
        vocab_size=shape.vocab_size,
        d_model=shape.hidden_size,
        encoder_layers=shape.encoder_layers,
        decoder_layers=shape.decoder_layers,
        encoder_attention_heads=shape.heads,
        decoder_attention_heads=shape.heads,
        encoder_ffn_dim=shape.intermediate_size,
        decoder_ffn_dim=shape.intermediate_size,
        max_position_embeddings=shape.context,
        dropout=shape.dropout,
        attention_dropout=shape.dropout,
        activation_dropout=shape.dropout,
        activation_function="relu",
        scale_embedding=True,
        share_encoder_decoder_embeddings=True,
        tie_word_embeddings=True,
        init_std=shape.hidden_size**-0.5,
        pad_token_id=SPECIAL.index(PAD),
        eos_token_id=SPECIAL.index(END),
        forced_eos_token_id=SPECIAL.index(END),
        decoder_start_token_id=SPECIAL.index(PAD),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = MarianMTModel(config)
        _start_evenly(model)
    return model.eval().requires_grad_(False)


def draw_weights(model: Any, seed: int) -> None:
    """Draw the weights of a translation model of any shape anew, as :func:`new_model` does its own."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding) and "Positional" not in type(module).__name__:
                torch.nn.init.normal_(module.weight, std=model.config.init_std)
                if module.padding_idx is not None:
                    module.weight[module.padding_idx] = 0
            elif isinstance(module, torch.nn.LayerNorm):
                module.reset_parameters()
        for name, parameter in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("bias"):
                parameter.zero_()
        _start_evenly(model)


def _start_evenly(model: Any) -> None:
    """Give every matrix Glorot's uniform start, as the authors' code does, but the embeddings.

    Those that write into the residual stream are smaller by (8 N)^-1/4 for N encoder layers, DeepNet's gain
    for encoders (Wang et al. 2022, arXiv 2203.00555, Figure 2; without its scaled residuals, which Marian
    lacks). Before attention has learned to point it averages the sentence into every token; at gain 1 six
    post-norm layers of that make all tokens alike, and training stalls. Where heads have been removed, those
    left start as in the whole projection, as under gates held at 0 and 1.
    """
    small = (8 * model.config.encoder_layers) ** -0.25
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and "embed" not in name and "shared" not in name:
            gain = small if name.split(".")[-2] in WRITING else 1.0
            if "_attn." in name:
                gain *= (sum(parameter.shape) / (2 * model.config.d_model)) ** 0.5
            torch.nn.init.xavier_uniform_(parameter, gain=gain)
