"""The scoring engine against lm-eval's own ``hf`` model, on tiny random models of many architectures."""

from __future__ import annotations

import math
import random

import pytest
import torch
import transformers
from architectures import GROUPED, LLAMA, PACKED, PLAIN, WORDS, build
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.models.huggingface import HFLM
from torch import nn

from reprune.evaluation import engine, packed_forward, trial
from reprune.evaluation.engine import RepruneLM
from reprune.evaluation.trial import packs_exactly
from reprune.models.parts import FeedForwardBlock
from reprune.models.skeleton import find_blocks, number_blocks
from reprune.models.sliced import PlainRMSNorm, SlicedBlock


@pytest.fixture(scope="module")
def llama():
    """A model not to be changed."""
    return build(LLAMA())


def draw(source, count):
    return [source.randrange(2, WORDS) for _ in range(count)]


def questions(model, shots=0, count=10, seed=0, longest=20):
    """Requests of ``count`` questions below ``shots`` common tokens; one choice of each is the greedy one."""
    source = random.Random(seed)
    prompt, requests = draw(source, shots), []
    for _ in range(count):
        context = prompt + draw(source, source.choice([1, 5, 30, 60]))
        with torch.no_grad():
            best = model(torch.tensor([context])).logits[0, -1].argmax().item()
        start = draw(source, 3)
        choices = [
            start[: source.randrange(3)] + draw(source, source.choice([1, 2, longest])) for _ in range(3)
        ]
        requests += [(None, context, choice) for choice in ([best], *choices)]
    source.shuffle(requests)
    return requests


def scored(lm, requests):
    return lm._loglikelihood_tokens(requests, disable_tqdm=True)


def agree(lm, requests):
    """Every value within 1e-4 of lm-eval's, every answer greedy if lm-eval's is."""
    reference = HFLM(lm.model, tokenizer=lm.tokenizer, max_length=lm._max_length)
    expected, found = scored(reference, requests), scored(lm, requests)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
    values = [value for value, _ in expected]
    assert [value for value, _ in found] == pytest.approx(values, rel=0, abs=1e-4, nan_ok=True)
    return found


@pytest.mark.parametrize("name", PACKED)
def test_packed_architectures_agree(engine_of, name):
    model = build(PACKED[name]())
    lm = engine_of(model)
    for shots in (0, 80):
        found = agree(lm, questions(model, shots))
        assert {greedy for _, greedy in found} == {True, False}
    assert lm.packed


@pytest.mark.parametrize("name", PLAIN)
def test_other_architectures_are_scored_by_lm_evals_code(tokenizer, name):
    model = build(PLAIN[name]())
    with pytest.warns(UserWarning, match="more slowly"):
        lm = RepruneLM(model, tokenizer=tokenizer)
    assert not lm.packed
    agree(lm, questions(model, 80))


def test_low_rank_layers(engine_of):
    model = build(LLAMA())
    for layer in model.model.layers:
        for parent, name in ((layer.mlp, "up_proj"), (layer.mlp, "down_proj"), (layer.self_attn, "k_proj")):
            dense = getattr(parent, name)
            factors = nn.Sequential(
                nn.Linear(dense.in_features, 5, bias=False), nn.Linear(5, dense.out_features)
            )
            setattr(parent, name, factors)
    lm = engine_of(model)
    agree(lm, questions(model, 80))
    assert lm.packed


def test_widths_and_heads_of_each_layers_own(engine_of):
    model = build(LLAMA())
    for layer, (width, queries, keys) in zip(
        model.model.layers, [(48, 4, 2), (7, 2, 1), (20, 6, 2)], strict=True
    ):
        attention, mlp = layer.self_attn, layer.mlp
        attention.num_key_value_groups = queries // keys
        for name, heads in (("q_proj", queries), ("k_proj", keys), ("v_proj", keys)):
            setattr(attention, name, nn.Linear(32, heads * attention.head_dim, bias=False))
        attention.o_proj = nn.Linear(queries * attention.head_dim, 32, bias=False)
        mlp.gate_proj, mlp.up_proj = nn.Linear(32, width, bias=False), nn.Linear(32, width, bias=False)
        mlp.down_proj = nn.Linear(width, 32, bias=False)
    lm = engine_of(model)
    agree(lm, questions(model, 80))
    assert lm.packed


