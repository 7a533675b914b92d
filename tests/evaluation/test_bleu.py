"""BLEU from sentences' statistics, against sacrebleu."""

from __future__ import annotations

import random

import numpy as np
import pytest
from sacrebleu.metrics import BLEU

from reprune.evaluation.bleu import bleu_stderr, corpus_bleu, sentence_statistics

WORDS = "the a cat dog house sees finds small big , . not and".split()


def text(draw, words):
    return " ".join(draw.choice(WORDS) for _ in range(words))


def corpus(sentences, seed=0, longest=14):
    """Hypotheses that share some n-grams with their references, some empty or short."""
    draw = random.Random(seed)
    references = [text(draw, draw.randrange(1, longest)) for _ in range(sentences)]
    hypotheses = [
        " ".join(word if draw.random() < 0.7 else draw.choice(WORDS) for word in reference.split())
        for reference in references
    ]
    return ["" if i % 17 == 3 else h for i, h in enumerate(hypotheses)], references


@pytest.mark.parametrize("tokenize", ["13a", "none", "char"])
@pytest.mark.parametrize("seed", range(3))
def test_the_sum_of_statistics_has_sacrebleus_score(tokenize, seed):
    hypotheses, references = corpus(60, seed)
    found = sentence_statistics(hypotheses, references, tokenize)
    expected = BLEU(tokenize=tokenize).corpus_score(hypotheses, [references])
    assert found.shape == (60, 10)
    assert found.sum(axis=0).tolist() == [
        *expected.counts,
        *expected.totals,
        expected.sys_len,
        expected.ref_len,
    ]
    assert corpus_bleu(found.sum(axis=0)) == pytest.approx(expected.score, rel=1e-12)


@pytest.mark.parametrize(
    ("hypothesis", "reference"),
    [
        ("the cat sees a dog .", "the cat finds the dog ."),  # no match of 4, then none of 3
        ("a dog , not the cat", "the cat and a house"),
        ("the the the", "the cat sees the dog"),  # no 4-gram at all
        ("", "the cat"),
        ("house", "cat"),
        ("the cat sees the dog and the house and the cat", "the cat sees the dog"),
        ("the cat sees the dog", "the cat sees the dog"),
    ],
)
def test_few_words_are_smoothed_as_sacrebleu_does(hypothesis, reference):
    expected = BLEU(tokenize="none").corpus_score([hypothesis], [[reference]]).score
    found = corpus_bleu(sentence_statistics([hypothesis], [reference], "none").sum(axis=0))
    assert found == pytest.approx(expected, rel=1e-12)


def test_many_sums_at_once_are_each_alone():
    sums = np.stack([sentence_statistics(*corpus(9, seed, 5), "13a").sum(axis=0) for seed in range(8)])
    together = corpus_bleu(sums.reshape(2, 4, 10))
    assert together.ravel().tolist() == [float(corpus_bleu(one)) for one in sums]


def test_the_error_is_that_of_sacrebleus_own_bootstrap():
    hypotheses, references = corpus(300)
    found = bleu_stderr(sentence_statistics(hypotheses, references, "13a"))
    theirs = BLEU().corpus_score(hypotheses, [references], n_bootstrap=1000)
    assert 1.96 * found == pytest.approx(theirs._ci, rel=0.1)
    assert found == bleu_stderr(sentence_statistics(hypotheses, references, "13a"))


def test_four_times_as_many_sentences_halve_the_error():
    few, many = (bleu_stderr(sentence_statistics(*corpus(n, 5), "13a")) for n in (200, 800))
    assert few / many == pytest.approx(2, rel=0.15)


def test_one_sentence_has_no_error():
    assert bleu_stderr(sentence_statistics(["the cat"], ["the cat"], "13a")) is None
