"""How much LLM-Pruner cuts where: published counts, apportionment and the official code's truncation."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from papers.llm_pruner.method import Settings
from papers.llm_pruner.shapes import (
    apportion,
    blocks_to_cut,
    families,
    official_count,
    refused,
    removed,
    shape,
)
from reprune.method import ModelFacts, Target
from reprune.models.counts import parameters

LLAMA = [(32, 2_097_152), (11_008, 12_288)]  # heads and intermediate channels of a block of LLaMA-7B
PRINTED = {  # model, share, settings, parameters (sheet of the paper's Table 3 and more_results/README.md)
    "block 20 %": ("llama-7b", 0.2, {"group_ratio": 0.25, "keep_first": 4, "keep_last": 2}, 5_422_977_024),
    "block 50 %": ("llama-7b", 0.5, {"group_ratio": 0.6, "keep_first": 3, "keep_last": 1}, 3_350_188_032),
    "by the text": ("llama-7b", 0.5, {"group_ratio": 0.6, "keep_first": 3, "keep_last": 2}, 3_471_196_160),
    "channel 20 %": ("llama-7b", 0.2, {"strategy": "channel"}, 5_389_416_396),
    "channel 50 %": ("llama-7b", 0.5, {"strategy": "channel"}, 3_369_207_808),
    "Llama-3-8B": ("llama-3-8b", 0.18, {"group_ratio": 0.25, "keep_first": 4, "keep_last": 2}, 6_612_586_496),
    "TinyLlama": ("tinyllama", 0.14, {"group_ratio": 0.25, "keep_first": 4, "keep_last": 4}, 945_907_712),
}


@pytest.fixture
def facts_of(model_entry) -> Callable[[str], ModelFacts]:
    return lambda name: ModelFacts(**model_entry(name)["facts"])


def asked(share: float) -> Target:
    return Target.parameters(share, "width")


@pytest.mark.parametrize("case", PRINTED)
def test_the_official_counting_leaves_the_published_parameters(facts_of, case):
    model, share, given, left = PRINTED[case]
    settings = Settings(counting="official", **given)
    facts = facts_of(model)
    assert refused(facts, asked(share), settings) is None
    assert parameters(shape(facts, asked(share), settings)) == left


@pytest.mark.parametrize("share", [0.1, 0.2, 0.35, 0.5])
@pytest.mark.parametrize("strategy", ["block", "channel"])
@pytest.mark.parametrize(
    "model", ["llama-7b", "llama-3-8b", "tinyllama", "smollm2-135m-instruct", "tiny-llama-gqa"]
)
def test_the_asked_share_of_all_parameters_goes_to_half_a_unit(facts_of, model, strategy, share):
    facts, settings = facts_of(model), Settings(strategy=strategy)
    left = shape(facts, asked(share), settings)
    cheapest = min(family.cost for family in families(facts, share, settings))
    assert abs(facts.parameters - parameters(left) - share * facts.parameters) <= cheapest / 2


@pytest.mark.parametrize("strategy", ["block", "channel"])
def test_the_asked_share_goes_where_the_truncating_official_code_misses_it(facts_of, strategy):
    facts = facts_of("llama-7b")
    official = shape(facts, asked(0.5), Settings(strategy=strategy, counting="official"))
    exact = shape(facts, asked(0.5), Settings(strategy=strategy))
    errors = [abs(parameters(left) / facts.parameters - 0.5) for left in (official, exact)]
    assert errors[1] < 1e-5 and errors[1] <= errors[0]


def test_blocks_that_are_protected_stay_as_they_are(facts_of):
    facts, settings = facts_of("llama-7b"), Settings()
    blocks = shape(facts, asked(0.2), settings).blocks
    whole = (facts.heads, facts.kv_heads, facts.intermediate_size)
    assert [index for index, block in enumerate(blocks) if block != whole] == list(range(4, 30))
    assert len(set(blocks[4:30])) <= 4, "blocks differ by more than the rounding of heads and channels"


def test_grouped_heads_go_with_their_query_heads(facts_of):
    facts = facts_of("smollm2-135m-instruct")
    for block in shape(facts, asked(0.3), Settings()).blocks:
        assert block.heads == 3 * block.kv_heads >= 3


@pytest.mark.parametrize(
    "layers, share, given, cut",
    [
        (32, 0.2, {}, range(4, 30)),
        (32, 0.34, {}, range(4, 30)),
        (32, 0.35, {}, range(3, 31)),
        (30, 0.2, {}, range(4, 28)),
        (30, 0.5, {}, range(3, 29)),
        (3, 0.2, {}, range(3)),
        (32, 0.5, {"keep_first": 0, "keep_last": 5}, range(27)),
        (30, 0.2, {"only_depth": 0.0}, range(1)),
        (30, 0.2, {"only_depth": 0.5}, range(14, 15)),
        (30, 0.2, {"only_depth": 1.0, "keep_last": 2}, range(29, 30)),
    ],
)
def test_blocks_to_cut(layers, share, given, cut):
    assert blocks_to_cut(layers, share, Settings(**given)) == cut


def test_a_ratio_of_the_families_takes_the_place_of_the_target(facts_of):
    facts, settings = facts_of("llama-7b"), Settings(group_ratio=0.25, keep_first=4, keep_last=2)
    assert removed(facts, asked(0.2), settings) == [8, 2752] * 26


def test_scores_alone_decide_a_global_ranking(facts_of):
    assert shape(facts_of("llama-7b"), asked(0.2), Settings(ranking="global")) is None


@pytest.mark.parametrize(
    "share, given, reason, nearest",
    [
        (0.2, {"keep_first": 2, "keep_last": 1}, "all 3 blocks are protected", "keep_first"),
        (0.8, {}, "one structure of every family must stay, then 74.8% of", "74% of parameters"),
        (0.4, {"only_depth": 0.5}, "then 24.9% of the parameters are gone", "24% of parameters"),
        (0.2, {"counting": "official", "group_ratio": 1.0}, "would lose all its", "group_ratio"),
    ],
)
def test_what_leaves_a_family_nothing_is_refused(facts_of, share, given, reason, nearest):
    no = refused(facts_of("tiny-llama"), asked(share), Settings(**given))
    assert reason in no.reason and nearest in no.nearest


def test_apportioning_by_hand():
    """Of 300 in all 100 are to go: 3.33 of the costly units, so 3, and of the cheap ones 40 of 200 left."""
    assert apportion([(200, 1), (10, 10)], 100) == [70, 3]
    assert apportion([(10, 10), (10, 10), (20, 3)], 52) == [2, 2, 4]


@pytest.mark.parametrize("remove", [0, 1, 5_000, 6_143, 10**6, 123_456_789, 1_350_000_000, 5 * 10**9])
def test_apportioning_misses_by_half_of_the_cheapest_unit_at_most(remove):
    every = LLAMA * 26
    counts = apportion(every, remove)
    assert abs(sum(n * cost for n, (_, cost) in zip(counts, every, strict=True)) - remove) <= 12_288 / 2


def test_apportioning_removes_nothing_for_nothing_and_never_all():
    assert apportion(LLAMA * 3, 0) == [0] * 6
    assert apportion(LLAMA * 3, 10**12) == [31, 11_007] * 3
    assert apportion([(1, 5)], 5) == [0]


def test_apportioning_takes_about_the_same_share_of_every_family():
    counts = apportion(LLAMA * 26, 0.25 * 26 * 202_375_168)
    assert counts == [8, 2752] * 26
    share = 1.7e9 / (26 * 202_375_168)
    rounding = 2_097_152 / 2 / (3 * 4096 * 11_008)  # of heads, as a share of a block's channels
    for n, (units, _) in zip(apportion(LLAMA * 26, 1.7e9), LLAMA * 26, strict=True):
        assert n / units == pytest.approx(share, abs=rounding + 0.5 / units)


def test_the_official_code_truncates_what_stays_and_then_whole_heads():
    assert 4096 - int(4096 * (1 - 0.6)) == 2458 == 19 * 128 + 26
    assert official_count(32, 32, 128, 0.6) == 19
    assert official_count(11_008, 11_008, 1, 0.6) == 6605
    assert official_count(7, 7, 1, 0.4) == 3 and official_count(3, 3, 1, 1 / 3) == 1


def test_the_official_schedule_counts_from_the_original_width():
    heads, cuts = 32, []
    for ratio in (0.0625, 0.125, 0.1875, 0.25):
        cuts.append(official_count(heads, 32, 128, ratio))
        heads -= cuts[-1]
    assert cuts == [2, 2, 2, 2]


@pytest.mark.parametrize("ratio", [0.2, 0.35, 0.6])
@pytest.mark.parametrize("original, width", [(4096, 1), (32, 128)])
def test_steps_end_where_a_single_cut_does(ratio, original, width):
    left = original
    for step in range(1, 8):
        left -= official_count(left, original, width, ratio * step / 7)
    assert original - left == official_count(original, original, width, ratio)
