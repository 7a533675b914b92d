"""CoFiPruning on tiny models: blocks of their own shapes, saved and reloaded, and its constraint."""

from __future__ import annotations

import pytest
import torch

from papers.cofi.masks import ALL, OverallMasks
from papers.cofi.method import Cofi, shapes, share_of_blocks
from reprune.calibration.mixture import Mixture
from reprune.method import ModelFacts, Target
from reprune.models.checkpoint import load_model, save_model
from reprune.models.folder import ModelFolder
from reprune.training.mask_settings import MaskSettings

LLAMA = ModelFacts("llama", 32, 4096, 11008, 32, 32, 128, 32000, False, 6_738_415_616)


def learned_on(subject, share=0.5):
    return OverallMasks(subject.model, shapes(subject.facts), (ALL,), MaskSettings(), 1, share=share)


@torch.no_grad()
def test_the_expected_share_is_that_of_the_weights_when_gates_are_certain(subject_of):
    subject = subject_of("tiny-llama-gqa")
    learned, facts = learned_on(subject), subject.facts
    open_, closed = torch.tensor(60.0), torch.tensor(-60.0)
    for own in learned.logits.values():
        own.fill_(open_)
    assert learned.expected_share().item() == pytest.approx(0, abs=1e-5)
    learned.logits["mlp"][0, 0] = closed
    mlp = 3 * facts.hidden_size * facts.intermediate_size
    attention = 2 * facts.hidden_size * facts.head_dim * (facts.heads + facts.kv_heads)
    whole = facts.layers * (mlp + attention)
    assert learned.expected_share().item() == pytest.approx(mlp / whole, rel=1e-4)
    learned.logits["head"][1, 0] = closed
    assert learned.expected_share().item() == pytest.approx(
        (mlp + attention / facts.kv_heads) / whole, rel=1e-4
    )


@torch.no_grad()
def test_blocks_may_differ_and_the_saved_model_is_the_masked_one(subject_of, tiny_folder, tmp_path):
    subject = subject_of("tiny-llama-gqa")
    tokens, learned = subject.windows[:2], learned_on(subject)
    for own in learned.logits.values():
        own.copy_(4 * torch.randn(own.shape, generator=torch.Generator().manual_seed(4)))
    learned.logits["attention"][0, 0] = learned.logits["mlp"][0, 1] = -4.6
    learned.logits["attention"][0, 1:], learned.logits["mlp"][0, 2:] = 4.6, 4.6
    with learned.settled():
        masked = subject.model(tokens).logits
    before = subject.parameters
    learned.cut()
    assert subject.parameters < before
    save_model(subject.model, ModelFolder(tiny_folder("tiny-llama-gqa")), tmp_path, torch.float32)
    found = load_model(tmp_path)(tokens).logits
    assert (found - masked).abs().max() <= 1e-5 * masked.abs().max()


def test_a_run_reaches_about_the_asked_size(subject_of):
    subject = subject_of("tiny-llama")
    subject.mixture = Mixture({"a": subject.windows[:6]}, {"a": subject.windows[6:]}, {"a": 1.0})
    subject.keeper, dense = None, subject.parameters
    settings = MaskSettings(steps=320, batch_size=2, evaluate_every=80)
    Cofi(settings, Target.parameters(0.3)).compress(subject)
    last = subject.notes["pruning"]["evaluations"][-1]
    assert last["sparsity"][ALL] == pytest.approx(last["wanted"][ALL], abs=0.03)
    assert 1 - subject.parameters / dense == pytest.approx(0.3, abs=0.1)


def test_what_is_refused():
    assert share_of_blocks(LLAMA, Target.parameters(0.8)) == pytest.approx(
        0.8 * 6738415616 / 6476271616, rel=1e-4
    )
    assert Cofi.supports(LLAMA, Target.parameters(0.8), MaskSettings()) is None
    assert Cofi.supports(LLAMA, Target.parameters(0.98), MaskSettings()).nearest == "95% of parameters"
