"""Histories of trainings on a mixture: their order, tokens over all, losses to reach, means over runs."""

from __future__ import annotations

import numpy as np
import pytest
from mixture_unit import history

from reprune.analysis.histories import CONTINUED, PRUNING, histories, measurements
from reprune.analysis.plot_tokens import measured_rows
from reprune.analysis.samples import Undecided

SPEC = {"experiment": "e"}


def row_of(unit, name="r"):
    return unit.select("e", name)[0]


def test_tokens_are_counted_over_all_trainings_in_their_order(results):
    earlier, last = history({"a": 2.0}, {"a": 1.5}), {"kind": "full", "losses": [1.0]}
    notes = {"pruning": history({"a": 3.0}, {"a": 2.5}, {"a": 2.2}, tokens=10)}
    results.add("r", notes={**notes, "earlier_recoveries": [earlier], "recovery": last})
    results.add("s", notes={**notes, "recovery": earlier})
    unit = results.unit()
    for name in ("r", "s"):
        data = measurements(unit, row_of(unit, name))
        assert data.stage.tolist() == [PRUNING] * 3 + [CONTINUED] * 2
        assert data.tokens.tolist() == [0, 10, 20, 20, 120]
        assert data.loss.tolist() == [3.0, 2.5, 2.2, 2.0, 1.5]
    assert data.excess.isna().all()


def test_a_training_on_instructions_is_no_history(results):
    results.add("r", notes={"recovery": {"kind": "lora", "losses": [1.0]}})
    results.add("gone", status="skipped", reason="too wide")
    unit = results.unit()
    with pytest.raises(Undecided, match="^r at 50%: no training on a mixture was noted$"):
        histories(unit, row_of(unit))
    with pytest.raises(Undecided, match="^gone at 50%: too wide$"):
        histories(unit, row_of(unit, "gone"))


def reached(unit, name, *beside):
    return histories(unit, row_of(unit, name), [row_of(unit, other) for other in beside])[0].references


def test_losses_to_reach_are_a_rows_own_else_those_beside_it_the_later_training_first(results):
    plain, pruned = history({"a": 2.0}, {"a": 1.5}), history({"a": 3.0}, {"a": 2.5}, references={"a": 1.0})
    own, other = {**plain, "references": {"a": 1.1}}, {**plain, "references": {"a": 1.2}}
    results.add("constant", notes={"pruning": pruned, "recovery": {**plain, "references": {}}})
    results.add("dynamic", notes={"pruning": pruned, "recovery": own})
    results.add("other", notes={"recovery": other})
    results.add("alone", notes={"recovery": plain})
    results.add("far", notes={"recovery": other}, model="llama-7b")
    unit = results.unit()
    assert reached(unit, "dynamic", "other") == {"a": 1.1}
    assert reached(unit, "constant", "other", "dynamic") == {"a": 1.2}
    assert reached(unit, "constant") == {"a": 1.0}
    assert reached(unit, "alone") == reached(unit, "alone", "far") == {}


def test_losses_to_reach_are_those_of_the_seed(results):
    for seed, reference in ((0, 1.0), (1, 1.5)):
        results.add("r", notes={"recovery": history({"a": 2.0}, references={"a": reference})}, seed=seed)
        results.add("s", notes={"recovery": history({"a": 3.0 + seed})}, seed=seed)
    results.add("s", notes={"recovery": history({"a": 3.0})}, seed=2)
    unit = results.unit()
    runs = histories(unit, row_of(unit, "s"), [row_of(unit)])
    assert [(run.seed, run.references["a"]) for run in runs] == [(0, 1.0), (1, 1.5), (2, 1.0)]
    data = measurements(unit, row_of(unit, "s"), [row_of(unit)])
    assert data.loss.tolist() == [pytest.approx(10 / 3)]
    assert data.excess.tolist() == [pytest.approx(10 / 3 - 3.5 / 3)]
    assert data.run_id.iloc[0].count(";") == 2


def test_the_domains_keep_their_order(results):
    results.add("r", notes={"recovery": history({"z": 2.0, "a": 1.0}, {"z": 1.5, "a": 0.5})})
    unit = results.unit()
    assert measurements(unit, row_of(unit)).domain.tolist() == ["z", "a", "z", "a"]


def test_rows_of_a_plot_refer_to_the_whole_experiment_and_others_are_named(mixed):
    data, reasons = measured_rows(mixed, {**SPEC, "methods": ["From scratch", "Dense", "Gone"]})
    assert set(data.label) == {"From scratch"} and np.allclose(data.loss - data.reference, data.excess)
    assert reasons == [
        "Dense: no training on a mixture was noted",
        "no row is called 'Gone'",
    ]
