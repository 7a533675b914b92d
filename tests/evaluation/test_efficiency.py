"""Speed measured in turns, generation with a cache, and counts, each against an independent way."""

from __future__ import annotations

from itertools import accumulate, chain, islice

import pytest
import torch
import transformers
from architectures import LLAMA, PACKED, build
from torch import nn

from reprune.evaluation.efficiency import (
    in_turns,
    last_logits,
    multiply_accumulates,
    next_tokens,
    sizes,
    speed,
)
from reprune.models.parts import FeedForwardBlock, put
from reprune.models.skeleton import number_blocks
from reprune.surgery.layers import drop_blocks
from reprune.surgery.low_rank import balanced, factorise, svd

LENGTH = 12


def low_rank(model):
    layer = model.model.layers[1].mlp.up_proj
    u, s, vt = svd(layer.weight)
    up, down = balanced(u[:, :5], s[:5], vt[:5])
    put(model, "model.layers.1.mlp.up_proj", factorise(layer, up, down))


def without_attention(model):
    """The first block, whose place in the cache tells how many tokens there are."""
    model.model.layers[0] = FeedForwardBlock(32, 40, 0.0).eval()
    number_blocks(model)


IRREGULAR = {
    "low rank": low_rank,
    "a block gone": lambda model: drop_blocks(model, [1]),
    "a block without attention": without_attention,
}


def irregular(name):
    model = build(LLAMA())
    IRREGULAR[name](model)
    return model


def clock_of(durations):
    """A clock on which one work after another takes these seconds, with a pause between them."""
    return iter(list(accumulate(chain.from_iterable((1000, each) for each in durations)))).__next__


def generated(model, prompt, new_tokens):
    return torch.cat(list(islice(next_tokens(model, prompt), new_tokens)), dim=1)


def test_works_take_turns_at_every_step_and_change_who_goes_first():
    done, told = [], []

    def work(name):
        step = 0
        while True:
            done.append(f"{name}{step}")
            yield
            step += 1

    rows = in_turns(
        [lambda: work("dense"), lambda: work("own")],
        2,
        2,
        lambda *progress: told.append(progress),
        clock_of([1, 2, 3, 4, 5, 6, 7, 8]),
    )
    assert done == ["dense0", "own0", "own1", "dense1", "own0", "dense0", "dense1", "own1"]
    assert rows == [[1 + 4, 2 + 3], [6 + 7, 5 + 8]]
    assert told == [(1, 2), (2, 2)]


def test_rates_are_tokens_over_seconds_and_the_speedup_is_paired(tiny_model):
    spec = {"kind": "generate", "batch": 3, "prompt": 4, "new_tokens": 2}
    found = speed(tiny_model(), tiny_model(), spec, 2, clock=clock_of([5, 1, 3, 1, 1, 6, 6, 1]))
    assert (found["metric"], found["unit"], found["n"]) == ("throughput", "tokens/s", 2)
    assert found["value"] == pytest.approx((6 / 4 + 6 / 2) / 2)
    assert found["stderr"] == pytest.approx(0.75)
    others = found["others"]
    assert others["throughput_dense"] == pytest.approx(((6 / 6 + 6 / 12) / 2, 0.25))
    assert others["speedup"] == pytest.approx(((6 / 4 + 12 / 2) / 2, 2.25))
    assert others["latency"] == pytest.approx(((4 / 2 + 2 / 2) / 2, 0.5))
    assert [(i["metric"], i["item"], i["value"]) for i in found["items"]] == [
        ("throughput", 0, 1.5),
        ("throughput", 1, 3.0),
        ("speedup", 0, 1.5),
        ("speedup", 1, 6.0),
    ]


def test_reading_counts_the_tokens_that_are_read_and_one_repeat_has_no_error(tiny_model):
    spec = {"kind": "forward", "batch": 2, "length": 16}
    found = speed(tiny_model(), tiny_model(), spec, 1, clock=clock_of([4, 8]))
    assert (found["value"], found["stderr"]) == (32 / 8, None)
    assert found["others"]["latency"] == (8, None) and found["others"]["speedup"] == (0.5, None)


def test_both_models_do_the_same_number_of_steps_after_a_warm_up(tiny_model):
    models, lengths = [tiny_model(), tiny_model()], ([], [])
    for model, seen in zip(models, lengths, strict=True):
        model.register_forward_pre_hook(
            lambda _m, _a, given, seen=seen: seen.append(given["input_ids"].shape), with_kwargs=True
        )
    speed(*models, {"kind": "generate", "batch": 2, "prompt": 4, "new_tokens": 5}, 3)
    warm_up, generation = [(2, 4), (2, 1)], [(2, 4), *[(2, 1)] * 4]
    assert lengths[0] == lengths[1] == warm_up + 3 * generation


@pytest.mark.parametrize("name", IRREGULAR)
def test_generation_with_a_cache_is_what_whole_passes_say_on_irregular_models(name):
    model = irregular(name)
    prompt = torch.randint(256, (3, 4), generator=torch.Generator().manual_seed(0))
    made = generated(model, prompt, 9)
    assert made.shape == (3, 9)
    whole = torch.cat([prompt, made], dim=1)
    logits = model(input_ids=whole, use_cache=False).logits
    assert torch.equal(logits[:, 3:-1].argmax(dim=-1), made)
    torch.testing.assert_close(next(last_logits(model, whole)), logits[:, -1])


