"""Recovery as a whole: what it trains, what it tells, and that it comes out the same twice."""

from __future__ import annotations

import pytest
import torch

from reprune.plan.recovery import Recovery
from reprune.training.instructions import examples
from reprune.training.loss import Teacher, example_losses, summed_losses
from reprune.training.recovery import recover
from reprune.training.trainer import TrainingError

SETTINGS = {"length": 320, "batch_size": 4, "learning_rate": 3e-3, "warmup": 0.1}
DENSE = 184_000


@pytest.fixture
def recovered(tokenizer, rows):
    """Recovers a model; 20 rows are trained on and 4 held out."""

    def made(model, replaced=(), seed=3, say=lambda done, total: None, dense=None, **settings):
        asked = Recovery(**{**SETTINGS, **settings})
        return recover(model, tokenizer, rows[4:], rows[:4], asked, replaced, DENSE, seed, say, dense)

    return made


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_all_of_the_replaced_blocks_is_trained_and_nothing_else(low_rank_model, recovered):
    model = low_rank_model()
    before = weights(model)
    told = recovered(model, [2], kind="replaced", epochs=3)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name in before if name.startswith("model.layers.2.")}
    assert "model.layers.2.input_layernorm.weight" in changed
    assert "model.layers.2.self_attn.q_proj.down.weight" in changed
    assert not any(p.requires_grad for p in model.parameters()) and not model.training
    assert told["trainable"] == sum(before[name].numel() for name in changed)
    assert (told["kind"], told["merged"], told["examples"], told["steps"]) == ("replaced", False, 20, 15)
    assert told["validation_after"] < told["validation_before"] and told["losses"][-1] < told["losses"][0]
    assert "rank" not in told


@pytest.mark.parametrize(("name", "trainable"), [("tiny-llama", 184_000), ("tiny-llama-gqa", 155_200)])
def test_all_of_a_model_is_trained_and_tied_embeddings_stay_tied(tiny_model, recovered, name, trainable):
    model = tiny_model(name)
    before, tied = weights(model), model.config.tie_word_embeddings
    told = recovered(model, kind="full", epochs=3)
    assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert weights(model).keys() == before.keys()
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    assert not any(p.requires_grad for p in model.parameters()) and not model.training
    assert (told["kind"], told["merged"], told["trainable"]) == ("full", False, trainable)
    assert told["validation_after"] < told["validation_before"]


def test_all_of_a_low_rank_model_keeps_its_factors(low_rank_model, recovered):
    model = low_rank_model()
    before = weights(model)
    told = recovered(model, kind="full")
    assert told["trainable"] == sum(p.numel() for p in before.values())
    assert {n: p.shape for n, p in model.named_parameters()} == {n: p.shape for n, p in before.items()}


def test_a_stop_is_told_as_what_was_done(tiny_model, recovered, tokenizer, rows):
    chosen = examples(rows[4:], tokenizer, 320)
    whole, said = recovered(tiny_model(), kind="full", epochs=2), []
    told = recovered(tiny_model(), kind="full", epochs=2, stop=7, say=lambda *counts: said.append(counts))
    assert (told["steps"], told["scheduled_steps"], told["examples"]) == (7, 10, 20)
    assert (whole["steps"], whole["scheduled_steps"]) == (10, 10) and told["losses"] == whole["losses"][:7]
    epoch = sum(len(example.tokens) for example in chosen)
    assert epoch < told["tokens"] < 2 * epoch == whole["tokens"]
    assert said[-1] == (4 + 28 + 4, 4 + 28 + 4)


def test_a_stop_beyond_the_end_is_said_at_once(tiny_model, recovered):
    said = []
    with pytest.raises(TrainingError, match="stop after step 6 is beyond the training's end, step 5"):
        recovered(tiny_model(), kind="full", stop=6, say=lambda *counts: said.append(counts))
    assert said == []


