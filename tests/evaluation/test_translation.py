"""Translation by beam search on a small model: order, room, batches, scores and controls."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys

import pytest
import torch
from small_translation import EOS, PAD, VOCABULARY, small_marian

from reprune.data.parallel import Pair
from reprune.evaluation.translation import Search, _batches, evenly, measure, one_line, translate

SEARCH = Search(4, 0.6, 30)
CONTENT = {"beams": 2, "length_penalty": 0.6, "longest": 20, "tokenize": "13a", "limit": None}


class Numbers:
    """A tokenizer whose words are numbers of tokens."""

    pad_token_id, eos_token_id = PAD, EOS

    def __call__(self, texts, verbose):
        return {"input_ids": [[*map(int, text.split()), EOS] for text in texts]}

    def batch_decode(self, rows, skip_special_tokens, clean_up_tokenization_spaces):
        return [" ".join(str(int(token)) for token in row if token not in (PAD, EOS)) for row in rows]


def translated(token):
    """The language that the small model learns has one word for each of the source's."""
    return (token + 5) % (VOCABULARY - 2) + 2


@pytest.fixture(scope="module")
def learned():
    """A model that has half learned its language: its translations end, and many are wrong."""
    made, generator = small_marian().train().requires_grad_(True), torch.Generator().manual_seed(0)
    steps, end = 300, torch.full((48, 1), EOS)
    optimiser = torch.optim.Adam(made.parameters(), lr=5e-3, betas=(0.9, 0.98))
    course = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda k: min(1, (k + 1) / 50) * (1 - k / steps))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(steps):
            words = int(torch.randint(2, 9, (1,), generator=generator))
            source = torch.randint(2, VOCABULARY, (48, words), generator=generator)
            target = torch.cat([translated(source), end], dim=1)
            made(input_ids=torch.cat([source, end], dim=1), labels=target).loss.backward()
            optimiser.step()
            course.step()
            optimiser.zero_grad()
    return made.eval().requires_grad_(False)


@pytest.fixture
def model(learned):
    return copy.deepcopy(learned)


def sentences(count, seed=0, longest=9):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest, (count,), generator=generator).tolist()
    return [
        " ".join(map(str, torch.randint(2, VOCABULARY, (length,), generator=generator).tolist()))
        for length in lengths
    ]


def alone(model, source, search, **changed):
    """The translation of one sentence by transformers itself."""
    ids = torch.tensor([[*map(int, source.split()), EOS]])
    room = min(search.longest, 2 * ids.shape[1] + 10)
    made = model.generate(
        ids,
        num_beams=search.beams,
        length_penalty=search.length_penalty,
        early_stopping=True,
        max_new_tokens=room,
        forced_eos_token_id=EOS,
        suppress_tokens=[PAD],
        do_sample=False,
        **changed,
    )
    return Numbers().batch_decode(made, True, False)[0]


def test_each_translation_is_that_of_its_sentence_alone_in_the_order_of_the_sources(model):
    sources = sentences(17)
    found = translate(model, Numbers(), sources, SEARCH, batch_tokens=40)
    assert found.lines == [alone(model, source, SEARCH) for source in sources]
    assert len(set(found.lines)) > 10 and found.finite and found.cut == 0
    assert len({len(line.split()) for line in found.lines}) > 3


def test_kept_keys_and_values_change_nothing(model):
    source = sentences(1, seed=4)[0]
    assert translate(model, Numbers(), [source], SEARCH).lines == [
        alone(model, source, SEARCH, use_cache=False)
    ]


def test_batches_change_nothing_but_the_time(model):
    sources = sentences(20, seed=1)
    found = [translate(model, Numbers(), sources, SEARCH, batch_tokens=size) for size in (1, 30, 1000)]
    assert found[0].lines == found[1].lines == found[2].lines
    assert found[0].tokens == found[1].tokens == found[2].tokens


def test_tokens_are_those_of_the_lines_and_their_ends(model):
    found = translate(model, Numbers(), sentences(9, seed=2), SEARCH)
    assert found.tokens == sum(len(line.split()) + 1 for line in found.lines)


def test_a_translation_ends_where_its_own_room_does():
    endless = small_marian()
    endless.final_logits_bias[0, EOS] = -1e4
    sources = ["5", "6 7 8 9"]
    found = translate(endless, Numbers(), sources, Search(2, 0.6, 30))
    assert [len(line.split()) + 1 for line in found.lines] == [2 * 2 + 10, 2 * 5 + 10]
    short = translate(endless, Numbers(), sources, Search(2, 0.6, 12))
    assert [len(line.split()) + 1 for line in short.lines] == [12, 12]


def test_long_sources_are_cut_and_counted(model):
    long = " ".join(["7"] * 40)
    found = translate(model, Numbers(), [long, "7 8"], Search(2, 0.6, 10))
    assert found.cut == 1
    assert found.lines[0] == translate(model, Numbers(), [" ".join(["7"] * 9)], Search(2, 0.6, 10)).lines[0]


