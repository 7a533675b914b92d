"""A table of counts: LLM-Pruner's published statistics to the printed decimals, in every format."""

from __future__ import annotations

import io
from dataclasses import asdict, replace

import pandas as pd
import pytest

from reprune.analysis.notes import origin_notes, reading_notes
from reprune.analysis.report import write_report
from reprune.analysis.table import build_table
from reprune.analysis.tables import write_tables
from reprune.analysis.terminal import print_tables
from reprune.method import ModelFacts
from reprune.models.counts import BlockShape, Shape

SPEC = {
    "id": "statistics",
    "kind": "counts",
    "title": "Statistics",
    "tokens": 64,
    "tasks": ["params", "macs", "memory"],
    "rows": [],
    "published": {"tables": ["counts", "memory"], "models": ["LLaMA-7B"]},
}
PRINTED = {  # LLM-Pruner, Table 3: label, share, parameters (B), multiply-accumulates (G), memory (MiB)
    ("Dense", 0.0): (6.74, 424.02, 12884.5),
    ("Channel", 0.2): (5.39, 339.36, 10363.6),
    ("Block", 0.2): (5.42, 339.60, 10375.5),
    ("Channel", 0.5): (3.37, 212.58, 6556.3),
    ("Block", 0.5): (3.35, 206.59, 6533.9),
}
CUT = {  # what is left: hidden size, heads and intermediate channels, blocks
    ("Dense", 0.0): (4096, (32, 11_008), range(0)),
    ("Channel", 0.2): (3276, (32, 11_008), range(0)),
    ("Block", 0.2): (4096, (24, 8256), range(4, 30)),
    ("Channel", 0.5): (2048, (32, 11_008), range(0)),
    ("Block", 0.5): (4096, (13, 4403), range(3, 31)),
}


def published(name: str, tasks: dict[str, int], decimals: int) -> dict:
    """A published table of some columns of the printed one."""
    rows = [
        {"method": label, "model": "LLaMA-7B", "task": task, "parameters": share, "value": values[at]}
        for (label, share), values in PRINTED.items()
        for task, at in tasks.items()
    ]
    told = {"caption": "Table 3", "source": "the paper", "confidence": "high", "decides": True}
    return {"id": name, "metric": "counts", "decimals": decimals, "rows": rows, **told}


@pytest.fixture
def unit(results, model_entry):
    """A unit with one run and the table of counts."""
    facts = ModelFacts(**model_entry("llama-7b")["facts"])
    dense = Shape.of(facts)
    rows = []
    for (label, share), (hidden, (heads, wide), cut) in CUT.items():
        own = BlockShape(heads, heads, wide)
        blocks = tuple(own if i in cut else block for i, block in enumerate(dense.blocks))
        kind = "width" if share else "none"
        rows.append(
            {
                "label": label,
                "model": "llama-7b",
                "method": "llm_pruner" if share else "dense",
                "target": f"{share:.0%} of parameters" if share else "dense",
                "target_kind": kind,
                "target_requested": share,
                "settings": {},
                "published_as": [label],
                "dense": facts.parameters,
                "shape": asdict(replace(dense, hidden_size=hidden, blocks=blocks)),
            }
        )
    results.add("Dense", {"wikitext2": [2.0, 2.1]}, method="dense")
    return results.unit(
        [SPEC],
        published=[
            published("counts", {"params": 0, "macs": 1}, 2),
            published("memory", {"memory": 2}, 1),
        ],
        counts={"statistics": rows},
        substitutions=["Another model stands in."],
        model_titles={"llama-7b": "LLaMA-7B", "small": "A small model"},
    )


@pytest.fixture
def written(unit, tmp_path):
    return {p.name: p.read_text(encoding="utf-8") for p in write_tables(unit, tmp_path / "tables")}


def test_every_published_parameter_and_mac_is_met_to_the_printed_decimals(unit):
    table = build_table(unit, SPEC)
    own = {c.name: i for i, c in enumerate(table.columns) if c.kind == "counted"}
    for line, (params, macs, _) in zip(table.lines, PRINTED.values(), strict=True):
        assert round(line.cells[own["params"]].measurement.value, 2) == params
        assert round(line.cells[own["macs"]].measurement.value, 2) == macs


