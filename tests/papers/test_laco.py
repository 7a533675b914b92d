"""LaCo: the sheet's worked examples, the loop as arithmetic, and the models that merges give."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from papers.laco.loop import Merge, Search, collapse, reach
from papers.laco.method import LaCo, Settings, search_of
from papers.laco.trials import Trials, merge_weights, output_similarity
from reprune.method import ModelFacts, Target

THETA = [torch.tensor(rows) for rows in ([[1.0, 2], [0, 1]], [[2.0, 2], [1, 1]], [[4.0, 0], [1, 3]])]
SMOLLM = ModelFacts("llama", 30, 576, 1536, 9, 3, 64, 49152, True, 134_515_008)
TARGET = Target.parameters(0.2, "layer")


def compressed(subject, share=0.2, **settings):
    LaCo(Settings(**settings), Target.parameters(share, "layer")).compress(subject)
    return subject


def deep(subject, depth=6):
    """A subject whose model has more blocks, all different."""
    blocks = subject.blocks
    for index in range(len(blocks), depth):
        block = type(blocks[0])(subject.model.config, layer_idx=index).eval().requires_grad_(False)
        for place, parameter in enumerate(block.parameters()):
            generator = torch.Generator().manual_seed(100 * index + place)
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
        blocks.append(block)
    subject.model.config.num_hidden_layers = depth
    return subject


def test_worked_example_of_merging():
    base, *following = THETA
    assert merge_weights(base, following, "rdsc_sum").tolist() == [[5, 0], [2, 3]]
    assert merge_weights(base, following, "telescoping").tolist() == [[4, 0], [1, 3]]


def test_the_official_code_adds_differences_from_what_it_has_changed():
    current = THETA[0].clone()
    for other in THETA[1:]:
        current += other - current
    assert torch.equal(current, merge_weights(THETA[0], THETA[1:], "telescoping"))


def test_worked_example_of_the_loop():
    values, asked = iter([0.9, 0.5, 0.8, 0.7]), []

    def similarity(merges, merge):
        asked.append((12 - sum(m.count for m in merges), merge))
        return next(values)

    found = collapse(Search(depth=12, merged=3, highest=11, lowest=2, interval=2), 0.65, similarity)
    assert asked == [(12, (8, 2)), (10, (6, 2)), (10, (5, 2)), (8, (3, 2))]
    assert found.merges == ((8, 2), (5, 2), (3, 2))
    assert found.refused == [0.5]
    assert 12 - found.removed == 6


def test_a_similarity_must_be_greater_than_the_threshold():
    search = Search(depth=4, merged=2, highest=3)
    assert collapse(search, 0.5, lambda *_: 0.5).merges == ()
    assert collapse(search, 0.5, lambda *_: 0.500001).removed == 2


def test_near_the_top_fewer_layers_follow():
    found = collapse(Search(depth=8, merged=4, highest=7), 0.0, lambda *_: 1.0)
    assert found.merges == ((3, 3), (2, 2), (1, 1), (0, 1))


@pytest.mark.parametrize("depth", [5, 8, 30])
@pytest.mark.parametrize("merged", [2, 3, 7])
def test_no_merge_leads_beyond_the_end(depth, merged):
    """So the official reset of a position beyond the model's end never happens."""

    def similarity(merges, merge):
        left = depth - sum(m.count for m in merges)
        assert 0 < merge.count < merged and merge.base + merge.count < left
        return 1.0

    collapse(Search(depth, min(merged, depth), depth), 0.0, similarity)


@pytest.mark.parametrize("goal", [1, 4, 5])
def test_the_loop_ends_at_its_goal(goal):
    found = collapse(Search(depth=12, merged=4, highest=11, goal=goal), 0.0, lambda *_: 1.0)
    assert found.removed == goal


def made_up(merges, merge):
    """A similarity that falls with every layer gone, and differs from base to base."""
    gone = sum(m.count for m in merges) + merge.count
    return 0.95 - 0.05 * gone + 0.01 * (merge.base * 7 % 5)


@pytest.mark.parametrize("goal", range(1, 9))
def test_the_threshold_is_the_highest_that_reaches_the_goal(goal):
    search = Search(depth=12, merged=3, highest=11, goal=goal)
    found, threshold = reach(search, 1.0, made_up)
    assert found.removed == goal
    assert collapse(search, threshold, made_up) == found
    tried = [threshold + step * (1.0 - threshold) / 200 for step in range(1, 200)]
    assert all(collapse(search, higher, made_up).removed < goal for higher in tried)


def test_a_threshold_that_will_do_is_kept():
    assert reach(Search(depth=12, merged=3, highest=11, goal=3), 0.1, made_up)[1] == 0.1


def test_a_goal_out_of_reach_is_an_error():
    with pytest.raises(ValueError, match="2 layers at most"):
        reach(Search(depth=12, merged=3, highest=11, lowest=8, goal=3), 1.0, made_up)


