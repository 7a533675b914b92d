"""Corpus BLEU for the machinery that compares means: what it is of the sentences that a resample drew."""

from __future__ import annotations

import numpy as np

from reprune.analysis.statistics import Summary, as_they_are
from reprune.evaluation.bleu import corpus_bleu

BLEU = "bleu"


def bleu_of_means(means: np.ndarray, items: int) -> np.ndarray:
    """(…, 1) BLEU from the mean statistics, (…, 10), of so many sentences.

    Where an order has no match its precision depends on the sums, so they are put together again.
    """
    return corpus_bleu(means * items)[..., None]


def summary_of(metric: str) -> Summary:
    """What a metric makes of its items: BLEU is one number of all sentences, any other the items' mean."""
    return bleu_of_means if metric == BLEU else as_they_are
