"""Notes below a table: how calibration text was drawn, and what a scale leaves out."""

from __future__ import annotations

import numpy as np

from reprune.analysis.notes import origin_notes
from reprune.analysis.table import build_table

DRAWN = "c4-train-32x128-s0-0123456789ab"  # by the rows of ``results``
SPEC = {"id": "t", "title": "A table", "experiment": "e"}
TEXT = {**SPEC, "suite": "perplexity", "protocol": "perplexity-besa", "metric": "perplexity"}
TEXT["tasks"] = ["wikitext2"]
TASKS = {**SPEC, "suite": "downstream", "protocol": "gsm8k-grasp", "metric": "accuracy", "tasks": ["gsm8k"]}


def notes(unit, spec):
    return origin_notes(unit, spec, build_table(unit, spec))


def test_a_calibration_is_told_in_the_words_of_its_sampler(results):
    results.add("Wanda", {"wikitext2": np.log([10.0, 11.0])})
    size = {"corpus": "wikitext2-train", "length": 256, "seed": 3}
    for amount, told in (
        ({"rows": 128}, "128 rows of wikitext2-train, cut into windows of 256 tokens, seed 3."),
        ({"windows": 1}, "1 window of 256 tokens of wikitext2-train, seed 3."),
    ):
        unit = results.unit([TEXT], calibrations={DRAWN: {**size, **amount}})
        assert f"Calibration: {told}" in notes(unit, TEXT)


def test_a_protocol_that_the_scale_skips_has_no_sources_and_its_reason_in_the_cells(results):
    results.add("Wanda", absent={"gsm8k": "too hard"}, protocol="gsm8k-grasp@1")
    content = {"name": "gsm8k-grasp", "version": 1, "suite": "downstream", "tasks": {}, "skip": "too hard"}
    content["unavailable"] = {"gsm8k": "too hard"}
    unit = results.unit([TASKS], protocols={"gsm8k-grasp@1": content})
    assert "GSM8K: not measured at this scale." in notes(unit, TASKS)
    (line,) = build_table(unit, TASKS).lines
    assert (line.cells[0].measurement.status, line.cells[0].measurement.reason) == ("skipped", "too hard")
    assert not any("skip" in note for note in notes(unit, TASKS))
