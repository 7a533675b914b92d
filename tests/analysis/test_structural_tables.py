"""Tables of structural methods: what a ratio is a share of, recovery, published shares of parameters."""

import numpy as np
import pytest

from reprune.analysis.measurements import fact
from reprune.analysis.names import RECOVERIES
from reprune.analysis.notes import origin_notes, reading_notes
from reprune.analysis.published import find_published
from reprune.analysis.table import build_table
from reprune.analysis.terminal import table_lines
from reprune.plan.recoveries import KINDS

LOSSES = {"c4": np.array([2.0, 2.5, 3.0])}
ZEROS, REMOVED = "zeros in the linear layers of the decoder blocks", "parameters, tied embeddings once"
SPEC = {
    "id": "t",
    "title": "T",
    "experiment": "e",
    "suite": "perplexity",
    "protocol": "perplexity-besa",
    "metric": "perplexity",
    "tasks": ["c4"],
    "facts": ["ratio_achieved", "ratio_nonembedding", "compress_s", "recover_s"],
}


def grasp(results, label="GRASP", **more):
    facts = {
        "ratio_basis": REMOVED,
        "ratio_achieved": 0.2013,
        "ratio_nonembedding": 0.2559,
        "compress_s": 30.0,
    }
    facts |= more.pop("facts", {})
    more = {"target": "20% of parameters", "requested": 0.2, "kind": "low_rank", **more}
    return results.add(label, LOSSES, method="grasp", facts=facts, **more)


def wanda(results):
    return results.add("Wanda", LOSSES, facts={"ratio_basis": ZEROS, "ratio_achieved": 0.5})


def titles(table):
    return [column.title for column in table.columns if column.kind == "fact"]


def basis(unit, table):
    return [note for note in origin_notes(unit, SPEC, table) if "counted on the saved checkpoint" in note]


def test_ratios_of_structural_rows_are_parameters_removed(results):
    results.add("dense", LOSSES, facts={"ratio_basis": ZEROS, "ratio_achieved": 0.0})
    unit = grasp(results).unit([SPEC])
    table = build_table(unit, SPEC)
    assert titles(table)[:2] == ["Parameters removed (%)", "Removed outside embeddings (%)"]
    assert basis(unit, table) == [f"Parameters removed: counted on the saved checkpoint, over {REMOVED}."]
    lines = table_lines(table)
    assert any("20.13" in line and "25.59" in line for line in lines if line.startswith("GRASP"))


def test_ratios_of_masks_are_sparsities(results):
    unit = wanda(results).unit([SPEC])
    table = build_table(unit, SPEC)
    assert titles(table)[0] == "Sparsity (%)"
    assert basis(unit, table) == [f"Sparsity: counted on the saved checkpoint, over {ZEROS}."]


def test_of_both_kinds_each_is_told_with_its_rows(results):
    grasp(wanda(results))
    unit = grasp(results, "GRASP*", recovery={"kind": "replaced"}).unit([SPEC])
    table = build_table(unit, SPEC)
    assert titles(table)[0] == "Zero or removed (%)"
    (note,) = basis(unit, table)
    assert note.endswith(f"over {ZEROS} (Wanda) and {REMOVED} (GRASP and GRASP*).")


def test_recovery_is_shown_where_it_tells_rows_apart(results):
    unit = grasp(results).unit([SPEC])
    assert "Recovery" not in build_table(unit, SPEC).heads
    grasp(results, "GRASP*", recovery={"kind": "replaced"}, facts={"recover_s": 60.0})
    unit = grasp(results, "LoRA", recovery={"kind": "lora", "rank": 128}).unit([SPEC])
    table = build_table(unit, SPEC)
    place = table.heads.index("Recovery")
    assert [line.heads[place] for line in table.lines] == ["", "replaced blocks", "adapters"]
    assert fact(unit, table.lines[1].row, "recover_s") == 60.0
    assert fact(unit, table.lines[0].row, "recover_s") is None


def test_every_kind_of_recovery_has_words_for_tables():
    assert set(RECOVERIES) == set(KINDS)


def test_recoveries_in_a_chain_are_told_in_their_order(results):
    grasp(results, "GRASP*", recovery={"kind": "full"})
    chain = {"kind": "lora", "rank": 8, "after": [{"kind": "pretrain", "steps": 6}]}
    unit = grasp(results, "Chain", recovery=chain).unit([SPEC])
    assert [r["kind"] for r in unit.select("e", "Chain")[0].recoveries] == ["pretrain", "lora"]
    table = build_table(unit, SPEC)
    told = [line.heads[table.heads.index("Recovery")] for line in table.lines]
    assert told == ["all parameters", "all parameters, on text, then adapters"]


def test_recovery_that_all_rows_share_is_no_column(results):
    for label in ("GRASP*", "ShortGPT*"):
        grasp(results, label, recovery={"kind": "lora"})
    assert "Recovery" not in build_table(results.unit([SPEC]), SPEC).heads


@pytest.mark.parametrize(
    "printed, found",
    [
        ({"parameters": 0.2}, True),
        ({"parameters": 0.25}, False),
        ({"sparsity": 0.2, "pattern": "unstructured"}, False),
        ({"sparsity": 0.2}, False),
        ({}, True),
    ],
)
def test_a_printed_share_of_parameters_is_that_of_a_structural_target(results, printed, found):
    (row,) = grasp(results, published_as=["GRASP"]).unit([SPEC]).rows("e")
    line = {"method": "GRASP", "model": "LLaMA-7B", "task": "c4", "value": 7.5, **printed}
    assert bool(find_published([{"rows": [line]}], row, "LLaMA-7B", "c4")) is found


def test_a_printed_share_of_parameters_is_no_sparsity(results):
    results.add("Wanda", LOSSES, published_as=["Wanda"])
    results.add("dense", LOSSES, published_as=["Dense"])
    wanda_row, dense_row = results.unit([SPEC]).rows("e")
    line = {"model": "LLaMA-7B", "task": "c4", "value": 7.5}
    tables = [{"rows": [{**line, "method": "Wanda", "parameters": 0.5}]}]
    assert find_published(tables, wanda_row, "LLaMA-7B", "c4") is None
    for share in ("parameters", "sparsity"):
        tables = [{"rows": [{**line, "method": "Dense", share: 0.0}]}]
        assert find_published(tables, dense_row, "LLaMA-7B", "c4").value == 7.5


def test_timings_have_their_error_over_repeats(results):
    spec = {**SPEC, "suite": "efficiency", "protocol": "efficiency-grasp", "metric": "speedup", "facts": []}
    spec["tasks"] = ["generate"]
    unit = results.add("GRASP", speedups={"generate": [1.2, 1.3, 1.25]}).unit([spec])
    table = build_table(unit, spec)
    assert table.columns[0].group == "Speed-up (× dense) ↑" and table.columns[0].title == "Generation"
    assert any("standard error over 3 repeats" in note for note in reading_notes(unit, spec, table))


def test_notes_of_runs_are_read(results):
    unit = grasp(results, notes={"chosen": [22, 21]}).unit([SPEC])
    (row,) = unit.rows("e")
    assert unit.notes == {row.runs[0].run_id: {"chosen": [22, 21]}}
    assert row.structural and row.recoveries == ()
