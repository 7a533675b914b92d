"""DistilBERT: which blocks stay, how many, and that they are left as they were."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from papers.distilbert.method import DistilBERT, Settings, even, official
from reprune.method import ModelFacts, Target
from reprune.surgery import layers

LLAMA = ModelFacts("llama", 32, 4096, 11008, 32, 32, 128, 32000, False, 6_738_415_616)
SMOLLM = ModelFacts("llama", 30, 576, 1536, 9, 3, 64, 49152, True, 134_515_008)


def compressed(subject, share=0.4, **settings):
    DistilBERT(Settings(**settings), Target.parameters(share, "layer")).compress(subject)
    return subject


def test_the_official_six_of_twelve():
    assert official(12, 6) == [0, 2, 4, 7, 9, 11]


@pytest.mark.parametrize("total", [1, 2, 7, 12, 30, 32])
def test_a_half_is_one_out_of_two_from_the_first(total):
    assert even(total, (total + 1) // 2) == list(range(0, total, 2))


@pytest.mark.parametrize("spaced", [even, official])
@pytest.mark.parametrize("total", [3, 12, 30])
def test_blocks_are_evenly_spaced_whatever_their_number(total, spaced):
    for count in range(1, total + 1):
        kept = spaced(total, count)
        gaps = {after - before for before, after in itertools.pairwise(kept)}
        assert kept[0] == 0 and kept[-1] < total and len(kept) == count
        assert min(gaps, default=1) >= 1 and max(gaps, default=1) - min(gaps, default=1) <= 1
        assert count == 1 or official(total, count)[-1] == total - 1


@pytest.mark.parametrize(("facts", "share"), [(SMOLLM, 0.4), (LLAMA, 0.48)])
def test_half_the_layers_by_their_share_of_all_parameters(facts, share):
    """LLaMA-7B is left with the 3.50 B that LLM-Pruner's Table 8 prints as 3.5."""
    assert facts.layers - facts.blocks_for(share) == facts.layers // 2
    left = facts.parameters - facts.layers // 2 * facts.block_parameters
    assert facts is not LLAMA or f"{left / 1e9:.2f}" == "3.50"


@pytest.mark.parametrize(
    ("settings", "kept"),
    [({}, [0, 2]), ({"spacing": "official"}, [0, 2]), ({"every": 2}, [0, 2]), ({"every": 3}, [0])],
)
def test_the_blocks_that_stay_are_the_same_objects(subject_of, settings, kept):
    subject = subject_of("tiny-llama-gqa")
    blocks, before = list(subject.blocks), subject.parameters
    compressed(subject, 0.3, **settings)
    assert list(subject.blocks) == [blocks[index] for index in kept]
    gone = [block for block in blocks if block not in list(subject.blocks)]
    assert before - subject.parameters == sum(p.numel() for block in gone for p in block.parameters())
    assert subject.notes["chosen"] == [index for index in range(3) if index not in kept]
    assert subject.model.config.num_hidden_layers == len(kept)


def test_spacing_moves_blocks_of_deeper_models(subject_of):
    chosen = {}
    for spacing in ("even", "official"):
        subject = subject_of("tiny-llama")
        layers.keep_blocks(subject.model, [0, 1, 2, 0])
        subject.facts = dataclasses.replace(subject.facts, layers=4)
        chosen[spacing] = compressed(subject, every=2, spacing=spacing).notes["chosen"]
    assert chosen == {"even": [1, 3], "official": [1, 2]}


def test_what_is_refused():
    def answer(share, **settings):
        return DistilBERT.supports(SMOLLM, Target.parameters(share, "layer"), Settings(**settings))

    assert answer(0.4) is None and answer(0.4, every=2) is None
    assert answer(0.8).nearest == "76% of parameters"
