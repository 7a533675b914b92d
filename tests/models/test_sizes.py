"""Sizes of regular models, counted against published ones."""

from __future__ import annotations

import pytest

from reprune.method import ModelFacts
from reprune.models.sizes import Sizes, hidden_sizes, kv_heads, own, parameters, size_for

LLAMA = ModelFacts("llama", 32, 4096, 11008, 32, 32, 128, 32000, False, 6_738_415_616)
SMOLLM = ModelFacts("llama", 30, 576, 1536, 9, 3, 64, 49152, True, 134_515_008)


@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        (Sizes(24, 2048, 16, 5504), 1_345_423_360),
        (Sizes(32, 2560, 20, 6912), 2_701_560_320),
        (Sizes(24, 1024, 8, 2816), 373_867_520),
    ],
)
def test_sheared_llamas_targets_have_the_parameters_of_the_published_models(sizes, count):
    """Sheared-LLaMA, Table 8: 1.3B, 2.7B, and the 370M of the official configurations."""
    assert parameters(LLAMA, sizes) == count


@pytest.mark.parametrize(
    ("facts", "share", "hidden", "inner"),
    [
        (LLAMA, 0.2, 3584, 9539),
        (LLAMA, 0.5, 2656, 7085),
        (SMOLLM, 0.2, 504, 1314),
        (SMOLLM, 0.5, 360, 1017),
    ],
)
def test_sizes_of_known_models(facts, share, hidden, inner):
    sizes = size_for(facts, share)
    assert sizes == Sizes(facts.layers, hidden, facts.heads, inner)
    assert parameters(facts, own(facts)) == facts.parameters
    assert 1 - parameters(facts, sizes) / facts.parameters == pytest.approx(share, abs=2e-4)


def test_both_sizes_are_one_share_of_the_dense_ones_to_a_step_of_the_hidden_size():
    step = hidden_sizes(LLAMA).step
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        sizes = size_for(LLAMA, share)
        same = sizes.intermediate_size * LLAMA.hidden_size / LLAMA.intermediate_size
        assert abs(sizes.hidden_size - same) < 3 * step


def test_key_value_heads_go_with_their_query_heads():
    assert kv_heads(SMOLLM, Sizes(12, 384, 6, 1024)) == 2
    assert parameters(SMOLLM, Sizes(12, 384, 6, 1024)) == 37_758_336
