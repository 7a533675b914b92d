"""On the real model and real text: first-order scores against the loss when a structure is really removed."""

from __future__ import annotations

import sys

import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import spearmanr

from reprune.calibration.gradients import token_loss
from reprune.calibration.subject import Subject
from reprune.discovery import load_method
from reprune.models.checkpoint import load_model
from reprune.plan.paths import CALIBRATION, MODELS
from reprune.plan.plan import ROOT, build_plan
from reprune.records.store import Store
from reprune.surgery.coupling import Family, families
from reprune.surgery.widths import features_of, parameters_at, silence

BLOCKS = range(0, 30, 3)
WINDOWS = 3


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    """The dense model with windows of LLM-Pruner's calibration; skips where they were never fetched."""
    run = next(
        r for r in build_plan({"scale": "local", "mirror": None}).runs_of(["llm_pruner"]) if r.calibration
    )
    windows = ROOT / CALIBRATION / f"{run.calibration.id}.safetensors"
    if not (ROOT / MODELS / run.model.id).is_dir() or not windows.is_file():
        pytest.skip("needs the real model: snakemake --cores all --until draw_calibration")
    torch.set_num_threads(1)
    model, tokens = load_model(ROOT / MODELS / run.model.id), load_file(windows)["tokens"][:WINDOWS]
    store = Store(tmp_path_factory.mktemp("store"))
    return Subject(model, run.model.facts, tokens, torch.Generator(), store, {})


@torch.no_grad()
def loss_change(subject: Subject, family: Family, unit: int) -> float:
    """How much the loss changes when one structure is set to zero."""
    gone = features_of(family, [unit])
    weights = [parameter for place in gone for parameter, _ in parameters_at(subject.model, place)]
    kept, before = [weight.clone() for weight in weights], token_loss(subject.model, subject.windows)
    silence(subject.model, [gone])
    change = token_loss(subject.model, subject.windows) - before
    for weight, old in zip(weights, kept, strict=True):
        weight.copy_(old)
    return abs(change.item())


def scores(subject: Subject, found: list[Family], **settings) -> list[torch.Tensor]:
    cls = load_method(ROOT / "papers/llm_pruner/method.py").cls
    method = cls(cls.Settings(**settings), None)
    by_place = method.channel_scores(subject, found, found, dense=False)
    return [method.scores_of(family, by_place) for family in found]


@pytest.mark.parametrize("kind", ["heads", "channels"])
def test_the_first_order_score_orders_structures_as_removing_them_does(subject, kind, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    every = [family for family in families(subject.model) if family.block is not None]
    if kind == "heads":
        chosen = [(f, range(f.units)) for f in every[::2] if f.block in BLOCKS]
    else:
        chosen = [(f, range(0, f.units, 384)) for f in every[1::2] if f.block in BLOCKS]
    changes = [loss_change(subject, family, unit) for family, units in chosen for unit in units]
    found = {
        name: scores(subject, [family for family, _ in chosen], importance=name)
        for name in ("element1", "vector", "l2")
    }
    order = {
        name: spearmanr(
            [own[unit].item() for own, (_, units) in zip(of, chosen, strict=True) for unit in units], changes
        ).statistic
        for name, of in found.items()
    }
    print(kind, len(changes), {name: f"{value:.2f}" for name, value in order.items()})
    assert order["element1"] > 0.3
    assert order["element1"] > order["l2"]
