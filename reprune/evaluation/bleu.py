"""Corpus BLEU from the n-gram counts of sentences, which a bootstrap may sum as it likes.

A sentence has ten statistics: how many of its 1- to 4-grams the reference has, how many it has itself, its
length and the reference's, in words of the tokenizer that counted them. Views read this module, so it needs
numpy alone until something is counted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ORDER = 4
STATISTICS = 2 * ORDER + 2
RESAMPLES = 1000
SEED = 12345  # that of sacrebleu's own bootstrap


def sentence_statistics(hypotheses: Sequence[str], references: Sequence[str], tokenize: str) -> np.ndarray:
    """(sentences, 10) int64 as sacrebleu counts them with its tokenizer of that name, in mixed case."""
    from sacrebleu.metrics import BLEU

    metric = BLEU(tokenize=tokenize, effective_order=True)  # of a sentence; its counts are those of a corpus
    scored = [metric.sentence_score(h, [r]) for h, r in zip(hypotheses, references, strict=True)]
    return np.array([[*s.counts, *s.totals, s.sys_len, s.ref_len] for s in scored], dtype=np.int64)


def corpus_bleu(sums: np.ndarray) -> np.ndarray:
    """BLEU in points, (...,), from statistics summed over sentences, (..., 10), as sacrebleu computes it.

    An order without a match counts as half a match, the next such order as a quarter, and so on (sacrebleu's
    ``exp``, mteval-v13a.pl); 0 if nothing matches, or if no hypothesis has four words. Papineni et al., BLEU:
    a Method for Automatic Evaluation of Machine Translation (ACL 2002).
    """
    matches, totals = sums[..., :ORDER], sums[..., ORDER : 2 * ORDER]
    length, reference = sums[..., -2], sums[..., -1]
    none = matches == 0
    counted = np.where(none, 0.5 ** np.cumsum(none, axis=-1), matches)
    known = ~none.all(axis=-1) & (totals > 0).all(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.exp(np.log(counted / totals).mean(axis=-1))
        brevity = np.exp(np.minimum(0.0, 1 - reference / length))
        return np.where(known, 100 * brevity * precision, 0.0)


def bleu_stderr(statistics: np.ndarray, resamples: int = RESAMPLES) -> float | None:
    """Standard error of :func:`corpus_bleu` of ``statistics``, (sentences, 10): its spread under resampling.

    Sentences are drawn with replacement, as many as there are, always with the same seed; None for fewer
    than two. Koehn, Statistical Significance Tests for Machine Translation Evaluation (EMNLP 2004).
    """
    n = len(statistics)
    if n < 2:
        return None
    drawn = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), resamples)
    return float(corpus_bleu(drawn @ statistics.astype(float)).std(ddof=1))