def test_hidden_states_narrower_than_the_model(engine_of):
    model, widths = build(LLAMA()), [(20, 24, 28), (28, 12, 20), (20, 16, 32)]
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.clone())
    model.config.tie_word_embeddings = False
    model.model.embed_tokens.weight = nn.Parameter(model.model.embed_tokens.weight[:, :20])
    for index, (layer, (inputs, middle, outputs)) in enumerate(zip(model.model.layers, widths, strict=True)):
        attention, mlp = layer.self_attn, layer.mlp
        for reader in (attention.q_proj, attention.k_proj, attention.v_proj):
            reader.weight = nn.Parameter(reader.weight[:, :inputs])
        attention.o_proj.weight = nn.Parameter(attention.o_proj.weight[:middle])
        for reader in (mlp.gate_proj, mlp.up_proj):
            reader.weight = nn.Parameter(reader.weight[:, :middle])
        mlp.down_proj.weight = nn.Parameter(mlp.down_proj.weight[:outputs])
        block = SlicedBlock(layer, inputs, middle, outputs).eval()
        block.input_layernorm = block.post_attention_layernorm = PlainRMSNorm(32, 1e-5)
        for shortcut in (block.attn_shortcut, block.mlp_shortcut):
            nn.init.eye_(shortcut.weight)
        model.model.layers[index] = block
    lm = engine_of(model)
    agree(lm, questions(model, 80))
    assert lm.packed


