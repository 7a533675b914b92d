"""Translation by beam search, and how good it is: BLEU and chrF beside what they are for no translation.

transformers divides the log-probability of a finished translation by ``length ** length_penalty``, its end
counted; GNMT (Wu et al. 2016) divides by ``((5 + length) / 6) ** alpha``, which favours long translations
less at the same exponent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from reprune.evaluation.bleu import bleu_stderr, corpus_bleu
from reprune.evaluation.text import ProtocolError

SUITE = "translation"
BATCH_TOKENS = 1024  # source tokens of one batch, padding counted; every beam decodes as many rows again
ROOM = (2, 10)  # a translation has at most twice as many tokens as its source, and ten
EXAMPLES = 10


class Search(NamedTuple):
    """How translations are searched for; ``longest`` is in tokens, of a source and of a translation."""

    beams: int
    length_penalty: float
    longest: int


@dataclass(frozen=True)
class Translations:
    """Lines of text in the order of their sources.

    ``tokens`` were made in ``seconds``, ends of sentences counted, of beams only the best. ``cut`` sources
    were longer than allowed, ``finite`` is False if the model gave no numbers.
    """

    lines: list[str]
    tokens: int
    seconds: float
    cut: int
    finite: bool


@torch.inference_mode()
def translate(
    model: Any,
    tokenizer: Any,
    sources: Sequence[str],
    search: Search,
    batch_tokens: int = BATCH_TOKENS,
    say: Callable[[int, int], None] = lambda done, total: None,
) -> Translations:
    """The best translation of every source that beam search finds; greedy with one beam.

    Sources of similar length share a batch, the longest first, and keys and values are kept. A search ends
    once as many translations as beams are finished; a translation that reaches its room is ended there,
    whatever else is in its batch.
    """
    start = time.monotonic()
    encoded = tokenizer(list(sources), verbose=False)["input_ids"]
    end = tokenizer.eos_token_id
    kept = [ids if len(ids) <= search.longest else [*ids[: search.longest - 1], end] for ids in encoded]
    lines, tokens, finite = [""] * len(kept), 0, True
    done = 0
    for numbers in _batches(kept, batch_tokens):
        made, broken = _generated(model, tokenizer, [kept[number] for number in numbers], search)
        texts = tokenizer.batch_decode(made, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for number, text in zip(numbers, texts, strict=True):
            lines[number] = one_line(text)
        tokens += int(((made == end).cumsum(dim=1) - (made == end).long() == 0).sum())
        finite = finite and not broken
        done += len(numbers)
        say(done, len(kept))
    cut = sum(len(ids) > search.longest for ids in encoded)
    return Translations(lines, tokens, time.monotonic() - start, cut, finite)


def one_line(text: str) -> str:
    """Text without borders of lines, which sacrebleu's files have none of within a sentence."""
    return " ".join(text.split())


def _batches(encoded: Sequence[list[int]], tokens: int) -> Iterator[list[int]]:
    """Numbers of sentences, the longest first, so many together as padded fit ``tokens``, at least one."""
    order = sorted(range(len(encoded)), key=lambda number: -len(encoded[number]))
    while order:
        count = max(1, tokens // len(encoded[order[0]]))
        yield order[:count]
        order = order[count:]


def _generated(
    model: Any, tokenizer: Any, encoded: Sequence[list[int]], search: Search
) -> tuple[Tensor, bool]:
    """(sentences, tokens) without the start, filled up behind the end; whether scores were no numbers.

    Nothing is taken from the model's own generation settings.
    """
    from transformers import GenerationConfig

    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    width = max(map(len, encoded))
    source = torch.tensor([[*ids, *[pad] * (width - len(ids))] for ids in encoded])
    mask = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in encoded])
    rooms = torch.tensor([min(search.longest, ROOM[0] * len(ids) + ROOM[1]) for ids in encoded])
    limits = _Limits(rooms.repeat_interleave(search.beams), end)
    beams = {"length_penalty": search.length_penalty, "early_stopping": True} if search.beams > 1 else {}
    made = model.generate(
        source,
        attention_mask=mask,
        logits_processor=[limits],
        generation_config=GenerationConfig(
            num_beams=search.beams,
            do_sample=False,
            max_new_tokens=int(rooms.max()),
            use_cache=True,
            pad_token_id=pad,
            eos_token_id=end,
            decoder_start_token_id=model.config.decoder_start_token_id,
            suppress_tokens=[pad],
            **beams,
        ),
    )
    return made[:, 1:], limits.broken


class _Limits:
    """Ends every row's translation where its room does, which transformers limits by batch alone.

    ``rooms`` is (rows,) in tokens; ``broken`` tells whether a score was not a number.
    """

    def __init__(self, rooms: Tensor, end: int) -> None:
        self.rooms, self.end, self.broken = rooms, end, False

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.broken = self.broken or bool(torch.isnan(scores[:, self.end]).any())
        full = self.rooms <= input_ids.shape[1]  # the start stands for the token that is made now
        if full.any():
            scores[full] = -torch.inf
            scores[full, self.end] = 0.0
        return scores
