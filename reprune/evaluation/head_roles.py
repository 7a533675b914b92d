"""The roles of an encoder's attention heads on source sentences, after Voita et al. (2019), section 5.

A head is positional if at least nine tenths of the queries point at one offset; syntactic if it points from
one end of a dependency at the other by ten points more often than the best fixed offset would; and a
rare-word head if it points at a sentence's rarest token in half of the sentences that have a rare one. It may
have several roles, and be syntactic in several relations and directions.

Positions and rare words are of tokens, dependencies of words. The offset of a positional head must lie
inside the sentence for half of all queries: queries without it are not counted, so a head that always
attends to the first token would else have one in the few longest sentences.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from reprune.data.parsers import Parse, Parser
from reprune.evaluation.alignment import token_spans, words_of
from reprune.evaluation.attention import Place, attention_maps, head_places
from reprune.evaluation.head_statistics import (
    Tally,
    arc_hits,
    confidences,
    most_pointed,
    offset_hits,
    pointed_at,
    rarest,
    word_weights,
)
from reprune.evaluation.role_example import example_maps, example_sentence

SUITE = "head_roles"
RELATIONS = {"nsubj": "nsubj", "dobj": "dobj", "obj": "dobj", "amod": "amod", "advmod": "advmod"}
"""The relations looked at by the names that parsers give them."""
DIRECTIONS = ("dependent", "head")  # which end of a dependency a head of attention points at
FUNCTIONS = tuple(f"{relation}_{end}" for relation in dict.fromkeys(RELATIONS.values()) for end in DIRECTIONS)
REACH = 16  # the farthest offset looked at
AT_ONCE = 32
ROUNDING = 1e-9  # 0.6 is to be ten points above 0.5
Say = Callable[[int, int], None]


@dataclass
class Counts:
    """What is counted over sentences, for ``heads`` heads."""

    heads: int
    confidence: Tally = field(init=False)
    offsets: Tally = field(init=False)
    functions: dict[str, Tally] = field(init=False)
    spans: dict[str, Counter] = field(init=False)
    rare: Tally = field(init=False)
    two_rarest: Tally = field(init=False)
    chance: Tally = field(init=False)

    def __post_init__(self) -> None:
        self.confidence = Tally(self.heads)
        self.offsets = Tally(self.heads, 2 * REACH + 1)
        self.functions = {name: Tally(self.heads) for name in FUNCTIONS}
        self.spans = {name: Counter() for name in FUNCTIONS}
        self.rare, self.two_rarest, self.chance = Tally(self.heads), Tally(self.heads), Tally(1)

    def add(self, weights: np.ndarray) -> None:
        """Count where the tokens of a sentence look; ``weights`` are (heads, tokens, tokens)."""
        self.confidence.add(confidences(weights).sum(1), weights.shape[1])
        self.offsets.add(*offset_hits(pointed_at(weights), REACH))

    def add_arcs(self, weights: np.ndarray, words: list[int | None], parse: Parse) -> None:
        """Count where its words look; arcs of a word without a token of its own are left out."""
        known = {word for word in words if word is not None}
        pointed = pointed_at(word_weights(weights, words, len(parse.words)))
        for name, arcs in arcs_by_function(parse, known).items():
            self.functions[name].add(arc_hits(pointed, arcs), len(arcs))
            self.spans[name].update(end - start for start, end in arcs)

    def add_rare(self, weights: np.ndarray, ids: list[int], frequencies: dict[int, int]) -> None:
        """Count whether heads look at the rarest token, and at one of the two rarest."""
        pointed = most_pointed(pointed_at(weights))
        one, two = (rarest(ids, frequencies, types) for types in (1, 2))
        self.rare.add(one[pointed], 1)
        self.two_rarest.add(two[pointed], 1)
        self.chance.add(one.mean(), 1)

    def baseline(self, name: str) -> tuple[float, int | None]:
        """The share of a function's arcs that have its most frequent offset, and that offset."""
        if not self.spans[name]:
            return math.nan, None
        ((offset, count),) = self.spans[name].most_common(1)
        return count / self.spans[name].total(), offset


def arcs_by_function(parse: Parse, known: set[int]) -> dict[str, list[tuple[int, int]]]:
    """The dependencies between ``known`` words as (from, to), by relation and direction; only those there."""
    found: dict[str, list[tuple[int, int]]] = {}
    for arc in parse.arcs:
        relation = RELATIONS.get(arc.relation)
        if relation and {arc.dependent, arc.head} <= known:
            found.setdefault(f"{relation}_dependent", []).append((arc.head, arc.dependent))
            found.setdefault(f"{relation}_head", []).append((arc.dependent, arc.head))
    return found