@pytest.mark.parametrize("name", ["llama, grouped heads, tied", "qwen2, some windows", "opt", "gemma3"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_block_without_attention(engine_of, name, place):
    """Packed scores and generated texts are those of lm-eval's model, which uses the key-value cache."""
    model = build(PACKED[name](), 0.3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(place)
        block = FeedForwardBlock(32, 48, 0.5).eval()
        nn.init.normal_(block.down.weight, 0, 0.3)
    find_blocks(model)[1][place] = block
    number_blocks(model)
    lm = engine_of(model)
    agree(lm, questions(model, 80))
    texts = [
        Instance("generate_until", {}, (text, {"until": ["\n"], "max_gen_toks": 9}), 0) for text in "abc"
    ]
    reference = HFLM(model, tokenizer=lm.tokenizer, max_length=lm._max_length)
    assert lm.generate_until(texts, disable_tqdm=True) == reference.generate_until(texts, disable_tqdm=True)
    assert lm.packed


class TestRequests:
    def test_trunks_with_wide_trees(self, engine_of, llama):
        """Blocks and passes of every size below prompts of 100 tokens, targets inside a trunk included."""
        lm = engine_of(llama, pass_tokens=64)
        requests = questions(llama, 100, count=25, longest=60)
        context = requests[0][1]
        requests += [(None, context[:50], context[50:100]), (None, context[:50], context[50:100] + [3])]
        agree(lm, requests)

    def test_answers_come_in_the_order_of_the_requests(self, engine_of, llama):
        requests = questions(llama, 70)
        lm = engine_of(llama)
        expected = {
            str(request): value for request, (value, _) in zip(requests, scored(lm, requests), strict=True)
        }
        turned = requests[::-1]
        assert [value for value, _ in scored(lm, turned)] == pytest.approx(
            [expected[str(request)] for request in turned], abs=1e-4
        )

    def test_equal_requests_get_equal_answers(self, engine_of, llama):
        first, second, *_ = questions(llama)
        a, b, *rest = agree(engine_of(llama), [first, second, first, first])
        assert rest == [a, a] and a != b

    def test_no_requests(self, engine_of, llama):
        assert scored(engine_of(llama), []) == []

    def test_shared_tokens_are_computed_once(self, engine_of, llama):
        lm = engine_of(llama)
        context = draw(random.Random(1), 50)
        scored(lm, [(None, context, [token]) for token in (5, 6, 7, 8)])
        assert lm.computed_tokens == 50 + 50, (
            "once packed, once plainly because no request was as long before"
        )
        scored(lm, [(None, context[:30], [token, 9]) for token in (5, 6, 7, 8)])
        assert lm.computed_tokens == 100 + 30 + 4

    def test_progress_ends_at_the_total(self, engine_of, llama):
        said = []
        lm = engine_of(llama, on_progress=lambda done, total: said.append((done, total)), pass_tokens=100)
        scored(lm, questions(llama, 100, count=25))
        assert len(said) > 3 and said[-1][0] == said[-1][1] and said == sorted(said)

    @pytest.mark.parametrize("context, continuation", [([], [5]), ([5], [])])
    def test_a_request_without_tokens_is_refused(self, engine_of, llama, context, continuation):
        with pytest.raises(ValueError, match="no token of context or of continuation"):
            scored(engine_of(llama), [(None, context, continuation)])

    def test_a_continuation_longer_than_the_window_is_refused(self, engine_of, llama):
        with pytest.raises(ValueError, match="a continuation of 33 tokens exceeds the model's 32"):
            scored(engine_of(llama, max_length=32), [(None, [5], [6] * 33)])


class TestTexts:
    """Requests as lm-eval makes them."""

    TEXTS = [
        ("The coat is", " red."),
        ("The coat is", " rather blue."),
        ("The coat is ", "red."),
        ("", "The coat is red."),
        ("", "T"),
        ("a long story " * 9, "ends"),
        ("a long story " * 9, "does not end"),
    ]

    def instances(self, kind, arguments):
        return [Instance(kind, {}, texts, i) for i, texts in enumerate(arguments)]

    @pytest.mark.parametrize("max_length, cut", [(256, 0), (40, 2), (16, 3)])
    def test_contexts_longer_than_the_window_lose_their_beginnings(
        self, engine_of, tokenizer, llama, max_length, cut
    ):
        lm = engine_of(llama, max_length=max_length)
        requests = self.instances("loglikelihood", self.TEXTS)
        found = lm.loglikelihood(requests, disable_tqdm=True)
        expected = HFLM(llama, tokenizer=tokenizer, max_length=max_length).loglikelihood(
            requests, disable_tqdm=True
        )
        assert found == [(pytest.approx(value, abs=1e-4), greedy) for value, greedy in expected]
        assert lm.truncated == cut and lm.packed

    def test_whole_texts_are_scored_window_by_window(self, engine_of, tokenizer, llama):
        requests = self.instances("loglikelihood_rolling", [("a long story " * 9,), ("short",)])
        found = engine_of(llama, max_length=32).loglikelihood_rolling(requests)
        expected = HFLM(llama, tokenizer=tokenizer, max_length=32).loglikelihood_rolling(requests)
        assert found == pytest.approx(expected, abs=1e-4)

    def test_a_checkpoint_folder_is_loaded_in_float32(self, tiny_folder):
        path = str(tiny_folder("tiny-llama-gqa"))
        lm = get_model("reprune")(path=path)
        assert isinstance(lm, RepruneLM) and lm.packed
        assert lm.model.dtype == torch.float32, "the checkpoint is float16"
        requests = self.instances("loglikelihood", self.TEXTS)
        expected = HFLM(path, dtype="float32", device="cpu").loglikelihood(requests, disable_tqdm=True)
        assert lm.loglikelihood(requests, disable_tqdm=True) == [
            (pytest.approx(value, abs=1e-4), greedy) for value, greedy in expected
        ]

    def test_no_checkpoint_is_one_clear_line(self):
        with pytest.raises(ValueError, match="model_args names no checkpoint; give path=FOLDER"):
            RepruneLM()


@pytest.mark.parametrize("everywhere", [True, False])
def test_weights_that_are_not_numbers(engine_of, everywhere):
    model = build(PACKED["llama, full heads"]())
    odd = 1  # a token of no other request
    requests = [*questions(model, 80), (None, [7, 8, odd], [9, 9])]
    with torch.no_grad():
        if everywhere:
            model.model.layers[0].mlp.up_proj.weight.fill_(math.nan)
        else:
            model.model.embed_tokens.weight[odd] = math.nan
    found = agree(engine_of(model), requests)
    assert {math.isnan(value) for value, _ in found[:-1]} == {everywhere} and math.isnan(found[-1][0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_packed_and_near(engine_of, dtype):
    model = build(LLAMA())
    requests = questions(model, 80)
    full = scored(engine_of(model), requests)
    lm = engine_of(model.to(dtype))
    for (value, _), (expected, _), (_, _, tokens) in zip(scored(lm, requests), full, requests, strict=True):
        assert abs(value - expected) < 0.15 * len(tokens)
    assert lm.packed


class TestAttention:
    def test_is_put_back(self, engine_of):
        for name in ("eager", "sdpa"):
            model = build(LLAMA())
            model.set_attn_implementation(name)
            scored(engine_of(model), questions(model))
            assert model.config._attn_implementation == name

    def test_is_put_back_after_an_error(self, engine_of, monkeypatch):
        model = build(LLAMA())
        lm = engine_of(model)
        requests = questions(model)
        monkeypatch.setattr(engine, "packed_logits", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            scored(lm, requests)
        assert model.config._attn_implementation == "sdpa"

    def test_passes_need_no_state_of_others(self, engine_of):
        """Nothing is left behind that a pass after an error would read."""
        model = build(LLAMA())
        lm = engine_of(model)
        with pytest.raises(IndexError):
            scored(lm, [(None, [WORDS + 5], [3])])
        assert not packed_forward._RUNNING
        agree(lm, questions(model))


def leak_to_siblings(monkeypatch):
    monkeypatch.setattr(
        packed_forward,
        "_ancestors",
        lambda block: torch.ones(len(block.tokens), len(block.tokens)).tril().bool(),
    )


def leak_to_other_blocks(monkeypatch):
    whole = packed_forward._segments

    def joined(blocks):
        parts = whole(blocks)
        depths = torch.cat([part.depths for part in parts])
        return [packed_forward._Segment(0, parts[-1].end, depths, None)]

    monkeypatch.setattr(packed_forward, "_segments", joined)


def forget_the_trunk(monkeypatch):
    logits = trial.packed_logits
    monkeypatch.setattr(
        trial,
        "packed_logits",
        lambda model, blocks, wanted, trunk, keep: logits(model, blocks, wanted, None, keep),
    )


def count_places_from_zero(monkeypatch):
    logits = trial.packed_logits

    def shifted(model, blocks, *others):
        for block in blocks:
            block.depths = [depth - block.offset for depth in block.depths]
        return logits(model, blocks, *others)

    monkeypatch.setattr(trial, "packed_logits", shifted)


class TestTrials:
    """A packing that is wrong for a model is found out before a value of it is used."""

    FAULTS = [leak_to_siblings, leak_to_other_blocks, forget_the_trunk, count_places_from_zero]

    @pytest.mark.parametrize("name", ["llama, grouped heads, tied", "opt", "gpt-neox"])
    @pytest.mark.parametrize("fault", FAULTS)
    def test_planted_faults_are_found(self, monkeypatch, fault, name):
        model = build(PACKED[name]())
        assert packs_exactly(model)
        fault(monkeypatch)
        assert not packs_exactly(model)

    @pytest.mark.parametrize("name", ["llama, grouped heads, tied", "opt", "gpt-neox"])
    def test_weak_weights_do_not_hide_a_leak(self, monkeypatch, name):
        model = build(PACKED[name](), 0.02)
        assert packs_exactly(model)
        leak_to_siblings(monkeypatch)
        assert not packs_exactly(model)

    def test_weak_weights_do_not_hide_that_scores_are_capped(self):
        assert not packs_exactly(build(PLAIN["gemma2"](), 0.001))

    def test_a_model_that_gives_every_position_is_not_packed(self, monkeypatch):
        model = build(LLAMA())
        forward = model.forward
        monkeypatch.setattr(
            model, "forward", lambda inputs=None, logits_to_keep=0, **others: forward(inputs, **others)
        )
        assert not packs_exactly(model)

    def test_the_longest_request_is_tried_too(self, engine_of, monkeypatch):
        """A window that the attention is not told of shows from its length on."""
        model = build(PACKED["mistral, a window longer than the trial"]())
        masks = packed_forward._Pass.mask
        monkeypatch.setattr(
            packed_forward._Pass, "mask", lambda self, i, _, dtype: masks(self, i, None, dtype)
        )
        lm = engine_of(model)
        short = [(None, draw(random.Random(i), 30), [5, 6]) for i in range(4)]
        agree(lm, short)
        assert lm.packed
        with pytest.warns(UserWarning, match="other values packed than plain at 82 tokens"):
            agree(lm, short + [(None, draw(random.Random(9), 80), [5, 6, 7])])
        assert not lm.packed

    def test_layers_that_attend_in_chunks(self, engine_of):
        config = transformers.Llama4TextConfig(
            head_dim=8, attention_chunk_size=32, num_local_experts=2, intermediate_size_mlp=48, **GROUPED
        )
        model = build(config)
        lm = engine_of(model)
        with pytest.warns(UserWarning, match="other values packed than plain"):
            agree(lm, questions(model, 80))

    def test_only_a_request_longer_than_any_before_is_tried(self, engine_of, monkeypatch):
        model = build(LLAMA())
        lm = engine_of(model)
        lengths, plain = [], engine.plain_logits
        monkeypatch.setattr(
            engine,
            "plain_logits",
            lambda m, tokens, last: lengths.append(len(tokens)) or plain(m, tokens, last),
        )
        for length in (10, 30, 20, 30, 40):
            scored(lm, [(None, draw(random.Random(i), length), [5]) for i in range(3)])
        assert lengths == [10, 30, 40]
