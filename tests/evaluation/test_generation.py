"""Greedy generation against lm-eval's ``hf`` model, one request at a time.

The models compute in float64: random ones have ties that float32 breaks one way or the other.
"""

from __future__ import annotations

import random

import pytest
import torch
from architectures import LLAMA, PACKED, PLAIN, build
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from reprune.evaluation import engine, generation, packed_forward
from reprune.evaluation.engine import RepruneLM
from reprune.evaluation.generation import Prompt, generate
from reprune.evaluation.text import ProtocolError

WORDS = "the a coat milk sings blue when under".split()
NAMES = ["llama, grouped heads, tied", "llama, full heads", "qwen2, some windows", "opt", "gemma3", "qwen3"]


def exact(name):
    return build((PACKED | PLAIN)[name](), 0.3).double()


@pytest.fixture(scope="module")
def llama():
    """A model not to be changed."""
    return exact("llama, grouped heads, tied")


def texts(source, shared=0, lengths=(1, 3, 9, 25, 2, 40, 1, 12, 5, 7)):
    start = [source.choice(WORDS) for _ in range(shared)]
    return [" ".join(start + [source.choice(WORDS) for _ in range(length)]) for length in lengths]


@pytest.fixture(scope="module")
def contexts():
    """Prompts of different lengths, some of which share a long beginning, one twice, one of one token."""
    source = random.Random(0)
    shared = texts(source, 20, lengths=(1, 2, 30, 25, 40, 20, 25))
    return ["T", *texts(source), *shared, shared[0][:90], shared[1]]


def asked(contexts, **options):
    options = {"until": ["\n"], "max_gen_toks": 12, **options}
    return [Instance("generate_until", {}, (text, dict(options)), i) for i, text in enumerate(contexts)]


def by_lm_eval(lm, requests):
    reference = HFLM(lm.model, tokenizer=lm.tokenizer, max_length=lm._max_length, batch_size=1)
    return reference.generate_until(requests, disable_tqdm=True)


def agree(lm, requests):
    found = lm.generate_until(requests, disable_tqdm=True)
    assert found == by_lm_eval(lm, requests)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_lm_evals(engine_of, contexts, name):
    lm = engine_of(exact(name), pass_tokens=128)
    found = agree(lm, asked(contexts))
    assert len(set(found)) > 1 and lm.packed


@pytest.mark.parametrize("name", ["gemma2", "bloom", "mamba"])
def test_other_architectures_are_left_to_lm_eval(tokenizer, contexts, name):
    with pytest.warns(UserWarning, match="more slowly"):
        lm = RepruneLM(exact(name), tokenizer=tokenizer)
    agree(lm, asked(contexts[:6]))


@pytest.mark.parametrize("until", [[], ["a"], ["H", ";", "!!"], "e"])
def test_texts_end_before_their_stop_sequence(engine_of, contexts, llama, until):
    found = agree(engine_of(llama), asked(contexts[::2], until=until, max_gen_toks=25))
    assert not any(stop in text for stop in until for text in found)


def test_every_request_has_its_own_length_and_stops(engine_of, contexts, llama):
    requests = [
        asked([context], until=[["a"], ["e"], ["\n"]][i % 3], max_gen_toks=1 + i % 9)[0]
        for i, context in enumerate(contexts)
    ]
    lm = engine_of(llama)
    found = lm.generate_until(requests, disable_tqdm=True)
    assert found == [by_lm_eval(lm, [request])[0] for request in requests]


def test_a_text_ends_at_the_end_of_text(engine_of, contexts, monkeypatch):
    """At any of the tokens that the model's generation configuration names."""
    model = exact("llama, full heads")
    lm = engine_of(model)
    free = agree(lm, asked(contexts))
    common = lm.tok_encode(free[0])[3]
    monkeypatch.setattr(model.generation_config, "eos_token_id", [1, common])
    ended = agree(lm, asked(contexts))
    assert ended != free and len(ended[0]) <= 4


@pytest.mark.parametrize("max_length", [400, 80, 20])
def test_contexts_longer_than_the_window_lose_their_beginnings(engine_of, contexts, llama, max_length):
    lm = engine_of(llama, max_length=max_length)
    agree(lm, asked(contexts))
    assert lm.truncated == sum(len(text) > max_length - 12 for text in contexts)
    assert (lm.truncated > 0) == (max_length < 400)


def test_no_room_for_a_prompt_is_one_clear_line(engine_of, contexts, llama):
    with pytest.raises(
        ProtocolError, match="256 tokens to generate leave no room for a prompt in the model's 256"
    ):
        engine_of(llama).generate_until(asked(contexts, max_gen_toks=256))


