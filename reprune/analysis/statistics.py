"""Errors and intervals: the delta method for perplexity, the paired bootstrap for differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
CONFIDENCE = 0.95
TAILS = (50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE))  # percent, the ends of an interval
CHUNK = 4_000_000  # drawn item numbers held at once: bounds memory at any number of items

Statistic = Callable[[np.ndarray], np.ndarray]
Summary = Callable[[np.ndarray, int], np.ndarray]
"""From means over so many items, (…, parts), to what is asked about, (…, values)."""


@dataclass(frozen=True)
class Interval:
    """A point estimate with its 95 % bootstrap interval, and what was resampled."""

    estimate: float
    low: float
    high: float
    items: int
    seeds: int


def perplexity(losses: np.ndarray) -> float:
    """exp of the mean of ``losses``, (windows,) mean negative log-likelihoods in nats per token."""
    return float(np.exp(np.mean(losses)))


def perplexity_stderr(losses: np.ndarray) -> float:
    """Standard error of :func:`perplexity` over windows: exp(m) times the standard error of the mean m.

    NaN for fewer than two windows.
    """
    if len(losses) < 2:
        return float("nan")
    return perplexity(losses) * float(np.std(losses, ddof=1)) / float(np.sqrt(len(losses)))


def stderr_of_mean(values: np.ndarray) -> float:
    """Standard error of the mean of ``values``, (n,); NaN for fewer than two."""
    if len(values) < 2:
        return float("nan")
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def as_they_are(means: np.ndarray, items: int) -> np.ndarray:
    """The :data:`Summary` of a metric that is the mean of its items."""
    return means


def bootstrap(
    strata: Sequence[np.ndarray],
    statistic: Statistic,
    seed: int,
    resamples: int = RESAMPLES,
    summary: Summary = as_they_are,
) -> Interval:
    """The percentile interval of a statistic of means, resampling items and, with several, seeds.

    Each of ``strata`` is (quantities, seeds, items, parts), with items of its own number; items are drawn
    within each stratum, and a mean is the unweighted mean over strata of the means over items. A resample
    draws the same items, and the same seeds, for every quantity, which is what pairs them; items and seeds
    are crossed, for every seed is measured on the same items. ``summary`` makes of the means over items, for
    every stratum and seed, what is averaged over them. ``statistic`` takes (resamples, quantities, values) to
    (resamples,). Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    rng = np.random.default_rng(seed)
    kinds = [_kinds(values) for values in strata]
    chunk = max(1, min(resamples, CHUNK // sum(len(counts) for _, counts in kinds)))
    drawn = [
        statistic(_resampled_means(kinds, min(chunk, resamples - start), rng, summary))
        for start in range(0, resamples, chunk)
    ]
    low, high = np.percentile(np.concatenate(drawn), TAILS)
    items = sum(values.shape[2] for values in strata)
    return Interval(point(strata, statistic, summary), float(low), float(high), items, strata[0].shape[1])


def bootstrap_apart(
    columns: Sequence[np.ndarray], statistic: Statistic, seed: int, resamples: int = RESAMPLES
) -> Interval:
    """The percentile interval of a statistic of means of ``columns``, each (its own number of values,).

    Nothing pairs the values of one with those of another, so each is resampled by itself. ``statistic``
    takes means (resamples, columns) to (resamples,).
    """
    rng = np.random.default_rng(seed)
    drawn = statistic(
        np.stack([rng.choice(values, (resamples, len(values))).mean(axis=1) for values in columns], axis=1)
    )
    low, high = np.percentile(drawn, TAILS)
    estimate = statistic(np.array([[values.mean() for values in columns]]))[0]
    return Interval(float(estimate), float(low), float(high), min(map(len, columns)), 1)


def point(strata: Sequence[np.ndarray], statistic: Statistic, summary: Summary = as_they_are) -> float:
    """The statistic of the means of ``strata``, each (quantities, seeds, items, parts), as they are."""
    return float(statistic(summarised(strata, summary)[None])[0])


def summarised(strata: Sequence[np.ndarray], summary: Summary) -> np.ndarray:
    """(quantities, values): the mean over strata and seeds of what ``summary`` makes of the items' means."""
    return np.mean([summary(values.mean(axis=2), values.shape[2]).mean(axis=1) for values in strata], axis=0)


def _kinds(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Items that are equal in everything drawn as one: their values, and how many are of each kind.

    Right and wrong answers come in few kinds, so that ten thousand of them cost no more than four numbers.
    """
    flat = np.moveaxis(values, 2, 0)
    _, first, counts = np.unique(flat.reshape(len(flat), -1), axis=0, return_index=True, return_counts=True)
    if len(first) == len(flat):
        return values, np.ones(len(flat))
    return values[:, :, first], counts


def _resampled_means(
    strata: Sequence[tuple[np.ndarray, np.ndarray]],
    resamples: int,
    rng: np.random.Generator,
    summary: Summary,
) -> np.ndarray:
    """(resamples, quantities, values): summaries of drawn items, means over strata and drawn seeds."""
    over_items = sum(
        summary(
            np.einsum("ri,qsip->rqsp", _draws(resamples, counts, rng), values, optimize=True) / counts.sum(),
            int(counts.sum()),
        )
        for values, counts in strata
    ) / len(strata)
    seeds = over_items.shape[2]
    if seeds == 1:
        return over_items[:, :, 0]
    return np.einsum("rs,rqsp->rqp", _draws(resamples, np.ones(seeds), rng), over_items) / seeds


def _draws(resamples: int, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(resamples, kinds) how often each kind is drawn when as many are drawn with replacement as there are.

    ``counts`` says how many there are of each kind.
    """
    kinds, n = len(counts), int(counts.sum())
    if kinds < n:
        return rng.multinomial(n, counts / n, resamples).astype(float)
    drawn = rng.integers(0, n, (resamples, n)) + n * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n).astype(float)
