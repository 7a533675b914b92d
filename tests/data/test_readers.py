"""Readers and the cut, on texts small enough to see."""

from __future__ import annotations

import gzip
import json
import random
import zipfile
import zlib

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
    "books": (
        {"column": "text"},
        json.dumps({"text": f"{PART}\n\n{PART}\n\nend"}) + "\n" + json.dumps({"text": "short"}) + "\n",
        [f"{PART}\n\n{PART}", "end", "short"],
    ),
    "code": (
        {},
        "loose\n// ===== BEGIN c++ =====\nint a;\n\n// b\n// ===== END =====\n\n// ===== BEGIN go =====\n"
        "package a\n// ===== END =====\n// ===== BEGIN c =====\nno end",
        ["int a;\n\n// b", "package a"],
    ),
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


def test_gzipped_members_of_several_patterns_are_read_pattern_by_pattern(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        for name in ("b/1.gz", "a/2.gz", "a/1.gz"):
            archive.writestr(name, gzip.compress(name.encode()))
    assert archive_texts(tmp_path / "a.whl", ["b/*.gz", "a/*.gz"]) == ["b/1.gz", "a/1.gz", "a/2.gz"]
    with pytest.raises(FetchError, match="a.whl has no member c"):
        archive_texts(tmp_path / "a.whl", ["b/*.gz", "c/*"])


def requests(*docs):
    """A request file: a line for every choice, and a copy that only normalises a score."""
    lines = [{"doc_id": i, "doc": doc} for i, doc in enumerate(docs) for _ in range(2)]
    return "".join(json.dumps(line) + "\n" for line in [*lines, {"doc_id": 1_000_000, "doc": docs[0]}])


def test_a_paper_is_one_document_however_often_it_is_asked_about():
    full = {"section_name": [None, "Results ::: Ours"], "paragraphs": [["", " It works. "], ["$x$", "y"]]}
    paper = {"title": "A Title", "abstract": "Short.", "full_text": full}
    other = {"title": "Other", "abstract": "", "full_text": {"section_name": [], "paragraphs": []}}
    text = requests({"id": "2003.1_0", **paper}, {"id": "2003.1_1", **paper}, {"id": "2003.2_0", **other})
    first = "A Title\n\nShort.\n\nIt works.\n\nResults ::: Ours\n\n$x$\n\ny"
    assert read_documents({"reader": "papers"}, [text]) == [first, "Other"]


def test_questions_are_written_like_stackexchange_and_one_task_is_one_document():
    maths = requests({"problem": "1 + 1? ", "solution": "2"}, {"problem": "2 + 2?", "solution": "4"})
    bash = requests({"task_id": 7, "text": "Add in bash.", "code": "echo\n"})
    ruby = requests({"task_id": 7, "text": "Add in ruby.", "code": "puts"})
    assert read_documents({"reader": "questions"}, [maths, bash, ruby]) == [
        "Q: 1 + 1?\n\nA: 2",
        "Q: 2 + 2?\n\nA: 4",
        "Q: Add in bash.\n\nA: echo\n\nQ: Add in ruby.\n\nA: puts",
    ]


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


def test_made_text_of_today_stays_as_it_is():
    """Written out: every result at scale smoke comes from such text."""
    text = "Toge sucade gesu ponu cima mimu ponu ponu. Bidabe ponu femoco ponu lure."
    assert made_documents(1, 2, 11) == [text]


def test_fewer_words_less_evenly_used_are_easier_to_predict():
    """By how far a general compressor gets."""
    sizes = []
    for words, skew in ((8, 2.0), (200, 1.0), (2000, 0.0)):
        text = " ".join(made_documents(20, 24, 15, words, skew)).encode()
        sizes.append(len(zlib.compress(text, 9)) / len(text))
    assert sizes[0] < 0.8 * sizes[1] < 0.64 * sizes[2]


def test_documents_after_others_are_of_the_same_words_and_none_of_them():
    first, others = made_documents(40, 8, 15, 50), made_documents(8, 8, 15, 50, after=40)
    assert others == made_documents(48, 8, 15, 50)[40:] and not set(first) & set(others)
    words = [set(" ".join(texts).lower().replace(".", "").split()) for texts in (first, others)]
    assert words[1] <= words[0]
