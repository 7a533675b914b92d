"""LLM-Streamline: the sheet's worked example, the choice of the window, and training its replacement."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from papers.llm_streamline.method import LLMStreamline, Settings, around, window_for
from papers.llm_streamline.regression import HELD_OUT, Schedule, error, fit, new_feed_forward
from reprune.calibration import similarity
from reprune.calibration.block import Block
from reprune.calibration.similarity import hidden_states
from reprune.method import ModelFacts, Target
from reprune.models.parts import FeedForwardBlock

MODELS = ("tiny-llama", "tiny-llama-gqa")
STATES = [(1, 0), (1, 1), (0.9, 1.2), (0.8, 1.4), (-0.2, 1.5)]
SMOLLM = ModelFacts("llama", 30, 576, 1536, 9, 3, 64, 49152, True, 134_515_008)
FAST = {"epochs": 2, "batch_size": 4}


class Linear(nn.Module):
    """x + x A with A zero at first."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.zeros(2, 2))

    def forward(self, hidden):
        return hidden + hidden @ self.a


def compressed(subject, share=0.2, **settings):
    LLMStreamline(Settings(**(FAST | settings)), Target.parameters(share, "layer")).compress(subject)
    return subject


def block_of(module, inputs):
    return Block(0, module, {}, inputs, None, {}, torch.Generator().manual_seed(0))


def test_worked_example_of_the_window(monkeypatch):
    states = [torch.tensor([[state]], dtype=torch.float32) for state in STATES]
    monkeypatch.setattr(similarity, "hidden_states", lambda *_: states)
    subject = SimpleNamespace(blocks=range(4), batches=lambda: [torch.zeros(1, 1)])
    found = similarity.similarities(subject, (1, 2, 3))
    assert found[1].tolist() == pytest.approx([0.707107, 0.989949, 0.992278, 0.795055], abs=1e-6)
    assert found[2].tolist() == pytest.approx([0.6, 0.964764, 0.713684], abs=1e-6)
    assert found[3].tolist() == pytest.approx([0.496139, 0.607450], abs=1e-6)
    assert [int(found[n].argmax()) for n in (1, 2, 3)] == [2, 1, 1]
    assert (0.5 + 0.5 * found[2]).tolist() == pytest.approx([0.8, 0.982382, 0.856842], abs=1e-6)


def test_worked_example_of_the_loss():
    inputs = torch.tensor([[[1.0, 0], [0, 1], [1, 1]]])
    targets = torch.tensor([[[1.0, 1], [0, 2], [1, 3]]])
    block, every = block_of(Linear(), inputs), torch.tensor([True])
    assert error(block, targets, every) == 1.0
    with torch.no_grad():
        block.module.a.copy_(torch.tensor([[0.0, 1], [0, 1]]))
    assert error(block, targets, every) == 0.0


def test_training_finds_the_least_squares_map():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(32, 6, 2, generator=generator)
    wanted = torch.tensor([[0.0, 1], [0, 1]])
    block = block_of(Linear(), inputs)
    errors = fit(block, inputs + inputs @ wanted, Schedule(60, 4, 0.05, 0.0), lambda _: None)
    torch.testing.assert_close(block.module.a.data, wanted, rtol=0, atol=1e-3)
    assert len(errors) == 61 and errors[-1] < 1e-5 < errors[0]
    assert not block.module.a.requires_grad and not block.module.training


def test_the_state_with_the_least_error_held_out_is_kept():
    """On windows that teach the opposite of those held out, the state before training is the best."""
    inputs = torch.randn(16, 6, 2, generator=torch.Generator().manual_seed(0))
    sign = torch.ones(16, 1, 1)
    sign[::HELD_OUT] = -1.0
    block = block_of(Linear(), inputs)
    errors = fit(block, inputs + sign * inputs, Schedule(5, 4, 0.05, 0.0), lambda _: None)
    assert min(errors) == errors[0] < errors[-1]
    assert torch.equal(block.module.a.data, torch.zeros(2, 2))


def test_one_window_cannot_be_trained_on():
    block = block_of(Linear(), torch.ones(1, 3, 2))
    with pytest.raises(ValueError, match="second calibration window"):
        fit(block, torch.ones(1, 3, 2), Schedule(1, 1, 0.1, 0.0), lambda _: None)


@torch.no_grad()
def test_a_new_feed_forward_block_does_nothing():
    block, x = new_feed_forward(8, 12, 0.1, torch.Generator().manual_seed(0)), torch.randn(2, 3, 8)
    assert torch.equal(block(x), x)
    assert block.up.weight.std() > 0


