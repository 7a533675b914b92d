"""Counts from a configuration alone: those of real models, of the sheets, and of the published table."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import transformers

from reprune.evaluation.efficiency import multiply_accumulates
from reprune.method import ModelFacts
from reprune.models.counts import (
    BlockShape,
    Shape,
    elementwise,
    macs,
    matrix_products,
    memory_mib,
    parameters,
)
from reprune.models.skeleton import number_blocks

TOKENS = 12
WIDTHS = {  # query heads, key-value heads, intermediate channels of each block
    "full heads": [(4, 4, 24), (4, 4, 24)],
    "grouped heads": [(4, 2, 24), (4, 2, 24)],
    "one key head": [(8, 1, 40)],
    "blocks that differ": [(4, 2, 24), (2, 1, 7), (2, 2, 31)],
}
LLAMA_7B = {  # of LLaMA-7B: what a block keeps, which blocks, hidden size, parameters, macs, MiB
    "dense": ((32, 11_008), range(0), 4096, 6_738_415_616, 424_021_065_728, 12_884.5),
    "block 20 %": ((24, 8256), range(4, 30), 4096, 5_422_977_024, 339_602_644_992, 10_375.5),
    "block 50 %": ((13, 4403), range(3, 31), 4096, 3_350_188_032, 206_585_210_112, None),
    "by the text": ((13, 4403), range(3, 30), 4096, 3_471_196_160, 214_350_776_384, None),
    "channel 20 %": ((32, 11_008), range(0), 3276, 5_389_416_396, 339_361_064_448, None),
    "channel 50 %": ((32, 11_008), range(0), 2048, 3_369_207_808, 212_577_550_336, None),
}


def built(widths: list[tuple[int, int, int]], tied: bool) -> transformers.LlamaForCausalLM:
    """A model whose blocks have these widths, 8 features to a head and a hidden state of 32."""
    parts = [
        transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                vocab_size=50,
                hidden_size=32,
                head_dim=8,
                num_hidden_layers=1,
                num_attention_heads=heads,
                num_key_value_heads=kv_heads,
                intermediate_size=wide,
                tie_word_embeddings=tied,
                attn_implementation="eager",
            )
        )
        for heads, kv_heads, wide in widths
    ]
    model = parts[0].eval()
    model.model.layers.extend(part.model.layers[0].eval() for part in parts[1:])
    model.config.num_hidden_layers = len(widths)
    number_blocks(model)
    return model


def shape_of(widths: list[tuple[int, int, int]], tied: bool) -> Shape:
    return Shape(32, tuple(BlockShape(*width) for width in widths), 8, 50, tied)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("widths", WIDTHS.values(), ids=WIDTHS)
def test_parameters_are_those_of_the_model(widths, tied):
    model = built(widths, tied)
    assert parameters(shape_of(widths, tied)) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("widths", WIDTHS.values(), ids=WIDTHS)
def test_matrix_products_are_those_the_model_does(widths):
    assert matrix_products(shape_of(widths, False), TOKENS) == multiply_accumulates(
        built(widths, False), TOKENS
    )


@pytest.mark.parametrize("case", LLAMA_7B)
def test_llama_7b_has_the_published_counts(model_entry, case):
    """LLM-Pruner, Table 3, in full: the digits it does not print follow from the layer it is known to cut."""
    (heads, wide), cut, hidden, weights, operations, mib = LLAMA_7B[case]
    dense = Shape.of(ModelFacts(**model_entry("llama-7b")["facts"]))
    blocks = [BlockShape(heads, heads, wide) if i in cut else block for i, block in enumerate(dense.blocks)]
    shape = replace(dense, hidden_size=hidden, blocks=tuple(blocks))
    assert (parameters(shape), macs(shape, 64)) == (weights, operations)
    assert mib is None or round(memory_mib(shape), 1) == mib


def test_keys_and_values_count_with_their_own_heads():
    """By hand: one block of 2 query heads over 1 key head of 8 features, hidden size 32, 3 tokens."""
    shape = Shape(32, (BlockShape(2, 1, 5),), 8, 50, False)
    linear = 32 * 16 + 2 * 32 * 8 + 16 * 32 + 3 * 32 * 5  # q, k and v, o, gate and up and down
    assert matrix_products(shape, 3) == 3 * (linear + 32 * 50) + 2 * (2 * 9 * 8)
    assert elementwise(shape, 3) == 3 * 2 * (16 + 8) + 2 * 9 + 3 * 5 + 3 * (2 * 3 * 32)


def test_memory_is_the_weights_and_a_rotary_table_of_every_block():
    shape = shape_of([(4, 2, 24), (2, 1, 7)], True)
    tables = 2 * 2 * 16 * 8  # blocks, sine and cosine, positions, features of a head
    assert memory_mib(shape, positions=16) * 2**20 == 2 * (parameters(shape) + tables)


def test_a_shape_is_read_as_it_was_written():
    shape = shape_of(WIDTHS["blocks that differ"], True)
    assert Shape.read(json.loads(json.dumps(asdict(shape)))) == shape


def test_a_model_of_another_form_is_refused(model_entry):
    """One with biases, say, has more parameters than its widths tell."""
    facts = ModelFacts(**model_entry("tiny-llama")["facts"])
    with pytest.raises(ValueError, match=r"has 184,000 parameters, this one 184,064"):
        Shape.of(replace(facts, parameters=facts.parameters + 64))
