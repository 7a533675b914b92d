"""Dropping decoder blocks: what is left, renumbered, computes what it computed."""

from __future__ import annotations

import pytest
import torch

from reprune.surgery.layers import drop_blocks, keep_blocks


@torch.no_grad()
def test_the_remaining_blocks_compute_what_they_computed(subject_of):
    subject = subject_of("tiny-llama")
    kept = [subject.blocks[0], subject.blocks[2]]
    drop_blocks(subject.model, [1])
    assert list(subject.blocks) == kept
    assert [block.self_attn.layer_idx for block in subject.blocks] == [0, 1]
    assert subject.model.config.num_hidden_layers == 2


@torch.no_grad()
def test_the_cache_of_a_cut_model_works(subject_of):
    subject = subject_of("tiny-llama-gqa")
    drop_blocks(subject.model, [0])
    tokens = subject.windows[:1, :9]
    begun = subject.model(tokens[:, :8], use_cache=True)
    step = subject.model(tokens[:, 8:], past_key_values=begun.past_key_values, use_cache=True)
    whole = subject.model(tokens, use_cache=False).logits
    torch.testing.assert_close(step.logits[:, -1], whole[:, -1], rtol=1e-4, atol=1e-5)


def test_lists_by_layer_in_the_configuration_follow(subject_of):
    subject = subject_of("tiny-llama")
    subject.model.config.layer_types = ["full_attention", "sliding_attention", "full_attention"]
    drop_blocks(subject.model, [0])
    assert subject.model.config.layer_types == ["sliding_attention", "full_attention"]


def test_no_block_left_is_an_error(subject_of):
    with pytest.raises(ValueError, match="at least one"):
        keep_blocks(subject_of("tiny-llama").model, [])
