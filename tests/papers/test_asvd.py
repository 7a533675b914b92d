"""ASVD: the sheet's worked example, exact sensitivities, and the cut that meets the target."""

from __future__ import annotations

import math

import pytest
import torch

from papers.asvd.method import (
    ASVD,
    Settings,
    activations,
    chosen_ranks,
    first_tokens,
    rank_at,
    tried_shares,
)
from papers.asvd.sensitivity import sensitivities
from reprune.calibration.gradients import token_loss
from reprune.calibration.statistics import AbsoluteMean
from reprune.method import Target
from reprune.models.parts import LowRank, put
from reprune.surgery.low_rank import factorise, rank_for, scaled_factors

WEIGHT = torch.tensor([[1.0, 0.2], [0.0, 1.1]])
X = torch.tensor([[4.0, -4.0, 4.0, -4.0], [1.0, 1.0, -1.0, 1.0]])


def method(share: float = 0.2, **settings) -> ASVD:
    return ASVD(Settings(**settings), Target.parameters(share, "low_rank"))


def ranks_of(subject) -> dict[str, int]:
    return {name: part.rank for name, part in subject.model.named_modules() if isinstance(part, LowRank)}


def output_error(found: torch.Tensor) -> float:
    return ((WEIGHT - found) @ X).norm().item()


def test_worked_example():
    statistic = AbsoluteMean(2)
    statistic.update(X.T[None, :2])
    statistic.update(X.T[None, 2:])
    assert statistic.value.tolist() == [4, 1]
    scale = statistic.value**0.5
    assert torch.linalg.svdvals(WEIGHT * scale).tolist() == pytest.approx([2.014200, 1.092245], abs=1e-6)
    up, down = scaled_factors(WEIGHT, scale)
    first, second = up[:, :1] @ down[:1], up[:, 1:] @ down[1:]
    assert first.flatten().tolist() == pytest.approx([0.994064, 0.283310, 0.076816, 0.021893], abs=1e-6)
    assert output_error(first) == pytest.approx(2.527821, abs=1e-5)
    assert output_error(second) == pytest.approx(7.707796, abs=1e-5)


def test_worked_example_plain_svd_is_worse():
    up, down = scaled_factors(WEIGHT, torch.ones(2))
    plain = up[:, :1] @ down[:1]
    assert plain.flatten().tolist() == pytest.approx([0.319800, 0.576999, 0.466399, 0.841499], abs=1e-6)
    assert output_error(plain) == pytest.approx(7.099336, abs=1e-5)


