"""Tokens and words meet by their characters."""

from __future__ import annotations

import pytest

from reprune.evaluation.alignment import surface_spans, words_of

TEXT = "God  made Stars; didn't he?"


def test_pieces_are_found_one_behind_the_other():
    pieces = ["▁God", "▁ma", "de", "▁", "star", "s", ";", "▁didn", "'", "t", "▁he", "?"]
    spans = surface_spans(TEXT, pieces)
    assert [TEXT[s[0] : s[1]] if s else None for s in spans] == [
        "God", "ma", "de", None, "Star", "s", ";", "didn", "'", "t", "he", "?",
    ]  # fmt: skip


def test_a_piece_that_the_text_does_not_have_costs_itself_alone():
    assert surface_spans("a ☃ b c", ["▁a", "▁<unk>", "▁b", "▁c"]) == [(0, 1), None, (4, 5), (6, 7)]
    assert surface_spans("x y", ["▁y", "▁x"]) == [None, (0, 1)], "nothing is skipped without need"


def test_a_word_holds_the_tokens_that_begin_in_it():
    words = [(0, 3), (5, 9), (10, 15), (15, 16), (17, 20), (20, 23)]  # did, n't
    spans = [(0, 3), (5, 7), (7, 9), None, (10, 16), (17, 21), (21, 23), (24, 26)]
    assert words_of(spans, words) == [0, 1, 1, None, 2, 4, 5, None]


@pytest.mark.parametrize("fast", [True, False])
def test_fast_and_slow_tokenizers_agree(fast):
    from reprune.evaluation.alignment import token_spans

    class Tokenizer:
        is_fast = fast

        def __call__(self, text, return_offsets_mapping):
            return {"offset_mapping": [(0, 3), (4, 7), (7, 9), (9, 10), (0, 0)]}  # with the space before

        def convert_ids_to_tokens(self, ids):
            return ["▁God", "▁ma", "de", "▁"]

    assert token_spans(Tokenizer(), "God  made ", [1, 2, 3, 4]) == [(0, 3), (5, 7), (7, 9), None]
