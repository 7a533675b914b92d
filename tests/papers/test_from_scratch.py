"""From scratch: sizes counted before against the built model, and that it is a regular, random one."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config

from papers.from_scratch.method import FromScratch
from reprune.method import ModelFacts, Target
from reprune.models.checkpoint import save_model
from reprune.models.folder import ModelFolder
from reprune.models.sizes import Sizes, SizeSettings, parameters, size_for

LLAMA = ModelFacts("llama", 32, 4096, 11008, 32, 32, 128, 32000, False, 6_738_415_616)
SMOLLM = ModelFacts("llama", 30, 576, 1536, 9, 3, 64, 49152, True, 134_515_008)
SHEARED = {"layers": 12, "hidden_size": 384, "heads": 6, "intermediate_size": 1024}
TINY = {
    "vocab_size": 258,
    "hidden_size": 72,
    "intermediate_size": 200,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "max_position_embeddings": 64,
}
CONFIGS = {
    "full heads": LlamaConfig(**TINY),
    "grouped heads, tied": LlamaConfig(**TINY, num_key_value_heads=2, tie_word_embeddings=True),
    "wide heads": MistralConfig(**TINY, num_key_value_heads=3, head_dim=20),
    "biases": Qwen2Config(**TINY, num_key_value_heads=2),
}


def facts_of(model):
    config = model.config
    return ModelFacts(
        config.model_type,
        config.num_hidden_layers,
        config.hidden_size,
        config.intermediate_size,
        config.num_attention_heads,
        config.num_key_value_heads,
        model.model.layers[0].self_attn.head_dim,
        config.vocab_size,
        config.tie_word_embeddings,
        sum(p.numel() for p in model.parameters()),
    )


def compressed(subject, share=0.2):
    FromScratch(SizeSettings(), Target.parameters(share, "width")).compress(subject)
    return subject


@pytest.fixture
def made(subject_of):
    """A subject with a model of one of the configurations."""

    def build(name):
        subject = subject_of()
        subject.model = AutoModelForCausalLM.from_config(copy.deepcopy(CONFIGS[name]))
        subject.facts = facts_of(subject.model)
        return subject

    return build


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("share", [0.1, 0.37, 0.8])
@torch.no_grad()
def test_the_parameters_counted_before_are_those_of_the_built_model(made, name, share):
    subject = made(name)
    facts, shape = subject.facts, copy.deepcopy(subject.model.config)
    sizes = size_for(facts, share)
    compressed(subject, share)
    assert subject.parameters == parameters(facts, sizes)
    half_a_channel = 1.5 * sizes.hidden_size * facts.layers
    assert abs(subject.parameters - (1 - share) * facts.parameters) <= half_a_channel + 1
    shape.hidden_size, shape.intermediate_size = sizes.hidden_size, sizes.intermediate_size
    shape.head_dim = facts.head_dim
    told, wanted = subject.model.config.to_dict(), shape.to_dict()
    assert {k for k in told.keys() | wanted.keys() if told.get(k) != wanted.get(k)} <= {"dtype"}
    assert subject.notes == sizes._asdict() and sizes.layers == facts.layers
    assert subject.model(torch.arange(12)[None]).logits.isfinite().all()


@pytest.mark.parametrize("name", CONFIGS)
def test_named_sizes_are_built(made, name):
    subject = made(name)
    heads = subject.facts.heads // subject.facts.kv_heads  # of one key-value head
    asked = SizeSettings(layers=1, hidden_size=60, heads=heads, intermediate_size=50)
    sizes = Sizes(*asked.given)
    share = 1 - parameters(subject.facts, sizes) / subject.facts.parameters
    target = Target.parameters(share, "width")
    assert FromScratch.supports(subject.facts, target, asked) is None
    FromScratch(asked, target).compress(subject)
    assert subject.parameters == parameters(subject.facts, sizes)
    assert facts_of(subject.model).layers == 1 and subject.model.config.hidden_size == 60
    assert subject.model(torch.arange(12)[None]).logits.isfinite().all()


def test_it_is_a_regular_model_that_inherits_nothing(subject_of, tiny_folder, tmp_path):
    subject = subject_of("tiny-llama-gqa")
    dense = subject.model
    compressed(subject)
    save_model(subject.model, ModelFolder(tiny_folder("tiny-llama-gqa")), tmp_path, torch.float32)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert type(loaded) is type(dense) and loaded.lm_head.weight is loaded.model.embed_tokens.weight
    weight = subject.model.model.layers[0].mlp.up_proj.weight
    assert torch.equal(loaded.model.layers[0].mlp.up_proj.weight, weight)
    assert weight.std().item() == pytest.approx(dense.config.initializer_range, rel=0.05)
    assert not any(p.requires_grad for p in subject.model.parameters()) and not subject.model.training


def test_weights_come_from_the_runs_generator_alone(subject_of):
    first, second, third = (subject_of("tiny-llama") for _ in range(3))
    third.generator.manual_seed(1)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    compressed(first)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(1)
    compressed(second)
    compressed(third)
    same = [
        torch.equal(a, b) for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True)
    ]
    assert all(same)
    assert not torch.equal(first.model.lm_head.weight, third.model.lm_head.weight)


def test_what_is_refused():
    def answer(facts, share, **sizes):
        return FromScratch.supports(facts, Target.parameters(share, "width"), SizeSettings(**sizes))

    assert answer(SMOLLM, 0.94) is None
    assert answer(SMOLLM, 0.95).nearest == "94% of parameters"
    assert "at the least hidden size, 72, 94.9% of the parameters" in str(answer(SMOLLM, 0.95))
    other = ModelFacts("gpt2", 12, 768, 3072, 12, 12, 64, 50257, True, 124_439_808)
    assert "counts models built as Llama" in str(answer(other, 0.2))
    assert "these sizes leave out 71.9% of the parameters" in str(answer(SMOLLM, 0.5, **SHEARED))
    assert answer(SMOLLM, 0.72, **SHEARED) is None
    assert answer(SMOLLM, 0.72, **{**SHEARED, "heads": 7}).nearest == "heads 6"
    assert answer(SMOLLM, 0.2, hidden_size=640).nearest == "hidden_size 576"
    assert answer(SMOLLM, 0.2, hidden_size=448).nearest == "hidden_size 441"
