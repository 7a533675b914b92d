"""Parallel text: what readers make of archives, how it is cut, and that what is written is what was read."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
import zipfile
from pathlib import Path

import pytest
import yaml

from reprune.data.packages import FetchError
from reprune.data.parallel import PARTS, Pair, load_pairs, made_pairs, pairs_hash, read_pairs, write_pairs
from reprune.data.parallel_readers import Placed, clauses, cut, fits

ROOT = Path(__file__).parents[2]
DATA = yaml.safe_load((ROOT / "config" / "data.yaml").read_text(encoding="utf-8"))["parallel"]
MIRROR = os.environ.get("REPRUNE_MIRROR")  # read here: a fixture takes it away from tests
TESTED, VALIDATED, TRAINED = "hue", "adguard", "abode"  # SHA-1 of the names modulo 20: 0, 13, neither
INTERFACE = {
    "package": "a",
    "reader": "interface",
    "member": "app/**/translations/en.json",
    "languages": ["en", "de"],
}


def texts(first, second):
    """A component's texts in two languages, one below another."""
    return {"config": {"step": {"user": {"title": first}}}, "list": [1, "x"], "abort": second}


@pytest.fixture
def interface(tmp_path):
    """An archive of components with these texts, and the reader's specification for so many pairs."""

    def made(components, counts):
        file = tmp_path / "app.whl"
        with zipfile.ZipFile(file, "w") as archive:
            for name, (english, german) in components.items():
                folder = f"app/components/{name}/translations"
                archive.writestr(f"{folder}/en.json", json.dumps(english))
                if german is not None:
                    archive.writestr(f"{folder}/de.json", json.dumps(german))
        return {**INTERFACE, "pairs": dict(zip(PARTS, counts, strict=True))}, file

    return made


def three(changed=None):
    """One component of each part, with two pairs each."""
    return {
        name: (
            texts(f"Enter the {name} address here", f"The {name} is already configured"),
            texts(f"Gib hier die Adresse von {name} ein", f"{name} ist bereits eingerichtet"),
        )
        for name in (TESTED, VALIDATED, TRAINED)
    } | (changed or {})


def test_a_components_texts_are_paired_by_their_place_and_go_to_its_part(interface):
    spec, file = interface(three(), (2, 2, 2))
    found = load_pairs("package", spec, file)
    assert found["train"] == [
        Pair("Enter the abode address here", "Gib hier die Adresse von abode ein"),
        Pair("The abode is already configured", "abode ist bereits eingerichtet"),
    ]
    assert [{w for p in found[part] for w in p.source.split()} & {TESTED, VALIDATED} for part in PARTS] == [
        set(),
        {VALIDATED},
        {TESTED},
    ]


def test_what_is_no_translated_sentence_is_left_out(interface):
    left_out = {
        "one": (texts("Untranslated", "Same in both of them"), {"abort": "Same in both of them"}),
        "two": (
            texts("No one has translated this", "A\n  second  text\nof lines"),
            {"abort": "Zweiter\nText"},
        ),
        "three": (texts("A language file is missing", "x"), None),
        "four": (texts("This is far too long to be " * 20, "A text of four words"), texts("x", "Nein")),
    }
    spec, file = interface(three(left_out), (3, 2, 2))
    assert load_pairs("package", spec, file)["train"][-1] == Pair("A second text of lines", "Zweiter Text")


def test_markup_is_not_tested(interface):
    changed = {
        name: (
            texts(f"Cannot reach the host {{{name}}}", f"See https://{name}.org for more"),
            texts(f"Der Rechner {{{name}}} ist nicht da", f"Mehr steht auf https://{name}.org"),
        )
        for name in (TRAINED, VALIDATED, TESTED)
    }
    spec, file = interface(changed, (2, 2, 0))
    found = load_pairs("package", spec, file)
    assert found["train"][0] == Pair("Cannot reach the host {abode}", "Der Rechner {abode} ist nicht da")


def test_no_source_that_is_trained_on_is_tested_and_none_is_there_twice(interface):
    both = texts("Enter the abode address here", "A text in all components")
    german = texts("Gib die Adresse ein, bitte", "Ein Text in allen Komponenten")
    spec, file = interface(three({name: (both, german) for name in ("dunehd", TESTED, VALIDATED)}), (3, 0, 0))
    found = load_pairs("package", spec, file)
    sources = [pair.source for pair in found["train"]]
    assert len(sources) == len(set(sources)) == 3
    assert dict(found["train"])["Enter the abode address here"] == "Gib hier die Adresse von abode ein"
    assert found["validation"] == found["test"] == []


def test_a_cut_keeps_the_first_of_a_part_and_what_is_trained_on():
    a, b, c = (Pair(name, "x") for name in "abc")
    other = Pair("b", "y")
    placed = [("test", a), ("test", b), ("validation", b), ("test", other), ("train", a), ("train", c)]
    assert cut([Placed(*found) for found in [*placed, ("train", a)]]) == [
        Placed(*placed[i]) for i in (1, 2, 4, 5)
    ]


