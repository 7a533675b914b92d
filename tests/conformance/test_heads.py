"""Every method that takes heads out of translation models: how many stay, and what is saved."""

from __future__ import annotations

import pytest
import torch
from small_translation import logits as logits_of
from translation_subject import PAIRS

from reprune.calibration.sentences import Batch, batches, encode
from reprune.evaluation.checkpoint_facts import measure_checkpoint
from reprune.models.attention import attention_as
from reprune.models.checkpoint import load_model, tensors_of
from reprune.models.folder import load_tokenizer
from reprune.surgery.head_gates import retained_heads

from .bench import Bench
from .cases import HEADED, METHODS, Case

headed_cases = pytest.mark.parametrize("case", HEADED, ids=str)


def batch_of(bench: Bench, case: Case) -> Batch:
    """Sentences of different lengths in one batch."""
    tokenizer = load_tokenizer(bench.dense(case.model).path)
    (batch,) = batches(
        load_model(bench.dense(case.model).path), encode(tokenizer, PAIRS["validation"][:4], 40)
    )
    return batch


def test_every_method_for_translation_models_has_cases():
    assert {case.method.id for case in HEADED} == {e.id for e in METHODS if e.cls.requires_parallel}


@headed_cases
def test_exactly_as_many_encoder_heads_stay_as_asked_for(bench: Bench, case: Case):
    left = sum(retained_heads(load_model(bench.compressed(case).folder.path))["encoder"])
    whole = bench.facts(case.model).layers * bench.facts(case.model).heads
    assert left == case.target.n if case.target.n else 0 <= left < whole


@headed_cases
def test_the_pattern_that_is_noted_is_what_is_saved(bench: Bench, case: Case):
    compressed = bench.compressed(case)
    measured = retained_heads(load_model(compressed.folder.path))
    for kind, rows in compressed.notes["heads"]["kept"].items():
        assert [sum(row) for row in rows] == measured[kind] and {type(x) for row in rows for x in row} == {
            bool
        }
    dense = retained_heads(load_model(bench.dense(case.model).path))
    assert all(measured[kind] == dense[kind] for kind in set(dense) - set(compressed.notes["heads"]["kept"]))


@headed_cases
@torch.no_grad()
def test_saved_and_reloaded_the_logits_are_equal(bench: Bench, case: Case):
    compressed, batch = bench.compressed(case), batch_of(bench, case)
    reloaded = load_model(compressed.folder.path)
    with attention_as(reloaded, "eager"), attention_as(compressed.model, "eager"):
        assert torch.equal(logits_of(reloaded, batch), logits_of(compressed.model, batch))


@headed_cases
@torch.no_grad()
def test_generation_with_a_cache_writes_what_it_writes_without(bench: Bench, case: Case):
    model, batch = load_model(bench.compressed(case).folder.path), batch_of(bench, case)
    told = {
        "input_ids": batch.source,
        "attention_mask": batch.source_mask,
        "num_beams": 3,
        "max_new_tokens": 8,
    }
    assert torch.equal(model.generate(**told, use_cache=True), model.generate(**told, use_cache=False))


@headed_cases
def test_measured_parameters_are_those_of_the_model_and_fewer_than_before(bench: Bench, case: Case):
    compressed, facts = bench.compressed(case), bench.facts(case.model)
    counted = measure_checkpoint(compressed.folder, facts)
    tensors = tensors_of(compressed.model, torch.float32)
    assert counted.params == sum(tensor.numel() for tensor in tensors.values()) < facts.parameters
    assert counted.ratio_achieved == pytest.approx(1 - counted.params / facts.parameters)
