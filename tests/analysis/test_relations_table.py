"""The table of relations that heads follow, beside Voita et al.'s Table 1."""

from __future__ import annotations

import pytest
from heads_unit import BASELINES, TASK, heads_unit

from reprune.analysis.notes import origin_notes, reading_notes
from reprune.analysis.relations import NAMES
from reprune.analysis.table import build_table
from reprune.analysis.tables import tidy

SPEC = {
    "id": "relations",
    "kind": "relations",
    "title": "Relations",
    "experiment": "e",
    "protocol": "head-roles-voita",
    "tasks": [TASK],
    "method": "Dense",
    "published": {"tables": ["table1"], "models": ["Large"]},
}
PUBLISHED = {
    "id": "table1",
    "metric": "relations",
    "decimals": 0,
    "caption": "Table 1",
    "source": "the paper",
    "confidence": "medium",
    "rows": [
        {"method": NAMES["dobj_dependent"], "model": "Large", "task": "best_head", "value": 78},
        {"method": NAMES["dobj_dependent"], "model": "Large", "task": "best_offset", "value": 41},
        {"method": NAMES["dobj_head"], "model": "Large", "task": "best_head", "value": 73},
    ],
}


def unit_of(results, **more):
    return heads_unit(results, published=[PUBLISHED], **more)


def cells(table, relation):
    """The shown values of a relation, by heading."""
    line = next(line for line in table.lines if line.heads == (NAMES[relation],))
    return {
        (column.group, column.title): cell.measurement and cell.measurement.value
        for cell, column in zip(line.cells, table.columns, strict=True)
    }


def test_each_relation_has_its_best_head_and_the_best_offset_beside_the_printed_ones(results):
    table = build_table(unit_of(results), SPEC)
    assert table.heads == ("Relation",)
    assert [line.heads[0] for line in table.lines] == list(NAMES.values())
    assert cells(table, "dobj_dependent") == {
        ("Accuracy (%)", "Best head"): pytest.approx(78.0),
        ("Accuracy (%)", "Best fixed offset"): pytest.approx(100 * BASELINES["dobj"]),
        ("Large, published", "Best head"): 78.0,
        ("Large, published", "Best fixed offset"): 41.0,
    }
    assert cells(table, "dobj_head")["Large, published", "Best fixed offset"] is None
    assert cells(table, "nsubj_head")["Accuracy (%)", "Best head"] == pytest.approx(70.0)
    assert not any(cell.best for line in table.lines for cell in line.cells)


def test_a_cell_tells_its_run_its_protocol_and_its_error(results):
    unit = unit_of(results)
    told = tidy(unit, SPEC, build_table(unit, SPEC)).set_index(["label", "origin", "task"])
    (run,) = unit.select("e", "Dense")[0].runs
    best = told.loc[(NAMES["amod_dependent"], "measured", "best_head")]
    assert (best.run_id, best.protocol, best.metric) == (run.run_id, "head-roles-voita", "relations")
    assert (best.stderr, best.stderr_over) == (pytest.approx(2.0), "sentences")
    printed = told.loc[(NAMES["dobj_head"], "published, other model", "best_head")]
    assert (printed.model, printed.value) == ("Large", 73)


def test_notes_say_what_is_counted_and_that_the_printed_model_is_another(results):
    unit = unit_of(results)
    table = build_table(unit, SPEC)
    notes = [*reading_notes(unit, SPEC, table), *origin_notes(unit, SPEC, table)]
    for part in ("most frequent distance", "never subtracted", "standard error over sentences", "Table 1"):
        assert any(part in note for note in notes), part


def test_what_was_not_measured_has_a_reason(results):
    skipped = results.add("Dense", method="dense", status="skipped", reason="no model").unit()
    table = build_table(skipped, {**SPEC, "published": {}})
    assert len(table.lines) == len(NAMES)
    assert [*table.problems.values()] == ["skipped: no model"]


def test_a_relation_with_too_few_instances_says_so(results):
    unit_of(results)
    dense = results.experiments["e"]["rows"][0]["run_id"]
    for item in results.items:
        if item["run_id"] == dense and item["metric"] == "advmod_head_share":
            item["value"] = None
    table = build_table(results.unit(published=[PUBLISHED]), SPEC)
    assert cells(table, "advmod_head")["Accuracy (%)", "Best head"] is None
    assert [*table.problems.values()] == ["missing: too few instances of the relation"]


def test_a_label_that_no_row_has_is_refused_and_not_an_empty_table(results):
    with pytest.raises(ValueError, match="table relations: no row is called 'Dens'"):
        build_table(unit_of(results), {**SPEC, "method": "Dens"})
