"""Instruction data: the same three columns from every source, in a fixed order; who draws which rows."""

from __future__ import annotations

import gzip
import json
import os
import zipfile
from pathlib import Path

import pytest
import yaml

from reprune.data.instruction_readers import COLUMNS
from reprune.data.instructions import (
    draw_rows,
    instructions_hash,
    load_instructions,
    made_instructions,
    read_instructions,
    split,
    write_instructions,
)
from reprune.data.packages import FetchError

MIRROR = os.environ.get("REPRUNE_MIRROR")  # read here: a fixture takes it away from tests
CONFIG = yaml.safe_load((Path(__file__).parents[2] / "config" / "data.yaml").read_text(encoding="utf-8"))
ALPACA = [
    {"instruction": "Name a colour.", "input": "", "output": "Red,\u2028or blue.", "source": "a"},
    {"instruction": "Add.", "input": "1 2", "output": "3", "source": "b"},
]
MEMBERS = {"minerva_math": "m/math_[a-z]*.gz", "mt_mbpp": "m/mbpp_*.gz", "medmcqa": "m/med.gz"}
WHY = "Because " + "it is so " * 5
MEDICAL = {"question": "Which?", "opa": "w", "opb": "x", "opc": "y", "opd": "z", "cop": 2, "exp": WHY}


def lines(rows: list[dict]) -> bytes:
    return gzip.compress("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def requests(*docs: dict) -> bytes:
    return lines([{"doc_id": i, "doc": doc} for i, doc in reversed(list(enumerate(docs)))])


@pytest.fixture
def package(tmp_path):
    """An archive with two files of mathematics, one that is none of them, and one each of the others."""
    members = {
        "m/math_b.gz": requests({"problem": "Two?", "solution": "2"}),
        "m/math_a.gz": requests({"problem": "One?", "solution": "1"}, {"problem": "One?", "solution": "1"}),
        "m/math_500.gz": requests({"problem": "No?", "solution": "0"}),
        "m/mbpp_c.gz": requests({"text": "Add.", "code": "int f() {\r\n}\r\n"}),
        "m/med.gz": requests(MEDICAL, {**MEDICAL, "exp": None}, {**MEDICAL, "exp": "Too few words."}),
    }
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return tmp_path / "a.whl"


def test_alpaca_keeps_its_order_and_three_columns(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(lines(ALPACA))
    rows = load_instructions("mirror", {"reader": "alpaca", "rows": 2}, tmp_path / "a.jsonl.gz")
    assert rows == [{column: row[column] for column in COLUMNS} for row in ALPACA]


def test_a_package_gives_questions_with_answers_equal_ones_once(package):
    rows = load_instructions("package", {"members": MEMBERS, "rows": 4}, package)
    assert [tuple(row.values()) for row in rows] == [
        ("Which?", "A. w\nB. x\nC. y\nD. z", f"C. y\n\n{WHY.strip()}"),
        ("One?", "", "1"),
        ("Two?", "", "2"),
        ("Add.", "", "int f() {\n}"),
    ]
    backward = dict(reversed(MEMBERS.items()))
    assert load_instructions("package", {"members": backward, "rows": 4}, package) == rows


def test_the_hub_gives_alpacas_columns(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "train.jsonl").write_bytes(gzip.decompress(lines(ALPACA)))
    spec = {"path": str(folder), "split": "train", "rows": 51_760}
    assert load_instructions("hub", spec, None) == [{c: row[c] for c in COLUMNS} for row in ALPACA]
    (folder / "train.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    with pytest.raises(FetchError, match="has no column 'input', found instruction, output"):
        load_instructions("hub", spec, None)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"members": MEMBERS, "rows": 5}, "a.whl has 4 instructions, expected 5; the file was replaced"),
        ({"members": {"mt_mbpp": "m/gone*"}, "rows": 1}, "a.whl has no member m/gone"),
        ({"members": {"mt_mbpp": "m/med.gz"}, "rows": 1}, "a.whl cannot be read as instructions: KeyError"),
    ],
)
def test_an_archive_that_is_another_is_named(package, spec, words):
    with pytest.raises(FetchError, match=words):
        load_instructions("package", spec, package)


def test_made_rows_need_only_a_seed_and_the_first_do_not_depend_on_how_many(tmp_path):
    rows = load_instructions("made", CONFIG["instructions"]["alpaca-cleaned"]["made"], None)
    assert len(rows) == 64 and made_instructions(10, 13) == rows[:10] != made_instructions(10, 14)
    assert {bool(row["input"]) for row in rows} == {True, False} and all(row["output"] for row in rows)


def test_what_is_written_is_read_and_the_hash_sees_every_border(tmp_path):
    rows = made_instructions(5, 1)
    write_instructions(tmp_path / "a.parquet", rows)
    assert read_instructions(tmp_path / "a.parquet") == rows
    moved = [
        {"instruction": "ab", "input": "c", "output": ""},
        {"instruction": "a", "input": "bc", "output": ""},
    ]
    assert len({instructions_hash(r) for r in (rows, rows[::-1], rows[:4], moved[:1], moved[1:])}) == 5


def test_training_and_validation_share_no_row():
    rows = made_instructions(40, 1)
    train, validation = draw_rows(rows, 30, 10, seed=5)
    numbers = [rows.index(row) for row in (*train, *validation)]
    assert sorted(numbers) == list(range(40)) != numbers
    assert draw_rows(rows, 12, 10, seed=5) == (train[:12], validation)


def test_what_is_kept_apart_is_the_same_for_every_seed_and_fewer_rows_are_the_first_of_more():
    rows = made_instructions(40, 1)
    kept = split(rows, 10)[1]
    for seed in range(20):
        train, validation = draw_rows(rows, 30, 10, seed)
        assert validation == kept and validation[:4] == split(rows, 4)[1]
    assert train != draw_rows(rows, 30, 10, seed=5)[0]


@pytest.mark.shared
@pytest.mark.skipif(not MIRROR, reason="REPRUNE_MIRROR names no folder")
@pytest.mark.parametrize("name", [n for n, entry in CONFIG["instructions"].items() if "mirror" in entry])
def test_the_mirror_gives_the_declared_rows(name):
    spec = CONFIG["instructions"][name]["mirror"]
    rows = load_instructions("mirror", spec, Path(MIRROR) / spec["file"])
    assert all(row["instruction"] and row["output"] for row in rows)
