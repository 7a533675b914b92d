"""From documents to windows: joins, special tokens, sizes."""

from __future__ import annotations

import pytest
import torch

from reprune.evaluation.text import ProtocolError, evaluation_windows

DOCUMENTS = ["abc", "", "de"]


@pytest.fixture
def tokens(byte_tokenizer):
    """The windows of texts under a small protocol."""

    def read(
        texts, join, special="none", window=1, windows=None, separator="<|endoftext|>", taken=None, **spec
    ):
        content = {"name": "p", "window": window, "windows": windows, "special_tokens": special}
        content |= {"taken": taken} if taken else {}
        return evaluation_windows(
            texts, {"corpus": "c", "join": join, **spec}, content, byte_tokenizer, separator
        )

    return read


@pytest.fixture
def text(byte_tokenizer):
    """Windows as text, special tokens visible."""
    return lambda windows: [byte_tokenizer.decode(window) for window in windows]


@pytest.mark.parametrize(
    ("join", "special", "expected"),
    [
        ("\n\n", "none", "abc\n\n\n\nde"),
        ("\n\n", "once", "<s>abc\n\n\n\nde"),
        (" ", "once", "<s>abc  de"),
        ("separator", "none", "abc<|endoftext|><|endoftext|>de<|endoftext|>"),
    ],
)
def test_documents_are_joined_as_the_protocol_says(tokens, text, join, special, expected):
    assert "".join(text(tokens(DOCUMENTS, join, special))) == expected


def test_windows_do_not_overlap_and_the_rest_is_dropped(tokens, text):
    windows = tokens(["0123456789"], " ", window=4)
    assert text(windows) == ["0123", "4567"] and windows.dtype == torch.int64
    assert text(tokens(["0123456789"], " ", window=4, windows=1)) == ["0123"]
    assert text(tokens(["0123456789"], " ", window=5, windows=7)) == ["01234", "56789"]


def test_windows_taken_evenly_come_from_all_of_the_text(tokens, text):
    def taken(windows):
        return text(tokens(["0123456789abc"], " ", window=2, windows=windows, taken="evenly"))

    assert taken(3) == ["01", "45", "89"]
    assert taken(4) == ["01", "23", "67", "89"]
    assert taken(6) == taken(60) == taken(None) == ["01", "23", "45", "67", "89", "ab"]


def test_a_task_may_limit_documents_and_tokens(tokens, text):
    assert text(tokens(["ab", "cd", "ef"], " ", window=5, documents=2)) == ["ab cd"]
    assert text(tokens(["0123456789"], " ", window=2, tokens=5)) == ["01", "23"]
    assert text(tokens(["0123456789"], " ", special="once", window=2, tokens=4)) == ["<s>0", "12"]


def test_text_shorter_than_a_window_is_an_error_with_both_sizes(tokens):
    with pytest.raises(ProtocolError, match="p needs windows of 4 tokens, corpus c has 3 tokens in all"):
        tokens(["abc"], " ", window=4)


def test_the_separator_is_the_models_or_the_end_of_text(tokens, text, byte_tokenizer):
    assert "".join(text(tokens(["a", "b"], "separator", separator="<s>"))) == "a<s>b<s>"
    assert "".join(text(tokens(["a"], "separator", separator=None))) == "a<|endoftext|>"


def test_a_separator_the_tokenizer_does_not_have_is_an_error(tokens):
    with pytest.raises(ProtocolError, match="no token '</doc>' to put between documents; set `separator`"):
        tokens(["a"], "separator", separator="</doc>")
