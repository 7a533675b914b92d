"""Roles of heads: planted patterns are found, and a model's own heads keep their numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reprune.data.parsers import Arc, Parse, made_parse
from reprune.evaluation.attention import attention_maps, head_places
from reprune.evaluation.head_roles import (
    FUNCTIONS,
    Counts,
    arcs_by_function,
    findings,
    frequent_types,
    items,
    measure_roles,
    records,
)
from reprune.evaluation.role_example import example_heads

CONTENT = {
    "limit": 100,
    "positional": 0.9,
    "syntactic": 0.1,
    "rare": 0.5,
    "frequent": 500,
    "vocabulary": 32000,
    "instances": 20,
}
FREQUENCIES = {token: 1000 - token for token in range(200)}
PREVIOUS, OBJECT, RARE, NOISE, FIRST = range(5)


def peaked(keys, tokens, share=0.8):
    """(tokens, tokens) weights that attend to a key of each query by that share, evenly elsewhere."""
    weights = np.full((tokens, tokens), (1 - share) / (tokens - 1))
    weights[np.arange(tokens), keys] = share
    return weights


def planted(rng):
    """A sentence's ids, parse and five heads' weights; a verb's object stands at one of four distances."""
    tokens = int(rng.integers(8, 14))
    ids = rng.permutation(180)[:tokens].tolist()
    verb, distance = 1, int(rng.choice([1, 2, 3, 4]))
    arcs = [Arc("dobj", verb + distance, verb), Arc("det", 0, 1)]
    parse = Parse([(i, i + 1) for i in range(tokens)], arcs)
    previous = np.maximum(np.arange(tokens) - 1, 0)
    to_object = rng.integers(0, tokens, tokens)
    to_object[verb] = verb + distance
    noise = rng.integers(0, tokens, tokens)
    keys = {
        PREVIOUS: previous,
        OBJECT: to_object,
        RARE: np.full(tokens, np.argmax(ids)),
        NOISE: noise,
        FIRST: np.zeros(tokens, int),
    }
    shares = {NOISE: 0.3}
    return ids, parse, np.stack([peaked(keys[h], tokens, shares.get(h, 0.8)) for h in range(5)])


@pytest.fixture
def counts():
    rng = np.random.default_rng(5)
    made = Counts(5)
    for _ in range(120):
        ids, parse, weights = planted(rng)
        made.add(weights)
        made.add_arcs(weights, list(range(len(ids))), parse)
        made.add_rare(weights, ids, FREQUENCIES)
    return made


def test_planted_heads_get_their_roles_and_no_others(counts):
    found = findings(counts, CONTENT)
    assert np.flatnonzero(found["positional"]).tolist() == [PREVIOUS]
    assert found["positional_offset"][PREVIOUS] == -1 and found["positional_share"][PREVIOUS] == 1.0
    assert np.flatnonzero(found["syntactic"]).tolist() == [OBJECT]
    assert [name for name in FUNCTIONS if found[name][OBJECT]] == ["dobj_dependent"]
    assert np.flatnonzero(found["rare"]).tolist() == [RARE]
    assert found["functions"].tolist() == [1, 1, 1, 0, 0]
    assert found["confidence"] == pytest.approx([0.8, 0.8, 0.8, 0.3, 0.8])


def test_the_planted_heads_stand_for_their_roles(counts):
    drawn = {"positional": PREVIOUS, "syntactic": OBJECT, "rare": RARE, "unknown": FIRST}
    assert example_heads(findings(counts, CONTENT)) == drawn


def test_a_role_that_no_head_has_is_drawn_from_the_head_nearest_to_it(counts):
    strict = {**CONTENT, "positional": 1.1, "syntactic": 1.1, "rare": 1.1}
    found = findings(counts, strict)
    assert not found["functions"].any()
    drawn = {"positional": PREVIOUS, "syntactic": OBJECT, "rare": RARE, "unknown": FIRST}
    assert example_heads(found) == drawn, "the unknown one stands for nothing else"


