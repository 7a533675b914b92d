"""Readers of task data: from the bytes of a file or of archive members to the rows lm-eval reads."""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

# Request files number the copies of a question that only normalise a score from here on.
UNCONDITIONAL = 1_000_000
ADDED = ("query", "choices", "gold", "index")
LETTERS = "abcdefgh"


def read_arrow(data: list[bytes], spec: dict[str, Any]) -> pa.Table:
    """Arrow stream files as the hub library saves them, with the metadata that names class labels."""
    return pa.concat_tables([pa.ipc.open_stream(pa.py_buffer(part)).read_all() for part in data])


def read_jsonl(data: list[bytes], spec: dict[str, Any]) -> pa.Table:
    """One row a line, plain or gzipped; ``spec['rename']`` maps names in the file to the hub's."""
    rename = spec.get("rename", {})
    rows = ({rename.get(key, key): value for key, value in row.items()} for row in _lines(data))
    return pa.Table.from_pylist(list(rows))


def read_doc_requests(data: list[bytes], spec: dict[str, Any]) -> pa.Table:
    """Request files that keep the hub's columns; those that the requests add are left out."""
    rows = [{key: value for key, value in doc.items() if key not in ADDED} for doc in documents(data)]
    return pa.Table.from_pylist(rows)


def read_boolq_requests(data: list[bytes], spec: dict[str, Any]) -> pa.Table:
    """BoolQ: the query is passage, question and ``Answer:``. Raises ValueError for any other query."""
    rows = []
    for doc in documents(data):
        # A passage may hold the mark too; the last one stands before the question.
        passage, mark, question = _inside(doc["query"], "", "?\nAnswer:").rpartition("\nQuestion: ")
        if not mark:
            raise ValueError(f"no question in {doc['query'][:60]!r}")
        label = int(doc["choices"][doc["gold"]] == "yes")
        rows.append({"question": question, "passage": passage, "idx": doc["idx"], "label": label})
    return pa.Table.from_pylist(rows)


def read_arc_requests(data: list[bytes], spec: dict[str, Any]) -> pa.Table:
    """ARC, with as many choices as a question has; labels become A, B, C, …"""
    return _lettered(data, "question")


def read_openbookqa_requests(data: list[bytes], spec: dict[str, Any]) -> pa.Table:
    """OpenBookQA, written like ARC."""
    return _lettered(data, "question_stem")


def read_hellaswag_requests(data: list[bytes], spec: dict[str, Any]) -> pa.Table:
    """HellaSwag: the requests hold texts that are processed already, the rows raw ones.

    lm-eval's own ``process_docs`` makes the same texts of them again.
    """
    rows = []
    for doc in documents(data):
        activity, mark, context = unprocessed(doc["query"]).partition(": ")
        if not mark:
            raise ValueError(f"no activity in {doc['query'][:60]!r}")
        rows.append(
            {
                "ind": doc["ind"],
                "activity_label": activity,
                "ctx_a": context,
                "ctx_b": "",
                "endings": [unprocessed(choice) for choice in doc["choices"]],
                "label": str(doc["gold"]),
            }
        )
    return pa.Table.from_pylist(rows)


def read_lambada_requests(data: list[bytes], spec: dict[str, Any]) -> pa.Table:
    """LAMBADA: context, a space and the last word."""
    rows = [{"text": f"{doc['query']} {doc['answers_text'][0]}"} for doc in documents(data)]
    return pa.Table.from_pylist(rows)


def read_gsm8k_requests(data: list[bytes], spec: dict[str, Any]) -> pa.Table:
    """GSM8K: question and the answer with its calculator marks."""
    rows = [{"question": doc["question"], "answer": doc["answer"]} for doc in documents(data)]
    return pa.Table.from_pylist(rows)


def read_mathqa_from_mmlu(data: list[bytes], spec: dict[str, Any]) -> pa.Table:
    """MMLU questions in the columns of MathQA, without those whose options lm-eval would cut."""
    rows = []
    for row in read_arrow(data, spec).to_pylist():
        choices = [choice.strip() for choice in row["choices"]]
        options = "".join(f"{letter} ) {choice} , " for letter, choice in zip(LETTERS, choices, strict=False))
        if mathqa_choices(options) == choices:
            rows.append({"Problem": row["question"], "options": options, "correct": LETTERS[row["answer"]]})
    return pa.Table.from_pylist(rows)


def read_logiqa_from_mmlu(data: list[bytes], spec: dict[str, Any]) -> pa.Table:
    """MMLU questions in the columns of LogiQA; they have no passage."""
    rows = [
        {
            "label": LETTERS[row["answer"]],
            "context": "",
            "question": row["question"],
            "options": row["choices"],
        }
        for row in read_arrow(data, spec).to_pylist()
    ]
    return pa.Table.from_pylist(rows)


READERS: dict[str, Callable[[list[bytes], dict[str, Any]], pa.Table]] = {
    "arrow": read_arrow,
    "jsonl": read_jsonl,
    "doc_requests": read_doc_requests,
    "boolq_requests": read_boolq_requests,
    "arc_requests": read_arc_requests,
    "openbookqa_requests": read_openbookqa_requests,
    "hellaswag_requests": read_hellaswag_requests,
    "lambada_requests": read_lambada_requests,
    "gsm8k_requests": read_gsm8k_requests,
    "mathqa_from_mmlu": read_mathqa_from_mmlu,
    "logiqa_from_mmlu": read_logiqa_from_mmlu,
}


def documents(data: list[bytes]) -> list[dict[str, Any]]:
    """The documents of a request file, which has a line for every choice, in the order of the hub's split."""
    found: dict[int, dict[str, Any]] = {}
    for request in _lines(data):
        if request["doc_id"] < UNCONDITIONAL:
            found.setdefault(request["doc_id"], request["doc"])
    return [found[number] for number in sorted(found)]


def unprocessed(text: str) -> str:
    """What lm-eval's HellaSwag ``preprocess`` turns into ``text``.

    That strips the text, then drops what stands in brackets, then halves runs of spaces.
    """
    raw = re.sub(" {2,}", lambda run: run[0] * 2, text)
    before, after = ("[]" if end.isspace() else "" for end in (raw[:1], raw[-1:]))
    return before + raw + after


def mathqa_choices(options: str) -> list[str]:
    """The choices that lm-eval's MathQA finds in an options string, by its own expression."""
    return [found[4:].rstrip(" ,") for found in re.findall(r"[abcd] \) .*?, |e \) .*?$", options)]


def _lettered(data: list[bytes], column: str) -> pa.Table:
    rows = []
    for doc in documents(data):
        labels = [letter.upper() for letter in LETTERS[: len(doc["choices"])]]
        rows.append(
            {
                "id": doc["id"],
                column: _inside(doc["query"], "Question: ", "\nAnswer:"),
                "choices": {"text": doc["choices"], "label": labels},
                "answerKey": labels[doc["gold"]],
            }
        )
    return pa.Table.from_pylist(rows)


def _inside(text: str, start: str, end: str) -> str:
    if not (text.startswith(start) and text.endswith(end)):
        raise ValueError(f"{text[:60]!r} does not stand between {start!r} and {end!r}")
    return text[len(start) : len(text) - len(end)]


def _lines(data: list[bytes]) -> Iterator[dict[str, Any]]:
    for part in data:
        stream = io.BytesIO(part)
        with gzip.open(stream) if part.startswith(b"\x1f\x8b") else stream as lines:
            yield from (json.loads(line) for line in lines if line.strip())
