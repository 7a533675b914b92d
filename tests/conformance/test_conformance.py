"""Every method, on full and grouped heads, untied and tied embeddings, does what a method must.

``pytest tests/conformance -k NAME-`` runs it on one method; methods outside this tree are found in the
folders of the environment variable REPRUNE_METHODS.
"""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from reprune.calibration.statistics import SecondMoment
from reprune.discovery import MethodEntry
from reprune.evaluation.checkpoint_facts import CheckpointFacts, measure_checkpoint
from reprune.method import Target, Unsupported, settings_of
from reprune.models.skeleton import Skeleton, linear_layers

from .bench import Bench
from .cases import CASES, MASKED, METHODS, MODELS, TARGETS, Case
from .swaps import better_swaps, error_change

every_case = pytest.mark.parametrize("case", CASES, ids=str)
masked_cases = pytest.mark.parametrize("case", MASKED, ids=str)
pruning_cases = pytest.mark.parametrize("case", [c for c in MASKED if c.target.kind != "none"], ids=str)
n_of_m_cases = pytest.mark.parametrize("case", [c for c in CASES if c.target.kind == "n:m"], ids=str)
every_method = pytest.mark.parametrize("entry", METHODS, ids=lambda entry: f"{entry.id}-")
unstructured_methods = pytest.mark.parametrize(
    "entry", [e for e in METHODS if "unstructured" in e.cls.kinds], ids=lambda entry: f"{entry.id}-"
)
every_model = pytest.mark.parametrize("model", MODELS)


def linear_names(bench: Bench, model: str) -> dict[str, int]:
    """The names of all prunable tensors of a model, with their number of rows."""
    skeleton = Skeleton(bench.dense(model))
    return {
        f"{skeleton.prefix}.{index}.{name}.weight": layer.out_features
        for index in range(len(skeleton))
        for name, layer in linear_layers(skeleton.block(index)).items()
    }


def zeros(facts: CheckpointFacts) -> int:
    return sum(layer.size - layer.nonzeros for layer in facts.layers)


@every_method
def test_says_what_it_does_and_what_each_setting_means(entry: MethodEntry):
    assert (entry.cls.__doc__ or "").strip(), "`reprune methods` shows the class's docstring"
    unexplained = [name for name, field in settings_of(entry.cls).items() if not field.metadata.get("help")]
    assert unexplained == []


@every_method
@every_model
def test_supports_answers_none_or_a_reason(bench: Bench, entry: MethodEntry, model: str):
    for target in (target for targets in TARGETS.values() for target in targets):
        answer = entry.cls.supports(bench.facts(model), target, entry.cls.Settings())
        assert answer is None or isinstance(answer, Unsupported) and answer.reason
        assert answer or target.kind in entry.cls.kinds, f"accepts {target.label}, does not declare it"


@masked_cases
def test_reaches_the_target_to_one_weight_per_row(bench: Bench, case: Case):
    facts = measure_checkpoint(bench.compressed(case).folder)
    wanted = case.target.sparsity * sum(layer.size for layer in facts.layers)
    assert abs(zeros(facts) - wanted) <= sum(linear_names(bench, case.model).values())


@n_of_m_cases
def test_n_of_m_holds_in_every_group(bench: Bench, case: Case):
    tensors = bench.compressed(case).tensors()
    for name in linear_names(bench, case.model):
        counts = (tensors[name].view(-1, case.target.m) == 0).sum(dim=1)
        assert (counts == case.target.n).all(), name


@masked_cases
def test_leaves_everything_but_linear_layers_bit_identical(bench: Bench, case: Case):
    dense = bench.dense(case.model)
    before, after = dense.read(sorted(dense.files)), bench.compressed(case).tensors()
    assert set(after) == set(before)
    free = set() if case.target.kind == "none" else set(linear_names(bench, case.model))
    changed = [name for name in before if name not in free and not torch.equal(before[name], after[name])]
    assert changed == []


@every_case
def test_two_runs_give_identical_files(bench: Bench, case: Case):
    assert bench.compressed(case, repeat=1).hashes() == bench.compressed(case).hashes()


@masked_cases
@torch.no_grad()
def test_reloaded_checkpoint_gives_equal_logits(bench: Bench, case: Case):
    compressed = bench.compressed(case)
    tokens = bench.windows(case.model)[:2]
    in_memory = AutoModelForCausalLM.from_pretrained(bench.dense(case.model).path, dtype=torch.float32).eval()
    in_memory.load_state_dict(compressed.tensors(), strict=False)
    reloaded = AutoModelForCausalLM.from_pretrained(compressed.folder.path, dtype=torch.float32).eval()
    assert (reloaded(tokens).logits - in_memory(tokens).logits).abs().max() == 0


@unstructured_methods
@every_model
def test_a_sparser_target_removes_more(bench: Bench, entry: MethodEntry, model: str):
    cases = [Case(entry, model, target) for target in (Target.unstructured(0.3), Target.unstructured(0.5))]
    fewer, more = (zeros(measure_checkpoint(bench.compressed(case).folder)) for case in cases)
    assert fewer < more


@every_case
def test_leaves_the_global_random_state_alone(bench: Bench, case: Case):
    assert bench.compressed(case).manners.kept_random_state


@every_case
def test_prints_nothing(bench: Bench, case: Case):
    assert bench.compressed(case).manners.printed == ""


@every_case
def test_does_not_change_its_inputs(bench: Bench, case: Case):
    assert bench.compressed(case).manners.kept_inputs


@pruning_cases
def test_no_swap_of_kept_and_pruned_weights_is_an_improvement(bench: Bench, case: Case):
    """By the method's own score where it tells one, else by the error of each layer's output on average."""
    tensors, block, method = bench.compressed(case).tensors(), bench.first_block(case), bench.method(case)
    prefix = Skeleton(bench.dense(case.model)).prefix
    after = {name: tensors[f"{prefix}.0.{name}.weight"].float() for name in block.linears}
    with torch.no_grad():
        scores = method.own_score(block)
        hessians = block.statistics(SecondMoment)
    within = method.competes_in
    for name, layer in block.linears.items():
        if scores is not None:
            assert better_swaps(scores[name], after[name] == 0, case.target, within) == 0, name
        else:
            assert error_change(layer.weight, after[name], hessians[name].hessian, case.target) >= 0, name