def test_the_note_says_how_many_published_numbers_are_met(unit):
    notes = reading_notes(unit, SPEC, build_table(unit, SPEC))
    assert (
        "Equal to the published value at its printed decimals: Parameters 5 of 5, "
        "MACs 5 of 5, Memory 2 of 5." in notes
    )
    assert any("one sequence of 64 tokens" in note for note in notes)


def test_published_values_and_differences_stand_beside(written):
    (row,) = [line for line in written["statistics.md"].splitlines() if line.startswith("| Block | 50%")]
    cells = [cell.strip() for cell in row.split("|")[3:-1]]
    assert cells == ["3.35", "206.59", "6422.0", "3.35", "206.59", "6533.9", "0.00", "0.00", "−111.9"]
    head = written["statistics.md"].splitlines()[2]
    assert "From the configuration Parameters (B)" in head and "Counted − published Memory (MiB)" in head


def test_nothing_is_called_measured_and_nothing_the_best(written):
    for text in written.values():
        assert "easured" not in text
    assert "**" not in written["statistics.md"] and "<strong>" not in written["statistics.html"]


def test_no_substitution_is_told_where_nothing_is_substituted(unit, written):
    assert "Another model stands in." not in written["statistics.md"] + written["statistics.html"]
    assert origin_notes(unit, SPEC, build_table(unit, SPEC)) == [
        "Published, counts: Table 3; the paper (confidence high).",
        "Published, memory: Table 3; the paper (confidence high).",
        "Model: LLaMA-7B.",
    ]


def test_the_csv_has_every_digit_and_no_run(written):
    frame = pd.read_csv(io.StringIO(written["statistics.csv"]))
    assert set(frame.origin) == {"counted", "published", "counted minus published"}
    assert frame.run_id.isna().all() and frame.protocol.isna().all()
    own = frame[(frame.origin == "counted") & (frame.label == "Block") & (frame.target_requested == 0.2)]
    assert list(zip(own.metric, own.unit, own.value, strict=True)) == [
        ("params", "B", pytest.approx(5.422977024, rel=1e-15)),
        ("macs", "G", pytest.approx(339.602644992, rel=1e-15)),
        ("memory", "MiB", 10_375.5078125),
    ]


def test_exact_counts_show_as_many_decimals_as_are_printed(unit):
    """A parameter count printed in full, in billions, and the share that is kept."""
    rows = [
        {"method": "Block", "model": "LLaMA-7B", "task": task, "value": 1.0} for task in ("params", "kept")
    ]
    tables = {
        "exact": {"id": "exact", "metric": "counts", "decimals": 9, "decides": True, "rows": rows[:1]},
        "share": {"id": "share", "metric": "counts", "decimals": 4, "decides": True, "rows": rows[1:]},
    }
    spec = {
        **SPEC,
        "tasks": ["params", "kept"],
        "published": {"tables": list(tables), "models": ["LLaMA-7B"]},
    }
    table = build_table(replace(unit, published=tables), spec)
    shown = [cell.measurement for cell in table.lines[2].cells[:2]]
    assert [(round(m.value, m.decimals), m.decimals) for m in shown] == [(5.422977024, 9), (80.4785, 4)]


def test_a_published_table_of_another_metric_is_refused(unit):
    other = {**unit.published["counts"], "metric": "perplexity"}
    with pytest.raises(
        ValueError, match="table statistics is about counts, published table counts about perp"
    ):
        build_table(replace(unit, published={**unit.published, "counts": other}), SPEC)


def test_it_stands_in_the_report_and_on_the_terminal(unit, tmp_path):
    summary = {
        "title": "T",
        "scale": "smoke",
        "created": "2026-01-01",
        "machine": {"cpu": "c", "cores": 1, "memory_gb": 1.0},
        "commit": "0",
        "dirty": False,
        "versions": {},
        "seconds": 1.0,
        "command": "snakemake",
    }
    write_report([unit], summary, tmp_path / "report.html")
    assert "Memory 2 of 5" in (tmp_path / "report.html").read_text(encoding="utf-8")
    text = io.StringIO()
    print_tables([unit], text)
    assert "Not shown here" not in text.getvalue()
    assert "339.60" in text.getvalue() and "−111.9" in text.getvalue()


def test_another_unit_of_the_paper_has_it_not(unit):
    other = replace(unit, info={**unit.info, "counts": {}})
    assert other.declared("tables") == [] and unit.declared("tables") == [SPEC]