def test_outputs_are_compared_as_one_vector_a_sentence():
    found, wanted = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    expected = [
        F.cosine_similarity(a.flatten(), b.flatten(), dim=0) for a, b in zip(found, wanted, strict=True)
    ]
    assert output_similarity(found, wanted) == pytest.approx(float(sum(expected)) / 2)
    assert output_similarity(found * torch.nan, wanted) == -1.0


@pytest.mark.parametrize("rule", ["telescoping", "rdsc_sum"])
@torch.no_grad()
def test_a_merged_layer_has_its_bases_norms_and_merged_projections(subject_of, rule):
    subject = deep(subject_of("tiny-llama-gqa"))
    for index, block in enumerate(subject.blocks):
        block.input_layernorm.weight += index
    before = [{n: p.clone() for n, p in block.named_parameters()} for block in subject.blocks]
    compressed(subject, merged_layers=3, highest=5, lowest=2, threshold=-1.0, merge=rule)
    (merge,) = subject.notes["merges"]
    assert merge["base"] == 2 and merge["gone"] == subject.notes["chosen"] == [3]
    assert subject.replaced == {2} and len(subject.blocks) == 5
    for name, parameter in subject.blocks[2].named_parameters():
        source = before[2] if "norm" in name else before[3]
        torch.testing.assert_close(parameter, source[name], rtol=0, atol=1e-6)
    for place, index in enumerate([0, 1, None, 4, 5]):
        if index is not None:
            assert all(torch.equal(p, before[index][n]) for n, p in subject.blocks[place].named_parameters())


@torch.no_grad()
def test_three_layers_tell_the_rules_apart(subject_of):
    found = {}
    for rule in ("telescoping", "rdsc_sum"):
        subject = deep(subject_of("tiny-llama"))
        weights = [block.mlp.up_proj.weight.clone() for block in subject.blocks]
        settings = {"merged_layers": 3, "highest": 5, "lowest": 2, "threshold": -1.0}
        compressed(subject, 0.5, merge=rule, **settings)
        assert subject.notes["merges"][0]["gone"] == [3, 4]
        found[rule] = subject.blocks[2].mlp.up_proj.weight
    assert torch.equal(found["telescoping"], weights[4])
    torch.testing.assert_close(found["rdsc_sum"], weights[3] + weights[4] - weights[2])


@torch.no_grad()
def test_a_trial_is_the_forward_pass_of_the_collapsed_model(subject_of):
    """Trials begin at the first layer that changed; the collapsed model itself runs from its embeddings."""
    subject = deep(subject_of("tiny-llama"))
    tokens = subject.windows[:5, :16]
    wanted = subject.model.model(input_ids=tokens, use_cache=False).last_hidden_state
    trials = Trials(subject, tokens, "rdsc_sum")
    values = [trials.similarity((), Merge(3, 2)), trials.similarity((Merge(3, 2),), Merge(1, 1))]
    left = trials.layers((Merge(3, 2), Merge(1, 1)))
    assert [layer.members for layer in left] == [(0,), (1, 2), (3, 4, 5)]
    assert torch.equal(subject.model.model(input_ids=tokens).last_hidden_state, wanted)
    subject.model.model.layers = torch.nn.ModuleList(layer.module for layer in left)
    found = subject.model.model(input_ids=tokens, use_cache=False).last_hidden_state
    assert values[1] == pytest.approx(output_similarity(found, wanted), abs=1e-5)
    assert values[0] != values[1]


def test_the_official_loop_knows_no_target(subject_of):
    official = {"stop": "threshold", "merged_layers": 2}
    for share in (0.2, 0.5):
        assert len(compressed(deep(subject_of("tiny-llama")), share, threshold=1.0, **official).blocks) == 6
        left = compressed(deep(subject_of("tiny-llama")), share, threshold=-1.0, **official)
        assert len(left.blocks) == 2


def test_the_target_lowers_the_threshold(subject_of):
    subject = compressed(deep(subject_of("tiny-llama")), 0.5, merged_layers=2, threshold=1.0)
    assert len(subject.blocks) == 4
    assert subject.notes["threshold"] < min(merge["similarity"] for merge in subject.notes["merges"])


@pytest.mark.parametrize(("depth", "merged"), [(3, 2), (24, 5), (30, 7), (32, 7), (40, 9)])
def test_how_many_layers_merge_follows_the_depth(depth, merged):
    assert search_of(depth, Settings()) == Search(depth, merged, depth - 1)


def test_what_is_refused():
    def answer(target=TARGET, **settings):
        return LaCo.supports(SMOLLM, target, Settings(**settings))

    assert answer() is None
    assert answer(highest=30) is None and "30 layers" in str(answer(highest=31))
    # GRASP's range on 32 layers, 20 to 30, lets nine of thirty go.
    assert answer(highest=28, lowest=20) is None
    assert answer(Target.parameters(0.4, "layer"), highest=28, lowest=20).nearest == "23% of parameters"
    assert answer(Target.parameters(0.8, "layer")) is not None
    assert answer(Target.parameters(0.8, "layer"), stop="threshold", highest=5) is not None
