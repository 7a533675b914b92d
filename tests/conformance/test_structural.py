"""Every method that takes parts out of a model: the share it removes, and what it saves."""

from __future__ import annotations

import pytest
import torch

from reprune.evaluation.checkpoint_facts import measure_checkpoint
from reprune.method import StructuralMethod, Target
from reprune.models.checkpoint import load_model
from reprune.models.counts import parameters

from .bench import Bench
from .cases import METHODS, MODELS, RESHAPED, Case

reshaped_cases = pytest.mark.parametrize("case", RESHAPED, ids=str)
structural_methods = pytest.mark.parametrize(
    "entry",
    [e for e in METHODS if issubclass(e.cls, StructuralMethod) and not e.cls.requires_parallel],
    ids=lambda entry: f"{entry.id}-",
)
every_model = pytest.mark.parametrize("model", MODELS)


def removed(bench: Bench, case: Case) -> float:
    return measure_checkpoint(bench.compressed(case).folder, bench.facts(case.model)).ratio_achieved


@reshaped_cases
def test_removes_the_asked_share_to_half_a_block(bench: Bench, case: Case):
    facts = bench.facts(case.model)
    block = (facts.parameters - facts.embedding_parameters) / facts.layers / facts.parameters
    assert abs(removed(bench, case) - case.target.sparsity) <= 0.5 * block + 0.01


@reshaped_cases
@torch.no_grad()
def test_saved_and_reloaded_the_logits_are_equal(bench: Bench, case: Case):
    compressed, tokens = bench.compressed(case), bench.windows(case.model)[:2]
    reloaded = load_model(compressed.folder.path)
    assert torch.equal(reloaded(tokens).logits, compressed.model(tokens).logits)


@reshaped_cases
@torch.no_grad()
def test_generation_with_a_cache_gives_the_full_forward_pass(bench: Bench, case: Case):
    model, tokens = bench.compressed(case).model, bench.windows(case.model)[:1, :12]
    cache = model(tokens[:, :6], use_cache=True)
    rest = model(tokens[:, 6:], past_key_values=cache.past_key_values, use_cache=True)
    whole = model(tokens, use_cache=False).logits
    torch.testing.assert_close(torch.cat([cache.logits, rest.logits], dim=1), whole, rtol=1e-4, atol=1e-4)


@structural_methods
@every_model
def test_a_larger_target_removes_at_least_as_much(bench: Bench, entry, model: str):
    kind = entry.cls.own_target(Target.parameters(0.2)).kind
    less, more = (Case(entry, model, Target.parameters(share, kind)) for share in (0.2, 0.4))
    assert removed(bench, less) <= removed(bench, more)


@reshaped_cases
def test_measured_parameters_are_those_of_the_model(bench: Bench, case: Case):
    compressed = bench.compressed(case)
    counted = measure_checkpoint(compressed.folder, bench.facts(case.model)).params
    assert counted == sum(parameter.numel() for parameter in compressed.model.parameters())


@reshaped_cases
def test_a_shape_told_from_the_configuration_is_the_one_that_is_left(bench: Bench, case: Case):
    model, cls = bench.compressed(case).model, case.method.cls
    told = cls.shape(bench.facts(case.model), case.target, case.settings)
    assert told is None or parameters(told) == sum(parameter.numel() for parameter in model.parameters())
