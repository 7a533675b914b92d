"""What FWSVD, ASVD and SVD-LLM have in common: every linear layer of every block as two factors."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from papers.asvd.method import ASVD
from papers.fwsvd.method import FWSVD
from papers.svd_llm.method import SvdLlm
from reprune.method import Target
from reprune.models.parts import LowRank
from reprune.surgery.low_rank import rank_for

MODELS = ("tiny-llama", "tiny-llama-gqa")
VARIANTS = {
    "fwsvd": (FWSVD, {}),
    "asvd": (ASVD, {"search": "uniform"}),
    "asvd-max": (ASVD, {"search": "uniform", "statistic": "abs_max"}),
    "svd_llm": (SvdLlm, {}),
    "svd_llm-sequential": (SvdLlm, {"update": "sequential"}),
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)
every_model = pytest.mark.parametrize("model", MODELS)


def method(variant: str, share: float = 0.2):
    cls, settings = VARIANTS[variant]
    return cls(cls.Settings(**settings), Target.parameters(share, "low_rank"))


def parts(subject) -> dict[str, LowRank]:
    return {n: m for n, m in subject.model.named_modules() if isinstance(m, LowRank)}


def assert_logits_kept_at_full_rank(subject, variant: str) -> None:
    dense = subject.model(subject.windows).logits
    linears = subject.linears()
    method(variant).factor(subject, {n: min(layer.weight.shape) for n, layer in linears.items()})
    assert set(parts(subject)) == set(linears)
    found = subject.model(subject.windows).logits
    assert (found - dense).abs().max() <= 1e-4 * dense.abs().max()


@every_model
@every_variant
def test_with_everything_kept_the_logits_are_the_dense_ones(subject_of, model, variant):
    assert_logits_kept_at_full_rank(subject_of(model), variant)


@every_variant
def test_biases_are_kept(subject_of, variant):
    subject = subject_of("tiny-llama")
    shape = {k: getattr(subject.model.config, k) for k in ("hidden_size", "intermediate_size", "vocab_size")}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shape |= {"attention_bias": True, "mlp_bias": True}
        config = LlamaConfig(**shape, num_hidden_layers=2, num_attention_heads=4)
        model = LlamaForCausalLM(config).eval().requires_grad_(False)
        for parameter in (p for name, p in model.named_parameters() if name.endswith("bias")):
            parameter.normal_()
    biased = dataclasses.replace(subject, model=model, key={"model": "biased"})
    assert_logits_kept_at_full_rank(biased, variant)


@every_model
@every_variant
@pytest.mark.parametrize("share", [0.2, 0.45])
def test_the_share_of_all_parameters_is_met_within_one_rank(subject_of, model, variant, share):
    subject = subject_of(model)
    before = subject.parameters
    shapes = {name: layer.weight.shape for name, layer in subject.linears().items()}
    method(variant, share).compress(subject)
    assert 0 <= before - subject.parameters - share * before < 64 + 176
    removed = share * before / sum(shape.numel() for shape in shapes.values())
    for name, part in parts(subject).items():
        assert part.rank - rank_for(*shapes[name], removed) in (0, 1)
    assert set(parts(subject)) == set(shapes)


@every_variant
def test_ranks_go_by_shape_and_are_reported(subject_of, variant):
    subject = subject_of("tiny-llama-gqa")
    method(variant).compress(subject)
    ranks = {name.removeprefix("model.layers."): float(part.rank) for name, part in parts(subject).items()}
    told = {f"{i}.{n}": facts["rank"] for i, layers in subject.report.items() for n, facts in layers.items()}
    assert told == ranks
    assert ranks["0.self_attn.k_proj"] < ranks["0.self_attn.q_proj"] < ranks["0.mlp.up_proj"]


@every_variant
def test_all_but_the_linear_layers_of_blocks_is_untouched(subject_of, variant):
    subject, dense = subject_of("tiny-llama-gqa"), subject_of("tiny-llama-gqa").model.state_dict()
    method(variant).compress(subject)
    rest = {n: p for n, p in subject.model.state_dict().items() if "_proj." not in n}
    assert "model.embed_tokens.weight" in rest and "model.norm.weight" in rest
    assert all(torch.equal(parameter, dense[name]) for name, parameter in rest.items())


@every_variant
def test_nothing_to_remove_changes_nothing(subject_of, variant):
    subject = subject_of("tiny-llama")
    method(variant, 0.0).compress(subject)
    assert parts(subject) == {}


@pytest.mark.parametrize("cls", [FWSVD, ASVD, SvdLlm])
def test_more_than_factors_of_rank_one_leave_is_refused(subject_of, cls):
    facts = subject_of("tiny-llama-gqa").facts
    ask = [cls.supports(facts, Target.parameters(share, "low_rank"), cls.Settings()) for share in (0.7, 0.95)]
    assert ask[0] is None
    assert "rank of at least 1" in ask[1].reason
    assert ask[1].nearest == "83% of parameters"
    assert "low_rank" in cls.supports(facts, Target.unstructured(0.5), cls.Settings()).reason