@torch.no_grad()
def test_inputs_and_targets_are_the_models_states(subject_of):
    subject = subject_of("tiny-llama-gqa")
    states = [hidden_states(subject, batch) for batch in subject.batches()]
    before, after = (torch.cat([state[i] for state in states]) for i in (1, 3))
    first, targets = around(subject, range(1, 3))
    assert first.index == 1
    torch.testing.assert_close(first.inputs, before, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(targets, after, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("variant", ["layer", "ffn"])
@pytest.mark.parametrize("model", MODELS)
def test_training_lowers_the_error_and_changes_the_replacement_alone(subject_of, model, variant):
    subject = subject_of(model)
    dense = [{n: p.clone() for n, p in block.named_parameters()} for block in subject.blocks]
    others = {n: p.clone() for n, p in subject.model.named_parameters() if ".layers." not in n}
    compressed(subject, variant=variant, epochs=5)
    start, *rest = subject.notes["chosen"]
    assert subject.replaced == {start}
    assert len(subject.blocks) == 3 - len(rest)
    assert min(subject.notes["errors"]) < subject.notes["errors"][0]
    kept = [index for index in range(3) if index not in rest]
    for place, index in enumerate(kept):
        same = [
            torch.equal(p, dense[index][n])
            for n, p in subject.blocks[place].named_parameters()
            if n in dense[index]
        ]
        assert not any(same) if index == start else all(same)
    assert all(torch.equal(p, others[n]) for n, p in subject.model.named_parameters() if n in others)
    assert not any(p.requires_grad for p in subject.model.parameters())


@torch.no_grad()
def test_untrained_variants_are_the_model_without_the_other_layers(subject_of):
    """An untrained feed-forward block does nothing, and one layer of a window is its first, unchanged."""
    logits = {}
    for variant, window in (("none", 2), ("ffn", 2), ("layer", 3)):
        subject = compressed(subject_of("tiny-llama"), variant=variant, train="none", window=window)
        assert "errors" not in subject.notes
        logits[variant] = subject.model(subject.windows).logits
        replaced = [type(subject.blocks[i]) is FeedForwardBlock for i in subject.replaced]
        assert replaced == {"none": [], "ffn": [True], "layer": [False]}[variant]
    assert torch.equal(logits["none"], logits["ffn"])


def test_the_final_norm_can_change_the_choice(subject_of):
    chosen = {}
    for last in ("pre_norm", "post_norm"):
        subject = subject_of("tiny-llama")
        subject.model.model.norm.weight[:8] = 50.0
        settings = {"variant": "none", "window": 1, "last_hidden": last}
        chosen[last] = compressed(subject, **settings).notes["chosen"]
    assert chosen == {"pre_norm": [2], "post_norm": [1]}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("variant", ["layer", "ffn", "none"])
@pytest.mark.parametrize("share", [0.2, 0.4, 0.6])
def test_no_other_window_is_nearer_to_the_target(subject_of, model, variant, share):
    subject = subject_of(model)
    facts, total = subject.facts, subject.parameters
    asked = Target.parameters(share, "layer")
    if LLMStreamline.supports(facts, asked, Settings(variant=variant)):
        pytest.skip("refused")
    distance = {}
    for window in range(1, 4):
        settings = Settings(variant=variant, train="none", window=window)
        if LLMStreamline.supports(facts, asked, settings) is None:
            subject = subject_of(model)
            LLMStreamline(settings, asked).compress(subject)
            distance[window] = abs(1 - subject.parameters / total - share)
    assert distance[window_for(facts, variant, share)] == min(distance.values())


@pytest.mark.parametrize(
    ("variant", "windows"), [("layer", [9, 10, 12]), ("ffn", [8, 10, 12]), ("none", [8, 9, 11])]
)
def test_windows_of_a_model_of_thirty_layers(variant, windows):
    """A layer has 3,540,096 parameters of 134,515,008, the feed-forward block 1,771,200."""
    assert [window_for(SMOLLM, variant, share) for share in (0.2, 0.25, 0.3)] == windows
    assert sum(p.numel() for p in FeedForwardBlock(576, 1536, 0.1).parameters()) == 1_771_200


def test_what_is_refused():
    def answer(share=0.2, **settings):
        return LLMStreamline.supports(SMOLLM, Target.parameters(share, "layer"), Settings(**settings))

    assert answer() is None and answer(variant="ffn", window=1) is None
    assert answer(window=1).nearest == "window 2"
    assert answer(window=30) is None and answer(variant="none", window=30).nearest == "window 29"
    assert answer(0.8).nearest == "76% of parameters"
    assert answer(0.77, variant="ffn").nearest == "75% of parameters"
