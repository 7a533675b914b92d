"""A short sentence as one head of each role attends to it, for a picture."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from reprune.data.parsers import Parse
from reprune.evaluation.alignment import token_spans, words_of
from reprune.evaluation.attention import Place, attention_maps
from reprune.evaluation.head_statistics import word_weights

WORDS = range(6, 13)  # of a sentence whose map is legible
SHOWN = ("nsubj", "dobj", "amod")
DIGITS = 4


def example_sentence(sentences: list[str], parses: list[Parse]) -> tuple[str, Parse] | None:
    """The first short sentence with the most different ones of the relations worth seeing."""
    short = [
        (text, parse) for text, parse in zip(sentences, parses, strict=True) if len(parse.words) in WORDS
    ]
    if not short:
        return None
    return max(short, key=lambda pair: len({arc.relation for arc in pair[1].arcs} & set(SHOWN)))


def example_heads(found: dict[str, np.ndarray]) -> dict[str, int]:
    """The head that stands for each role that there is: the one whose share is highest."""
    strength = {
        "positional": found["positional_share"],
        "syntactic": found["syntactic_margin"],
        "rare": found["rare_share"],
        "unknown": found["confidence"],
    }
    has = {role: found[role] > 0 for role in ("positional", "syntactic", "rare")}
    has["unknown"] = found["functions"] == 0
    return {
        role: int(np.where(has[role], strength[role], -math.inf).argmax())
        for role in strength
        if has[role].any()
    }


def example_maps(
    model: Any, tokenizer: Any, text: str, parse: Parse, places: list[Place], found: dict[str, np.ndarray]
) -> dict[str, Any]:
    """The words of a sentence and, for a head of each role, the weights between them."""
    ((ids, weights),) = attention_maps(model, tokenizer, [text])
    words = words_of(token_spans(tokenizer, text, ids), parse.words)
    known = sorted({word for word in words if word is not None})
    between = word_weights(weights, words, len(parse.words))[:, known][:, :, known]
    return {
        "words": [text[slice(*parse.words[word])] for word in known],
        "maps": [
            {
                "role": role,
                "layer": places[head][0],
                "head": places[head][1],
                "weights": between[head].round(DIGITS).tolist(),
            }
            for role, head in example_heads(found).items()
        ],
    }
