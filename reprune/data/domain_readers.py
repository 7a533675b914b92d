"""Readers of text by domain: code, papers, and questions with answers, out of files made for other ends."""

from __future__ import annotations

import re
from typing import Any

from reprune.data.task_readers import documents

BLOCK = re.compile(r"^// ===== BEGIN [^\n]*=====\n(.*?)^// ===== END =====", re.DOTALL | re.MULTILINE)
ANSWERS = {"problem": "solution", "text": "code"}  # the columns of MATH and of MBPP


def read_code(texts: list[str], spec: dict[str, Any]) -> list[str]:
    """Files of code between ``// ===== BEGIN language =====`` and ``// ===== END =====``."""
    return [block.strip("\n") for text in texts for block in BLOCK.findall(text)]


def read_papers(texts: list[str], spec: dict[str, Any]) -> list[str]:
    """The papers that QASPER asks about, each once: title, abstract, sections with their headings."""
    found: dict[str, str] = {}
    for doc in documents([text.encode() for text in texts]):
        found.setdefault(doc["id"].partition("_")[0], _paper(doc))
    return list(found.values())


def _paper(doc: dict[str, Any]) -> str:
    full = doc["full_text"]
    parts = [doc["title"], doc["abstract"]]
    for name, paragraphs in zip(full["section_name"], full["paragraphs"], strict=True):
        parts += [name or "", *paragraphs]
    return "\n\n".join(part.strip() for part in parts if part.strip(" :\n"))


def read_questions(texts: list[str], spec: dict[str, Any]) -> list[str]:
    """Questions with their answers as ``Q: …`` and ``A: …``, which is how RedPajama writes StackExchange.

    What several files ask by one ``task_id``, MBPP in several languages, is one document, so that no
    question stands on both sides of a cut.
    """
    found: dict[Any, list[str]] = {}
    for i, text in enumerate(texts):
        for j, doc in enumerate(documents([text.encode()])):
            question = next(column for column in ANSWERS if column in doc)
            asked, answer = doc[question].strip(), doc[ANSWERS[question]].strip()
            found.setdefault(doc.get("task_id", (i, j)), []).append(f"Q: {asked}\n\nA: {answer}")
    return ["\n\n".join(told) for told in found.values()]
