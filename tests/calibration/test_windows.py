"""The samplers against the official ones, written down directly."""

from __future__ import annotations

import random

import pytest
import torch

from reprune.calibration.windows import (
    CalibrationError,
    draw_rows,
    draw_windows,
    rows_of,
    tokenizer_function,
)
from reprune.data.readers import made_documents

DOCUMENTS = made_documents(12, 3, seed=4) + made_documents(8, 9, seed=5)


def tokenize(text):
    return list(text.encode())


def official(documents, windows, length, seed):
    """``get_c4`` of the SparseGPT, Wanda and BESA codes, with their global random state."""
    random.seed(seed)
    drawn = []
    for _ in range(windows):
        while True:
            i = random.randint(0, len(documents) - 1)
            tokens = tokenize(documents[i])
            if len(tokens) > length:
                break
        i = random.randint(0, len(tokens) - length - 1)
        drawn.append(tokens[i : i + length])
    return drawn


@pytest.mark.parametrize(("windows", "length", "seed"), [(16, 64, 0), (5, 300, 1), (40, 150, 42)])
def test_windows_are_those_of_the_official_codes(windows, length, seed):
    drawn, places = draw_windows(DOCUMENTS, tokenize, windows, length, seed)
    assert drawn.dtype == torch.int64 and drawn.tolist() == official(DOCUMENTS, windows, length, seed)
    for place, window in zip(places, drawn.tolist(), strict=True):
        assert tokenize(DOCUMENTS[place["document"]])[place["start"] :][:length] == window


def test_drawing_leaves_the_process_alone():
    random.seed(3)
    expected = random.random()
    random.seed(3)
    draw_windows(DOCUMENTS, tokenize, 4, 64, 0)
    assert random.random() == expected


def test_a_document_must_be_longer_than_the_window_as_in_the_official_codes():
    drawn, places = draw_windows(["x" * 10, "ab" * 6], tokenize, 3, 10, 0)
    assert {p["document"] for p in places} == {1} and all(0 <= p["start"] <= 1 for p in places)
    with pytest.raises(CalibrationError, match="of 10 tokens .* longest has 10; choose a length below that"):
        draw_windows(["x" * 10, "y" * 9], tokenize, 1, 10, 0)


def test_rejected_documents_are_tokenized_once():
    seen = []

    def count(text):
        seen.append(text)
        return tokenize(text)

    draw_windows(["a", "b", "c" * 50], count, 30, 20, 0)
    assert sorted(seen) == ["a", "b", "c" * 50]


WIKITEXT = [
    "",
    " = Title = \n",
    "",
    " A first paragraph . \n",
    " A second one . \n",
    "",
    " = = Part = = \n",
    "",
]


def official_rows(rows, number, length, seed):
    """``get_calibration_dataloader`` of GRASP's code for WikiText-2, with its global random state."""
    random.seed(seed)
    indices = random.sample(range(len(rows)), number)
    tokens = torch.tensor(tokenize("\n\n".join(rows[i] for i in indices)))
    return [tokens[i * length : (i + 1) * length].tolist() for i in range(tokens.numel() // length)]


@pytest.mark.parametrize(("number", "length", "seed"), [(8, 16, 42), (5, 7, 0), (60, 100, 3)])
def test_rows_are_drawn_joined_and_cut_as_in_the_official_code(number, length, seed):
    rows = WIKITEXT + [f" Row {i} of some length . \n" for i in range(60)]
    windows, places = draw_rows(rows, tokenize, number, length, seed)
    assert windows.dtype == torch.int64 and windows.tolist() == official_rows(rows, number, length, seed)
    drawn = [place["row"] for place in places]
    assert len(set(drawn)) == number
    text = "\n\n".join(rows[i] for i in drawn)
    assert windows.flatten().tolist() == tokenize(text)[: windows.numel()]
    assert 0 <= len(tokenize(text)) - windows.numel() < length, "only the remainder is dropped"


def test_rows_are_the_lines_of_documents_and_blank_ones_are_kept():
    assert rows_of(WIKITEXT) == WIKITEXT
    assert rows_of(["Title\n\nText.\nMore\x0cand\u2028more.", "Next"]) == [
        "Title\n",
        "\n",
        "Text.\n",
        "More\x0cand\u2028more.",
        "Next",
    ]


def test_rows_that_cannot_be_drawn_say_what_to_do():
    with pytest.raises(CalibrationError, match="asks for 9 rows of text, the corpus has 8; ask for at most"):
        draw_rows(WIKITEXT, tokenize, 9, 4, 0)
    with pytest.raises(CalibrationError, match="less than one calibration window of 500; raise `rows` or"):
        draw_rows(WIKITEXT, tokenize, 8, 500, 0)


def test_text_is_tokenized_by_the_models_own_tokenizer(tiny_folder):
    assert tokenizer_function(tiny_folder())("<|endoftext|>") == [1]
