"""LLM-Pruner's scores: the sheet's worked examples, and agreement with automatic differentiation."""

from __future__ import annotations

import pytest
import torch

from papers.llm_pruner import importance, selection
from reprune.calibration.gradients import token_loss
from reprune.surgery.coupling import Place, families

GATE = torch.tensor([[0.5, -1], [0.2, 0.1], [-0.4, 0.3]])
UP = torch.tensor([[1, 0.5], [-0.3, 0.2], [0.6, -0.6]])
DOWN = torch.tensor([[0.4, -0.2, 0.9], [-0.5, 0.3, 0.1]])
WEIGHTS = [GATE, UP, DOWN.T]  # by channel
GRADIENTS = [
    torch.tensor([[[0.2, 0.1], [-0.4, 0.6], [0.1, 0.5]], [[0, 0.3], [0.2, -0.2], [0.3, -0.1]]]),
    torch.tensor([[[-0.1, 0.2], [0.5, 0.1], [0.2, 0.2]], [[0.3, -0.2], [0.1, 0.3], [-0.2, 0.4]]]),
    torch.tensor([[[0.3, 0.6, -0.1], [0.2, -0.5, 0.2]], [[0.1, -0.2, 0.3], [-0.4, 0.1, 0]]]).transpose(1, 2),
]
ALONE = [torch.arange(3).unsqueeze(1)] * 3  # a structure is one channel at each of three places
BY_PLACE = {
    "element1": [[0.25, 0.04, 0.14], [0.10, 0.13, 0.18], [0.13, 0.10, 0.10]],
    "vector": [[0.15, 0, 0.02], [0.10, 0.05, 0.18], [0.13, 0.10, 0.10]],
    "element2-mean": [[0.055, 0.006, 0.0197], [0.06, 0.0137, 0.0504], [0.033, 0.0197, 0.0407]],
    "element12-mean": [[0.2725, 0.041, 0.13815], [0.08, 0.13485, 0.2052], [0.1135, 0.10985, 0.07965]],
    "element12": [[0.295, 0.042, 0.1363], [0.06, 0.1397, 0.2304], [0.097, 0.1197, 0.0593]],
}
AGGREGATED = {
    ("element1", "sum"): [0.48, 0.27, 0.42],
    ("element1", "max"): [0.25, 0.13, 0.18],
    ("element1", "product"): [0.00325, 0.00052, 0.00252],
    ("element1", "last"): [0.13, 0.10, 0.10],
    ("vector", "sum"): [0.38, 0.15, 0.30],
    ("vector", "max"): [0.15, 0.10, 0.18],
    ("vector", "product"): [0.00195, 0, 0.00036],
    ("element2-mean", "sum"): [0.148, 0.0394, 0.1108],
    ("element2-mean", "max"): [0.06, 0.0197, 0.0504],
    ("element12-mean", "sum"): [0.466, 0.2857, 0.423],
    ("element12-mean", "max"): [0.2725, 0.13485, 0.2052],
    ("element12", "sum"): [0.452, 0.3014, 0.426],
    ("element12", "last"): [0.097, 0.1197, 0.0593],
}


def scores_by_place(estimator: str) -> list[torch.Tensor]:
    return [
        importance.taylor(w, g.mean(dim=0), g.square().sum(dim=0), 2)[estimator]
        for w, g in zip(WEIGHTS, GRADIENTS, strict=True)
    ]


@pytest.mark.parametrize("estimator", BY_PLACE)
def test_worked_example_of_each_estimator(estimator):
    for found, expected in zip(scores_by_place(estimator), BY_PLACE[estimator], strict=True):
        assert found.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("estimator", "aggregation"), AGGREGATED)
def test_worked_example_of_each_aggregation(estimator, aggregation):
    found = importance.structure_scores(scores_by_place(estimator), ALONE, aggregation, "paper", "groups")
    assert found.tolist() == pytest.approx(AGGREGATED[estimator, aggregation], abs=1e-6)


@pytest.mark.parametrize("estimator", BY_PLACE)
def test_with_sums_every_estimator_removes_the_second_channel(estimator):
    found = importance.structure_scores(scores_by_place(estimator), ALONE, "sum", "paper", "groups")
    assert selection.lowest(found, 1) == [1]


def test_second_order_ranks_alike_by_sum_and_mean():
    by_sum, by_mean = (scores_by_place(name) for name in ("element2", "element2-mean"))
    for left, right in zip(by_sum, by_mean, strict=True):
        torch.testing.assert_close(left, right)  # half of a sum over two samples


