"""Corpora: documents from the source the plan chose, kept as one parquet file."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from pathlib import Path
from typing import Any

from reprune.data.hub import hub_rows
from reprune.data.packages import FetchError
from reprune.data.readers import archive_texts, cut, file_text, made_documents, read_documents
from reprune.records.files import whole


def load_source(kind: str, spec: dict[str, Any], file: Path | None) -> list[str]:
    """The documents of one source.

    ``file`` is the mirror's file or the package's archive. Raises :class:`FetchError` with the input's
    name if it cannot be read or does not give any documents.
    """
    if kind == "made":
        return made_documents(**spec)
    if kind == "hub":
        return _hub_documents(spec)
    assert file is not None
    try:
        texts = [file_text(file)] if kind == "mirror" else archive_texts(file, spec["member"])
        documents = read_documents(spec, texts)
    except (KeyError, ValueError, OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise FetchError(
            f"{file.name} cannot be read by reader '{spec['reader']}': {type(error).__name__}: {error}"
        ) from error
    if not documents:
        raise FetchError(f"{file.name} holds no documents for reader '{spec['reader']}'")
    return documents


def _hub_documents(spec: dict[str, Any]) -> list[str]:
    rows = hub_rows(spec)
    if spec["column"] not in rows.column_names:
        raise FetchError(
            f"hub data set {spec['path']} has no column '{spec['column']}', "
            f"found {', '.join(rows.column_names)}"
        )
    documents = list(rows[spec["column"]])
    return cut(documents, spec["cut"]) if "cut" in spec else documents


def write_corpus(path: Path, documents: list[str]) -> None:
    """Write documents as a parquet file with one column, ``text``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with whole(path) as temporary:
        pq.write_table(pa.table({"text": documents}), temporary)


def read_corpus(path: Path) -> list[str]:
    """The documents written by :func:`write_corpus`."""
    import pyarrow.parquet as pq

    return pq.read_table(path, columns=["text"])["text"].to_pylist()


def documents_hash(documents: list[str]) -> str:
    """12 hex characters over the documents and their borders."""
    state = hashlib.sha256()
    for document in documents:
        state.update(document.encode() + b"\0")
    return state.hexdigest()[:12]