def test_a_models_own_settings_of_generation_do_not_count(model):
    sources = sentences(4, seed=3)
    plain = translate(model, Numbers(), sources, SEARCH).lines
    model.generation_config.no_repeat_ngram_size = 1
    model.generation_config.min_new_tokens = 9
    assert translate(model, Numbers(), sources, SEARCH).lines == plain


def test_one_beam_is_greedy(model):
    source = sentences(1, seed=6)[0]
    tokens = [PAD]
    ids = torch.tensor([[*map(int, source.split()), EOS]])
    while tokens[-1] != EOS and len(tokens) < 2 * ids.shape[1] + 10:
        logits = model(input_ids=ids, decoder_input_ids=torch.tensor([tokens])).logits[0, -1]
        logits[PAD] = -torch.inf
        tokens.append(int(logits.argmax()))
    found = translate(model, Numbers(), [source], Search(1, 0.6, 30))
    assert found.lines[0].split() == [str(token) for token in tokens[1:] if token != EOS]


def test_batches_take_the_longest_first_and_no_more_than_fits():
    encoded = [[0] * length for length in (3, 9, 5, 9, 1)]
    assert list(_batches(encoded, 20)) == [[1, 3], [2, 0, 4]]
    assert list(_batches(encoded, 4)) == [[1], [3], [2], [0], [4]]


def test_lines_have_no_borders_inside():
    assert one_line(" a\tb\u2028c\r\nd ") == "a b c d"


def test_evenly():
    assert evenly(range(10), 3) == [0, 3, 6]
    assert evenly(range(2), 3) == [0, 1] == evenly(range(2), None)


@pytest.fixture(scope="module")
def measured(learned):
    sources = sentences(24, seed=7, longest=12)
    pairs = [Pair(s, " ".join(str(translated(int(word))) for word in s.split())) for s in sources]
    return pairs, measure(learned, Numbers(), pairs, CONTENT)


def command_line(folder, reference, hypothesis, *options):
    """What sacrebleu prints of two files of lines."""
    for name, lines in (("ref", reference), ("hyp", hypothesis)):
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", str(folder / "ref"), "-i", str(folder / "hyp"), *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_scores_are_those_of_sacrebleus_command_line(measured, tmp_path):
    _, found = measured
    lines = found["lines"]
    beside = {told["metric"]: told for told in found["beside"]}
    half = len(lines["hypothesis"]) // 2
    shuffled = lines["hypothesis"][half:] + lines["hypothesis"][:half]
    for told, hypotheses, metric in (
        (found, lines["hypothesis"], "bleu"),
        (beside["copy_bleu"], lines["source"], "bleu"),
        (beside["shuffled_bleu"], shuffled, "bleu"),
        (beside["chrf"], lines["hypothesis"], "chrf"),
    ):
        printed = json.loads(command_line(tmp_path, lines["reference"], hypotheses, "-m", metric, "-w", "12"))
        assert printed["score"] == round(told["value"], 12)
        assert printed["signature"] == told["variant"]


def test_a_model_that_translates_is_told_from_copies_and_from_other_sentences(measured):
    _, found = measured
    beside = {told["metric"]: told["value"] for told in found["beside"]}
    assert found["value"] > 5 * max(beside["copy_bleu"], beside["shuffled_bleu"]) > 0
    assert found["value"] > 2 * found["stderr"] > 0 and beside["tokens_per_second"] > 0


def test_items_are_the_statistics_of_every_sentence(measured):
    pairs, found = measured
    assert [(i["item"], i["part"]) for i in found["items"]] == [(i, p) for i in range(24) for p in range(10)]
    first = [item["value"] for item in found["items"][:10]]
    assert first[8:] == [len(found["lines"]["hypothesis"][0].split()), len(pairs[0].target.split())]
    hashes = {(item["item"], item["doc_hash"], item["target_hash"]) for item in found["items"]}
    assert len(hashes) == 24


def test_examples_stand_at_equal_distances(measured):
    pairs, found = measured
    assert [example["item"] for example in found["examples"]] == [0, 2, 4, 7, 9, 12, 14, 16, 19, 21]
    for example in found["examples"]:
        assert (example["source"], example["reference"]) == pairs[example["item"]]
        assert example["hypothesis"] == found["lines"]["hypothesis"][example["item"]]


def test_shuffled_sources_give_shuffled_translations(model):
    sources = sentences(12, seed=9)
    lines = translate(model, Numbers(), sources, SEARCH).lines
    assert translate(model, Numbers(), sources[6:] + sources[:6], SEARCH).lines == lines[6:] + lines[:6]


def test_a_limit_takes_sentences_at_equal_distances(model, measured):
    pairs, whole = measured
    few = measure(model, Numbers(), pairs, {**CONTENT, "limit": 8})
    assert few["n"] == 8
    assert few["lines"]["hypothesis"] == whole["lines"]["hypothesis"][::3]


def test_a_model_without_numbers_has_diverged(model):
    model.final_logits_bias[0, 5] = math.nan
    found = measure(model, Numbers(), [Pair("3 4", "3 4"), Pair("5", "5")], CONTENT)
    assert (found["value"], found["stderr"], found["beside"]) == (None, None, [])
    assert found["reason"] == "the model's scores are not numbers"
    assert {item["value"] for item in found["items"]} == {None}
