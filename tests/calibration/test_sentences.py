"""Batches of sentences with their translations: what is read, in which company, and what is padding."""

from __future__ import annotations

import pytest
import torch
from small_translation import random_pairs

from reprune.calibration.sentences import IGNORED, Encoded, collate, encode, grouped
from reprune.data.parallel import made_pairs
from reprune.models.translator import learn_tokenizer


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_groups_have_every_pair_once_and_no_more_tokens_than_allowed(seed):
    pairs = [*random_pairs(50), Encoded([5] * 40, [1])]
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    groups = grouped(pairs, 32, generator)
    assert sorted(index for group in groups for index in group) == list(range(51))
    for group in groups:
        widths = [max(len(pairs[i][side]) for i in group) for side in (0, 1)]
        assert len(group) * sum(widths) <= 32 or group == [50], "what is longer alone stands alone"
    if seed is None:
        sizes = [len(pairs[i].source) + len(pairs[i].target) for group in groups for i in group]
        assert sizes == sorted(sizes)


def padded(pairs, groups):
    """Tokens of both sides in all groups, padding included."""
    return sum(len(g) * sum(max(len(pairs[i][side]) for i in g) for side in (0, 1)) for g in groups)


def test_alike_sentences_come_together_in_a_new_order_each_time():
    pairs = [Encoded(pair.source, pair.source) for pair in random_pairs(200, longest=30)]
    drawn = [grouped(pairs, 300, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    by_chance = torch.randperm(200, generator=torch.Generator().manual_seed(0)).split(8)
    tokens = sum(len(pair.source) + len(pair.target) for pair in pairs)
    assert tokens < padded(pairs, drawn[0]) < 0.8 * padded(pairs, [g.tolist() for g in by_chance])
    lengths = [len(pairs[group[0]].source) for group in drawn[0]]
    assert lengths != sorted(lengths), "not from short to long"


def test_a_batch_is_padded_and_masked_and_what_the_decoder_reads_is_shifted():
    batch = collate([Encoded([7, 8, 1], [9, 1]), Encoded([5, 1], [2, 3, 4, 1])], padding=0, start=6)
    assert batch.source.tolist() == [[7, 8, 1], [5, 1, 0]]
    assert batch.source_mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert batch.target.tolist() == [[6, 9, 0, 0], [6, 2, 3, 4]]
    assert batch.labels.tolist() == [[9, 1, IGNORED, IGNORED], [2, 3, 4, 1]]
    assert batch.scored == 6


def test_pairs_with_a_side_that_is_too_long_are_left_out():
    pairs = made_pairs(30, 2)
    tokenizer = learn_tokenizer([text for pair in pairs for text in pair], 40)
    every = encode(tokenizer, pairs, 100)
    assert [p.source for p in every] == tokenizer([p.source for p in pairs])["input_ids"]
    assert [p.target for p in every] == tokenizer([p.target for p in pairs])["input_ids"]
    longest = sorted(max(map(len, pair)) for pair in every)[15]
    assert encode(tokenizer, pairs, longest) == [pair for pair in every if max(map(len, pair)) <= longest]
    assert encode(tokenizer, pairs, 1) == []
