"""GRASP: the sheet's worked example, the σ-gradient by two other ways, and what each setting does."""

from __future__ import annotations

import pytest
import torch

from papers.grasp.method import Grasp, Settings, budget, group_scores, group_slopes, overlap_with_largest
from reprune.calibration.gradients import token_loss, weight_gradients
from reprune.method import Target
from reprune.models.parts import LowRank, put
from reprune.surgery.low_rank import balanced, factorise, rank_for, svd

GENERATOR = torch.Generator()


@pytest.fixture
def example() -> tuple[torch.Tensor, ...]:
    """U, S, Vᵀ and dL/dW of the sheet, section 1.7."""
    u = torch.tensor([[0.6, -0.8], [0.8, 0.6]])
    return u, torch.tensor([3.0, 1.0]), torch.eye(2), torch.tensor([[0.3, 0.84], [-0.1, -0.38]])


def compressed(subject, share=0.3, **settings):
    Grasp(Settings(**settings), Target.parameters(share, "low_rank")).compress(subject)
    return subject


def factors(subject) -> dict[str, LowRank]:
    return {n: m for n, m in subject.model.named_modules() if isinstance(m, LowRank)}


def test_worked_example_slopes_and_scores(example):
    u, s, vt, gradient = example
    slopes = group_slopes(u, s, vt, gradient)
    assert slopes[0].tolist() == pytest.approx([0.1, -0.9])
    assert group_scores("taylor", s, slopes, GENERATOR).tolist() == pytest.approx([0.3, 0.9])
    assert group_scores("gradient", s, slopes, GENERATOR).tolist() == pytest.approx([0.1, 0.9])
    assert group_scores("taylor_uv_abs", s, slopes, GENERATOR).tolist() == pytest.approx([1.38, 2.70])
    assert group_scores("magnitude", s, None, GENERATOR).tolist() == [3, 1]


def test_worked_example_keeps_the_second_group_where_size_keeps_the_first(example):
    u, s, vt, gradient = example
    weight = u * s @ vt
    kept = {}
    for kind in ("taylor", "magnitude"):
        group = int(group_scores(kind, s, group_slopes(u, s, vt, gradient), GENERATOR).argmax())
        kept[kind] = s[group] * torch.outer(u[:, group], vt[group])
    assert kept["taylor"].flatten().tolist() == pytest.approx([0, -0.8, 0, 0.6])
    assert kept["magnitude"].flatten().tolist() == pytest.approx([1.8, 0, 2.4, 0])
    change = {kind: ((matrix - weight) * gradient).sum().item() for kind, matrix in kept.items()}
    assert change == pytest.approx({"taylor": -0.3, "magnitude": 0.9})


def test_batches_are_summed_with_their_signs():
    slopes = torch.tensor([[0.5, 0.2], [0, 0]]) + torch.tensor([[-0.4, 0.1], [0, 0]])
    assert group_scores("taylor", torch.tensor([3.0, 1.0]), slopes, GENERATOR).tolist() == pytest.approx(
        [0.3] * 2
    )


def test_one_shot_takes_the_least_influential_layers_last_one_first():
    influence = torch.tensor([0.30, 0.10, 0.08, 0.20, 0.25])

    class Fixed(Grasp):
        def similarities(self):
            return 1 - influence

    method = Fixed(Settings(), Target.parameters(0.2))
    method.subject = type("Subject", (), {"notes": {"chosen": []}})
    assert list(method.redundant(2)) == [2, 1]


@pytest.mark.parametrize("name", ["model.layers.1.self_attn.k_proj", "model.layers.2.mlp.down_proj"])
def test_sigma_gradient_equals_autograd_and_finite_differences(subject_of, name):
    subject = subject_of("tiny-llama-gqa")
    subject.model.double()
    linear = subject.linears()[name]
    u, s, vt = svd(linear.weight)
    found = {}
    weight_gradients(subject, {name: linear}, lambda n, g: found.__setitem__(n, found.get(n, 0) + g))
    slopes = group_slopes(u, s, vt, found[name])[0]

    def loss(values: torch.Tensor) -> torch.Tensor:
        changed = torch.nn.Linear(linear.in_features, linear.out_features, bias=False).double()
        del changed.weight
        changed.weight = u * values @ vt
        put(subject.model, name, changed)
        return token_loss(subject.model, subject.windows)

    values = s.clone().requires_grad_(True)
    (by_autograd,) = torch.autograd.grad(loss(values), values)
    torch.testing.assert_close(slopes, by_autograd, rtol=1e-6, atol=1e-10)
    step = torch.zeros_like(s).index_fill(0, torch.tensor([3]), 0.01)  # norms are computed in float32
    with torch.no_grad():
        by_difference = (loss(s + step) - loss(s - step)) / 0.02
    assert slopes[3].item() == pytest.approx(by_difference.item(), rel=5e-3)


def test_homogeneity_signed_vector_sums_equal_the_sigma_term(example):
    u, s, vt, gradient = example
    by_u = (u * (gradient @ vt.T) * s).sum(dim=0)
    by_v = (vt.T * (gradient.T @ u) * s).sum(dim=0)
    assert by_u.tolist() == pytest.approx([0.3, -0.9])
    assert by_v.tolist() == pytest.approx([0.3, -0.9])


@pytest.mark.parametrize("model", ["tiny-llama", "tiny-llama-gqa"])
@torch.no_grad()
def test_with_every_group_kept_the_logits_are_the_dense_ones(subject_of, model):
    subject = subject_of(model)
    dense = subject.model(subject.windows).logits
    for name, linear in subject.linears().items():
        put(subject.model, name, factorise(linear, *balanced(*svd(linear.weight))))
    found = subject.model(subject.windows).logits
    assert (found - dense).abs().max() <= 1e-4 * dense.abs().max()