def test_a_role_that_was_not_measured_is_not_drawn(counts):
    few = findings(counts, {**CONTENT, "instances": 121})
    assert list(example_heads(few)) == ["positional", "unknown"]


def test_a_head_that_attends_to_the_first_token_is_not_positional(counts):
    found = findings(counts, CONTENT)
    longest = int((counts.offsets.trials[FIRST] > 0).sum()) // 2
    at_longest = counts.offsets.hits[FIRST, 16 - longest] / counts.offsets.trials[FIRST, 16 - longest]
    assert at_longest > 0.9, "the offset that only the longest sentences have"
    assert found["positional_share"][FIRST] < 0.2


def test_the_baseline_is_the_most_frequent_offset_of_a_relation_and_direction(counts):
    share, offset = counts.baseline("dobj_dependent")
    assert 0.2 < share < 0.4 and counts.baseline("dobj_head") == (share, -offset)
    assert np.isnan(counts.baseline("amod_head")[0])


def test_ten_points_above_the_baseline_are_enough_and_less_are_not():
    words, made = [(i, i + 1) for i in range(4)], Counts(2)
    for i in range(20):  # ten arcs at offset 1, ten at 2: baseline 0.5
        dependent = 1 + i % 2
        pointed = [dependent if i < hits else 3 for hits in (12, 11)]
        weights = np.stack([peaked(np.full(4, key), 4) for key in pointed])
        made.add(weights)
        made.add_arcs(weights, [0, 1, 2, 3], Parse(words, [Arc("amod", dependent, 0)]))
    found = findings(made, CONTENT)
    assert made.baseline("amod_dependent") == (0.5, 1)
    assert found["amod_dependent_share"] == pytest.approx([0.6, 0.55])
    assert found["syntactic"].tolist() == [1, 0]


def test_few_instances_give_neither_a_share_nor_a_role(counts):
    found = findings(counts, {**CONTENT, "instances": 121})
    assert np.isnan(found["dobj_dependent_share"]).all() and not found["syntactic"].any()
    assert np.isnan(found["rare_share"]).all() and not found["rare"].any()
    assert found["positional"][PREVIOUS], "there are more queries than sentences"


def test_arcs_go_both_ways_between_words_that_have_tokens():
    parse = Parse([(0, 1)] * 4, [Arc("obj", 2, 1), Arc("nsubj", 0, 1), Arc("amod", 3, 2)])
    assert arcs_by_function(parse, {0, 1, 2}) == {
        "dobj_dependent": [(1, 2)],
        "dobj_head": [(2, 1)],
        "nsubj_dependent": [(1, 0)],
        "nsubj_head": [(0, 1)],
    }


def test_frequent_types_scale_with_the_vocabulary():
    assert [frequent_types(types, CONTENT) for types in (32000, 8000, 10)] == [500, 125, 1]


def test_records_count_heads_by_role_and_name_the_best(counts):
    told = records(findings(counts, CONTENT), counts)
    assert (told["metric"], told["value"], told["n"]) == ("labelled_heads", 3.0, 5)
    others = told["others"]
    wanted = {"positional_heads": 1, "syntactic_heads": 1, "rare_heads": 1, "unknown_heads": 2}
    assert {name: others[name][0] for name in wanted} == wanted
    assert others["functions_per_head"][0] == pytest.approx(0.6)
    assert others["dobj_dependent_share"][0] == 1.0 and others["dobj_dependent_share"][1] == 0.0
    assert 0.05 < others["rare_chance"][0] < 0.15
    assert "amod_head_share" not in others and "amod_head_baseline" not in others


def test_every_head_has_its_items(counts):
    found = findings(counts, CONTENT)
    made = items([(0, 0), (0, 2), (1, 1), (3, 0), (3, 1)], found)
    roles = {(i["item"], i["part"]): i["value"] for i in made if i["metric"] == "functions"}
    assert roles == {(0, 0): 1, (0, 2): 1, (1, 1): 1, (3, 0): 0, (3, 1): 0}
    assert {i["value"] for i in made if i["metric"] == "amod_head_share"} == {None}


