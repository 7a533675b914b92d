"""How likely a difference in right answers would be without one: McNemar's test, swaps, Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from reprune.analysis.statistics import CHUNK, RESAMPLES, Summary, summarised

LEVEL = 0.05
ROUNDING = 1e-9  # of sums of the same terms in another order


def mcnemar(wins: int, losses: int) -> float:
    """Exact two-sided p-value of McNemar's test.

    ``wins`` items are right on the first side only, ``losses`` on the second only; without a difference
    each is a coin's toss, so p is twice the smaller tail of the binomial distribution, at most 1.
    McNemar, Psychometrika 12 (1947); the exact form as in Fagerland, Lydersen and Laake, BMC Medical
    Research Methodology 13:91 (2013).
    """
    n = wins + losses
    tail = term = 1
    for i in range(min(wins, losses)):
        term = term * (n - i) // (i + 1)
        tail += term
    return min(1.0, 2 * tail / 2**n)


def swap_test(strata: Sequence[np.ndarray], seed: int, resamples: int = RESAMPLES) -> float:
    """Two-sided p-value of the mean over ``strata`` of the mean difference, under swaps of the two sides.

    ``strata`` are differences, (items,) each; without a difference the sign of any of them is a coin's
    toss. For right and wrong answers to one task this is McNemar's test by simulation. Fisher, The Design
    of Experiments (1935), section 21; never 0, as in Phipson and Smyth, Statistical Applications in
    Genetics and Molecular Biology 9 (2010).
    """
    rng = np.random.default_rng(seed)
    observed = abs(np.mean([differences.mean() for differences in strata]))
    swapped = np.mean([_swapped_mean(differences, resamples, rng) for differences in strata], axis=0)
    reached = np.count_nonzero(np.abs(swapped) >= observed - ROUNDING)
    return (1 + reached) / (1 + resamples)


def _swapped_mean(differences: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """(resamples,) means of differences with random signs; equal sizes are tossed together."""
    sizes, counts = np.unique(np.abs(differences), return_counts=True)
    kept = rng.binomial(counts, 0.5, (resamples, len(counts)))
    return (2 * kept - counts) @ sizes / len(differences)


def swap_test_of(
    strata: Sequence[np.ndarray], summary: Summary, seed: int, resamples: int = RESAMPLES
) -> float:
    """As :func:`swap_test` for a difference between two summaries of items, such as corpus BLEU.

    Each of ``strata`` is (2, seeds, items, parts); the two sides of an item are swapped in all its seeds at
    once. Riezler and Maxwell, On Some Pitfalls in Automatic Evaluation and Significance Testing for MT, ACL
    workshop on evaluation measures (2005).
    """
    rng = np.random.default_rng(seed)
    observed = abs(_difference(summarised(strata, summary)))
    chunk = max(1, min(resamples, CHUNK // sum(values.shape[2] for values in strata)))
    reached = 0
    for start in range(0, resamples, chunk):
        drawn = min(chunk, resamples - start)
        sides = np.mean([_swapped(values, summary, drawn, rng) for values in strata], axis=0)
        reached += int(np.count_nonzero(np.abs(_difference(sides)) >= observed - ROUNDING))
    return (1 + reached) / (1 + resamples)


def _difference(sides: np.ndarray) -> np.ndarray:
    """The first side less the second, of (2, …, values)."""
    return sides[0, ..., 0] - sides[1, ..., 0]


def _swapped(values: np.ndarray, summary: Summary, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """(2, resamples, values): summaries of both sides, means over seeds, with items swapped at random."""
    items = values.shape[2]
    swaps = rng.integers(0, 2, (resamples, items)).astype(float)
    moved = np.einsum("ri,sip->rsp", swaps, values[1] - values[0], optimize=True) / items
    means = values.mean(axis=2)
    return np.stack([summary(means[0] + moved, items), summary(means[1] - moved, items)]).mean(axis=2)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values that may be held against one level all together, in the order given.

    Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6
    (1979).
    """
    order = np.argsort(p_values, kind="stable")
    left = np.arange(len(order), 0, -1)
    adjusted = np.minimum(1.0, np.maximum.accumulate(left * np.asarray(p_values, dtype=float)[order]))
    return [float(adjusted[rank]) for rank in np.argsort(order, kind="stable")]