@pytest.mark.parametrize("model", ["tiny-llama", "tiny-llama-gqa"])
def test_parameter_count_is_exact_and_ranks_go_by_shape(subject_of, model):
    subject = subject_of(model)
    before = subject.parameters
    shapes = {name: tuple(layer.weight.shape) for name, layer in subject.linears().items()}
    compressed(subject)
    removed = subject.notes["removed_per_matrix"]
    expected = before
    for name, part in factors(subject).items():
        rows, columns = shapes[name]
        assert part.rank == rank_for(rows, columns, removed)
        expected -= rows * columns - part.rank * (rows + columns)
    assert subject.parameters == expected
    assert abs(1 - expected / before - 0.3) < 0.01
    ranks = {name.rpartition(".")[2]: part.rank for name, part in factors(subject).items()}
    assert (ranks["k_proj"] == ranks["q_proj"]) == (model == "tiny-llama")


def test_gradients_are_measured_once_for_all_ratios_of_a_sweep(subject_of, monkeypatch):
    calls = []
    original = Grasp.measured
    monkeypatch.setattr(Grasp, "measured", lambda self, linears: calls.append(1) or original(self, linears))
    store = subject_of("tiny-llama").store
    for share in (0.2, 0.4):
        subject = subject_of("tiny-llama")
        subject.store = store
        compressed(subject, share)
    assert len(calls) == 1


def test_official_refresh_measures_twice_for_every_layer(subject_of, monkeypatch):
    calls = []
    original = Grasp.measured
    monkeypatch.setattr(Grasp, "measured", lambda self, linears: calls.append(1) or original(self, linears))
    subject = compressed(subject_of("tiny-llama"), 0.4, grad_refresh="per_block")
    assert len(calls) == 2 * len(subject.notes["chosen"])


def test_retaining_nothing_deletes_the_layers(subject_of):
    subject = compressed(subject_of("tiny-llama"), 0.25, retain=0.0)
    assert len(subject.blocks) == 2
    assert subject.replaced == set()


def test_the_budget_of_llama_7b():
    """Sheet, section 0.3: 202,375,168 linear weights a layer of 6,738,415,616 parameters."""
    per_layer, total = 202_375_168, 6_738_415_616
    tenth = Settings(retain=0.1)
    assert [budget(share * total, per_layer, 32, tenth)[0] for share in (0.2, 0.25, 0.3, 0.4, 0.5)] == [
        7,
        9,
        11,
        15,
        18,
    ]
    count, removed = budget(0.2 * total, per_layer, 32, Settings())
    assert count == 7 and removed * count * per_layer == pytest.approx(0.2 * total)


def test_retained_share_is_of_parameters_as_in_the_papers_table():
    """LLaMA-2-7B with 8 replaced layers at 10 %: 20,187,648 parameters kept in each, 21.63 % removed."""
    shapes = [(4096, 4096)] * 4 + [(11008, 4096)] * 2 + [(4096, 11008)]
    kept = sum(rank_for(*shape, 0.9) * sum(shape) for shape in shapes)
    assert kept == 20_187_648
    assert 8 * (202_375_168 - kept) / 6_738_415_616 == pytest.approx(0.2163, abs=5e-5)


def test_overlap_with_the_largest():
    assert overlap_with_largest(torch.tensor([0, 1, 2])) == 1.0
    assert overlap_with_largest(torch.tensor([0, 5, 9])) == pytest.approx(0.2)
    assert overlap_with_largest(torch.tensor([7, 8, 9])) == 0.0


def test_iterative_selection_sees_what_was_replaced(subject_of, monkeypatch):
    """Measured again, the similarities of the blocks after a replaced one differ, and so may the choice."""
    asked = iter([[0.9, 0.1, 0.8], [0.95, 0.7, 0.2]])
    monkeypatch.setattr(Grasp, "similarities", lambda self: torch.tensor(next(asked)))
    assert compressed(subject_of("tiny-llama"), 0.4, selection="iterative").notes["chosen"] == [0, 1]
    asked = iter([[0.9, 0.1, 0.8]])
    assert compressed(subject_of("tiny-llama"), 0.4).notes["chosen"] == [2, 0]


def test_the_final_norm_can_change_the_choice(subject_of):
    chosen = {}
    for last in ("pre_norm", "post_norm"):
        subject = subject_of("tiny-llama")
        subject.model.model.norm.weight[:8] = 50.0
        chosen[last] = compressed(subject, 0.2, last_hidden=last).notes["chosen"]
    assert chosen == {"pre_norm": [2], "post_norm": [1]}


def test_double_shift_scores_the_token_after_the_next(subject_of):
    subject = subject_of("tiny-llama")
    logits = subject.model(subject.windows).logits[:, :-2]
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), subject.windows[:, 2:].flatten())
    assert token_loss(subject.model, subject.windows, 2).item() == pytest.approx(expected.item())


def test_too_large_a_target_is_refused_with_the_nearest():
    from reprune.method import ModelFacts

    facts = ModelFacts("llama", 3, 64, 176, 4, 4, 16, 258, False, 184_000)
    answer = Grasp.supports(facts, Target.parameters(0.9, "low_rank"), Settings())
    assert answer is not None and answer.nearest == "80% of parameters"
    deleted = Grasp.supports(facts, Target.parameters(0.9, "low_rank"), Settings(retain=0.0))
    assert deleted is not None and deleted.nearest == "54% of parameters"
    some = Grasp.supports(facts, Target.parameters(0.5, "low_rank"), Settings(layers=1))
    assert some is not None and some.nearest == "26% of parameters"
    every = Grasp.supports(facts, Target.parameters(0.2, "low_rank"), Settings(layers=3, retain=0.0))
    assert every is not None and every.nearest == "layers 2"
