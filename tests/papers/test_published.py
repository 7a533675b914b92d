"""Every published number is written down so that tables can find it, and every table finds its own."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from reprune.analysis.relations import COLUMNS, NAMES
from reprune.plan.grammar import COUNTS, RELATIONS

PAPERS = Path(__file__).parents[2] / "papers"
PUBLISHED = {file.parent.name: file for file in sorted(PAPERS.glob("*/published.yaml"))}
HEAD = {"id", "caption", "metric", "higher_is_better", "source", "confidence", "decides", "decimals", "rows"}
ROW = {"method", "model", "task", "value", "sparsity", "pattern", "parameters"}


def read(file: Path) -> dict:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def tables(paper: str) -> dict[str, dict]:
    return {table["id"]: table for table in read(PUBLISHED[paper])["tables"]}


@pytest.mark.parametrize("paper", PUBLISHED)
def test_tables_say_what_they_are_and_where_they_were_read(paper):
    content = read(PUBLISHED[paper])
    assert content["paper"] == paper
    assert len(tables(paper)) == len(content["tables"])
    for table in content["tables"]:
        assert set(table) - {"setup", "notes"} == HEAD, table["id"]
        assert table["confidence"] in ("high", "medium", "low") and table["rows"]
        assert table["confidence"] != "low" or not table["decides"], table["id"]


@pytest.mark.parametrize("paper", PUBLISHED)
def test_every_row_is_one_finite_number_of_one_line(paper):
    for table in tables(paper).values():
        places = set()
        for row in table["rows"]:
            assert set(row) <= ROW and {"method", "model", "task", "value"} <= set(row)
            assert all(isinstance(row[key], str) for key in ("method", "model", "task"))
            assert not ("parameters" in row and "sparsity" in row)
            assert math.isfinite(row["value"])
            if table["metric"] == "accuracy":
                assert 1 < row["value"] < 100, f"{table['id']} is not in percent"
            places.add(tuple((key, row[key]) for key in sorted(row) if key != "value"))
        assert len(places) == len(table["rows"]), f"{table['id']} prints a cell twice"


@pytest.mark.parametrize("paper", PUBLISHED)
def test_every_table_that_shows_published_numbers_names_them_rightly(paper):
    declared = read(PAPERS / paper / "paper.yaml")
    for spec in declared.get("tables", []):
        for name in spec.get("published", {}).get("tables", []):
            printed = tables(paper)[name]
            assert printed["metric"] == spec.get("metric", spec.get("kind")), f"{spec['id']}: {name}"
            models = {row["model"] for row in printed["rows"]}
            assert models & set(spec["published"]["models"]), f"{spec['id']}: {name} is about {models}"
            tasks = {row["task"] for row in printed["rows"]}
            own = COLUMNS if spec.get("kind") == RELATIONS else spec["tasks"]
            shown = {*own, *spec["published"].get("tasks", [])}
            assert tasks & shown, f"{spec['id']} shows nothing of {name}, which has {tasks}"


@pytest.mark.parametrize("paper", PUBLISHED)
def test_every_label_that_is_printed_is_found(paper):
    """A row of ``published_as`` that no table prints would show an empty cell without a reason."""
    declared = read(PAPERS / paper / "paper.yaml")
    printed = {row["method"] for table in tables(paper).values() for row in table["rows"]}
    for name, experiment in declared["experiments"].items():
        for entry in experiment["methods"] if experiment["methods"] != "all" else []:
            named = entry.get("published_as", []) if isinstance(entry, dict) else []
            assert set(named) <= printed, f"{name}: {named}"
    for table in (table for table in declared.get("tables", []) if table.get("kind") == COUNTS):
        named = {label for row in table["rows"] for label in row.get("published_as", [row["label"]])}
        assert named <= printed, f"{table['id']}: {named - printed}"


def test_every_relation_of_the_paper_is_printed_as_the_table_calls_it():
    rows = tables("voita_heads")["table1"]["rows"]
    printed = {(row["method"], row["task"]) for row in rows}
    assert printed == {(name, task) for name in NAMES.values() for task in COLUMNS}
    assert len(rows) == 2 * len(printed), "of each of the two models"


def test_averages_of_grasp_are_those_of_their_tasks():
    """The two sources of Table 5 agree, which is how the figure's model and ratio are known."""
    rows = tables("grasp")["table5_calibration_size"]["rows"]
    for method in ("64", "128", "256", "512"):
        values = {row["task"]: row["value"] for row in rows if row["method"] == method}
        average = values.pop("average")
        assert sum(values.values()) / 7 == pytest.approx(average, abs=0.006)


def test_grasps_averages_over_other_tasks_are_not_taken_for_those_of_ours():
    for name in ("table2", "table3", "tableA_longbench"):
        assert "average" not in {row["task"] for row in tables("grasp")[name]["rows"]}


def test_averages_of_llm_pruner_are_those_of_their_tasks():
    """Rounded or cut to two decimals, as the paper does; so no digit of a line was misread."""
    checked = 0
    for name, table in tables("llm_pruner").items():
        lines: dict[tuple, dict[str, float]] = {}
        for row in table["rows"]:
            lines.setdefault((row["method"], row["model"]), {})[row["task"]] = row["value"]
        for line, values in lines.items():
            for average, count in (("average", 7), ("average6", 6)):
                if average in values and len(values) == count + 1:
                    mean = (sum(values.values()) - values[average]) / count
                    assert mean == pytest.approx(values[average], abs=0.011), f"{name}: {line}"
                    checked += 1
    assert checked == 85
