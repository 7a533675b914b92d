"""Voita et al.'s learned gates on heads: what they leave of a small model, and what they note."""

from __future__ import annotations

import pytest
import torch
from translation_subject import HEADS, LAYERS, translation_subject, write_translator

from reprune.calibration.sentences import batches, encode
from reprune.data.parallel import Pair
from reprune.evaluation.checkpoint_facts import measure_checkpoint
from reprune.method import Target
from reprune.models.checkpoint import load_model, save_model
from reprune.models.folder import ModelFolder
from reprune.models.translation import encoder_parameters
from reprune.surgery.head_gates import retained_heads
from reprune.training.translation import held_out_loss

QUICK = {"steps": 12, "batch_tokens": 400, "scale": 0.3, "warmup": 4, "evaluate_every": 4, "max_length": 32}
LEARNED = {**QUICK, "mask_rate": 0.4, "penalty": 0.005}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_translator(tmp_path_factory.mktemp("translator"))


@pytest.fixture
def gated(folder, paper, tmp_path):
    """A subject that gates of these settings have compressed."""

    def compress(seed=0, **settings):
        module, subject = paper("voita_heads"), translation_subject(folder, tmp_path / "store", seed)
        method = module.VoitaHeads(module.Settings(**{**LEARNED, **settings}), Target.of_heads(0))
        method.compress(subject)
        return subject

    return compress


def test_the_defaults_are_those_of_paper_and_code(paper):
    """README and scripts: a coefficient of 0.1 for six layers, scale 4, warm-up 16,000, temperature 0.33."""
    settings = paper("voita_heads").Settings()
    assert settings.penalty_in_code(6) == pytest.approx(0.1, rel=3e-3)
    assert (settings.scale, settings.warmup, settings.smoothing, settings.temperature) == (
        4,
        16_000,
        0.1,
        0.33,
    )
    assert (settings.start, settings.gated) == (0.0, "encoder")
    assert settings.mask_rate == pytest.approx(4 / (512 * 16_000) ** 0.5, rel=2e-3)


def test_the_notes_tell_which_heads_the_saved_model_has(gated, folder, tmp_path):
    subject = gated()
    kept, heads = subject.notes["heads"]["kept"], retained_heads(subject.model)
    assert list(kept) == ["encoder"] and [sum(row) for row in kept["encoder"]] == heads["encoder"]
    assert [len(row) for row in kept["encoder"]] == [HEADS] * LAYERS and 0 < sum(heads["encoder"]) < 12
    assert heads["decoder"] == heads["cross"] == [HEADS] * 2
    told = subject.notes["gates"]["evaluations"]
    assert [m["step"] for m in told] == [0, 4, 8, 12] and told[-1]["open"] == {
        "encoder": sum(heads["encoder"])
    }
    assert told[0]["open"] == {"encoder": 0} and told[0]["open_in_code"] == {"encoder": 12}, "a tie is closed"
    assert subject.notes["penalty_in_code"] == pytest.approx(0.005 * LAYERS)
    (tmp_path / "saved").mkdir()
    save_model(subject.model, ModelFolder(folder), tmp_path / "saved", torch.float32)
    assert retained_heads(load_model(tmp_path / "saved")) == heads
    facts = measure_checkpoint(ModelFolder(tmp_path / "saved"), subject.facts)
    gone = 12 - sum(heads["encoder"])
    removed = gone * 8 * (4 * 32 + 3)
    assert facts.params == subject.facts.parameters - removed
    assert facts.ratio_achieved == pytest.approx(removed / subject.facts.parameters)


def test_the_last_measurement_is_of_the_model_that_is_left(gated):
    """With hardened gates, heads taken out, and the held-out pairs read anew."""
    subject = gated()
    pairs = encode(subject.tokenizer, subject.pairs["validation"], 32)
    loss = held_out_loss(subject.model, batches(subject.model, pairs))
    assert subject.notes["gates"]["evaluations"][-1]["loss"] == pytest.approx(loss, rel=1e-4)


