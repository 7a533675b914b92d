"""Errors and intervals: the delta method for perplexity, the paired bootstrap for differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
CONFIDENCE = 0.95
CHUNK = 4_000_000  # drawn item numbers held at once: bounds memory at any number of items

Statistic = Callable[[np.ndarray], np.ndarray]


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


def bootstrap(values: np.ndarray, statistic: Statistic, seed: int, resamples: int = RESAMPLES) -> Interval:
    """The percentile interval of a statistic of means, resampling items and, with several, seeds.

    ``values`` is (quantities, seeds, items, parts). A resample draws the same items, and the same seeds,
    for every quantity, which is what pairs them; items and seeds are crossed, for every seed is measured
    on the same items. ``statistic`` takes means (resamples, quantities, parts) to (resamples,).
    """
    _, seeds, items, _ = values.shape
    rng = np.random.default_rng(seed)
    chunk = max(1, min(resamples, CHUNK // items))
    drawn = [
        statistic(_resampled_means(values, min(chunk, resamples - start), rng))
        for start in range(0, resamples, chunk)
    ]
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(np.concatenate(drawn), [tail, 100 - tail])
    return Interval(point(values, statistic), float(low), float(high), items, seeds)


def point(values: np.ndarray, statistic: Statistic) -> float:
    """The statistic of the means of ``values``, (quantities, seeds, items, parts), as they are."""
    return float(statistic(values.mean(axis=(1, 2))[None])[0])


def _resampled_means(values: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """(resamples, quantities, parts) means of ``values`` over drawn items and drawn seeds."""
    _, seeds, items, _ = values.shape
    over_items = np.einsum("ri,qsip->rqsp", _draws(resamples, items, rng), values, optimize=True) / items
    if seeds == 1:
        return over_items[:, :, 0]
    return np.einsum("rs,rqsp->rqp", _draws(resamples, seeds, rng), over_items) / seeds


def _draws(resamples: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """(resamples, n) how often each of ``n`` is drawn when ``n`` are drawn with replacement."""
    drawn = rng.integers(0, n, (resamples, n)) + n * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * n).reshape(resamples, n).astype(float)
