"""SliceGPT against its worked example, its parameter counts, and a model that only projects its states."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import transformers
from torch import nn

from papers.slicegpt.widths import removed, sliced_parameters, width_for, widths
from reprune.evaluation.efficiency import multiply_accumulates
from reprune.method import ModelFacts, Target
from reprune.models.sliced import PlainRMSNorm, SlicedBlock
from reprune.training.lora import targeted

MODELS = ("tiny-llama", "tiny-llama-gqa")
STATES = torch.tensor([[2.0, 2, 0], [1, 1, 1], [3, 3, -1], [2, 2, 1]])
WEIGHT = torch.tensor([[1.0, 0, 2], [0, 1, 1]])
ROOT = 0.5**0.5


@pytest.fixture
def slicegpt(paper):
    return paper("slicegpt")


@pytest.fixture
def shrunk(slicegpt, subject_of):
    """A tiny model sliced to a share of its parameters."""

    def build(model: str, share: float = 0.2, **settings):
        subject = subject_of(model)
        target = slicegpt.SliceGPT.own_target(Target.parameters(share))
        slicegpt.SliceGPT(slicegpt.Settings(**settings), target).compress(subject)
        return subject

    return build


def axes(slicegpt) -> torch.Tensor:
    """Q of the worked example with the signs it is printed with."""
    found = slicegpt.principal_axes(slicegpt.second_moment(STATES))
    return found * found[torch.tensor([0, 2, 0]), torch.arange(3)].sign()


class TestWorkedExample:
    """The sheet's: four states of three features, of which two axes hold everything."""

    def test_second_moment_and_axes(self, slicegpt):
        moment = slicegpt.second_moment(STATES)
        assert moment.tolist() == [[18, 18, 0], [18, 18, 0], [0, 0, 3]]
        expected = torch.tensor([[ROOT, 0, ROOT], [ROOT, 0, -ROOT], [0, 1, 0]])
        torch.testing.assert_close(axes(slicegpt), expected.double(), rtol=0, atol=1e-6)
        damped = moment + slicegpt.DAMPING * moment.diagonal().mean() * torch.eye(3)
        values = (axes(slicegpt).T @ damped @ axes(slicegpt)).diagonal()
        assert values.tolist() == pytest.approx([36.13, 3.13, 0.13])

    def test_weights_in_the_new_basis(self, slicegpt):
        linear = nn.Linear(3, 2, bias=False)
        slicegpt.set_weight(linear, WEIGHT)
        slicegpt.turn_inputs([linear], axes(slicegpt))
        expected = [[0.707107, 2, 0.707107], [0.707107, 1, -0.707107]]
        torch.testing.assert_close(linear.weight, torch.tensor(expected), rtol=0, atol=1e-6)
        assert not linear.weight.requires_grad

    @pytest.mark.parametrize(
        "features, first", [(3, [1.224745, 1.224745]), (2, [1.0, 1.0])], ids=["original", "wrong"]
    )
    def test_the_norm_divides_by_the_original_width(self, slicegpt, features, first):
        kept = axes(slicegpt)[:, :2].float()
        found = PlainRMSNorm(features, 0.0)(STATES @ kept) @ (WEIGHT @ kept).T
        assert found[0].tolist() == pytest.approx(first, abs=1e-6)
        if features == 3:
            torch.testing.assert_close(found, PlainRMSNorm(3, 0.0)(STATES) @ WEIGHT.T)
            assert found[2].tolist() == pytest.approx([0.397360, 0.794719], abs=1e-6)

    def test_shortcut_to_a_turned_basis(self, slicegpt):
        cosine, sine = torch.cos(torch.tensor(0.3)), torch.sin(torch.tensor(0.3))
        following = torch.tensor([[cosine, -sine], [sine, cosine], [0, 0]]).double()
        shortcut = nn.Linear(2, 2, bias=False)
        slicegpt.set_weight(shortcut, axes(slicegpt)[:, :2])
        slicegpt.turn_outputs([shortcut], following)
        expected = torch.tensor([[0.884489, 0.466561], [0, 0]])
        torch.testing.assert_close(shortcut.weight.T, expected, rtol=0, atol=1e-6)

    def test_cutting_two_axes_loses_nothing_there(self, slicegpt):
        found = slicegpt.cut(STATES.unsqueeze(0), 2)
        assert found.energy_kept == pytest.approx(1)
        torch.testing.assert_close(found.states[0] @ found.basis.T.float(), STATES)
        assert slicegpt.cut(STATES.unsqueeze(0), 1).energy_kept == pytest.approx(36 / 39)


def test_biases_of_writers_turn_with_their_weights(slicegpt):
    linear = nn.Linear(5, 3).requires_grad_(False)
    basis = axes(slicegpt)[:, :2]
    expected = linear(torch.ones(5)).double() @ basis
    slicegpt.turn_outputs([linear], basis)
    torch.testing.assert_close(linear(torch.ones(5)), expected.float())
    assert linear.out_features == 2


def toy_facts() -> ModelFacts:
    """The sheet's toy: without norms, k and v half as wide as q."""
    return ModelFacts("llama", 4, 64, 172, 4, 2, 16, 512, False, 246_784 + 9 * 64)


