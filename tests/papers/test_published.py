"""Every published number is written down so that tables can find it, and every table finds its own."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

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
            assert printed["metric"] == spec["metric"], f"{spec['id']}: {name}"
            models = {row["model"] for row in printed["rows"]}
            assert models & set(spec["published"]["models"]), f"{spec['id']}: {name} is about {models}"


@pytest.mark.parametrize("paper", PUBLISHED)
def test_every_label_that_is_printed_is_found(paper):
    """A row of ``published_as`` that no table prints would show an empty cell without a reason."""
    declared = read(PAPERS / paper / "paper.yaml")
    printed = {row["method"] for table in tables(paper).values() for row in table["rows"]}
    for name, experiment in declared["experiments"].items():
        for entry in experiment["methods"] if experiment["methods"] != "all" else []:
            named = entry.get("published_as", []) if isinstance(entry, dict) else []
            assert set(named) <= printed, f"{name}: {named}"


def test_averages_of_grasp_are_those_of_their_tasks():
    """The two sources of Table 5 agree, which is how the figure's model and ratio are known."""
    rows = tables("grasp")["table5_calibration_size"]["rows"]
    for method in ("64", "128", "256", "512"):
        values = {row["task"]: row["value"] for row in rows if row["method"] == method}
        average = values.pop("average")
        assert sum(values.values()) / 7 == pytest.approx(average, abs=0.006)
