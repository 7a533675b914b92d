"""Translation by beam search, and how good it is, beside two ways of not translating.

transformers divides the log-probability of a finished translation by ``length ** length_penalty``, its end
counted; GNMT (Wu et al. 2016) divides by ``((5 + length) / 6) ** alpha``, which favours long translations
less at the same exponent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from reprune.data.parallel import Pair
from reprune.evaluation.bleu import bleu_stderr, sentence_statistics
from reprune.plan.identity import digest

SUITE = "translation"
BATCH_TOKENS = 1024  # source tokens of one batch, padding counted; every beam decodes as many rows again
ROOM = (2, 10)  # a translation has at most twice as many tokens as its source, and ten
EXAMPLES = 10
LINES = ("source", "reference", "hypothesis")


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
    whatever else is in its batch. Settings of generation that came with the model do not count.
    """
    start = time.monotonic()
    encoded = tokenizer(list(sources), verbose=False)["input_ids"]
    end = tokenizer.eos_token_id
    kept = [ids if len(ids) <= search.longest else [*ids[: search.longest - 1], end] for ids in encoded]
    lines, tokens, finite = [""] * len(kept), 0, True
    done = 0
    for numbers in _batches(kept, batch_tokens):
        with _own_settings_aside(model):
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


def measure(
    model: Any,
    tokenizer: Any,
    pairs: Sequence[Pair],
    content: dict[str, Any],
    say: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """What a model's translations of ``pairs`` are worth, by the resolved protocol ``content``.

    BLEU with its standard error and every sentence's statistics; beside it chrF, BLEU of the sources
    themselves and of the translations put beside other references, and tokens per second; the lines of text
    that were scored, and some of them as examples.
    """
    pairs = evenly(pairs, content["limit"])
    sources, references = ([one_line(text) for text in side] for side in zip(*pairs, strict=True))
    search = Search(content["beams"], content["length_penalty"], content["longest"])
    found = translate(model, tokenizer, sources, search, say=say)
    scored = _bleu(found.lines, references, content["tokenize"])
    lines = dict(zip(LINES, (sources, references, found.lines), strict=True))
    numbers = evenly(range(len(pairs)), EXAMPLES)
    return {
        **(scored if found.finite else {**scored, "value": None, "stderr": None}),
        "metric": "bleu",
        "higher_is_better": True,
        "n": len(pairs),
        "reason": None if found.finite else "the model's scores are not numbers",
        "note": f"{found.cut} sources were longer than {search.longest} tokens and lost their ends"
        if found.cut
        else None,
        "items": _items(found, sources, references, content["tokenize"]),
        "beside": _beside(found, sources, references, content["tokenize"]) if found.finite else [],
        "lines": lines,
        "examples": [{"item": i, **{name: lines[name][i] for name in LINES}} for i in numbers],
    }


def evenly(every: Sequence[Any], most: int | None) -> list[Any]:
    """At most ``most`` of a sequence, at equal distances."""
    count = min(len(every), most or len(every))
    return [every[i * len(every) // count] for i in range(count)]


def _bleu(hypotheses: list[str], references: list[str], tokenize: str) -> dict[str, Any]:
    """Corpus BLEU as sacrebleu's command line tells it, its signature as the variant."""
    from sacrebleu.metrics import BLEU

    metric = BLEU(tokenize=tokenize)
    value = metric.corpus_score(hypotheses, [references]).score
    stderr = bleu_stderr(sentence_statistics(hypotheses, references, tokenize))
    variant = metric.get_signature().format()
    return {"variant": variant, "unit": "points", "value": value, "stderr": stderr}


def _beside(
    found: Translations, sources: list[str], references: list[str], tokenize: str
) -> list[dict[str, Any]]:
    """Further metrics of the same translations.

    A translation depends on its source alone, so those of shuffled sources are the translations shuffled: by
    half the test set, since neighbours may be of one document.
    """
    from sacrebleu.metrics import CHRF

    chrf = CHRF()
    score = chrf.corpus_score(found.lines, [references]).score
    half = len(found.lines) // 2
    shuffled = found.lines[half:] + found.lines[:half]
    points = {"variant": chrf.get_signature().format(), "unit": "points", "value": score, "stderr": None}
    speed = {"variant": None, "unit": "tokens/s", "value": found.tokens / found.seconds, "stderr": None}
    return [
        {"metric": "chrf", **points, "higher_is_better": True},
        {"metric": "copy_bleu", **_bleu(sources, references, tokenize), "higher_is_better": None},
        {"metric": "shuffled_bleu", **_bleu(shuffled, references, tokenize), "higher_is_better": None},
        {"metric": "tokens_per_second", **speed, "higher_is_better": True},
    ]


def _items(
    found: Translations, sources: list[str], references: list[str], tokenize: str
) -> list[dict[str, Any]]:
    """The statistics of every sentence with hashes of what was asked; null if the model gave no numbers."""
    counted = sentence_statistics(found.lines, references, tokenize).tolist()
    return [
        {
            "metric": "bleu_statistics",
            "item": item,
            "part": part,
            "value": value if found.finite else None,
            "doc_hash": digest(sources[item]),
            "target_hash": digest(references[item]),
        }
        for item, statistics in enumerate(counted)
        for part, value in enumerate(statistics)
    ]


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


@contextmanager
def _own_settings_aside(model: Any) -> Iterator[None]:
    """While a protocol says all: transformers fills what it leaves open from the model's own settings."""
    from transformers import GenerationConfig

    own, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own


def _generated(
    model: Any, tokenizer: Any, encoded: Sequence[list[int]], search: Search
) -> tuple[Tensor, bool]:
    """(sentences, tokens) without the start, filled up behind the end; whether scores were no numbers."""
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
