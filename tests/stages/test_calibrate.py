"""Drawing calibration windows: what is kept beside them."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import load_file

from reprune.calibration.windows import CalibrationError, draw_rows, tokenizer_function
from reprune.data.corpora import read_corpus


@pytest.fixture
def by_rows(project, bench):
    """A workbench whose calibration is cut from rows."""
    project.edit(
        "papers/mini/paper.yaml", "    seeds: [0, 1]", "    seeds: [0]\n    calibration: $grasp_calibration"
    )
    return bench


def facts_of(file):
    return json.loads(file.with_suffix(".json").read_text())


def test_windows_of_rows_are_kept_with_the_rows_drawn(by_rows):
    made = by_rows()
    run = made.run("wanda")
    file = made.calibration(run)
    tokens, facts = load_file(file)["tokens"], facts_of(file)
    documents = read_corpus(made.corpus(run.calibration.corpus.id))
    tokenize = tokenizer_function(made.model(run.model.id))
    expected, rows = draw_rows(documents, tokenize, 64, 32, 0)
    assert tokens.equal(expected) and facts["drawn"] == rows
    assert (facts["sampler"], facts["windows"], facts["length"]) == ("rows", len(tokens), 32)
    assert len(facts["drawn"]) == 64 != len(tokens)


def test_crops_are_kept_with_their_places(bench):
    made = bench()
    file = made.calibration(made.run("wanda", seed=1))
    facts = facts_of(file)
    assert load_file(file)["tokens"].shape == (8, 32) == (facts["windows"], facts["length"])
    assert len(facts["drawn"]) == 8 and set(facts["drawn"][0]) == {"document", "start"}


def test_rows_too_short_for_a_window_fail_with_what_to_do(project, by_rows):
    project.edit("config/scales/smoke.yaml", "rows: 64, length: 32", "rows: 1, length: 500")
    made = by_rows()
    with pytest.raises(CalibrationError, match="1 rows of text give .* raise `rows` or lower `length`"):
        made.calibration(made.run("wanda"))