def test_ranks_and_shares_of_the_official_search():
    assert rank_at(4096, 4096, 0.9) == 1843
    assert tried_shares(6) == [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    assert tried_shares(3) == [0.8, 0.6, 0.4]
    assert rank_at(16, 8, 0.1) == 1


def test_statistics_of_the_dense_model_whatever_the_batches(subject_of):
    subject = subject_of("tiny-llama-gqa")
    inputs = []
    name = "model.layers.1.mlp.gate_proj"
    hook = subject.linears()[name].register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    subject.model(subject.windows)
    hook.remove()
    rows = inputs[0].flatten(0, 1).abs()
    for kind, expected in (("abs_mean", rows.mean(dim=0)), ("abs_max", rows.amax(dim=0))):
        torch.testing.assert_close(activations(subject, kind)[name], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_sensitivities_are_losses_of_the_whole_model_with_one_layer_factored(subject_of):
    subject = subject_of("tiny-llama-gqa")
    linears = subject.linears()
    scales = {name: torch.ones(layer.in_features) for name, layer in linears.items()}
    ranks = {name: [9, 3, 1] for name in linears}
    found = sensitivities(subject, scales, ranks, subject.windows[:2])
    assert subject.linears() == linears
    for name in ("model.layers.0.self_attn.q_proj", "model.layers.2.mlp.down_proj"):
        up, down = scaled_factors(linears[name].weight, scales[name])
        expected = []
        for rank in ranks[name]:
            put(subject.model, name, factorise(linears[name], up[:, :rank], down[:rank]))
            expected.append(token_loss(subject.model, subject.windows[:2]).item())
        put(subject.model, name, linears[name])
        assert found[name].tolist() == pytest.approx(expected, abs=1e-5)


SHAPES = {f"{i}.{name}": shape for i in range(4) for name, shape in (("q", (64, 64)), ("up", (176, 64)))}


def random_losses(seed: int) -> dict[str, list[float]]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(6, generator=generator).tolist() for name in SHAPES}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.05, 0.25, 0.5])
def test_the_cut_is_the_converged_one_of_the_official_search(seed, share):
    ranks = {name: [rank_at(*shape, share) for share in tried_shares(6)] for name, shape in SHAPES.items()}
    losses = random_losses(seed)
    remove = share * sum(map(math.prod, SHAPES.values()))
    found = chosen_ranks(SHAPES, ranks, losses, remove)

    def removed(chosen: dict[str, int]) -> int:
        return sum(math.prod(SHAPES[name]) - rank * sum(SHAPES[name]) for name, rank in chosen.items())

    # The official way: all entries by falling loss, those behind a cut count, the last cut that is enough.
    entries = sorted(((losses[n][i], n, ranks[n][i]) for n in SHAPES for i in range(6)), reverse=True)
    cuts = []
    for cut in range(len(entries)):
        behind = [(name, rank) for _, name, rank in entries[cut:]]
        cuts.append({name: min(r for n, r in behind if n == name) for name, _ in behind})
    official = [chosen for chosen in cuts if removed(chosen) >= remove][-1]
    differing = {name for name in SHAPES if found.get(name) != official.get(name)}
    assert len(differing) <= 1
    assert all(found[name] > official[name] for name in differing)
    assert 0 <= removed(found) - remove < max(map(sum, SHAPES.values()))


def test_the_layer_that_matters_least_is_cut_first():
    losses = {name: [5.0, 6.0] for name in SHAPES} | {"2.up": [1.0, 2.0]}
    ranks = {name: [20, 10] for name in SHAPES}
    assert chosen_ranks(SHAPES, ranks, losses, 176 * 64 - 12 * 240) == {"2.up": 12}


def test_where_the_search_ends_what_goes_beyond_goes_evenly(subject_of):
    found = {}
    for search in ("sensitivity", "uniform"):
        subject = subject_of("tiny-llama")
        method(0.55, search=search).compress(subject)
        found[search] = ranks_of(subject)
    assert found["sensitivity"] == found["uniform"]
    assert len(found["uniform"]) == 21


def test_the_search_gives_other_ranks_than_equal_shares(subject_of):
    subject = subject_of("tiny-llama-gqa")
    shapes = {name: tuple(layer.weight.shape) for name, layer in subject.linears().items()}
    before = subject.parameters
    method(0.2).compress(subject)
    ranks = ranks_of(subject)
    assert 0 <= before - subject.parameters - 0.2 * before < 64 + 176
    share = 0.2 * before / sum(map(math.prod, shapes.values()))
    assert any(ranks.get(name) not in (rank_for(*shapes[name], share), None) for name in shapes)


def test_scales_and_sensitivities_serve_all_ratios_of_a_sweep(subject_of, monkeypatch):
    calls = []

    def counted(*given):
        calls.append(1)
        return sensitivities(*given)

    monkeypatch.setattr("papers.asvd.sensitivity.sensitivities", counted)
    for share in (0.1, 0.2):
        method(share).compress(subject_of("tiny-llama"))
    assert calls == [1]
    method(0.1, sensitivity_tokens=64).compress(subject_of("tiny-llama"))
    assert calls == [1, 1]


@pytest.mark.parametrize(
    ("count", "shape"), [(2, (1, 2)), (8, (1, 8)), (15, (1, 8)), (17, (2, 8)), (99, (4, 8))]
)
def test_tokens_for_the_search_are_whole_windows_or_the_start_of_one(count, shape):
    assert first_tokens(torch.zeros(4, 8), count).shape == shape
