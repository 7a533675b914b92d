"""Heads taken out of a translation model and what is left trained again, from the plan to the facts."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from small_project import PAPER

from reprune.models.checkpoint import load_model
from reprune.models.folder import ModelFolder
from reprune.models.translation import encoder_parameters
from reprune.plan import paths
from reprune.surgery.head_gates import retained_heads

SHORT = "steps: 6, batch_tokens: 512, scale: 0.2, warmup: 2, evaluate_every: 3, max_length: 32"
GATES = f"{{method: voita_heads, settings: {{{SHORT}, mask_rate: 3, penalty: 0.5}}}}"
ORDER = "{method: head_order, label: order"


@pytest.fixture
def made(project, bench, root):
    """Plans the small paper on the toy translator with these method entries."""
    for name in ("voita_heads", "head_order"):
        (project.root / "papers" / name).mkdir()
        shutil.copy(root / "papers" / name / "method.py", project.root / "papers" / name)
    project.edit(PAPER, "[tiny-llama]", "[tiny-translator]")
    project.edit(PAPER, "[perplexity-wanda]", "[translation-voita]")
    project.edit(PAPER, "[0, 1]", "[0]")

    def plan(entry, target):
        project.edit(PAPER, "[dense, magnitude, wanda]", f"[{entry}]")
        project.edit(PAPER, "{sparsity: 0.5}", f"{{heads: {target}}}")
        return bench()

    return plan


def facts_of(checkpoint):
    return json.loads(checkpoint.with_suffix(".json").read_text())


def test_learned_gates_note_what_the_saved_model_has(made):
    workbench = made(GATES, "learned")
    checkpoint = workbench.compress(workbench.run("voita_heads"))
    facts, model = facts_of(checkpoint), load_model(checkpoint)
    notes, heads = facts["notes"], retained_heads(model)
    assert [sum(row) for row in notes["heads"]["kept"]["encoder"]] == heads["encoder"]
    assert notes["heads"]["retained"] == {kind: sum(counts) for kind, counts in heads.items()}
    assert notes["heads"]["retained"]["encoder"] == notes["gates"]["evaluations"][-1]["open"]["encoder"] < 8
    assert notes["heads"]["retained"]["decoder"] == notes["heads"]["retained"]["cross"] == 8
    assert [m["step"] for m in notes["gates"]["evaluations"]] == [0, 3, 6]
    assert notes["penalty_in_code"] == pytest.approx(0.5 * 2)
    assert facts["params"] == sum(
        t.numel() for t in ModelFolder(checkpoint).read(sorted(ModelFolder(checkpoint).files)).values()
    )
    assert (
        facts["ratio_achieved"] == pytest.approx(1 - facts["params"] / 48_032) and facts["ratio_achieved"] > 0
    )
    assert not list(paths.STORE.rglob("state.json"))


@pytest.mark.parametrize("trained", ["encoder", "all"])
def test_recovery_trains_the_encoder_or_everything_and_keeps_the_heads(made, trained):
    entry = f"{ORDER}, recovery: {{kind: translate, steps: 4, scale: 0.5, trained: {trained}}}}}"
    workbench = made(entry, 5)
    run = workbench.run("head_order", base=workbench.run("head_order", base=None).id)
    checkpoint = workbench.recover(run)
    before, after = (load_model(paths.RUNS / run_id / "checkpoint") for run_id in (run.base, run.id))
    changed = {
        name
        for (name, p), q in zip(before.named_parameters(), after.parameters(), strict=True)
        if not torch.equal(p, q)
    }
    if trained == "encoder":
        assert changed and changed <= set(encoder_parameters(before))
        assert len([name for name in changed if "k_proj.bias" not in name]) > 0.9 * len(changed)
    else:
        assert {"model.shared.weight", "model.decoder.layers.1.encoder_attn.v_proj.weight"} <= changed
    facts, base = facts_of(checkpoint), facts_of(paths.RUNS / run.base / "checkpoint")
    told = facts["notes"].pop("recovery")
    assert facts["notes"] == base["notes"] and sum(retained_heads(after)["encoder"]) == 5
    assert (told["kind"], told["trained"], told["start"], told["steps"]) == (
        "translate",
        trained,
        "pruned",
        4,
    )
    assert told["validation_after"] == told["evaluations"][-1]["loss"] != told["validation_before"]
    assert facts["params"] == base["params"] and facts["recover_s"] > 0


def test_from_scratch_nothing_is_left_but_the_pattern(made):
    recovery = "{kind: translate, steps: 4, scale: 0.01, trained: all, start: scratch}"  # hardly moves them
    workbench = made(f"{ORDER}, recovery: {recovery}}}", 5)
    run = workbench.run("head_order", base=workbench.run("head_order", base=None).id)
    checkpoint = workbench.recover(run)
    before, after = (load_model(paths.RUNS / run_id / "checkpoint") for run_id in (run.base, run.id))
    assert retained_heads(before) == retained_heads(after)
    for (name, p), q in zip(before.named_parameters(), after.named_parameters(), strict=True):
        assert "embed_positions" in name or not torch.equal(p, q[1]), name
    a, b = before.model.shared.weight.flatten(), after.model.shared.weight.flatten()
    assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 0.1
    told = facts_of(checkpoint)["notes"]["recovery"]
    assert told["validation_before"] > 4.5, "about the logarithm of the vocabulary"
