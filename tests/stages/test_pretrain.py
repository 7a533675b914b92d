"""Continued pre-training as a stage: its notes, references that runs share, chains, going on after a kill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_project import PAPER, THIN

from reprune.calibration.mixture import read_mixture, write_mixture
from reprune.models.checkpoint import load_model
from reprune.models.folder import ModelFolder
from reprune.plan import paths
from reprune.stages import pretrain
from reprune.training.keeping import Keeper
from reprune.training.scaling import through
from reprune.training.trainer import TrainingError
from reprune.training.window_loss import held_out_losses

RATE = "learning_rate: 0.01"
TRAINED = f"{{method: thin, label: trained, recovery: {{kind: pretrain, {RATE}}}}}"
CONSTANT = f"{{method: thin, label: constant, recovery: {{kind: pretrain, {RATE}, loading: constant}}}}"
CHAIN = f"{{method: thin, label: chain, recovery: [{{kind: pretrain, {RATE}}}, {{kind: full}}]}}"
AGAIN = f"{{method: thin, label: again, recovery: [{{kind: pretrain, {RATE}}}, {{kind: pretrain, {RATE}}}]}}"
WEIGHTS = {"plain": 0.2, "usual": 0.3, "rich": 0.5}


@pytest.fixture
def made(project, bench):
    """Plans the small paper with these method entries."""
    project.write("papers/thin/method.py", THIN)
    project.edit(PAPER, "{sparsity: 0.5}", "{parameters: 0.2}")
    project.edit(PAPER, "[0, 1]", "[0]")

    def plan(*entries):
        project.edit(PAPER, "[dense, magnitude, wanda]", f"[{', '.join(entries)}]")
        return bench()

    return plan


def run_of(workbench, label):
    (row,) = (r for r in workbench.plan.units["mini"].experiments["main"] if r.label == label)
    return workbench.plan.runs[row.run]


def facts_of(checkpoint):
    return json.loads(checkpoint.with_suffix(".json").read_text())


def tensors_of(checkpoint):
    folder = ModelFolder(checkpoint)
    return folder.read(sorted(folder.files))


def kept_states():
    return list(paths.STORE.rglob("state.json"))


def test_all_of_the_model_is_trained_and_the_notes_tell_how(made):
    workbench = made("thin", TRAINED)
    run = run_of(workbench, "trained")
    checkpoint = workbench.recover(run)
    before, after = tensors_of(paths.RUNS / run.base / "checkpoint"), tensors_of(checkpoint)
    assert before.keys() == after.keys() and not [n for n in before if torch.equal(before[n], after[n])]
    facts, base = facts_of(checkpoint), facts_of(paths.RUNS / run.base / "checkpoint")
    told = facts["notes"].pop("recovery")
    assert facts["notes"] == base["notes"] and facts["compress_s"] == base["compress_s"]
    assert (told["kind"], told["steps"], told["tokens"], told["loading"]) == ("pretrain", 6, 768, "dynamic")
    assert [m["step"] for m in told["evaluations"]] == [0, 2, 4, 6] and len(told["losses"]) == 6
    assert told["trainable"] == facts["params"] and facts["recover_s"] >= told["seconds"] > 0
    assert told["validation_after"] < told["validation_before"]
    first = told["evaluations"][0]["losses"]
    mixed = sum(told["start"][domain] * first[domain] for domain in first)
    assert told["validation_before"] == pytest.approx(mixed)
    assert kept_states() == []


def test_references_are_the_dense_models_losses_measured_once(made, monkeypatch):
    other = TRAINED.replace("label: trained", "label: other").replace("0.01", "0.01, floor: 0.1")
    workbench = made(TRAINED, other, CONSTANT)
    measured = []
    monkeypatch.setattr(
        pretrain,
        "held_out_losses",
        lambda model, *told: measured.append(model) or held_out_losses(model, *told),
    )
    notes = {
        label: facts_of(workbench.recover(run_of(workbench, label)))["notes"]["recovery"]
        for label in ("trained", "other", "constant")
    }
    run = run_of(workbench, "trained")
    dense = load_model(workbench.model(run.model.id))
    mixture = read_mixture(workbench.mixture(run.recoveries[0].data.id))
    assert notes["trained"]["references"] == held_out_losses(dense, mixture.held_out)
    assert notes["other"]["references"] == notes["trained"]["references"] and len(measured) == 1
    assert notes["constant"]["references"] == {} and notes["constant"]["start"] == mixture.proportions


def test_references_by_a_scaling_law_are_those_of_the_size_that_is_left(project, made):
    losses = "{plain: [3, 2, 1.5], usual: [4, 3, 2.5], rich: [5, 4, 3.5]}"
    law = f"{{steps: 1, scaling: {{parameters: [100000, 200000, 400000], losses: {losses}}}}}"
    project.edit("config/scales/smoke.yaml", "values:", f"values:\n  law_pretraining: {law}")
    by_law = "{kind: pretrain, sizes: $law_pretraining, reference: scaling}"
    workbench = made(f"{{method: thin, label: law, recovery: {by_law}}}")
    facts = facts_of(workbench.recover(run_of(workbench, "law")))
    own = through([(100_000, 3), (200_000, 2), (400_000, 1.5)]).loss(facts["params"])
    assert facts["notes"]["recovery"]["references"]["plain"] == pytest.approx(own)
    assert facts["notes"]["recovery"]["references"]["rich"] == pytest.approx(own + 2)


def test_losses_that_no_law_goes_through_are_one_clear_error(project, made):
    losses = "{plain: [3, 2, 2.5], usual: [4, 3, 2.5], rich: [5, 4, 3.5]}"
    law = f"{{steps: 1, scaling: {{parameters: [100000, 200000, 400000], losses: {losses}}}}}"
    project.edit("config/scales/smoke.yaml", "values:", f"values:\n  law_pretraining: {law}")
    by_law = "{kind: pretrain, sizes: $law_pretraining, reference: scaling}"
    workbench = made(f"{{method: thin, label: law, recovery: {by_law}}}")
    with pytest.raises(TrainingError, match="losses that fall as models grow"):
        workbench.recover(run_of(workbench, "law"))


def test_the_second_of_a_chain_goes_on_from_the_first_and_keeps_its_notes(made):
    workbench = made(CHAIN)
    run = run_of(workbench, "chain")
    facts = facts_of(workbench.recover(run))
    first = facts_of(paths.RUNS / run.base / "checkpoint")
    assert facts["notes"]["recovery"]["kind"] == "full"
    assert facts["notes"]["earlier_recoveries"] == [first["notes"]["recovery"]]
    assert facts["recover_s"] > first["recover_s"] and facts["compress_s"] == first["compress_s"]
    (row, *_) = json.loads(workbench.evaluate(run).read_text())["records"]
    assert [r["kind"] for r in json.loads(row["recovery"])["after"]] == ["pretrain"]


def test_a_second_training_on_the_same_mixture_sees_it_in_another_order(made):
    workbench = made(AGAIN)
    facts = facts_of(workbench.recover(run_of(workbench, "again")))
    (first,), second = facts["notes"]["earlier_recoveries"], facts["notes"]["recovery"]
    assert second["evaluations"][0]["losses"] == pytest.approx(
        first["evaluations"][-1]["losses"], rel=1e-3
    ), "the checkpoint between them is rounded to the model's dtype"
    assert second["evaluations"][-1]["seen"] != first["evaluations"][-1]["seen"]


def test_weights_may_be_those_that_the_compression_ended_with(project, made):
    leaves = f'subject.notes["loading_weights"] = {WEIGHTS!r}'
    project.write(
        "papers/thin/method.py",
        THIN.replace(
            "requires_calibration = False", "requires_calibration = False\n    requires_mixture = True"
        )
        + f"        {leaves}\n",
    )
    workbench = made(TRAINED.replace("kind: pretrain", "kind: pretrain, start: pruning"))
    run = run_of(workbench, "trained")
    told = facts_of(workbench.recover(run))["notes"]["recovery"]
    assert told["start"] == told["evaluations"][0]["weights"] == WEIGHTS


def test_a_compression_that_left_no_weights_is_one_clear_error(project, made):
    asks = "requires_calibration = False\n    requires_mixture = True"
    project.write("papers/thin/method.py", THIN.replace("requires_calibration = False", asks))
    workbench = made(TRAINED.replace("kind: pretrain", "kind: pretrain, start: pruning"))
    with pytest.raises(
        TrainingError, match="ended with weights of no domain, recovery trains on plain, usual"
    ):
        workbench.recover(run_of(workbench, "trained"))


class Killed(Exception):
    pass


def test_a_killed_job_goes_on_to_the_identical_checkpoint(made, monkeypatch):
    workbench = made(TRAINED)
    run = run_of(workbench, "trained")
    whole = facts_of(workbench.recover(run))
    monkeypatch.setattr(Keeper, "due", lambda self: True)

    class Counted:
        def __init__(self, *_):
            self.calls = []

        def __call__(self, done, total):
            self.calls.append(done)
            said[:] = self.calls
            if kill and done == 4 * 4 * 32:
                raise Killed

    said, kill = [], True
    monkeypatch.setattr(pretrain, "Rate", Counted)
    with pytest.raises(Killed):
        workbench.recover(run)
    assert len(kept_states()) == 1
    kill = False
    again = facts_of(workbench.recover(run))
    assert said[0] == 4 * 4 * 32 and kept_states() == []
    assert again["hash"] == whole["hash"]
    for facts in (whole, again):
        for time in ("seconds", "tokens_per_second"):
            facts["notes"]["recovery"].pop(time)
    assert again["notes"] == whole["notes"]


def test_a_state_of_another_mixture_is_not_used(made, monkeypatch):
    """The mixture's file changes under the same name: its windows are what the state depends on."""
    workbench = made(TRAINED)
    run = run_of(workbench, "trained")
    monkeypatch.setattr(Keeper, "due", lambda self: True)
    drop = Keeper.drop
    monkeypatch.setattr(Keeper, "drop", lambda self: None)
    workbench.recover(run)
    monkeypatch.setattr(Keeper, "drop", drop)
    file = workbench.mixture(run.recoveries[0].data.id)
    mixture = read_mixture(file)
    mixture.train["plain"][:] = 5
    write_mixture(file, mixture)
    found = []
    latest = Keeper.latest
    monkeypatch.setattr(Keeper, "latest", lambda self: found.append(latest(self)) or found[-1])
    workbench.recover(run)
    assert found == [None]


@pytest.mark.parametrize("method", ["dense", "from_scratch"])
def test_dense_and_random_models_are_trained_too(root, project, made, method):
    source = root / "papers" / method / "method.py"
    project.write(f"papers/{method}/method.py", source.read_text(encoding="utf-8"))
    workbench = made(f"{{method: {method}, label: trained, recovery: {{kind: pretrain, {RATE}}}}}")
    run = run_of(workbench, "trained")
    checkpoint = workbench.recover(run)
    facts, base = facts_of(checkpoint), facts_of(Path(paths.RUNS, run.base, "checkpoint"))
    assert facts["params"] == base["params"] and facts["hash"] != base["hash"]
    assert facts["notes"]["recovery"]["validation_after"] < facts["notes"]["recovery"]["validation_before"]
