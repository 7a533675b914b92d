"""The table of the domains' shares in continued pre-training, beside Sheared-LLaMA's Table 3."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from mixture_unit import PRETRAIN, PROPORTIONS, mixture_unit

from reprune.analysis.notes import origin_notes, reading_notes
from reprune.analysis.shares import START
from reprune.analysis.table import build_table
from reprune.analysis.tables import write_tables
from reprune.analysis.terminal import table_lines

PRINTED = {
    "cc": 36.1,
    "github": 0.8,
    "book": 9.1,
    "stackexchange": 1.0,
    "wiki": 3.1,
    "arxiv": 0.7,
    "c4": 49.2,
}
SPEC = {
    "id": "usage",
    "kind": "shares",
    "title": "Usage",
    "experiment": "e",
    "tasks": list(PROPORTIONS),
    "published": {"tables": ["table3"], "models": ["LLaMA2-7B"]},
    "start_as": ["RedPajama"],
}
PUBLISHED = {
    "id": "table3",
    "metric": "shares",
    "decimals": 1,
    "caption": "Table 3",
    "source": "the paper",
    "confidence": "high",
    "decides": True,
    "rows": [
        *({"method": "RedPajama", "task": d, "value": 100 * own} for d, own in PROPORTIONS.items()),
        *({"method": "dynamic batch loading", "task": d, "value": own} for d, own in PRINTED.items()),
    ],
}
PUBLISHED["rows"] = [{"model": "LLaMA2-7B", **row} for row in PUBLISHED["rows"]]


def unit_of(results, **more):
    return mixture_unit(results, tables=[SPEC], published=[PUBLISHED], **more)


def own(table, label):
    """The cells of a row's own columns."""
    line = next(line for line in table.lines if line.row.label == label)
    return [cell for cell, column in zip(line.cells, table.columns, strict=True) if column.own]


def test_shares_are_of_the_windows_that_the_continuation_drew(results):
    unit = unit_of(results)
    table = build_table(unit, SPEC)
    assert [line.row.label for line in table.lines] == [
        START,
        "Pruned + dynamic",
        "Pruned + constant",
        "From scratch",
    ]
    (row,) = unit.select("e", "Pruned + dynamic")
    seen = unit.notes[row.runs[0].run_id]["recovery"]["evaluations"][-1]["seen"]
    shares = [cell.measurement.value for cell in own(table, "Pruned + dynamic")]
    assert shares == pytest.approx([100 * seen[d] / sum(seen.values()) for d in PROPORTIONS])
    assert sum(shares) == pytest.approx(100)
    starts = [cell.measurement.value for cell in own(table, START)]
    assert starts == pytest.approx([100 * share for share in PROPORTIONS.values()])


def test_what_another_model_was_trained_on_stands_beside(results):
    table = build_table(unit_of(results), SPEC)
    assert {column.kind for column in table.columns} == {"counted", "other"}
    others = [i for i, column in enumerate(table.columns) if column.kind == "other"]
    start, dynamic, constant, _ = table.lines
    assert [start.cells[i].measurement.value for i in others] == pytest.approx(
        [100 * own for own in PROPORTIONS.values()]
    )
    assert [dynamic.cells[i].measurement.value for i in others] == list(PRINTED.values())
    assert all(constant.cells[i].measurement is None for i in others)
    assert not any(cell.best for line in table.lines for cell in line.cells)


def test_of_the_same_model_the_difference_is_shown(results):
    unit = unit_of(results, published_names={"small": "LLaMA2-7B"})
    table = build_table(unit, SPEC)
    titles = {column.group for column in table.columns}
    assert {"Share of the windows drawn (%)", "Published", "Counted − published"} == titles
    at = {(column.kind, column.name): i for i, column in enumerate(table.columns)}
    line = table.lines[1]
    shown, printed, difference = (
        line.cells[at[kind, "c4"]].measurement.value for kind in ("counted", "published", "difference")
    )
    assert difference == pytest.approx(shown - printed)


def test_seeds_have_an_error_and_one_start(results):
    unit = unit_of(results, seeds=(0, 1, 2))
    table = build_table(unit, SPEC)
    assert [line.row.label for line in table.lines].count(START) == 1
    cell = own(table, "Pruned + constant")[0].measurement
    runs = unit.select("e", "Pruned + constant")[0].runs
    seen = [unit.notes[run.run_id]["recovery"]["evaluations"][-1]["seen"] for run in runs]
    shares = [100 * windows["cc"] / sum(windows.values()) for windows in seen]
    assert (cell.value, cell.stderr) == (
        pytest.approx(np.mean(shares)),
        pytest.approx(np.std(shares, ddof=1) / np.sqrt(3)),
    )
    assert "± is the standard error over 3 seeds." in reading_notes(unit, SPEC, table)


def test_rows_that_were_not_trained_have_their_reason_once(results):
    skipped = {"status": "skipped", "reason": "too wide", "recovery": PRETRAIN}
    results.add("No room", **skipped).add("Lost", status="diverged", reason="NaN", recovery=PRETRAIN)
    results.records[-1]["protocol"] = None  # training diverged, so nothing was measured
    unit = unit_of(results)
    table = build_table(unit, SPEC)
    lines = {line.row.label: line for line in table.lines}
    assert table.problems[lines["No room"].problem] == "skipped: too wide"
    assert table.problems[lines["Lost"].problem] == "diverged: NaN"
    assert lines["Pruned + dynamic"].problem is None
    page = next(path for path in write_tables(unit, results.folder) if path.suffix == ".html").read_text()
    assert '<td class="problem" colspan="7">skipped: too wide</td>' in page


def test_a_domain_that_is_not_in_the_mixture_is_missing(results):
    table = build_table(unit_of(results), {**SPEC, "tasks": ["cc", "law"], "published": {}})
    for label in (START, "Pruned + dynamic"):
        assert own(table, label)[1].measurement.reason == "no domain of the mixture"


def test_every_format_is_written_and_the_csv_has_every_digit(results):
    unit = unit_of(results)
    paths = {path.suffix: path for path in write_tables(unit, results.folder / "tables")}
    assert set(paths) == {".csv", ".md", ".tex", ".html"}
    frame = pd.read_csv(io.StringIO(paths[".csv"].read_text(encoding="utf-8")))
    counted = frame[(frame.origin == "counted") & (frame.label == "Pruned + dynamic")]
    assert counted.task.tolist() == list(PROPORTIONS) and counted.value.sum() == pytest.approx(100)
    assert (set(counted.metric), set(counted.unit)) == ({"shares"}, {"%"})
    assert counted.run_id.notna().all() and frame[frame.label == START].run_id.isna().all()
    assert any(line.startswith("Pruned + dynamic") for line in table_lines(build_table(unit, SPEC)))


def test_notes_say_what_was_counted_and_whence_the_printed_ones_are(results):
    unit = unit_of(results)
    table = build_table(unit, SPEC)
    assert any("without those of pruning" in note for note in reading_notes(unit, SPEC, table))
    assert "Published, table3: Table 3; the paper (confidence high)." in origin_notes(unit, SPEC, table)


def test_a_published_table_of_another_metric_is_refused(results):
    unit = unit_of(results)
    other = {**unit.published["table3"], "metric": "weight"}
    with pytest.raises(ValueError, match="is about shares, published table table3 about weight"):
        build_table(replace(unit, published={"table3": other}), SPEC)
