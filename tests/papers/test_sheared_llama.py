"""Sheared-LLaMA on tiny models: the exact target shape, an export equal to the masked model, the penalty."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from papers.sheared_llama.method import Settings, ShearedLlama, kept, shapes
from reprune.calibration.mixture import Mixture
from reprune.method import ModelFacts, Target
from reprune.models.checkpoint import save_model
from reprune.models.folder import ModelFolder
from reprune.models.sizes import Sizes, parameters, wanted
from reprune.training.masks import TargetedMasks

LLAMA = ModelFacts("llama", 32, 4096, 11008, 32, 32, 128, 32000, False, 6_738_415_616)
SMALL = {"steps": 6, "batch_size": 2, "evaluate_every": 3, "learning_rate": 1e-3}


def mixture_of(windows):
    """Two domains, one of the same few tokens again and again."""
    easy = windows.clone()
    easy[:, 1::2] = 7
    parts = {"hard": windows, "easy": easy}
    held_out = {name: own[-2:] for name, own in parts.items()}
    return Mixture({name: own[:-2] for name, own in parts.items()}, held_out, {"hard": 0.5, "easy": 0.5})


@pytest.fixture
def pruning_of(subject_of):
    """A subject with a mixture, and the method with sizes and the target that goes with them."""

    def build(model, sizes, **settings):
        subject = subject_of(model)
        subject.mixture, subject.keeper = mixture_of(subject.windows), None
        facts = subject.facts
        named = Settings(**SMALL | settings, **sizes._asdict())
        target = Target.parameters(1 - parameters(facts, sizes) / facts.parameters)
        assert ShearedLlama.supports(facts, target, named) is None
        return subject, ShearedLlama(named, target)

    return build


def smaller(facts, layers):
    group = facts.heads // facts.kv_heads
    return Sizes(layers, facts.hidden_size * 3 // 4, group, facts.intermediate_size // 2)


@pytest.mark.parametrize("model", ["tiny-llama", "tiny-llama-gqa"])
def test_the_model_has_exactly_the_target_shape_and_loads_as_a_regular_one(
    pruning_of, subject_of, tiny_folder, tmp_path, model
):
    facts = subject_of(model).facts
    sizes = smaller(facts, facts.layers - 1)
    subject, method = pruning_of(model, sizes)
    method.compress(subject)
    assert subject.parameters == parameters(facts, sizes)
    save_model(subject.model, ModelFolder(tiny_folder(model)), tmp_path, torch.float32)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    config, tokens = loaded.config, subject.windows[:2]
    found = (config.num_hidden_layers, config.hidden_size, config.num_attention_heads)
    assert found == sizes[:3] and config.intermediate_size == sizes.intermediate_size
    assert torch.equal(loaded(tokens).logits, subject.model(tokens).logits)


@torch.no_grad()
def test_the_exported_model_equals_the_masked_one(subject_of):
    subject = subject_of("tiny-llama-gqa")
    facts, tokens = subject.facts, subject.windows[:2]
    sizes = smaller(facts, facts.layers - 1)
    learned = TargetedMasks(subject.model, shapes(facts), kept(facts, sizes), Settings(**SMALL), seed=1)
    for own in learned.logits.values():
        own.add_(torch.randn(own.shape, generator=torch.Generator().manual_seed(3)))
    learned.open_now = lambda: {
        n: torch.full((len(learned.logits[n]),), learned.kept[n]) for n in learned.kept
    }
    with learned.settled():
        masked = subject.model(tokens).logits
    dense = subject.model(tokens).logits
    learned.cut()
    assert (subject.model(tokens).logits - masked).abs().max() <= 1e-5 * masked.abs().max()
    assert not torch.allclose(dense, masked, rtol=1e-2)


def test_what_is_kept_has_the_highest_logits(subject_of):
    subject = subject_of("tiny-llama")
    facts = subject.facts
    norm = subject.model.model.norm.weight.detach().clone()
    everything = Sizes(facts.layers, facts.hidden_size // 2, facts.heads, facts.intermediate_size)
    learned = TargetedMasks(subject.model, shapes(facts), kept(facts, everything), Settings(**SMALL), seed=1)
    with torch.no_grad():
        learned.logits["hidden"].copy_(torch.arange(facts.hidden_size)[None] / facts.hidden_size)
    learned.cut()
    half = facts.hidden_size // 2
    soft = torch.sigmoid(0.8 * torch.arange(half, facts.hidden_size) / facts.hidden_size / (2 / 3))
    assert torch.allclose(subject.model.model.norm.weight, norm[half:] * soft)


def test_the_penalty_is_the_sheets_and_its_masks_and_multipliers_move_apart(subject_of):
    """Head logits of two layers, half of four heads to keep, a quarter of the warm-up: by hand."""
    subject = subject_of("tiny-llama")
    settings = Settings(steps=3200)
    learned = TargetedMasks(subject.model, {"head": (2, 4)}, {"head": 2}, settings, seed=1)
    with torch.no_grad():
        learned.logits["head"].copy_(torch.tensor([[2, 0, -1, 3], [1, 1, 0.5, -2]]))
        learned.multipliers["head"].copy_(torch.tensor([0.3, 0.2]))
    learned.step = 160
    loss = learned.penalty()
    loss.backward()
    assert loss.item() == pytest.approx(0.016004, abs=1e-6)
    assert learned.multipliers["head"].grad.tolist() == pytest.approx([0.0507696, 0.0038670], abs=1e-6)
    down, up = learned.groups()
    assert up["maximize"] and "maximize" not in down and up["lr"] == down["lr"] == 1.0


def test_masks_end_near_their_targets(pruning_of, subject_of):
    """At a rate of 1 some hundred steps are enough; the tolerance is what three blocks allow."""
    facts = subject_of("tiny-llama").facts
    subject, method = pruning_of("tiny-llama", smaller(facts, 1), steps=320, evaluate_every=40)
    method.compress(subject)
    told = subject.notes["pruning"]["evaluations"]
    for kind, sparsity in told[-1]["sparsity"].items():
        assert sparsity == pytest.approx(told[-1]["wanted"][kind], abs=0.05), kind
        second = [evaluation["multipliers"][kind][1] for evaluation in told]
        assert second == sorted(second) and second[0] == 0  # its gradient is a square


def test_two_runs_give_the_same_files_and_a_killed_one_too(pruning_of, subject_of, tmp_path):
    from reprune.records.store import Store
    from reprune.training.keeping import Keeper

    facts = subject_of("tiny-llama").facts
    sizes = smaller(facts, 1)
    whole, method = pruning_of("tiny-llama", sizes)
    method.compress(whole)
    store = Store(tmp_path / "kept")

    def killed(fraction):
        if fraction > 0.5:
            raise KeyboardInterrupt

    cut, method = pruning_of("tiny-llama", sizes)
    cut.keeper, cut.progress = Keeper(store, {"run": "one"}, every_s=0.0), killed
    with pytest.raises(KeyboardInterrupt):
        method.compress(cut)
    resumed, method = pruning_of("tiny-llama", sizes)
    resumed.keeper = Keeper(store, {"run": "one"}, every_s=0.0)
    assert resumed.keeper.latest() is not None
    method.compress(resumed)
    pairs = zip(whole.model.parameters(), resumed.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert resumed.notes["pruning"]["losses"] == whole.notes["pruning"]["losses"]
    assert resumed.notes["pruning"]["evaluations"] == whole.notes["pruning"]["evaluations"]


def test_sizes_of_the_paper_are_supported_and_told_from_the_configuration():
    settings = Settings(layers=24, hidden_size=2048, heads=16, intermediate_size=5504)
    target = Target.parameters(0.8)
    assert ShearedLlama.supports(LLAMA, target, settings) is None
    shape = ShearedLlama.shape(LLAMA, target, settings)
    assert (shape.hidden_size, len(shape.blocks), shape.blocks[0].heads) == (2048, 24, 16)
    assert wanted(LLAMA, target, settings) == Sizes(24, 2048, 16, 5504)
    assert "leave out 80.0%" in str(ShearedLlama.supports(LLAMA, Target.parameters(0.5), settings))


def test_loading_follows_the_losses_to_reach(pruning_of, subject_of):
    sizes = smaller(subject_of("tiny-llama").facts, 1)
    ends = {}
    for loading in ("dynamic", "constant"):
        subject, method = pruning_of("tiny-llama", sizes, loading=loading, clipped=False)
        method.compress(subject)
        ends[loading] = subject.notes["loading_weights"]
    told = subject.notes["pruning"]
    assert ends["constant"] == subject.mixture.proportions and ends["dynamic"] != ends["constant"]
    assert set(told["references"]) == {"hard", "easy"}  # noted for plots, if not followed
    assert sum(ends["dynamic"].values()) == pytest.approx(1)
