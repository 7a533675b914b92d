"""Drawing a mixture: what is kept beside it, and that a method that asks for it gets it."""

from __future__ import annotations

import json

import pytest
import torch
from small_project import BLEND, PAPER

from reprune.calibration.mixture import draw_mixture, marked_tokenizer, read_mixture
from reprune.data.corpora import read_corpus
from reprune.records.store import sha256


@pytest.fixture
def made(project, bench):
    """A workbench of one method that trains on a mixture."""
    project.write("papers/blend/method.py", BLEND)
    project.edit(PAPER, "{sparsity: 0.5}", "{parameters: 0.28}")
    project.edit(PAPER, "[dense, magnitude, wanda]", "[blend]")
    project.edit(PAPER, "[0, 1]", "[0]")
    return bench()


def facts_of(file):
    return json.loads(file.with_suffix(".json").read_text())


def test_windows_of_every_domain_are_kept_with_what_they_were_drawn_from(made):
    drawn = made.run("blend").mixture
    file = made.mixture(drawn.id)
    found, facts = read_mixture(file), facts_of(file)
    documents = {
        (domain.name, part): read_corpus(made.corpus(getattr(domain, part).id))
        for domain in drawn.domains
        for part in ("train", "held_out")
    }
    expected, told = draw_mixture(
        lambda *names: documents[names],
        marked_tokenizer(made.model(drawn.model.id), "<|endoftext|>"),
        {"plain": 0.5, "usual": 0.3, "rich": 0.2},
        {"train": 100, "held_out": 4},
        32,
    )
    assert list(found.proportions) == ["plain", "usual", "rich"] and found.proportions == expected.proportions
    for name in expected.train:
        assert torch.equal(found.train[name], expected.train[name])
        assert torch.equal(found.held_out[name], expected.held_out[name])
        assert found.train[name].shape == (100, 32) and found.held_out[name].shape == (4, 32)
    assert (facts["length"], facts["hash"]) == (32, sha256(file)[:12])
    assert list(facts["domains"]) == ["plain", "usual", "rich"]
    assert facts["domains"]["rich"] == {
        "weight": 0.2,
        "train": {"source": "made", **told["rich"]["train"]},
        "held_out": {"source": "made", **told["rich"]["held_out"]},
    }


def test_a_method_that_asks_for_a_mixture_gets_it(made):
    run = made.run("blend")
    notes = facts_of(made.compress(run))["notes"]
    assert notes["proportions"] == {"plain": 0.5, "usual": 0.3, "rich": 0.2}
    assert notes["windows"] == dict.fromkeys(("plain", "usual", "rich"), [100, 32])
