"""Tables of what was timed or counted: units, errors over repeats, sizes in words, no false comparison."""

from __future__ import annotations

import pytest

from reprune.analysis.notes import origin_notes, reading_notes
from reprune.analysis.table import build_table
from reprune.analysis.work import work_in_words

TASKS = {
    "generate": {"kind": "generate", "batch": 1, "prompt": 4, "new_tokens": 8},
    "batch-2x": {"kind": "generate", "batch": 2, "prompt": 4, "new_tokens": 8},
}
SPEEDUPS = {"generate": [1.2, 1.3, 1.1, 1.2], "batch-2x": [1.5, 1.4, 1.5, 1.6]}


@pytest.fixture
def table_of(results):
    """The table of a metric over two timed tasks of one compressed row."""
    results.info["protocols"] = {
        "efficiency-grasp@1+ab12cd": {"name": "efficiency-grasp", "repeats": 4, "tasks": TASKS}
    }
    results.add("Short", speedups=SPEEDUPS)

    def build(metric):
        spec = {"id": "t", "title": "T", "experiment": "e", "suite": "efficiency"}
        spec |= {"protocol": "efficiency-grasp", "metric": metric, "tasks": list(TASKS)}
        unit = results.unit()
        table = build_table(unit, spec)
        return table, [*reading_notes(unit, spec, table), *origin_notes(unit, spec, table)]

    return build


def test_speedups_have_errors_over_repeats_and_their_work_in_words(table_of):
    table, notes = table_of("speedup")
    first = table.lines[0].cells[0].measurement
    assert (first.value, first.stderr_over, first.n) == (pytest.approx(1.2), "repeats", 4)
    assert {c.group for c in table.columns if c.kind == "measured"} == {"Speed-up (× dense) ↑"}
    assert "Generation: 1 sequence, 8 new tokens each after a prompt of 4." in notes
    assert "Generation at 2× batch: 2 sequences, 8 new tokens each after a prompt of 4." in notes
    assert any(note.startswith("± is the standard error over 4 repeats") for note in notes)
    assert not any("source was not recorded" in note or "timed for itself" in note for note in notes)


def test_a_table_of_tokens_per_second_warns_of_comparing_rows(table_of):
    table, notes = table_of("throughput")
    assert table.lines[0].cells[0].measurement.value == pytest.approx(48)
    assert sum("timed for itself" in note for note in notes) == 1


@pytest.mark.parametrize(
    "entry, text",
    [
        ({"kind": "forward", "batch": 1, "length": 128}, "one pass over 1 sequence of 128 tokens"),
        ({"kind": "size", "length": 64}, "counted; multiply-accumulates of a sequence of 64 tokens"),
        ({"metric": "acc", "shots": 0}, None),
        ({}, None),
    ],
)
def test_work_in_words(entry, text):
    assert work_in_words(entry) == text