def test_the_end_of_text_ends_nothing(tiny_model):
    model = tiny_model()
    model.generation_config.eos_token_id = list(range(258))
    assert generated(model, torch.ones(1, 2, dtype=torch.long), 7).shape == (1, 7)


def by_hooks(model, length):
    """Multiply-accumulates of the linear layers in one pass, and of attention by its shapes."""
    found = []

    def linear(module, _inputs, output):
        found.append(output.numel() * module.in_features)

    def attention(module, _inputs, _output):
        found.append(2 * length * length * module.q_proj.out_features)

    hooks = [m.register_forward_hook(linear) for m in model.modules() if isinstance(m, nn.Linear)]
    hooks += [m.register_forward_hook(attention) for m in model.modules() if hasattr(m, "q_proj")]
    model(input_ids=torch.ones(1, length, dtype=torch.long))
    for hook in hooks:
        hook.remove()
    return sum(found)


@pytest.mark.parametrize("name", ["tiny-llama", "tiny-llama-gqa"])
def test_macs_of_a_llama_are_the_formulas(tiny_model, model_entry, name):
    f = model_entry(name)["facts"]
    hidden, keys = f["hidden_size"], f["kv_heads"] * f["head_dim"]
    block = 2 * hidden * hidden + 2 * hidden * keys + 3 * hidden * f["intermediate_size"]
    weights = f["layers"] * block + f["vocab_size"] * hidden
    attention = f["layers"] * f["heads"] * 2 * LENGTH * LENGTH * f["head_dim"]
    assert multiply_accumulates(tiny_model(name), LENGTH) == LENGTH * weights + attention


@pytest.mark.parametrize("name", IRREGULAR)
def test_macs_of_irregular_models_are_those_their_modules_do(name):
    model = irregular(name)
    assert multiply_accumulates(model, LENGTH) == by_hooks(model, LENGTH)
    assert multiply_accumulates(model, LENGTH) < multiply_accumulates(build(LLAMA()), LENGTH)


@pytest.mark.parametrize("name", ["qwen2, some windows", "opt", "gemma3", "gpt-neox"])
def test_macs_of_other_models_are_their_linear_layers_and_all_pairs_of_attention(name):
    model = build(PACKED[name]())
    weights = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear))
    assert multiply_accumulates(model, LENGTH) == LENGTH * weights + 3 * 2 * LENGTH * LENGTH * 32


def test_counting_leaves_the_attention_as_it_was(tiny_model):
    model = tiny_model()
    before = model.config._attn_implementation
    multiply_accumulates(model, 4)
    assert model.config._attn_implementation == before == "sdpa"


def test_llama_7b_has_the_macs_that_llm_pruner_prints_less_what_is_no_product(model_entry):
    """LLM-Pruner, Table 3: 424.02 G for 64 tokens; its counter (test_speedup.py) adds these operations."""
    facts = model_entry("llama-7b")["facts"]
    layers, hidden, wide, length = facts["layers"], facts["hidden_size"], facts["intermediate_size"], 64
    config = transformers.LlamaConfig(
        vocab_size=facts["vocab_size"],
        hidden_size=hidden,
        intermediate_size=wide,
        num_hidden_layers=layers,
        num_attention_heads=facts["heads"],
    )
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
    macs = multiply_accumulates(model, length)
    assert macs == 423_926_693_888
    rotary, softmax = 4 * length * hidden, facts["heads"] * length * length
    norms, activation = 2 * length * hidden * (2 * layers + 1), length * wide
    assert round((macs + layers * (rotary + softmax + activation) + norms) / 1e9, 2) == 424.02


def test_sizes_count_tied_embeddings_once_and_are_shares_of_the_dense_model(tiny_model, model_entry):
    dense, facts = tiny_model("tiny-llama-gqa"), model_entry("tiny-llama-gqa")["facts"]
    whole, embeddings = facts["parameters"], facts["vocab_size"] * facts["hidden_size"]
    block = sum(p.numel() for p in dense.model.layers[0].parameters())
    shorter = tiny_model("tiny-llama-gqa")
    drop_blocks(shorter, [1])
    found = sizes(dense, shorter, LENGTH)
    assert (found["metric"], found["value"], found["stderr"]) == ("parameters", whole - block, None)
    others = {name: value for name, (value, _) in found["others"].items()}
    assert others["nonembedding_parameters"] == whole - block - embeddings
    assert others["ratio_total"] == pytest.approx(block / whole)
    assert others["ratio_nonembedding"] == pytest.approx(block / (whole - embeddings))
    assert others["bytes"] == 4 * (whole - block)
    assert others["macs"] == multiply_accumulates(shorter, LENGTH)


def test_a_model_beside_itself_lost_nothing(tiny_model, model_entry):
    model = tiny_model()
    found = sizes(model, model, LENGTH)
    assert found["value"] == model_entry("tiny-llama")["facts"]["parameters"]
    assert found["others"]["ratio_total"] == found["others"]["ratio_nonembedding"] == (0, None)