class TestOtherWaysToGenerate:
    """What does not take the likeliest tokens, or not them alone, is lm-eval's to do."""

    @pytest.fixture(autouse=True)
    def not_ours(self, monkeypatch):
        monkeypatch.setattr(engine, "generate", lambda *_: pytest.fail("generated greedily"))

    @pytest.mark.parametrize(
        "options", [{"do_sample": True, "temperature": 0.7}, {"num_beams": 2}, {"repetition_penalty": 1.5}]
    )
    def test_asked_by_a_request(self, engine_of, contexts, llama, options):
        texts = engine_of(llama).generate_until(asked(contexts[:3], **options), disable_tqdm=True)
        assert len(texts) == 3

    def test_asked_by_the_model(self, engine_of, contexts):
        model = exact("llama, full heads")
        model.generation_config.repetition_penalty = 1.5
        agree(engine_of(model), asked(contexts[:3]))


def test_no_requests(engine_of, llama):
    assert engine_of(llama).generate_until([]) == []


def test_a_length_that_does_not_pack_is_found_before_it_is_used(engine_of, contexts, monkeypatch):
    """A window that the attention is not told of, longer than the prompts and shorter than the texts."""
    model = exact("mistral, a window longer than the trial")
    masks = packed_forward._Pass.mask
    monkeypatch.setattr(packed_forward._Pass, "mask", lambda self, i, _, dtype: masks(self, i, None, dtype))
    lm = engine_of(model)
    short = [text[:10] for text in contexts[3:6]]
    agree(lm, asked(short, max_gen_toks=20))
    assert lm.packed
    with pytest.warns(UserWarning, match="other values packed than plain at 70 tokens"):
        agree(lm, asked(short, max_gen_toks=60))
    assert not lm.packed


class TestRows:
    """Rows at work together, by the number of rows of every step."""

    @pytest.fixture
    def steps(self, monkeypatch):
        made, logits = [], generation.line_logits

        def counted(model, tokens, *others):
            made.append(len(tokens))
            return logits(model, tokens, *others)

        monkeypatch.setattr(generation, "line_logits", counted)
        return made

    def prompts(self, *rooms):
        source = random.Random(1)
        lengths = [source.choice([1, 2, 20]) for _ in rooms]
        return [
            Prompt([source.randrange(2, 258) for _ in range(length)], room, lambda new: False)
            for length, room in zip(lengths, rooms, strict=True)
        ]

    def test_a_row_that_is_done_makes_room_for_the_next(self, llama, steps):
        prompts = self.prompts(2, 9, 3, 2, 2)
        for prompt in prompts:
            del prompt.tokens[1:]  # so that they start in this order
        found = generate(llama, prompts, 2, 512)
        assert [len(new) for new in found] == [2, 9, 3, 2, 2]
        assert sum(steps) == 18, "a step of a row for every new token, none for a row that is done"
        assert steps == [2] * 9

    def test_a_stop_ends_its_row_alone(self, llama, steps):
        prompts = self.prompts(9, 9)
        prompts[1].stops = lambda new: len(new) == 3
        assert [len(new) for new in generate(llama, prompts, 8, 512)] == [9, 3]
        assert steps == [2] * 3 + [1] * 6

    @pytest.mark.parametrize("at_once", [1, 3, 50])
    def test_how_many_are_at_work_changes_nothing(self, llama, at_once):
        prompts = self.prompts(*range(1, 9))
        assert generate(llama, prompts, at_once, 512) == [
            generate(llama, [prompt], 1, 512)[0] for prompt in prompts
        ]

    def test_what_prompts_share_is_computed_once(self, llama, monkeypatch):
        passes, logits = [], generation.packed_logits
        monkeypatch.setattr(
            generation,
            "packed_logits",
            lambda model, blocks, *others: (
                passes.append(sum(len(block.tokens) for block in blocks)) or logits(model, blocks, *others)
            ),
        )
        source = random.Random(2)
        start = [source.randrange(2, 258) for _ in range(100)]
        prompts = [
            Prompt(start + [source.randrange(2, 258) for _ in range(101)], 3, lambda new: False)
            for _ in range(8)
        ]
        generate(llama, prompts, 8, 512)
        assert passes == [100, 500, 300]

    def test_progress_counts_finished_prompts(self, llama):
        said = []
        generate(llama, self.prompts(1, 2, 2), 8, 512, lambda *told: said.append(told))
        assert said == [(1, 3), (3, 3)]


def test_attention_is_put_back(llama):
    generate(llama, [Prompt([5, 6], 2, lambda new: False)], 1, 512)
    assert llama.config._attn_implementation == "sdpa" and not packed_forward._RUNNING


def test_weights_that_are_not_numbers(engine_of, contexts):
    model = build(LLAMA()).double()
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.fill_(torch.nan)
    agree(engine_of(model), asked(contexts[:3]))
