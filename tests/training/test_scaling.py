"""The three-point fit reproduces the reference losses of Sheared-LLaMA, and refuses points without a law."""

from __future__ import annotations

import pytest

from reprune.training.scaling import Law, through

DOMAINS = ("cc", "github", "book", "stackexchange", "wiki", "arxiv", "c4")
# LLaMA2 7B, 13B and 70B: official code, ``scaling_law/reference_loss_estimation.ipynb``.
MEASURED = {
    6738415616: (1.7520, 0.6216, 1.9063, 1.4482, 1.4844, 1.2637, 1.9219),
    13015864320: (1.6680, 0.5791, 1.8242, 1.3936, 1.3945, 1.2109, 1.8486),
    68976648192: (1.4621, 0.4890, 1.6450, 1.2805, 1.2118, 1.1148, 1.6848),
}
# Predicted for 1.3B, 2.7B and 370M: ``llmshearing/scripts/pruning.sh``.
PREDICTED = {
    1345423360: (1.9643, 0.7459, 2.1393, 1.6117, 1.7590, 1.4449, 2.1251),
    2701560320: (1.8712, 0.6883, 2.0325, 1.5353, 1.6297, 1.3560, 2.0328),
    373867520: (2.1401, 0.8694, 2.3625, 1.7791, 2.0470, 1.6637, 2.3139),
}
CASES = [(size, domain, losses[i]) for size, losses in PREDICTED.items() for i, domain in enumerate(DOMAINS)]


def law_of(domain: str) -> Law:
    return through([(size, losses[DOMAINS.index(domain)]) for size, losses in MEASURED.items()])


@pytest.mark.parametrize(("size", "domain", "printed"), CASES)
def test_published_reference_losses(size, domain, printed):
    assert round(law_of(domain).loss(size), 4) == printed


@pytest.mark.parametrize(
    ("domain", "scale", "exponent", "limit"),
    [("cc", 8.63386, 0.0283042, -2.79805), ("github", 14.63973, 0.1550743, 0.1836983)],
)
def test_laws_themselves(domain, scale, exponent, limit):
    law = law_of(domain)
    assert law.exponent == pytest.approx(exponent, rel=2e-6)
    assert law.scale == pytest.approx(scale, rel=2e-6)
    assert law.limit == pytest.approx(limit, rel=1e-5)


@pytest.mark.parametrize("law", [Law(30.0, 0.3, 1.7), Law(2.0, 0.05, -0.5), Law(1e4, 1.5, 0.0)])
def test_a_law_is_found_from_its_own_points_in_any_order(law):
    points = [(size, law.loss(size)) for size in (4_000_000, 30_000, 250_000)]
    found = through(points)
    assert found == pytest.approx(law, rel=1e-6, abs=1e-6)
    assert [found.loss(size) for size, _ in points] == pytest.approx([loss for _, loss in points], abs=1e-12)


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        ([(1e6, 3.0), (1e7, 2.5)], "three models of different sizes"),
        ([(1e6, 3.0), (1e6, 2.9), (1e7, 2.5)], "three models of different sizes"),
        ([(1e6, 3.0), (1e7, 3.1), (1e8, 2.5)], "losses that fall"),
        ([(1e6, 3.0), (1e7, 2.5), (1e8, 2.0)], "more than the steps' ratio in log N, 1"),
        ([(1e6, 3.0), (1e7, 2.9), (1e8, 2.0)], "more than the steps' ratio in log N, 1"),
    ],
)
def test_points_without_a_law_are_refused(points, reason):
    with pytest.raises(ValueError, match=reason):
        through(points)
