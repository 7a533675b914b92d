"""A short sentence as the head nearest to each role attends to it, for a picture."""

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
    """The head that stands for each role, whether it has it or not: the highest in the measure of it.

    ``unknown`` is the most confident head without a role, of those that stand for none. A role of which
    nothing was measured, or for which no head is left, is left out.
    """
    nearest = {
        role: int(np.nanargmax(strength))
        for role, strength in measures(found).items()
        if not np.isnan(strength).all()
    }
    spare = found["functions"] == 0
    spare[list(nearest.values())] = False
    if spare.any():
        nearest["unknown"] = int(np.where(spare, found["confidence"], -math.inf).argmax())
    return nearest


def measures(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """(heads,) by role what its threshold is asked of; NaN where too few instances were seen."""
    margins = found["syntactic_margin"]
    return {
        "positional": found["positional_share"],
        "syntactic": np.where(margins > -1, margins, math.nan),
        "rare": found["rare_share"],
    }


def example_maps(
    model: Any, tokenizer: Any, text: str, parse: Parse, places: list[Place], found: dict[str, np.ndarray]
) -> dict[str, Any]:
    """The words of a sentence and, for the head nearest to each role, the weights between them.

    ``reached`` tells whether the head has the role, ``value`` what the role's threshold is asked of; of an
    unknown head that is its confidence.
    """
    ((ids, weights),) = attention_maps(model, tokenizer, [text])
    words = words_of(token_spans(tokenizer, text, ids), parse.words)
    known = sorted({word for word in words if word is not None})
    between = word_weights(weights, words, len(parse.words))[:, known][:, :, known]
    values = {**measures(found), "unknown": found["confidence"]}
    reached = {**found, "unknown": found["functions"] == 0}
    return {
        "words": [text[slice(*parse.words[word])] for word in known],
        "maps": [
            {
                "role": role,
                "reached": bool(reached[role][head] > 0),
                "value": float(values[role][head]),
                "layer": places[head][0],
                "head": places[head][1],
                "weights": between[head].round(DIGITS).tolist(),
            }
            for role, head in example_heads(found).items()
        ],
    }