@pytest.mark.parametrize(
    ("pair", "answer"),
    [
        (Pair("abcde", "xy"), True),
        (Pair("abcdef", "xy"), False),
        (Pair("ab", "vwxyz"), True),
        (Pair("ab", "uvwxyz"), False),
        (Pair("", "x"), False),
        (Pair("x", ""), False),
        (Pair("a " * 60, "b " * 60), True),
        (Pair("a " * 61, "b " * 60), False),
    ],
)
def test_lengths_say_what_can_be_a_translation(pair, answer):
    assert fits(pair) == answer


BIBLE = {"package": "b", "reader": "verses", "member": "b/bible.db", "sources": ["4"], "target": "e"}


@pytest.fixture
def bible(tmp_path):
    """A database of one book of 40 chapters with two verses each; one edition lacks a verse."""

    def made(counts):
        file = tmp_path / "bible.db"
        with sqlite3.connect(file) as database:
            database.execute("create table bible (bbName text, bNumber, cNumber, vNumber, vText text)")
            for chapter in range(1, 41):
                for verse in (2, 1):
                    place = (1, chapter, verse)
                    english = f"In chapter {chapter} [there is] the `verse'  {verse}."
                    another = f"Another verse {verse} of chapter {chapter}."
                    german = f"({chapter}:{verse + 1}) Kapitel {chapter}, der Vers {verse}."
                    rows = [("4", *place, english), ("e", *place, german), ("x", *place, another)]
                    database.executemany("insert into bible values (?, ?, ?, ?, ?)", rows)
            database.execute("delete from bible where bbName = 'e' and cNumber = 40 and vNumber = 2")
        database.close()
        with zipfile.ZipFile(tmp_path / "b.whl", "w") as archive:
            archive.write(file, "b/bible.db")
        return {**BIBLE, "pairs": dict(zip(PARTS, counts, strict=True))}, tmp_path / "b.whl"

    return made


def test_verses_are_paired_by_their_place_cleaned_and_cut_by_chapter(bible):
    found = load_pairs("package", *bible((75, 2, 2)))
    first = Pair("In chapter 1 the 'verse' 1.", "Kapitel 1, der Vers 1.")
    assert found["train"][0] == first and found["train"][1].source.endswith("2.")
    chapters = {part: {pair.source.split()[2] for pair in found[part]} for part in PARTS}
    assert len(chapters["validation"]) == len(chapters["test"]) == 1, "neighbours stay together"
    assert not chapters["train"] & (chapters["validation"] | chapters["test"])


@pytest.mark.parametrize(
    ("pair", "parts"),
    [
        (Pair("one two three", "eins zwei drei"), [("one two three", "eins zwei drei")]),
        (Pair("He came; he saw.", "Er kam: er sah."), [("He came;", "Er kam:"), ("he saw.", "er sah.")]),
        (
            Pair('"Go, now." They went, all', "„Geh, nun.“ Sie gingen, alle"),
            [('"Go, now."', "„Geh, nun.“"), ("They went, all", "Sie gingen, alle")],
        ),
        (Pair("a, b c d", "a, b c d e"), [("a,", "a,")]),
        (Pair("He came, he saw.", "Er kam und er sah."), []),
        (Pair("Go; and then he was there.", "Und so ging er denn hin; da."), []),
    ],
)
def test_long_pairs_are_cut_where_both_sides_have_as_many_clauses(pair, parts):
    assert clauses(pair, 3) == [Pair(*part) for part in parts]


def test_other_editions_are_trained_on_and_not_tested(bible):
    spec, file = bible((150, 2, 2))
    found = load_pairs("package", {**spec, "sources": ["4", "x"]}, file)
    assert all(pair.source.startswith("In") for part in ("validation", "test") for pair in found[part])
    first, other = found["train"][:75], found["train"][75:]
    assert [pair.source.split()[0] for pair in (first[0], other[0])] == ["In", "Another"]
    assert [pair.target for pair in other] == [pair.target for pair in first]


def test_another_number_of_pairs_than_declared_is_refused_in_one_line(bible):
    spec, file = bible((76, 2, 2))
    with pytest.raises(
        FetchError, match=r"^b\.whl has 75 train pairs, expected 76; the file was replaced.*$"
    ):
        load_pairs("package", spec, file)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [({"member": "b/none.db"}, "KeyError"), ({"member": "b/text"}, "DatabaseError")],
)
def test_an_archive_that_cannot_be_read_is_one_line(bible, changed, reason):
    spec, file = bible((75, 2, 2))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("b/text", "no database at all, and long enough to have a header" * 40)
    with pytest.raises(FetchError, match=f"b.whl cannot be read as parallel text: {reason}") as caught:
        load_pairs("package", {**spec, **changed}, file)
    assert "\n" not in str(caught.value)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(FetchError, match="BadZipFile"):
        load_pairs("package", spec, file)


ROWS = [{"en": f"A dog  number\n{i}.", "de": f"Ein Hund \u2028Nummer {i}."} for i in range(5)]