def test_worked_example_of_magnitudes():
    found = {kind: [importance.magnitude(w, kind) for w in WEIGHTS] for kind in ("l1", "l2")}
    mean = {k: importance.structure_scores(v, ALONE, "mean", "paper", "groups") for k, v in found.items()}
    assert mean["l1"].tolist() == pytest.approx([1.3, 0.4333, 0.9667], abs=1e-4)
    assert mean["l2"].tolist() == pytest.approx([0.97, 0.1033, 0.5967], abs=1e-4)


@pytest.mark.parametrize(
    ("aggregation", "order", "expected"),
    [
        ("sum", "official", [15, 17]),
        ("sum", "paper", [15, 17]),
        ("max", "official", [7, 8]),
        ("max", "paper", [5, 6]),
        ("product", "official", [14, 26]),
        ("product", "paper", [160, 240]),
    ],
)
def test_worked_example_of_the_order_of_aggregation(aggregation, order, expected):
    scores = [torch.tensor(s) for s in ([1.0, 4, 2, 2], [3.0, 1, 2, 3], [2.0, 2, 1, 1], [1.0, 1, 5, 1])]
    heads = [torch.arange(4).view(2, 2)] * 4
    assert importance.structure_scores(scores, heads, aggregation, order, "groups").tolist() == expected


@pytest.mark.parametrize(("fold", "expected"), [("groups", [12, 3]), ("official", [3, 12])])
def test_worked_example_of_grouped_heads(fold, expected):
    scores = [torch.tensor([1.0, 10, 1, 1]), torch.tensor([1.0, 1])]
    features = [torch.arange(4).view(2, 2), torch.arange(2).view(2, 1)]
    assert importance.structure_scores(scores, features, "sum", "paper", fold).tolist() == expected


def test_worked_example_of_a_global_ranking_by_units():
    scores = [torch.tensor([5.0, 9, 7]), torch.tensor([0.2, 0.4, 0.1, 0.3])]
    assert selection.lowest_by_count(scores, 7 - int(7 * 0.6)) == [[], [0, 2, 3]]


def test_a_global_ranking_by_parameters_comes_nearest_to_what_is_asked():
    scores = [torch.tensor([5.0, 0.25, 7]), torch.tensor([0.2, 0.4, 0.1, 0.3])]
    assert selection.lowest_of_all(scores, [10, 2], 14) == [[1], [0, 2]]
    assert selection.lowest_of_all(scores, [10, 2], 100) == [[0, 1], [0, 2, 3]]  # one of each stays
    assert selection.lowest_of_all(scores, [10, 2], 0) == [[], []]


def test_a_family_that_would_vanish_is_not_cut_by_count():
    scores = [torch.tensor([0.1, 0.2]), torch.tensor([3.0, 4.0])]
    assert selection.lowest_by_count(scores, 2) == [[], []]


@pytest.mark.parametrize("model", ["tiny-llama", "tiny-llama-gqa"])
def test_gradients_of_windows_are_those_of_automatic_differentiation(subject_of, model):
    subject = subject_of(model, windows=3, length=8)
    name = "model.layers.1.self_attn.k_proj.weight"
    parameter = subject.model.get_parameter(name)
    mean, squares = importance.accumulated(subject, {name: parameter}, True)
    parameter.requires_grad_(True)
    each = [
        torch.autograd.grad(token_loss(subject.model, window), parameter)[0]
        for window in subject.windows.split(1)
    ]
    torch.testing.assert_close(mean[name], torch.stack(each).mean(dim=0), rtol=1e-3, atol=1e-9)
    torch.testing.assert_close(squares[name], torch.stack(each).square().sum(dim=0), rtol=1e-3, atol=1e-12)


@torch.no_grad()
def test_the_first_order_score_of_a_channel_is_the_slope_of_the_loss_when_it_fades(subject_of):
    subject = subject_of("tiny-llama", windows=4, length=16)
    channels = families(subject.model)[1]
    with torch.enable_grad():
        scores = importance.from_gradients(subject, list(channels.members), False)
    down = Place("model.layers.0.mlp.down_proj", "in")
    weight = subject.model.get_submodule(down.layer).weight
    for channel in range(0, 176, 35):
        kept, losses = weight[:, channel].clone(), []
        for factor in (0.75, 1.25):
            weight[:, channel] = factor * kept
            losses.append(token_loss(subject.model, subject.windows).item())
        weight[:, channel] = kept
        slope = abs(losses[1] - losses[0]) / 0.5
        vector = scores[importance.named("vector", down)][channel]
        assert slope == pytest.approx(vector.item(), rel=0.05, abs=5e-6)


def test_biases_count_with_the_rows_they_belong_to():
    weight, bias = torch.tensor([[1.0, 2], [3, 4]]), torch.tensor([5.0, 6])
    assert importance.by_channel([(weight, 0), (bias, 0)]).tolist() == [[1, 2, 5], [3, 4, 6]]
    assert importance.by_channel([(weight, 1)]).tolist() == [[1, 3], [2, 4]]
