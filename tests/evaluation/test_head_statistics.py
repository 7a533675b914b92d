"""Statistics of attention maps: the algorithm sheet's example, and patterns that were planted."""

from __future__ import annotations

import numpy as np
import pytest

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

WORKED = np.array(
    [
        [0.10, 0.70, 0.15, 0.05],
        [0.05, 0.10, 0.80, 0.05],
        [0.20, 0.30, 0.10, 0.40],
        [0.25, 0.25, 0.25, 0.25],
    ]
)


def real(full):
    """The weights between real tokens of a map whose last token is the end of sequence."""
    return full[None, :-1, :-1]


def test_confidence_leaves_the_end_out_and_does_not_renormalise():
    assert confidences(real(WORKED)).tolist() == [[0.7, 0.8, 0.3]]
    assert confidences(real(WORKED)).mean() == pytest.approx(0.6, abs=1e-12)
    rows = WORKED[:3, :3] / WORKED[:3, :3].sum(1, keepdims=True)
    assert confidences(rows[None]).mean() == pytest.approx(0.692982, abs=1e-6)


def test_heads_point_at_the_largest_weight_of_a_real_token():
    pointed = pointed_at(real(WORKED))
    assert pointed.tolist() == [[1, 2, 1]]
    assert (pointed - np.arange(3)).tolist() == [[1, 1, -1]]
    assert WORKED[2].argmax() == 3, "with the end of sequence kept, the third query points there"


def test_offsets_count_only_queries_that_have_them_inside_the_sentence():
    hits, trials = offset_hits(np.array([[1, 2, 1], [0, 0, 1]]), reach=2)
    assert trials.tolist() == [1, 2, 3, 2, 1]
    assert hits.tolist() == [[0, 1, 0, 2, 0], [0, 2, 1, 0, 0]]


def test_a_words_attention_is_summed_over_its_keys_and_averaged_over_its_queries():
    weights = np.array([[[0.1, 0.2, 0.3, 0.4], [0.3, 0.3, 0.2, 0.2], [0.5, 0.1, 0.4, 0.0], [1, 0, 0, 0]]])
    between = word_weights(weights, [0, 0, 1, None], 3)
    assert between[0, 0] == pytest.approx([(0.3 + 0.6) / 2, (0.3 + 0.2) / 2, 0.0])
    assert between[0, 1] == pytest.approx([0.6, 0.4, 0.0])
    assert np.isnan(between[0, 2]).all(), "no token is part of the third word"


def test_summing_pieces_changes_what_a_word_points_at():
    weights = np.array([[[0.0, 0.35, 0.35, 0.3]] * 4])
    weights[0, :, 3] = 0.4
    assert pointed_at(weights)[0, 0] == 3
    assert pointed_at(word_weights(weights, [0, 1, 1, 2], 3))[0, 0] == 1


def test_arcs_are_hit_in_their_direction():
    pointed = np.array([[1, 0, 1], [2, 2, 0]])
    assert arc_hits(pointed, [(0, 1), (1, 0), (2, 1)]).tolist() == [3, 0]
    assert arc_hits(pointed, [(0, 2), (2, 0)]).tolist() == [0, 2]


def test_most_queries_decide_what_a_sentence_points_at():
    assert most_pointed(np.array([[2, 2, 0, 1], [0, 1, 2, 3], [3, 3, 1, 1]])).tolist() == [2, 0, 1]


def test_the_rarest_tokens_are_all_of_the_rarest_types():
    counts = {7: 100, 8: 3, 9: 3, 5: 40}
    assert rarest([7, 5, 7], counts).tolist() == [False, True, False]
    assert rarest([7, 8, 9, 8], counts).tolist() == [False, True, True, True]
    assert rarest([7, 5, 8], counts, 2).tolist() == [False, True, True]
    assert rarest([7, 6], counts).tolist() == [False, True], "never seen in training"
    assert rarest([7], counts, 2).tolist() == [True]


def test_a_tally_has_the_standard_error_of_a_share_over_sentences():
    rng = np.random.default_rng(3)
    trials = rng.integers(1, 9, size=400)
    hits = rng.binomial(trials, 0.3)
    tally = Tally(1)
    for h, t in zip(hits, trials, strict=True):
        tally.add(np.array([h]), t)
    share = hits.sum() / trials.sum()
    assert tally.share[0] == pytest.approx(share)
    resampled = rng.integers(0, 400, size=(4000, 400))
    spread = (hits[resampled].sum(1) / trials[resampled].sum(1)).std()
    assert tally.stderr[0] == pytest.approx(spread, rel=0.06)


def test_a_tally_without_trials_has_no_share():
    tally = Tally(2)
    tally.add(np.array([1, 0]), np.array([1, 0]))
    assert tally.share[0] == 1.0 and np.isnan(tally.share[1]) and np.isnan(tally.stderr).all()