@pytest.fixture
def mirror(tmp_path):
    """A folder with a file of JSON lines for each part, one of them gzipped."""
    files = {"train": "a_train.jsonl.gz", "validation": "a_val.jsonl", "test": "a_test.jsonl"}
    for file, rows in zip(files.values(), (ROWS[:3], ROWS[3:4], ROWS[4:]), strict=True):
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        (tmp_path / file).write_bytes(gzip.compress(data) if file.endswith("gz") else data)
    return {
        "files": files,
        "columns": ["en", "de"],
        "pairs": {"train": 3, "validation": 1, "test": 1},
    }, tmp_path


def test_a_mirror_has_a_file_for_each_part(mirror):
    spec, folder = mirror
    found = load_pairs("mirror", spec, folder)
    assert found["train"] == [Pair(f"A dog number {i}.", f"Ein Hund Nummer {i}.") for i in range(3)]
    assert [len(found[part]) for part in PARTS] == [3, 1, 1]
    turned = load_pairs("mirror", {**spec, "columns": ["de", "en"]}, folder)
    assert turned["test"] == [Pair(*reversed(pair)) for pair in found["test"]]


@pytest.mark.parametrize("fault", ["column", "cut", "count", "lost"])
def test_a_wrong_mirror_is_refused_in_one_line(mirror, fault):
    spec, folder = mirror
    file = folder / spec["files"]["train"]
    if fault == "column":
        spec = {**spec, "columns": ["en", "fr"]}
    elif fault == "cut":
        file.write_bytes(file.read_bytes()[:-12])
    elif fault == "count":
        spec = {**spec, "pairs": {**spec["pairs"], "validation": 2}}
    else:
        file.unlink()
    with pytest.raises(
        FetchError, match="cannot be read as parallel text|has 1 validation pairs, expected 2"
    ) as e:
        load_pairs("mirror", spec, folder)
    assert "\n" not in str(e.value)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A local folder in the place of a hub data set, with these rows by split."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "set"
    folder.mkdir()

    def made(rows):
        for split in PARTS:
            (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {"path": str(folder), "splits": {p: p for p in PARTS}, "columns": ["en", "de"]}

    return made


def test_hub_columns_may_be_plain_or_nested(hub):
    rows = [{"en": f"dog {i}", "de": f"Hund {i}"} for i in range(3)]
    expected = [Pair(row["en"], row["de"]) for row in rows]
    assert load_pairs("hub", hub(rows), None) == dict.fromkeys(PARTS, expected)
    nested = {**hub([{"id": i, "translation": row} for i, row in enumerate(rows)]), "column": "translation"}
    assert load_pairs("hub", nested, None) == dict.fromkeys(PARTS, expected)
    with pytest.raises(FetchError, match="has no column 'texts', found id, translation"):
        load_pairs("hub", {**nested, "column": "texts"}, None)
    with pytest.raises(FetchError, match="has no 'fr' in column 'translation'"):
        load_pairs("hub", {**nested, "columns": ["en", "fr"]}, None)


def test_made_pairs_follow_from_their_seed_and_every_word_has_one_translation():
    spec = {"pairs": {"train": 50, "validation": 5, "test": 5}, "seed": 3}
    found = load_pairs("made", spec, None)
    assert found == load_pairs("made", spec, None) != load_pairs("made", {**spec, "seed": 4}, None)
    assert [len(found[part]) for part in PARTS] == [50, 5, 5] and made_pairs(50, 3) == found["train"]
    for source, target in found["train"]:
        the, first, verb, the_too, second = source.strip(".").split()
        assert target == f"Das {first.upper()} das {second.upper()} {verb.upper()}."


def test_what_is_written_is_read_by_part_and_its_hash_has_borders(tmp_path):
    pairs = {part: made_pairs(4, seed) for seed, part in enumerate(PARTS)}
    pairs["test"] = [Pair("Ein \u2028 „Satz“", ""), *pairs["test"]]
    write_pairs(tmp_path / "parallel" / "a.parquet", pairs)
    assert {part: read_pairs(tmp_path / "parallel" / "a.parquet", part) for part in PARTS} == pairs
    hashes = [
        pairs_hash(p) for p in ([Pair("a", "b")], [Pair("ab", "")], [Pair("", "ab")], [Pair("a", "c")], [])
    ]
    assert len(set(hashes)) == 5 and {len(found) for found in hashes} == {12}
    assert pairs_hash(list(reversed(pairs["train"]))) != pairs_hash(pairs["train"])


def test_every_parallel_text_of_the_configuration_names_its_languages_in_order():
    for name, entry in DATA.items():
        columns = [tuple(entry[k]["columns"]) for k in ("mirror", "hub") if k in entry]
        columns += [tuple(e["languages"]) for e in entry.values() if isinstance(e, dict) and "languages" in e]
        assert set(columns) <= {tuple(entry["languages"])}, name


@pytest.mark.shared
@pytest.mark.skipif(not MIRROR, reason="REPRUNE_MIRROR names no folder")
def test_the_mirror_has_multi30k():
    found = load_pairs("mirror", DATA["sentences-en-de"]["mirror"], Path(MIRROR))
    assert found["train"][0] == Pair(
        "Two young, White males are outside near many bushes.",
        "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche.",
    )
    assert all(all(pair) and "\n" not in "".join(pair) for pairs in found.values() for pair in pairs)
