"""Mixtures: what a domain's windows are cut from, and that what is read is what was written."""

from __future__ import annotations

import itertools

import pytest
import torch

from reprune.calibration.mixture import (
    MIN_DOCUMENTS,
    Mixture,
    domain_windows,
    draw_mixture,
    marked_tokenizer,
    read_mixture,
    write_mixture,
)
from reprune.calibration.windows import CalibrationError

MARK = 1000


def tokenize(text):
    return [*text.encode(), MARK]


def texts(count, length=40, first=0):
    """Documents of which each byte is the document's own number."""
    return [chr(65 + i) * length for i in range(first, first + count)]


def drawn(documents, windows=None, length=10, seed=0):
    return domain_windows(documents, tokenize, windows, length, seed)


def test_all_windows_are_every_document_with_its_mark_in_some_order_cut():
    documents = texts(20)
    windows, facts = drawn(documents)
    assert windows.dtype == torch.int64 and windows.shape == (82, 10)
    assert facts == {"documents": 20, "tokens": 820, "windows": 82}
    split = [
        list(group) for end, group in itertools.groupby(windows.flatten().tolist(), MARK.__eq__) if not end
    ]
    assert sorted(bytes(ids).decode() for ids in split) == documents
    assert [bytes(ids).decode() for ids in split] != documents
    assert drawn(["abcdefg", "hijk"], length=5)[0].shape == (2, 5), "the remainder is dropped"


def test_fewer_windows_are_some_of_them_from_no_less_than_so_many_documents():
    documents = texts(60)
    every = {tuple(window) for window in drawn(documents)[0].tolist()}
    few, facts = drawn(documents, 6)
    assert facts == {"documents": MIN_DOCUMENTS, "tokens": 41 * MIN_DOCUMENTS, "windows": 6}
    assert {tuple(window) for window in few.tolist()} <= every and len({w[0] for w in few.tolist()}) > 3
    assert drawn(documents, 200)[1] == {"documents": 49, "tokens": 2009, "windows": 200}
    assert drawn(documents, 10_000)[1] == {"documents": 60, "tokens": 2460, "windows": 246}


def test_the_seed_alone_decides():
    first, again, other = (drawn(texts(60), 20, seed=seed)[0] for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.fixture
def mix():
    """Draws a mixture of two domains; keywords are texts by domain and part."""

    def draw(length=10, sizes=None, order=("b", "a"), **changed):
        found = {"a_train": texts(30), "a_held_out": texts(9, first=40)}
        found |= {"b_train": texts(30, 70, 20), "b_held_out": texts(9, 70, 50)} | changed
        return draw_mixture(
            lambda domain, part: found[f"{domain}_{part}"],
            tokenize,
            {domain: 0.25 if domain == "b" else 0.75 for domain in order},
            sizes or {"train": 50, "held_out": None},
            length,
        )

    return draw


def test_a_mixture_has_windows_of_every_domain_and_says_what_was_read(mix):
    mixture, facts = mix()
    assert mixture.proportions == {"b": 0.25, "a": 0.75}
    assert list(mixture.train) == list(mixture.held_out) == ["b", "a"]
    assert {domain: windows.shape for domain, windows in mixture.train.items()} == {
        "a": (50, 10),
        "b": (50, 10),
    }
    assert mixture.held_out["a"].shape == (36, 10)
    assert facts["b"]["train"] == {"documents": 30, "tokens": 2130, "windows": 50}
    assert facts["a"]["held_out"] == {"documents": 9, "tokens": 369, "windows": 36}


def test_a_domain_is_the_same_whatever_others_there_are(mix):
    both, alone = mix()[0], mix(order=("a",))[0]
    assert torch.equal(both.train["a"], alone.train["a"])
    assert torch.equal(both.held_out["a"], alone.held_out["a"])


def test_what_the_loss_is_measured_on_is_never_trained_on(mix):
    doubled = texts(30) + texts(9, first=40)
    mixture, facts = mix(a_train=doubled, sizes={"train": None, "held_out": None})
    assert facts["a"]["train"]["documents"] == 30
    assert not set(mixture.train["a"].flatten().tolist()) & set("".join(texts(9, first=40)).encode())


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"b_train": ["short"]}, "domain 'b' has 6 tokens in its part 'train', less than one window of 10"),
        ({"a_held_out": []}, "domain 'a' has 0 tokens in its part 'held_out', less than one window of 10"),
        (
            {"length": 400},
            "domain 'a' has 369 tokens in its part 'held_out', .* lower the mixture's `length`",
        ),
    ],
)
def test_a_domain_without_a_window_is_named(mix, changed, words):
    with pytest.raises(CalibrationError, match=words):
        mix(**changed)


def test_what_was_written_is_read(mix, tmp_path):
    mixture, _ = mix()
    write_mixture(tmp_path / "inputs" / "m.safetensors", mixture)
    found = read_mixture(tmp_path / "inputs" / "m.safetensors")
    assert found.proportions == mixture.proportions
    for part in ("train", "held_out"):
        written, read = getattr(mixture, part), getattr(found, part)
        assert list(read) == list(written)
        assert all(read[d].dtype == torch.int64 and torch.equal(read[d], written[d]) for d in written)


def test_parts_of_tensors_can_be_written(tmp_path):
    tokens = torch.arange(40).view(4, 10)
    mixture = Mixture({"a": tokens[:, ::2]}, {"a": tokens[1:, :5]}, {"a": 1.0})
    write_mixture(tmp_path / "m", mixture)
    assert torch.equal(read_mixture(tmp_path / "m").train["a"], tokens[:, ::2])


def test_documents_end_with_the_models_mark_and_begin_with_none(tiny_folder):
    tokenize = marked_tokenizer(tiny_folder(), "<|endoftext|>")
    assert tokenize("<|endoftext|>") == [1, 1] and tokenize("") == [1] and len(tokenize("abc")) == 4
    assert marked_tokenizer(tiny_folder(), None)("a") == tokenize("a")
    with pytest.raises(CalibrationError, match="no token '</doc>' to put between documents; set `separator`"):
        marked_tokenizer(tiny_folder(), "</doc>")