class TestWidths:
    @pytest.mark.parametrize("width, count", [(56, 246_944), (48, 215_232), (40, 184_416)])
    def test_toy_counts(self, width, count):
        assert sliced_parameters(toy_facts(), width) == count

    def test_full_width_only_adds(self):
        """Two square matrices a block come on top, the norms' gains go."""
        assert sliced_parameters(toy_facts(), 64) == 246_784 + 4 * 2 * 64 * 64

    @pytest.mark.parametrize(
        "sparsity, share", [(0.20, 0.094), (0.25, 0.153), (0.30, 0.214)], ids=lambda x: f"{x:.0%}"
    )
    def test_llama_2_7b_loses_less_than_its_sparsity(self, model_entry, sparsity, share):
        facts = ModelFacts(**model_entry("llama-2-7b")["facts"])
        width = int((1 - sparsity) * 4096) // 8 * 8
        assert removed(facts, width) == pytest.approx(share, abs=2e-3)

    @pytest.mark.parametrize("share, enough, nearest", [(0.20, 2912, 2912), (0.25, 2736, 2744)])
    def test_llama_2_7b_width_for_a_share(self, model_entry, share, enough, nearest):
        facts = ModelFacts(**model_entry("llama-2-7b")["facts"])
        assert max(width for width in widths(facts, 8) if removed(facts, width) >= share) == enough
        assert width_for(facts, share, 8) == nearest

    def test_smollm2_135m_needs_almost_half_its_width_for_a_fifth(self, model_entry):
        """Its tied head gets 28,311,552 weights of its own first."""
        facts = ModelFacts(**model_entry("smollm2-135m-instruct")["facts"])
        assert width_for(facts, 0.2, 8) == 312
        assert removed(facts, 312) == pytest.approx(0.20096, abs=1e-5)
        assert max(widths(facts, 8)) == 408

    @pytest.mark.parametrize("model", MODELS)
    def test_measured_parameters_are_those_counted_before(self, shrunk, model):
        subject = shrunk(model)
        width = subject.notes["hidden_size"]
        assert subject.parameters == sliced_parameters(subject.facts, width)
        share = 1 - subject.parameters / subject.facts.parameters
        assert share == pytest.approx(removed(subject.facts, width))
        assert subject.notes["sparsity"] == 1 - width / 64

    def test_rounding_matters(self, shrunk):
        shares = [1 - shrunk("tiny-llama", rounding=r).parameters / 184_000 for r in (8, 1)]
        assert abs(shares[0] - 0.2) > 0.03 and abs(shares[1] - 0.2) < 0.01


