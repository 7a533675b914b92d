"""ShortGPT: the sheet's worked example, which blocks go, and how many."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from papers.shortgpt.method import Settings, ShortGPT, most_alike, most_alike_run
from reprune.calibration import similarity
from reprune.method import ModelFacts, Target

STATES = [[[1, 0], [0, 1]], [[1, 1], [0, 2]], [[1, 2], [1, 2]], [[2, 4], [1, 3]]]
SMOLLM = ModelFacts("llama", 30, 576, 1536, 9, 3, 64, 49152, True, 134_515_008)


@pytest.fixture
def example(monkeypatch):
    """The states H_0 … H_3 of two tokens (sheet, section 2.4) as those of a model of three blocks."""

    def build(final=None):
        states = [torch.tensor([state], dtype=torch.float32) for state in STATES]
        states[-1] = states[-1] if final is None else final
        monkeypatch.setattr(similarity, "hidden_states", lambda *_: states)
        return SimpleNamespace(blocks=[0, 1, 2], batches=lambda: [torch.zeros(1, 2)])

    return build


def compressed(subject, share=0.2, **settings):
    ShortGPT(Settings(**settings), Target.parameters(share, "layer")).compress(subject)
    return subject


def influence(subject):
    return 1 - similarity.similarities(subject)[1]


def normed(gain):
    final = torch.tensor([STATES[-1]], dtype=torch.float32)
    return final / final.square().mean(-1, keepdim=True).sqrt() * torch.tensor(gain)


def test_worked_example(example):
    states = [torch.tensor([state], dtype=torch.float32) for state in STATES]
    cosines = [similarity.cosines(*pair)[0].tolist() for pair in zip(states, states[1:], strict=False)]
    assert cosines[0] == pytest.approx([0.707107, 1], abs=1e-6)
    assert cosines[1] == pytest.approx([0.948683, 0.894427], abs=1e-6)
    assert cosines[2] == pytest.approx([1, 0.989949], abs=1e-6)
    found = influence(example())
    assert found.tolist() == pytest.approx([0.146447, 0.078445, 0.005025], abs=1e-6)
    assert most_alike(1 - found, 3) == [2, 1, 0]


def test_worked_example_after_the_final_norm(example):
    found = influence(example(normed([1.0, 0.2])))
    assert found[2].item() == pytest.approx(0.204465, abs=1e-6)
    assert most_alike(1 - found, 3) == [1, 0, 2]
    assert influence(example(normed([1.0, 1.0])))[2].item() == pytest.approx(0.005025, abs=1e-6)


def test_the_angle_is_that_of_the_last_token_over_consecutive_blocks(example):
    found = similarity.similarities(example(), (1, 2), compare=similarity.last_angles)
    angle = [math.atan2(*reversed(state[-1])) for state in STATES]
    for span in (1, 2):
        expected = [1 - abs(angle[i + span] - angle[i]) / math.pi for i in range(4 - span)]
        assert found[span].tolist() == pytest.approx(expected, abs=1e-7)


def test_angles_of_equal_and_opposite_states_are_numbers():
    state = torch.randn(4, 3, 7) * 1000
    assert similarity.last_angles(state, state).tolist() == pytest.approx([1.0] * 4, abs=1e-7)
    assert similarity.last_angles(state, -state).tolist() == pytest.approx([0.0] * 4, abs=1e-7)


def test_a_run_is_named_by_its_first_block():
    assert most_alike_run(torch.tensor([0.2, 0.9, 0.5]), 3) == [1, 2, 3]


def test_angles_may_choose_other_blocks_than_cosines(subject_of, monkeypatch):
    """Two single blocks that are not neighbours, against the neighbours over which the state turns least."""
    answers = {similarity.cosines: {1: [0.9, 0.1, 0.8]}, similarity.last_angles: {2: [0.3, 0.4]}}
    monkeypatch.setattr(
        similarity,
        "similarities",
        lambda _, spans, __, compare: {n: torch.tensor(answers[compare][n]) for n in spans},
    )
    assert compressed(subject_of("tiny-llama"), layers=2).notes["chosen"] == [0, 2]
    assert compressed(subject_of("tiny-llama"), layers=2, metric="angular").notes["chosen"] == [1, 2]


def test_the_final_norm_can_change_the_choice(subject_of):
    chosen = {}
    for last in ("pre_norm", "post_norm"):
        subject = subject_of("tiny-llama")
        subject.model.model.norm.weight[:8] = 50.0
        chosen[last] = compressed(subject, last_hidden=last).notes["chosen"]
    assert chosen == {"pre_norm": [2], "post_norm": [1]}


@pytest.mark.parametrize("model", ["tiny-llama", "tiny-llama-gqa"])
@torch.no_grad()
def test_the_other_blocks_compute_what_they_computed(subject_of, model):
    subject = subject_of(model)
    kept = {index: block for index, block in enumerate(subject.blocks)}
    before = subject.parameters
    compressed(subject)
    (gone,) = subject.notes["chosen"]
    expected = [block for index, block in kept.items() if index != gone]
    assert list(subject.blocks) == expected
    assert before - subject.parameters == sum(p.numel() for p in kept[gone].parameters())
    assert len(subject.notes["similarity"]) == 3


@pytest.mark.parametrize(
    ("share", "count"), [(0.001, 1), (0.18, 7), (0.2, 8), (0.25, 9), (0.3, 11), (0.5, 19)]
)
def test_the_number_of_blocks_is_the_nearest(share, count):
    assert SMOLLM.blocks_for(share) == count


def test_what_is_refused():
    def answer(share, **settings):
        return ShortGPT.supports(SMOLLM, Target.parameters(share, "layer"), Settings(**settings))

    assert answer(0.2) is None and answer(0.2, layers=29) is None
    assert "30 layers" in str(answer(0.2, layers=30))
    assert answer(0.76) is None
    assert answer(0.8).nearest == "76% of parameters"
