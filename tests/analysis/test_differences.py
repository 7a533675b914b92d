"""The block of real differences below a table of accuracies: pairs, words, notes, HTML, text and data."""

import io
import re

import numpy as np
import pandas as pd
import pytest
from downstream_unit import TABLE, WIDE
from test_report import SUMMARY, Tags

from reprune.analysis.differences import difference_notes, differences, name_of, tidy_differences
from reprune.analysis.differences_markup import text_lines, to_html
from reprune.analysis.paired import ALIKE, LOWER, NONE
from reprune.analysis.report import write_report
from reprune.analysis.terminal import print_tables

RIGHT = np.tile([1.0, 0.0, 1.0, 1.0], 20)
SPEC = {**TABLE, "experiment": "e", "tasks": ["piqa"]}
NAMES = ["Magnitude", "SparseGPT", "Wanda", "BESA"]


@pytest.fixture(scope="module")
def found(zeroshot):
    return differences(zeroshot, TABLE)


@pytest.fixture(scope="module")
def page(zeroshot, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report([zeroshot], SUMMARY, path)
    return path.read_text(encoding="utf-8")


def test_every_row_meets_dense_and_every_other(found):
    names = [name_of(pair) for pair in found.pairs]
    assert names[:4] == [f"{name} − Dense" for name in NAMES]
    assert sorted(names[4:]) == sorted(f"{b} − {a}" for i, a in enumerate(NAMES) for b in NAMES[i + 1 :])
    assert len(found.found) == 10 * 4


def test_the_planted_loss_is_real_and_the_small_ones_are_not(found):
    words = {name_of(pair): found.found[(*pair, "average")].word for pair in found.pairs}
    assert words["Magnitude − Dense"] == LOWER
    assert words["BESA − Wanda"] == ALIKE


def test_corrections_count_averages_and_tasks_apart(found):
    text = " ".join(difference_notes(found))
    assert "Holm over the 10 averages, and apart over the 30 comparisons on tasks" in text
    assert "McNemar's exact test" in text and "intervals are not" in text
    tasks = [c for c in found.found.values() if c.task != "average"]
    assert min(c.adjusted for c in tasks) == pytest.approx(30 * min(c.p for c in tasks))


def test_rows_of_other_targets_and_models_are_groups_of_their_own(results):
    for model in ("small", "llama-7b"):
        results.add("Dense", answers={"piqa": RIGHT}, model=model)
        for target in ("50%", "70%"):
            for label in ("BESA", "Wanda"):
                results.add(label, answers={"piqa": RIGHT}, model=model, target=target)
    unit = results.unit([SPEC])
    found = differences(unit, SPEC)
    assert len(found.pairs) == 2 * (4 + 2)
    assert all(a.model == b.model and (b.dense or a.target == b.target) for a, b in found.pairs)
    assert [[row.label for row in rows] for rows in found.groups] == [["Dense", "BESA", "Wanda"]] * 4
    text = "\n".join(text_lines(unit, found))
    assert "Differences that are real, llama-7b, 70%" in text
    assert to_html(unit, found, "x").count("<table>") == 4


def test_a_table_of_one_task_has_it_for_headline(results):
    results.add("Dense", answers={"piqa": RIGHT}).add("BESA", answers={"piqa": RIGHT})
    unit = results.unit()
    found = differences(unit, SPEC)
    assert (found.headline, found.details) == ("piqa", [])
    assert "on each task" not in to_html(unit, found, "x").lower()
    assert text_lines(unit, found)[2].split() == ["in", "points", "PIQA", "95", "%", "interval", "p"]


def test_without_an_average_every_task_is_shown_at_once(zeroshot):
    found = differences(zeroshot, WIDE)
    assert (found.headline, len(found.details)) == (None, 3)
    assert "<details open>" in to_html(zeroshot, found, "x")
    assert "on 3 tasks" in "\n".join(text_lines(zeroshot, found))
    assert difference_notes(found)[-1] == "Not compared on MathQA and Average."


def test_a_row_without_answers_is_told_with_its_reason(results):
    for label in ("Dense", "BESA"):
        results.add(label, answers={"piqa": RIGHT})
    results.add("Wanda", status="failed", reason="killed").add("Odd", status="skipped", reason="too wide")
    results.records[-1]["protocol"] = None
    unit = results.unit()
    found = differences(unit, SPEC)
    assert [name_of(pair) for pair in found.pairs] == ["BESA − Dense", "Wanda − Dense", "Wanda − BESA"]
    assert difference_notes(found)[-1] == "Not compared: Wanda at 50%: failed (killed) (2 comparisons)."
    assert "not compared" in "\n".join(text_lines(unit, found))


def test_nothing_to_compare_is_nothing_to_show(results):
    unit = results.add("BESA", answers={"piqa": RIGHT}).unit([SPEC], published=[{"id": "table2_zeroshot"}])
    found = differences(unit, SPEC)
    assert (found.pairs, to_html(unit, found, "x"), text_lines(unit, found)) == ((), "", [])


def test_the_report_has_the_block_below_its_table(page):
    table, block = page.index('id="besa-table2"'), page.index('id="besa-table2-differences"')
    assert table < block < page.index('id="besa-wide"')
    assert page.count("Differences that are real") == 2
    cell = re.search(r'<td class="lower"><b>(−[\d.]+)</b> .*?p (<?[\d.]+|&lt;[\d.]+)</span>', page)
    assert cell
    tags = Tags()
    tags.feed(page)
    assert tags.open == [] and len(tags.ids) == len(set(tags.ids))


def test_the_report_keeps_both_sources_of_a_task(results, tmp_path):
    roles = ("RTE, validation split", "RTE, examples in the prompt")
    told = [{"name": "rte", "role": role, "source": "hub:x", "fit": "equal"} for role in roles]
    unit = results.add("BESA", answers={"rte": RIGHT}).unit(sources=told)
    write_report([unit], SUMMARY, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert all(role in text for role in roles)


def test_the_text_has_a_line_for_each_pair_and_fits_a_terminal(zeroshot):
    stream = io.StringIO()
    print_tables([zeroshot], stream)
    text = stream.getvalue()
    assert max(map(len, text.splitlines())) <= 100
    assert re.search(r"Magnitude − Dense +−\d+\.\d +\[−\d+\.\d, −\d+\.\d\] +0\.001  lower", text)
    assert "higher," in text and "Every task of a pair: reprune show besa LEFT RIGHT" in text


def test_the_data_lie_beside_the_table_unrounded(zeroshot, found):
    frame = tidy_differences(TABLE, found)
    assert len(frame) == 40
    row = frame[(frame.left == "BESA") & (frame.right == "Wanda") & (frame.task == "piqa")].iloc[0]
    assert row.difference == pytest.approx(row.left_value - row.right_value)
    assert row.left_alone - row.right_alone == pytest.approx(row.difference * row["items"] / 100)
    assert (row.left_runs, row.unit) == ("besa-small-50%-s0-table2", "points")
    average = frame[frame.task == "average"]
    assert average.left_alone.isna().all() and average.p_holm.notna().all()


def test_what_was_not_compared_is_in_the_data_with_its_reason(zeroshot):
    frame = tidy_differences(WIDE, differences(zeroshot, WIDE))
    lost = frame[frame.task == "mathqa"]
    assert set(lost.word) == {NONE} and lost.reason.str.contains("no data").all()
    assert pd.isna(lost.difference).all()
