"""LLM-Pruner's statistics from configurations alone: what is printed comes out, at every scale."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from reprune.analysis.formats import fixed
from reprune.analysis.table import build_table
from reprune.analysis.unit import Unit
from reprune.plan.grammar import COUNTS
from reprune.plan.jobs import Jobs
from reprune.plan.plan import build_plan

SCALES = ("smoke", "local", "full", "paper")
MET = {  # table: how many printed numbers of each quantity come out to the printed decimals, of how many
    "table3": {"params": (5, 5), "macs": (5, 5), "memory": (2, 5)},
    "grouped": {"params": (4, 4), "kept": (2, 2)},
}
EXACT = {  # the sheet's constants, which print more digits than the paper
    ("Dense", 0.0): (6.738415616, 424.021065728),
    ("Channel, 20 %", 0.2): (5.389416396, 339.361064448),
    ("Block, 20 %", 0.2): (5.422977024, 339.602644992),
    ("Channel, 50 %", 0.5): (3.369207808, 212.577550336),
    ("Block, 50 %", 0.5): (3.350188032, 206.585210112),
    ("Block, 27 blocks as in the text", 0.5): (3.471196160, 214.350776384),
}


def unit_of(root: Path, scale: str) -> Unit:
    """The paper's unit as a run hands it to its tables, without records."""
    info = json.loads(Jobs(build_plan({"scale": scale}, root)).collect("llm_pruner"))["info"]
    paper, published = (
        yaml.safe_load((root / "papers" / "llm_pruner" / f"{name}.yaml").read_text(encoding="utf-8"))
        for name in ("paper", "published")
    )
    nothing = pd.DataFrame()
    tables = {table["id"]: table for table in published["tables"]}
    return Unit(root, info, nothing, nothing, nothing, {}, paper, tables)


@pytest.fixture(scope="module", params=SCALES)
def tables(request, root):
    unit = unit_of(root, request.param)
    specs = [spec for spec in unit.declared("tables") if spec.get("kind") == COUNTS]
    return {spec["id"]: build_table(unit, spec) for spec in specs}


def cells(table, kind, name):
    """The measurements of a column, None where it has none."""
    (at,) = [i for i, column in enumerate(table.columns) if (column.kind, column.name) == (kind, name)]
    return [line.cells[at].measurement for line in table.lines]


@pytest.mark.parametrize("name", MET)
def test_printed_numbers_come_out_to_the_printed_decimals(tables, name):
    table = tables[name]
    for quantity, (same, of) in MET[name].items():
        pairs = zip(cells(table, "counted", quantity), cells(table, "published", quantity), strict=True)
        known = [(own, told) for own, told in pairs if told]
        equal = [fixed(own.value, told.decimals) == fixed(told.value, told.decimals) for own, told in known]
        assert (sum(equal), len(equal)) == (same, of), quantity


def test_every_digit_is_that_of_the_sheet(tables):
    table = tables["table3"]
    own = zip(cells(table, "counted", "params"), cells(table, "counted", "macs"), strict=True)
    lines = [(line.row.label, line.row.target_requested) for line in table.lines]
    found = {line: (p.value, m.value) for line, (p, m) in zip(lines, own, strict=True)}
    assert found == {line: pytest.approx(values, rel=1e-14) for line, values in EXACT.items()}
