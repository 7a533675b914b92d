"""Files appear whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import errno
import math

import pytest

from reprune.records.files import link_or_copy, read_json, whole, write_json, write_text


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_nothing_is_seen_before_the_end_and_nothing_is_left_besides(tmp_path):
    with whole(tmp_path / "deep" / "a.txt") as temporary:
        temporary.write_text("half")
        assert not (tmp_path / "deep" / "a.txt").exists()
    assert names(tmp_path / "deep") == ["a.txt"]


@pytest.mark.parametrize("folder", [False, True])
def test_a_failure_leaves_what_was_there(tmp_path, folder):
    place = tmp_path / "a"
    with whole(place) as temporary:
        (temporary.mkdir() or temporary / "old" if folder else temporary).write_text("old")
    with pytest.raises(RuntimeError), whole(place) as temporary:
        (temporary.mkdir() or temporary / "new" if folder else temporary).write_text("new")
        raise RuntimeError
    assert ((place / "old") if folder else place).read_text() == "old"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("folder", [False, True])
def test_a_success_replaces_all_of_what_was_there(tmp_path, folder):
    for content in ("old", "new"):
        with whole(tmp_path / "a") as temporary:
            (temporary.mkdir() or temporary / content if folder else temporary).write_text(content)
    assert names(tmp_path / "a") == ["new"] if folder else (tmp_path / "a").read_text() == "new"


def test_who_reads_while_a_file_is_replaced_reads_the_old_one(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with (tmp_path / "a.txt").open() as reader:
        write_text(tmp_path / "a.txt", "new")
        assert reader.read() == "old"
    assert (tmp_path / "a.txt").read_text() == "new"


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    write_text(tmp_path / "a.txt", "old")

    def full(self, *args, **kwargs):
        with self.open("w") as stream:
            stream.write("ha")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", full)
    with pytest.raises(OSError, match="No space left"):
        write_json(tmp_path / "a.txt", {"new": 1})
    assert (tmp_path / "a.txt").read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_json_keeps_every_digit_and_refuses_what_is_no_number(tmp_path):
    value = {"x": 0.1 + 0.2, "none": None, "text": "é"}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    with pytest.raises(ValueError):
        write_json(tmp_path / "b.json", {"x": math.nan})
    assert names(tmp_path) == ["a.json"]


def test_a_file_is_copied_where_links_are_not_possible(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("content")

    def refuse(*args):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    link_or_copy(tmp_path / "a", tmp_path / "linked")
    monkeypatch.setattr("os.link", refuse)
    link_or_copy(tmp_path / "a", tmp_path / "copied")
    assert (tmp_path / "linked").samefile(tmp_path / "a")
    assert not (tmp_path / "copied").samefile(tmp_path / "a")
    assert (tmp_path / "copied").read_text() == "content"