SENTENCES = [f"{a} cat saw {b} dog near {c} house" for a in "ab" for b in "cde" for c in "fghi"]


@pytest.fixture(scope="module")
def translator():
    """A tiny encoder-decoder with random weights, and a tokenizer of words that ends in </s>."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import MarianConfig, MarianMTModel, PreTrainedTokenizerFast

    words = ["<pad>", "</s>", "<unk>", *dict.fromkeys(" ".join(SENTENCES).split())]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    sizes = {f"{side}_{key}": n for side in ("encoder", "decoder") for key, n in _SIZES.items()}
    config = MarianConfig(
        vocab_size=len(words), d_model=16, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0, **sizes
    )
    torch.manual_seed(0)
    return MarianMTModel(config).eval(), tokenizer


STRENGTHS = ("positional_share", "syntactic_margin", "rare_share", "confidence")
_SIZES = {"layers": 2, "attention_heads": 4, "ffn_dim": 32}


def test_maps_are_those_that_transformers_gives_and_the_implementation_is_put_back(translator):
    model, tokenizer = translator
    before = model.config._attn_implementation
    texts = ["a cat saw c dog", "a cat"]
    maps = list(attention_maps(model, tokenizer, texts))
    assert model.config._attn_implementation == before
    model.set_attn_implementation("eager")
    for text, (ids, weights) in zip(texts, maps, strict=True):
        alone = tokenizer(text, return_tensors="pt")
        told = torch.cat(model.get_encoder()(**alone, output_attentions=True).attentions, 1)[0]
        assert ids == alone["input_ids"][0, :-1].tolist() and weights.shape == (8, len(ids), len(ids))
        assert weights == pytest.approx(told[:, :-1, :-1].detach().numpy(), abs=1e-6)
    model.set_attn_implementation(before)


def test_heads_are_numbered_as_before_any_was_removed(translator):
    model, _ = translator
    assert head_places(model, None) == [(layer, head) for layer in range(2) for head in range(4)]
    with pytest.raises(ValueError, match=r"has \[4, 4\] heads by layer, its notes say \[2, 4\]"):
        head_places(model, [[True, False, False, True], [True] * 4])


def test_a_model_is_measured_from_its_sentences_on(translator):
    model, tokenizer = translator
    heard = []
    told = measure_roles(
        model,
        tokenizer,
        ["", *SENTENCES],
        SENTENCES,
        lambda texts: map(made_parse, texts),
        None,
        CONTENT,
        lambda *progress: heard.append(progress),
    )
    assert told["n"] == 8 and heard[-1] == (24, 24) and told["told"]["sentences"] == 24
    assert len([i for i in told["items"] if i["metric"] == "confidence"]) == 8
    instances = {name: found["instances"] for name, found in told["told"]["functions"].items()}
    assert instances["dobj_head"] == instances["dobj_dependent"] == 24 * 3, "words of three letters but one"
    example = told["told"]["example"]
    assert example["words"] == SENTENCES[0].split()
    measured = {(i["metric"], i["item"], i["part"]): i["value"] for i in told["items"]}
    assert [drawn["role"] for drawn in example["maps"]] == ["positional", "syntactic", "rare", "unknown"]
    for drawn, metric in zip(example["maps"], STRENGTHS, strict=True):
        place = drawn["layer"], drawn["head"]
        assert np.array(drawn["weights"]).shape == (8, 8)
        assert drawn["value"] == measured[metric, *place]
        if drawn["role"] == "unknown":
            assert drawn["reached"] and not measured["functions", *place]
        else:
            assert drawn["reached"] == (measured[drawn["role"], *place] > 0)


def test_an_encoder_without_heads_has_none_of_any_role(translator):
    told = records(findings(Counts(0), CONTENT), Counts(0))
    assert told["value"] == 0.0 and told["others"]["unknown_heads"] == (0.0, None)
    assert items([], findings(Counts(0), CONTENT)) == []
