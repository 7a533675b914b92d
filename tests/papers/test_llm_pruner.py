"""LLM-Pruner as a whole: what goes, how much of it, and what stays."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from papers.llm_pruner import shapes
from papers.llm_pruner.method import LLMPruner, Settings
from reprune.method import ModelFacts, Target
from reprune.models.counts import Shape, parameters
from reprune.surgery.coupling import families
from reprune.surgery.widths import features_of, silence

MODELS = ("tiny-llama", "tiny-llama-gqa")
every_model = pytest.mark.parametrize("model", MODELS)
WHOLE = {"keep_first": 0, "keep_last": 0}


def pruned(subject, share: float = 0.2, **settings):
    method = LLMPruner(Settings(**settings), Target.parameters(share, "width"))
    method.compress(subject)
    return subject


def weights(subject) -> dict[str, torch.Tensor]:
    return dict(subject.model.named_parameters())


@every_model
@pytest.mark.parametrize("strategy", ["block", "channel"])
@pytest.mark.parametrize("share", [0.1, 0.2, 0.4])
def test_what_is_left_is_the_shape_told_from_the_configuration(subject_of, model, strategy, share):
    subject = pruned(subject_of(model), share, strategy=strategy)
    told = LLMPruner.shape(subject.facts, Target.parameters(share, "width"), Settings(strategy=strategy))
    assert subject.parameters == parameters(told)
    assert subject.parameters / subject.facts.parameters == pytest.approx(1 - share, abs=0.02)


@every_model
@pytest.mark.parametrize("ranking", ["local", "global"])
def test_the_asked_share_goes_to_half_a_channel(subject_of, model, ranking):
    subject = pruned(subject_of(model), 0.2, ranking=ranking)
    gone = subject.facts.parameters - subject.parameters
    assert abs(gone - 0.2 * subject.facts.parameters) <= 3 * 64 / 2


@every_model
def test_nothing_removed_gives_the_dense_logits(subject_of, model):
    dense = subject_of(model)
    subject = pruned(subject_of(model), group_ratio=0.0)
    assert torch.equal(subject.model(subject.windows).logits, dense.model(dense.windows).logits)


@every_model
def test_a_masked_twin_has_equal_logits(subject_of, model):
    subject, twin = subject_of(model), subject_of(model)
    method = LLMPruner(Settings(), Target.parameters(0.3, "width"))
    seen = {}
    units = method.units
    method.units = lambda *given: seen.setdefault("units", units(*given))
    method.compress(subject)
    for family, gone in zip(families(twin.model)[:-1], seen["units"], strict=True):
        silence(twin.model, [features_of(family, gone)])
    torch.testing.assert_close(
        subject.model(subject.windows).logits, twin.model(twin.windows).logits, rtol=1e-4, atol=1e-5
    )


@every_model
def test_protected_blocks_and_everything_outside_blocks_are_untouched(subject_of, model):
    before = weights(subject_of(model))
    after = weights(pruned(subject_of(model), 0.1, keep_first=1, keep_last=1))
    cut = {name for name in before if before[name].shape != after[name].shape}
    assert {name.split(".")[2] for name in cut} == {"1"}
    assert all(torch.equal(before[name], after[name]) for name in before if ".layers.1." not in name)


def test_without_coupling_each_matrix_loses_as_much_but_other_channels(subject_of):
    coupled, apart = pruned(subject_of(), 0.3), pruned(subject_of(), 0.3, coupled=False)
    assert coupled.parameters == apart.parameters
    assert {n: w.shape for n, w in weights(coupled).items()} == {
        n: w.shape for n, w in weights(apart).items()
    }
    names = [f"model.layers.{i}.mlp.{kind}_proj.weight" for i in range(3) for kind in ("gate", "up", "down")]
    assert any(not torch.equal(weights(coupled)[name], weights(apart)[name]) for name in names)


@every_model
@pytest.mark.parametrize("share", [0.2, 0.3])
def test_in_steps_as_many_heads_and_channels_go_as_at_once(subject_of, model, share):
    at_once, in_steps = (pruned(subject_of(model), share, steps=steps) for steps in (1, 4))
    assert at_once.report == in_steps.report
    assert at_once.parameters == in_steps.parameters


def test_official_counts_in_steps_are_those_of_one_step(subject_of):
    given = {"counting": "official", "group_ratio": 0.3, **WHOLE}
    at_once, in_steps = (pruned(subject_of(), 0.3, steps=steps, **given) for steps in (1, 3))
    assert at_once.parameters == in_steps.parameters


def test_official_counting_truncates(subject_of):
    subject = pruned(subject_of(), counting="official", group_ratio=0.3, **WHOLE)
    block = subject.blocks[0]
    assert (
        block.self_attn.q_proj.out_features == 64 - 20 // 16 * 16
    )  # int(64 * 0.7) = 44 stay, 20 go: one head
    assert block.mlp.up_proj.out_features == int(176 * 0.7)


def test_one_depth_alone(subject_of):
    subject = pruned(subject_of(), group_ratio=0.25, only_depth=1.0)
    assert [b.mlp.up_proj.out_features for b in subject.blocks] == [176, 176, 132]
    assert sorted(subject.report) == [2]


def test_gradients_are_computed_once_for_all_rows_of_a_strategy(subject_of, monkeypatch):
    from papers.llm_pruner import importance

    subject = subject_of()
    pruned(subject)
    again = dataclasses.replace(subject_of(), store=subject.store)
    monkeypatch.setattr(importance, "from_gradients", lambda *_: pytest.fail("computed again"))
    pruned(again, 0.3, importance="vector", aggregation="max")


def test_the_order_of_aggregation_can_change_the_choice(subject_of):
    orders = [pruned(subject_of(), 0.3, aggregation="max", order=order) for order in ("paper", "official")]
    left, right = (weights(subject) for subject in orders)
    assert any(not torch.equal(left[name], right[name]) for name in left)


def test_the_mean_over_samples_can_change_the_choice(subject_of, monkeypatch):
    from papers.llm_pruner import importance

    exact = importance.accumulated

    def steep(*given):
        mean, squares = exact(*given)
        return mean, {name: 1e4 * found for name, found in squares.items()}  # so that both orders matter

    monkeypatch.setattr(importance, "accumulated", steep)
    chosen = [pruned(subject_of(), 0.3, importance="element12", fisher=kind) for kind in ("sum", "mean")]
    left, right = (weights(subject) for subject in chosen)
    assert any(not torch.equal(left[name], right[name]) for name in left)


def test_what_is_reported_are_the_structures_left(subject_of):
    subject = pruned(subject_of(), 0.2)
    for index, block in enumerate(subject.blocks):
        told = subject.report[index]
        assert told["mlp.down_proj"]["structures"] == block.mlp.down_proj.in_features
        assert told["self_attn.o_proj"]["structures"] == block.self_attn.o_proj.in_features // 16


@pytest.mark.parametrize(
    ("share", "settings", "message"),
    [
        (0.95, {}, "must stay"),
        (0.2, {"keep_first": 2, "keep_last": 1}, "all 3 blocks are protected"),
        (0.2, {"group_ratio": 1.0, "counting": "official"}, "lose all"),
        (0.2, {"strategy": "channel", "keep_first": 1}, "keep_first has no meaning"),
        (0.2, {"strategy": "channel", "aggregation": "product"}, "zero for every hidden channel"),
        (0.01, {"only_depth": 0.5, "keep_last": 1}, "nothing is left to keep"),
    ],
)
def test_what_cannot_be_reached_is_refused_from_the_configuration(model_entry, share, settings, message):
    facts = ModelFacts(**model_entry("tiny-llama")["facts"])
    refusal = LLMPruner.supports(facts, Target.parameters(share, "width"), Settings(**settings))
    assert message in str(refusal)


def test_llama_7b_keeps_the_blocks_that_the_paper_keeps(model_entry):
    facts = ModelFacts(**model_entry("llama-7b")["facts"])
    assert shapes.blocks_to_cut(facts.layers, 0.2, Settings()) == range(4, 30)
    assert shapes.blocks_to_cut(facts.layers, 0.5, Settings()) == range(3, 31)
    assert parameters(Shape.of(facts)) == facts.parameters