class TestFunction:
    @pytest.mark.parametrize("model", MODELS)
    @torch.no_grad()
    def test_the_whole_width_gives_the_dense_logits(self, slicegpt, subject_of, model):
        subject = subject_of(model)
        spread_gains(subject.model)
        dense = subject.model(subject.windows).logits
        slicegpt.slice_model(subject, 64)
        found = subject.model(subject.windows).logits
        assert (found - dense).abs().max() <= 1e-4 * dense.abs().max()
        assert all(isinstance(block, SlicedBlock) for block in subject.blocks)

    @pytest.mark.parametrize("model", MODELS)
    @torch.no_grad()
    def test_slicing_is_projecting_the_dense_states(self, slicegpt, subject_of, monkeypatch, model):
        """A dense model whose states are put on the same axes at the same places gives the same logits."""
        subject, bases, cut = subject_of(model), [], slicegpt.cut
        spread_gains(subject.model)

        def noted(states, width):
            bases.append(cut(states, width))
            return bases[-1]

        monkeypatch.setattr(slicegpt, "cut", noted)
        slicegpt.slice_model(subject, 40)
        dense = subject_of(model).model
        spread_gains(dense)
        project(dense, [(found.basis @ found.basis.T).float() for found in bases])
        expected = dense(subject.windows).logits
        found = subject.model(subject.windows).logits
        assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()

    @torch.no_grad()
    def test_axes_see_the_errors_of_earlier_cuts(self, slicegpt, subject_of, monkeypatch):
        """The first attention's axes are those of what it makes of embeddings already cut."""
        subject, seen, cut = subject_of(), [], slicegpt.cut
        monkeypatch.setattr(slicegpt, "cut", lambda states, width: seen.append(states) or cut(states, width))
        slicegpt.slice_model(subject, 24)
        dense = subject_of()
        slicegpt.prepare(dense.model, False)
        states, arguments = dense.first_inputs()
        torch.testing.assert_close(seen[0], states)
        basis = cut(states, 24).basis.float()
        after_cut = dense.blocks[0].attend(states @ basis @ basis.T, **arguments[0])
        torch.testing.assert_close(seen[1], after_cut, rtol=1e-4, atol=1e-5)
        assert (seen[1] - dense.blocks[0].attend(states, **arguments[0])).abs().max() > 1e-3

    @torch.no_grad()
    def test_no_other_axes_keep_more_of_the_states(self, slicegpt, subject_of):
        states, _ = subject_of().first_inputs()
        kept = slicegpt.cut(states, 40).states.square().sum()
        for seed in range(5):
            other = torch.randn(64, 40, generator=torch.Generator().manual_seed(seed))
            basis = torch.linalg.qr(other).Q
            assert (states @ basis).square().sum() < kept

    @torch.no_grad()
    def test_linear_biases(self, slicegpt, subject_of):
        """A model with biases everywhere, which no tiny model has."""
        subject = subject_of("tiny-llama-gqa")
        config = transformers.LlamaConfig(**subject.model.config.to_dict())
        config.attention_bias = config.mlp_bias = True
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = transformers.LlamaForCausalLM(config).eval().requires_grad_(False)
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):
                    nn.init.normal_(parameter, 0, 0.5)
        dense, subject.model = model(subject.windows).logits, model
        slicegpt.slice_model(subject, 64)
        torch.testing.assert_close(model(subject.windows).logits, dense, rtol=1e-4, atol=1e-5)

    def test_embeddings_and_head_are_untied(self, shrunk):
        model = shrunk("tiny-llama-gqa").model
        assert model.get_input_embeddings().weight.shape == (258, 40)
        assert model.get_output_embeddings().weight.shape == (258, 64)
        assert not model.config.tie_word_embeddings

    def test_centred_embeddings_change_the_model(self, slicegpt, subject_of):
        subject = subject_of()
        dense = subject.model(subject.windows[:1]).logits
        slicegpt.prepare(subject.model, True)
        assert subject.model.get_input_embeddings().weight.mean(dim=1).abs().max() < 1e-7
        assert (subject.model(subject.windows[:1]).logits - dense).abs().max() > 1e-3

    def test_recovery_finds_the_layers_by_their_names(self, shrunk):
        model = shrunk("tiny-llama").model
        names = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
        found = targeted(model, names)
        assert len(found) == 7 * 3
        assert found["model.layers.0.self_attn.q_proj"].in_features == 40
        assert found["model.layers.0.mlp.down_proj"].out_features == 40

    @pytest.mark.parametrize("model", MODELS)
    def test_multiply_accumulates_count_the_residual_matrices(self, shrunk, model):
        """Every weight but the embedding's is used once a token; each of 4 heads of 16 attends twice."""
        subject, length = shrunk(model), 10
        used = subject.parameters - 258 * subject.notes["hidden_size"]
        attention = 2 * 3 * 4 * 16 * length * length
        assert multiply_accumulates(subject.model, length) == used * length + attention

    def test_every_cut_is_reported(self, shrunk):
        subject = shrunk("tiny-llama")
        kept = [facts["energy_kept"] for block in subject.report.values() for facts in block.values()]
        assert len(kept) == 6 and all(0.5 < share < 1 for share in kept[:-1])
        assert kept[-1] == pytest.approx(1), "the last block gives its whole width"


class TestSupports:
    def answer(self, slicegpt, facts: ModelFacts, share: float, **settings):
        target = Target.parameters(share, "width")
        return slicegpt.SliceGPT.supports(facts, target, slicegpt.Settings(**settings))

    def test_a_share_no_width_removes(self, slicegpt, model_entry):
        facts = ModelFacts(**model_entry("smollm2-135m-instruct")["facts"])
        assert self.answer(slicegpt, facts, 0.76) is None
        refusal = self.answer(slicegpt, facts, 0.8)
        assert "76.9%" in refusal.reason and refusal.nearest == "76% of parameters"

    def test_other_blocks(self, slicegpt):
        facts = dataclasses.replace(toy_facts(), architecture="gpt2")
        assert "not those of gpt2" in self.answer(slicegpt, facts, 0.2).reason

    def test_a_rounding_that_leaves_no_width(self, slicegpt):
        assert "multiple of 60" in self.answer(slicegpt, toy_facts(), 0.2, rounding=60).reason

    def test_other_targets(self, slicegpt):
        cls, settings = slicegpt.SliceGPT, slicegpt.Settings()
        assert cls.supports(toy_facts(), Target.unstructured(0.5), settings)
        assert cls.own_target(Target.parameters(0.2)).kind == "width"


def spread_gains(model: nn.Module) -> None:
    """Norm gains that differ, as those of trained models do; random ones are all 1."""
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.copy_(torch.linspace(0.5, 2, len(parameter)))


def project(model: nn.Module, projections: list[torch.Tensor]) -> None:
    """Put the embedding's output and every half block's on its subspace, by the dense model's own modules."""
    first, *rest = projections
    model.model.embed_tokens.register_forward_hook(lambda module, args, output: output @ first)
    for layer, after_attention, after_mlp in zip(model.model.layers, rest[::2], rest[1::2], strict=True):
        layer.forward = projected(layer, after_attention, after_mlp)


def projected(layer: nn.Module, after_attention: torch.Tensor, after_mlp: torch.Tensor):
    def forward(hidden, **arguments):
        attended, _ = layer.self_attn(hidden_states=layer.input_layernorm(hidden), **arguments)
        hidden = (hidden + attended) @ after_attention
        return (hidden + layer.mlp(layer.post_attention_layernorm(hidden))) @ after_mlp

    return forward