def test_sentences_longer_than_the_model_has_positions_are_left_out(gated, paper, folder, tmp_path):
    subject = translation_subject(folder, tmp_path / "store", 0)
    positions = subject.model.config.max_position_embeddings
    long = [Pair("the cat " * positions, "die Katze " * positions)]
    subject.pairs["train"] = [*subject.pairs["train"], *long]
    module = paper("voita_heads")
    settings = module.Settings(**{**LEARNED, "max_length": 10 * positions})
    module.VoitaHeads(settings, Target.of_heads(0)).compress(subject)
    assert subject.notes["gates"]["losses"] == gated(max_length=positions).notes["gates"]["losses"]


def test_a_larger_penalty_closes_more_heads(gated):
    weak, usual, strong = (
        sum(retained_heads(gated(penalty=penalty).model)["encoder"]) for penalty in (0.0, 0.005, 2.0)
    )
    assert weak > usual > strong == 0


def test_gates_in_the_encoder_leave_the_decoder_bit_by_bit(gated, folder):
    subject, before = gated(), load_model(folder)
    after = dict(subject.model.named_parameters())
    own = set(encoder_parameters(before))
    others = {name: p for name, p in before.named_parameters() if name not in own}
    assert any("decoder.layers.1.encoder_attn.k_proj" in name for name in others)
    assert not [name for name, p in others.items() if not torch.equal(p, after[name])]
    assert torch.equal(before.final_logits_bias, subject.model.final_logits_bias)
    norms = [name for name in own if "layer_norm" in name]
    assert norms and not [
        name for name in norms if torch.equal(dict(before.named_parameters())[name], after[name])
    ]


def test_gates_everywhere_train_everything(gated, folder):
    subject, before = gated(gated="all", penalty=0.05), load_model(folder)
    assert list(subject.notes["heads"]["kept"]) == ["encoder", "decoder", "cross"]
    assert subject.notes["penalty_in_code"] == pytest.approx(0.05 * (LAYERS + 2 + 2))
    assert not torch.equal(subject.model.model.shared.weight, before.model.shared.weight)
    assert {k: sum(v) for k, v in retained_heads(subject.model).items()} == subject.notes["gates"][
        "evaluations"
    ][-1]["open"]


@pytest.mark.parametrize("kind", ["decoder", "cross"])
def test_gates_on_one_attention_of_the_decoder_leave_the_others(gated, folder, kind):
    subject, before = gated(gated=kind, penalty=0.05), load_model(folder)
    assert list(subject.notes["heads"]["kept"]) == [kind]
    assert subject.notes["penalty_in_code"] == pytest.approx(0.05 * 2)
    left, whole = (retained_heads(model) for model in (subject.model, before))
    assert sum(left[kind]) < sum(whole[kind])
    assert {k: v for k, v in left.items() if k != kind} == {k: v for k, v in whole.items() if k != kind}


def test_a_model_without_any_head_still_writes(gated):
    subject = gated(penalty=5.0, gated="all")
    assert not any(map(sum, retained_heads(subject.model).values()))
    found = subject.tokenizer(["The cat sees the dog."], return_tensors="pt")
    written = subject.model.generate(found["input_ids"], num_beams=2, max_new_tokens=5)
    assert written.shape[1] > 1


def test_seeds_draw_other_gates_and_equal_seeds_the_same(gated):
    first, again, other = (gated(seed) for seed in (0, 0, 1))
    assert first.notes["heads"] == again.notes["heads"]
    assert first.notes["gates"]["losses"] == again.notes["gates"]["losses"] != other.notes["gates"]["losses"]


def test_a_gentle_start_opens_the_gates(gated):
    soft = gated(start=2.0, steps=1, penalty=0.0)
    first = soft.notes["gates"]["evaluations"][0]
    assert first["open"] == {"encoder": 12} and first["expected"]["encoder"] == pytest.approx(
        12 * 0.9422, rel=1e-3
    )