def measure_roles(
    model: Any,
    tokenizer: Any,
    sentences: list[str],
    training: Iterable[str],
    parser: Parser,
    kept: list[list[bool]] | None,
    content: dict[str, Any],
    say: Say = lambda done, total: None,
) -> dict[str, Any]:
    """What a job of the suite records: numbers of heads by role, an item per head, and an example.

    ``training`` are the sentences that tell how frequent tokens are, ``kept`` as in :func:`head_places`,
    ``content`` the resolved protocol.
    """
    sentences = [text for text in sentences if text.strip()][: content["limit"]]
    frequencies = Counter(
        token for ids in tokenizer(list(training))["input_ids"] for token in ids[:-1]
    )  # the end of sequence is no token of its own
    frequent = set(dict(frequencies.most_common(frequent_types(len(frequencies), content))))
    places = head_places(model, kept)
    counts, parses = Counts(len(places)), list(parser(sentences))
    for start in range(0, len(sentences), AT_ONCE):
        batch = slice(start, start + AT_ONCE)
        maps = attention_maps(model, tokenizer, sentences[batch])
        for text, parse, (ids, weights) in zip(sentences[batch], parses[batch], maps, strict=True):
            if not ids:
                continue
            counts.add(weights)
            words = words_of(token_spans(tokenizer, text, ids), parse.words)
            counts.add_arcs(weights, words, parse)
            if not frequent.issuperset(ids):
                counts.add_rare(weights, ids, frequencies)
        say(min(start + AT_ONCE, len(sentences)), len(sentences))
    found = findings(counts, content)
    chosen = example_sentence(sentences, parses)
    told = {"sentences": len(sentences), "frequent": len(frequent), "functions": _functions(counts)}
    if chosen is not None and places:
        told["example"] = example_maps(model, tokenizer, *chosen, places, found)
    return {**records(found, counts), "items": items(places, found), "told": told}


def frequent_types(types: int, content: dict[str, Any]) -> int:
    """How many types are frequent: the share that the paper's ``frequent`` are of its ``vocabulary``."""
    return max(1, round(types * content["frequent"] / content["vocabulary"]))


def findings(counts: Counts, content: dict[str, Any]) -> dict[str, np.ndarray]:
    """(heads,) values by name: shares with their standard errors, and the roles that follow from them.

    A share of fewer than ``content['instances']`` trials is NaN and gives no role.
    """
    found = {"confidence": counts.confidence.share, "confidence_stderr": counts.confidence.stderr}
    offsets = _enough(counts.offsets, content["instances"])
    queries = counts.offsets.trials[:, REACH : REACH + 1]  # all of them have themselves inside the sentence
    offsets[counts.offsets.trials * 2 < queries] = math.nan
    best = np.where(np.isnan(offsets), -1.0, offsets).argmax(1)
    every = np.arange(counts.heads)
    found |= {"positional_share": offsets[every, best], "positional_offset": best - REACH}
    found["positional_share_stderr"] = counts.offsets.stderr[every, best]
    for name, tally in {**counts.functions, "rare": counts.rare, "two_rarest": counts.two_rarest}.items():
        found |= {f"{name}_share": _enough(tally, content["instances"])}
        found |= {f"{name}_share_stderr": tally.stderr}
    margins = np.array([found[f"{name}_share"] - counts.baseline(name)[0] for name in FUNCTIONS])
    above = margins >= content["syntactic"] - ROUNDING
    found |= dict(zip(FUNCTIONS, above, strict=True))
    found["positional"] = found["positional_share"] >= content["positional"]
    found["syntactic"] = above.sum(0)
    found["rare"] = found["rare_share"] >= content["rare"]
    found["functions"] = found["positional"] + found["syntactic"] + found["rare"]
    found["syntactic_margin"] = np.where(np.isnan(margins), -1.0, margins).max(0)
    return found


def _enough(tally: Tally, instances: int) -> np.ndarray:
    return np.where(tally.trials >= instances, tally.share, math.nan)


def records(found: dict[str, np.ndarray], counts: Counts) -> dict[str, Any]:
    """The values that stand for the whole model; of shares that of the best head."""
    roles = ("positional", "syntactic", "rare")
    others = {f"{role}_heads": (float((found[role] > 0).sum()), None) for role in roles}
    others["unknown_heads"] = (float((found["functions"] == 0).sum()), None)
    if counts.heads:
        others |= {
            "labelled_share": (float((found["functions"] > 0).mean()), None),
            "functions_per_head": (float(found["functions"].mean()), None),
            "confidence": (float(found["confidence"].mean()), None),
        }
        for name in ("positional", *FUNCTIONS, "rare", "two_rarest"):
            others |= _best(f"{name}_share", found)
        others |= {f"{name}_baseline": (counts.baseline(name)[0], None) for name in FUNCTIONS}
        others["rare_chance"] = (float(counts.chance.share[0]), _number(counts.chance.stderr[0]))
    return {
        "metric": "labelled_heads",
        "unit": "heads",
        "value": float((found["functions"] > 0).sum()),
        "stderr": None,
        "n": counts.heads,
        "higher_is_better": None,
        "reason": None,
        "others": {name: told for name, told in others.items() if math.isfinite(told[0])},
    }


def _best(name: str, found: dict[str, np.ndarray]) -> dict[str, tuple[float, float | None]]:
    """The highest value over heads with its standard error; nothing where no head has one."""
    if np.isnan(found[name]).all():
        return {}
    head = int(np.nanargmax(found[name]))
    return {name: (float(found[name][head]), _number(found[f"{name}_stderr"][head]))}


def items(places: list[Place], found: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """One value per head and name: ``item`` is the layer, ``part`` the head as the dense model counts."""
    return [
        {"metric": name, "item": layer, "part": head, "value": _number(value)}
        for name, values in found.items()
        for (layer, head), value in zip(places, values.tolist(), strict=True)
    ]


def _functions(counts: Counts) -> dict[str, dict[str, Any]]:
    """How many instances each relation and direction had, and what its baseline is."""
    return {
        name: {"instances": counts.spans[name].total(), "baseline": _number(share), "offset": offset}
        for name in FUNCTIONS
        for share, offset in [counts.baseline(name)]
    }


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
