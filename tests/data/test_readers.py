"""Readers and the cut, on texts small enough to see."""

from __future__ import annotations

import gzip
import random
import zipfile

import pytest

from reprune.data.packages import FetchError
from reprune.data.readers import archive_texts, cut, file_text, made_documents, read_documents

LONG = " ".join(f"word{i}" for i in range(20))
PART = " ".join(f"word{i}" for i in range(600))
BOOKS = f"""about the book
*** START OF THE PROJECT GUTENBERG EBOOK, A ***

{PART}

 \n{PART}
last line

end

*** END OF THE PROJECT GUTENBERG EBOOK, A ***
***START**THE SMALL PRINT!**START***
a licence
*** START OF THIS PROJECT GUTENBERG EBOOK B ***
b
*** END OF THIS PROJECT GUTENBERG EBOOK B ***
"""
CASES = {
    "lines": ({}, " a b \n\n  \nc\n", [" a b ", "c"]),
    "sentences": (
        {},
        " no it was n't black monday \n\n but <unk> \n",
        ["no it was n't black monday", "but <unk>"],
    ),
    "files": ({}, "\na\n\nb\n", ["a\n\nb"]),
    "wiki": (
        {},
        f"<doc id=1>\n{LONG}\n</doc>\nx<doc>too short</doc><doc title='2'>b\n{LONG}</doc>",
        [LONG, f"b\n{LONG}"],
    ),
    "gutenberg": ({}, BOOKS, [f"{PART}\n\n{PART}\nlast line", "end", "b"]),
    "jsonl": (
        {"column": "text"},
        '{"text": ""}\n{"text": " = Title = \\n"}\r\n\n{"text": "a\u2028b\x85c"}\n',
        ["", " = Title = \n", "a\u2028b\x85c"],
    ),
}


@pytest.mark.parametrize("reader", CASES)
def test_each_reader_on_its_format(reader, tmp_path):
    spec, text, documents = CASES[reader]
    spec = {"reader": reader, **spec}
    assert read_documents(spec, [text]) == documents
    assert read_documents(spec, [text, text]) == documents * 2
    for name, data in (("a.txt", text.encode()), ("a.txt.gz", gzip.compress(text.encode()))):
        (tmp_path / name).write_bytes(data)
        assert file_text(tmp_path / name) == text


def test_jsonl_takes_the_rows_asked_for():
    text = '{"text": "a", "part": 1}\n{"text": "b", "part": 2}\n{"text": "c", "part": 1}\n'
    spec = {"reader": "jsonl", "column": "text"}
    assert read_documents({**spec, "where": {"part": 1}}, [text]) == ["a", "c"]
    assert read_documents({**spec, "where": {"part": 3}}, [text]) == []


def test_members_of_an_archive_are_read_in_the_order_of_their_names(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        for name in ("d/2.txt", "d/1.txt", "d/e/3.txt", "d/1.bin"):
            archive.writestr(name, name)
    assert archive_texts(tmp_path / "a.whl", "d/*.txt") == ["d/1.txt", "d/2.txt", "d/e/3.txt"]
    with pytest.raises(FetchError, match="a.whl has no member x"):
        archive_texts(tmp_path / "a.whl", "x")


@pytest.fixture(scope="module")
def documents():
    return made_documents(400, 8, seed=3)


def test_the_cut_parts_all_documents_about_one_to_nine(documents):
    train, validation = cut(documents, "train"), cut(documents, "validation")
    assert set(train) | set(validation) == set(documents) and not set(train) & set(validation)
    assert 20 <= len(validation) <= 60


def test_the_cut_of_a_document_depends_on_nothing_but_the_document(documents):
    shuffled = documents.copy()
    random.Random(0).shuffle(shuffled)
    train = set(cut(documents, "train"))
    assert set(cut(shuffled, "train")) == train
    assert cut(shuffled[:200], "train") == [document for document in shuffled[:200] if document in train]


def test_the_cut_is_the_documented_one():
    """One tenth by the first eight hex digits of sha1 of the key: written out, so that it stays."""
    parts = [len(cut([f"{LONG} {i}"], "validation")) for i in range(40)]
    assert [i for i, size in enumerate(parts) if size] == [4, 8, 24]


def test_doubles_and_short_documents_are_dropped_the_first_of_equals_stays():
    loud, short = LONG.upper().replace(" ", ", "), "x" * 99
    kept = cut([short, LONG, loud, LONG + "!"], "train") + cut([short, LONG, loud, LONG + "!"], "validation")
    assert kept == [LONG]
    assert len(cut(["x" * 100], "train") + cut(["x" * 100], "validation")) == 1


def test_made_text_comes_from_its_seed_alone():
    assert made_documents(3, 5, 11) == made_documents(5, 5, 11)[:3] != made_documents(3, 5, 12)
    assert all(text.count(".") == 5 for text in made_documents(3, 5, 11))
