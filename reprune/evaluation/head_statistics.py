"""Where attention heads look and how sure they are, from attention weights alone (Voita et al. 2019).

``weights`` are (heads, tokens, tokens) of one sentence, queries by keys: real tokens only, so the end of
sequence is neither a query nor a key, and rows are not renormalised for it. ``pointed`` are (heads, queries),
the key that each query attends to most.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Tally:
    """Shares of trials over sentences; the standard error is that of a ratio with sentences as the sample."""

    def __init__(self, *shape: int) -> None:
        self.hits, self.trials = np.zeros(shape), np.zeros(shape)
        self._sentences = np.zeros(shape)
        self._squares = np.zeros((3, *shape))  # of hits, of hits by trials, of trials

    def add(self, hits: np.ndarray, trials: np.ndarray | float) -> None:
        """Count one sentence; ``trials`` may be common to several shares."""
        hits, trials = (np.broadcast_to(counted, self.trials.shape) for counted in (hits, trials))
        self.hits += hits
        self.trials += trials
        self._sentences += trials > 0
        self._squares += np.stack([hits * hits, hits * trials, trials * trials])

    @property
    def share(self) -> np.ndarray:
        """Hits over trials; NaN without a trial."""
        with np.errstate(invalid="ignore"):
            return self.hits / self.trials

    @property
    def stderr(self) -> np.ndarray:
        """Of the share; NaN with fewer than two sentences."""
        both, count = self.share, self._sentences
        spread = self._squares[0] - 2 * both * self._squares[1] + both**2 * self._squares[2]
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.sqrt(np.maximum(spread, 0.0) * count / (count - 1)) / self.trials


def pointed_at(weights: np.ndarray) -> np.ndarray:
    """(heads, queries) the key with the largest weight, the first of equal ones."""
    return weights.argmax(-1)


def confidences(weights: np.ndarray) -> np.ndarray:
    """(heads, queries) the largest weight, whose mean over tokens is a head's confidence."""
    return weights.max(-1)


def offset_hits(pointed: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """How often heads point at each offset from −``reach`` to ``reach``.

    Returns (heads, offsets) hits and (offsets,) trials: the queries whose offset lies inside the sentence.
    """
    tokens = pointed.shape[1]
    offsets = np.arange(-reach, reach + 1)
    distance = pointed - np.arange(tokens)
    hits = (distance[:, :, None] == offsets).sum(1)
    return hits, np.maximum(0, tokens - np.abs(offsets))


def word_weights(weights: np.ndarray, words: Sequence[int | None], count: int) -> np.ndarray:
    """(heads, words, words) attention between words: summed over the keys of a word, mean over its queries.

    ``words`` has each token's word, None where it has none. The rows of a word without a token are NaN, its
    columns 0.
    """
    member = np.zeros((len(words), count))
    for token, word in enumerate(words):
        if word is not None:
            member[token, word] = 1.0
    with np.errstate(invalid="ignore"):
        mean = member / member.sum(0)
    return mean.T @ weights @ member


def arc_hits(pointed: np.ndarray, arcs: Sequence[tuple[int, int]]) -> np.ndarray:
    """(heads,) in how many of ``arcs``, (from, to), the head points from the one at the other."""
    starts, ends = np.array(arcs, dtype=int).reshape(-1, 2).T
    return (pointed[:, starts] == ends).sum(1)


def most_pointed(pointed: np.ndarray) -> np.ndarray:
    """(heads,) the key that most queries of the sentence point at, the first of equally frequent ones."""
    return np.array([np.bincount(keys).argmax() for keys in pointed], dtype=int)  # also of no head


def rarest(tokens: Sequence[int], frequencies: dict[int, int], types: int = 1) -> np.ndarray:
    """(tokens,) which are of the ``types`` rarest types of a sentence; types of equal frequency together."""
    counts = np.array([frequencies.get(token, 0) for token in tokens])
    by_type = sorted(frequencies.get(token, 0) for token in set(tokens))
    return counts <= by_type[min(types, len(by_type)) - 1]