def test_distillation_brings_the_student_nearer_to_the_dense_model(tiny_model, recovered, tokenizer, rows):
    held_out = examples(rows[:4], tokenizer, 320)
    dense, student = tiny_model(), tiny_model()
    with torch.no_grad():
        student.model.layers[1].mlp.down_proj.weight.zero_()
        dense.lm_head.weight.mul_(4)  # chances that are worth learning
    before = weights(dense)

    def apart():
        return summed_losses(student, held_out, Teacher(dense, 1.0)).sum().item()

    far = apart()
    told = recovered(student, kind="full", epochs=3, distil=1.0, dense=dense)
    assert apart() < 0.7 * far and told["losses"][-1] < told["losses"][0]
    assert all(torch.equal(p, before[name]) for name, p in dense.named_parameters())


def test_validation_is_cross_entropy_whatever_is_trained(tiny_model, recovered):
    told = [recovered(tiny_model(), kind="full", distil=d, dense=tiny_model()) for d in (0.0, 0.5)]
    assert told[0]["validation_before"] == told[1]["validation_before"]
    assert told[0]["validation_after"] != told[1]["validation_after"]


def test_adapters_are_trained_and_merged(low_rank_model, recovered):
    model = low_rank_model()
    before = weights(model)
    told = recovered(model, targets=("q_proj", "down_proj"), rank=4, epochs=3)
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name in before if ".q_proj." in name or ".down_proj." in name}
    assert (told["kind"], told["merged"], told["rank"], len(told["losses"])) == ("lora", True, 4, 15)
    assert told["validation_after"] < told["validation_before"]
    assert not any(p.requires_grad for p in model.parameters()) and not model.training


def test_the_share_of_the_dense_model_chooses_the_rank(tiny_model, recovered):
    """q_proj and down_proj of three blocks cost 1,104 parameters for every rank."""
    told = recovered(tiny_model(), targets=("q_proj", "down_proj"), trainable_share=0.03)
    assert (told["rank"], told["trainable"]) == (5, 5520)


@pytest.mark.parametrize("settings", [{"kind": "replaced"}, {"kind": "full"}, {"dropout": 0.3, "rank": 4}])
def test_twice_gives_the_same(low_rank_model, recovered, settings):
    first, second, third = low_rank_model(), low_rank_model(), low_rank_model()
    told = recovered(first, [2], **settings)
    torch.rand(1)
    assert recovered(second, [2], **settings) == told
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert recovered(third, [2], seed=4, **settings)["losses"] != told["losses"]


def test_what_is_told_are_means_over_scored_tokens(tiny_model, recovered, tokenizer, rows):
    held_out = examples(rows[:4], tokenizer, 320)
    chosen = examples(rows[4:], tokenizer, 320)
    losses = example_losses(tiny_model(), held_out)
    told = recovered(tiny_model(), [1], kind="replaced", epochs=2)
    scored = sum(example.scored for example in held_out)
    assert told["validation_before"] == pytest.approx(sum(losses) / scored, rel=1e-6)
    assert told["tokens"] == 2 * sum(len(example.tokens) for example in chosen)


def test_nothing_to_train_is_said_at_once(tiny_model, recovered):
    with pytest.raises(TrainingError, match="replaced no block"):
        recovered(tiny_model(), [], kind="replaced")


def test_rows_that_are_all_prompt_are_no_data(tiny_model, recovered):
    with pytest.raises(TrainingError, match="none of 4 validation rows has a token to score within 64"):
        recovered(tiny_model(), [1], kind="replaced", length=64)


def test_a_model_that_is_broken_already_is_not_trained(tiny_model, recovered):
    model = tiny_model()
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(TrainingError, match="validation rows is not finite before training"):
        recovered(model, [1], kind="replaced")


def test_progress_counts_the_examples_of_all_parts(tiny_model, recovered):
    said = []
    recovered(tiny_model(), [1], kind="replaced", say=lambda *counts: said.append(counts))
    done = [count for count, _ in said]
    assert {total for _, total in said} == {4 + 20 + 4}
    assert done == sorted(done) and done[-1] == 28 and {4, 8, 24} <= set(done)
