"""`reprune compare`: the exit code says whether two records agree; the reference is found by place."""

from __future__ import annotations

from pathlib import Path

import pytest

from reprune.cli import compare, main

HEADER = "run_id,suite,protocol,task,metric,variant,value,stderr,status\n"


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes a records.csv with one value at a place below the results of a project of its own."""
    monkeypatch.setattr(compare, "ROOT", tmp_path)

    def write(place: str, value: str) -> Path:
        folder = tmp_path / "results" / place
        folder.mkdir(parents=True)
        (folder / "records.csv").write_text(f"{HEADER}r,perplexity,p@1,c4,perplexity,,{value},0.1,ok\n")
        return folder

    return write


def test_equal_records_give_zero_and_others_one(records, capsys: pytest.CaptureFixture[str]):
    new, same, other = records("a", "10.0"), records("b", "10.0"), records("c", "11.0")
    assert main(["compare", str(new), str(same)]) == 0
    assert main(["compare", str(new / "records.csv"), str(other)]) == 1
    assert "different" in capsys.readouterr().out


def test_the_reference_is_that_of_the_same_place(records):
    new = records("local/besa", "10.0")
    records("reference/local/besa", "10.0")
    assert main(["compare", str(new)]) == 0


def test_a_file_that_is_no_records_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    assert main(["compare", str(tmp_path / "table.csv"), str(tmp_path / "table.csv")]) == 2
    assert "is no records.csv" in capsys.readouterr().err


def test_a_file_outside_the_results_needs_a_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "records.csv").write_text(HEADER)
    assert main(["compare", str(tmp_path)]) == 2
    assert "name its reference" in capsys.readouterr().err


def test_two_values_of_one_key_are_refused(records, capsys: pytest.CaptureFixture[str]):
    new = records("a", "10.0")
    file = new / "records.csv"
    file.write_text(file.read_text() + file.read_text().splitlines()[1] + "\n")
    assert main(["compare", str(new), str(new)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
