"""The store: what it gives back is what was put in, under the very key, or nothing."""

from __future__ import annotations

import json

import pytest

from reprune.records.store import ENTRY, Store

KEY = {"run": "a", "block": 1}


@pytest.fixture
def warnings():
    return []


@pytest.fixture
def store(tmp_path, warnings):
    return Store(tmp_path / "store", warnings.append)


@pytest.fixture
def entry(store):
    return store.put(KEY, lambda folder: (folder / "x.txt").write_text("content"))


def test_an_entry_is_found_by_equal_keys_only(store, entry, warnings):
    assert store.get({"block": 1, "run": "a"}) == entry
    assert (entry / "x.txt").read_text() == "content"
    assert store.get({**KEY, "block": 2}) is None and store.get({**KEY, "more": None}) is None
    assert warnings == []


def foreign(entry):
    content = json.loads((entry / ENTRY).read_text())
    (entry / ENTRY).write_text(json.dumps({**content, "key": {"run": "b", "block": 1}}))


DAMAGE = {
    "one byte": (lambda e: (e / "x.txt").write_text("contenT"), "x.txt is damaged"),
    "truncated": (lambda e: (e / "x.txt").write_text(""), "x.txt is damaged"),
    "file gone": (lambda e: (e / "x.txt").unlink(), "unreadable"),
    "no entry": (lambda e: (e / ENTRY).unlink(), "unreadable"),
    "entry cut short": (lambda e: (e / ENTRY).write_text('{"key": {"ru'), "unreadable"),
    "entry of another form": (lambda e: (e / ENTRY).write_text("[]"), "unreadable"),
    "foreign": (foreign, "belongs to another key"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_or_foreign_entry_is_never_used_and_said_once(store, entry, warnings, damage):
    change, message = DAMAGE[damage]
    change(entry)
    assert store.get(KEY) is None and store.get(KEY) is None
    (line,) = warnings
    assert line.startswith(f"store entry {entry.name}: {message}") and line.endswith("; it is rebuilt")
    store.put(KEY, lambda folder: (folder / "x.txt").write_text("again"))
    assert (store.get(KEY) / "x.txt").read_text() == "again"


def test_a_failed_put_leaves_nothing(store):
    def write(folder):
        (folder / "x.txt").write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.put(KEY, write)
    assert store.get(KEY) is None
    assert [p for p in store.root.rglob("*") if p.is_file()] == []


def test_put_again_replaces_and_drop_removes(store, entry):
    store.put(KEY, lambda folder: (folder / "y.txt").write_text("new"))
    assert sorted(p.name for p in store.get(KEY).iterdir()) == [ENTRY, "y.txt"]
    store.drop(KEY)
    store.drop(KEY)
    assert store.get(KEY) is None


def test_what_is_shared_costs_each_caller_what_it_would_have_alone(store, monkeypatch):
    clock = {"now": 0.0}
    monkeypatch.setattr("reprune.records.store.time.monotonic", lambda: clock["now"])

    def work(place):
        clock["now"] += 40.0
        (place / "a.txt").write_text("a")

    made, first = store.shared(KEY, work)
    found, second = store.shared(KEY, work)
    assert made == found and (found / "a.txt").read_text() == "a"
    assert (first, second) == (0.0, 40.0)  # the maker has spent it already, the other nothing
