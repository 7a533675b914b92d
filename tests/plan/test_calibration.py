"""Calibrations of scales and papers: how much of which text, and what that makes of an identity."""

from __future__ import annotations

import json

import pytest

from reprune.plan.calibration import SAMPLERS, overridden
from reprune.plan.estimate import compress_flops
from reprune.plan.identity import identify
from reprune.plan.jobs import Jobs


def drawn(plan):
    """The only calibration of a plan."""
    (calibration,) = plan.calibrations.values()
    return calibration


@pytest.fixture
def by_rows(experiment):
    """Plans Wanda on a calibration by rows; ``own`` is the entry's own part of it."""

    def plan(own="{}", **keys):
        methods = f"[{{method: wanda, calibration: {own}}}]"
        return experiment(calibration="$grasp_calibration", methods=methods, seeds="[0]", **keys)

    return plan


def test_the_identity_of_crops_is_what_it_was_before_there_were_rows(project, experiment):
    plan = experiment(methods="[wanda]", seeds="[0]")
    found = drawn(plan)
    content = {
        "corpus": found.corpus.content,
        "tokenizer": found.model.content["source"],
        "windows": 8,
        "length": 32,
        "seed": 0,
        "sampler": "document_crop",
    }
    assert found.id == identify("made-train-8x32-s0", content)


def test_a_scale_may_name_more_than_one_calibration(by_rows):
    found = drawn(by_rows())
    assert found.id.startswith("made-rows-64rows-32-s0-")
    assert (found.sampler, found.size, found.length) == ("rows", {"rows": 64}, 32)
    assert found.text == "made-rows 64 rows in windows of 32, seed 0"


def test_an_entry_may_draw_other_rows_or_by_another_sampler(by_rows):
    usual, fewer = drawn(by_rows()), drawn(by_rows("{rows: 16}"))
    assert fewer.size == {"rows": 16} and fewer.id != usual.id
    crops = drawn(by_rows("{sampler: document_crop, windows: 4, corpus: made-train}"))
    assert (crops.size, crops.length) == ({"windows": 4}, 32)


def test_another_sampler_inherits_all_but_the_amount():
    crop = {"corpus": "c", "windows": 8, "length": 32}
    rows = {"corpus": "c", "rows": 64, "length": 32, "sampler": "rows"}
    assert overridden(crop, {"windows": 4}) == {**crop, "windows": 4}
    assert overridden(crop, {"sampler": "rows", "rows": 64}) == rows
    assert overridden(rows, {"length": 16}) == {**rows, "length": 16}
    assert overridden(rows, {"windows": 4}) == {**rows, "windows": 4}, "which planning refuses"


def test_the_job_and_the_table_are_told_how_much_is_drawn(by_rows):
    plan = by_rows()
    found = drawn(plan)
    job = json.loads(Jobs(plan).calibration(found.id))
    assert (job["sampler"], job["amount"], job["length"], job["seed"]) == ("rows", 64, 32, 0)
    info = json.loads(Jobs(plan).collect("mini"))["info"]
    assert info["calibrations"] == {found.id: {"corpus": "made-rows", "rows": 64, "length": 32, "seed": 0}}


def test_the_work_of_rows_is_estimated(by_rows):
    few, many = (next(iter(by_rows(f"{{rows: {n}}}").runs.values())) for n in (16, 64))
    assert compress_flops(many) == pytest.approx(4 * compress_flops(few))


def test_the_stage_knows_every_sampler():
    from reprune.calibration import windows

    assert set(windows.SAMPLERS) == set(SAMPLERS)
