"""Gates on the heads of a translation model, and the removal of heads whose gate is closed."""

from __future__ import annotations

import pytest
import torch
from small_translation import HEADS, LAYERS, logits, pairs, small_marian

from reprune.models.attention import attention_as
from reprune.models.parts import NoAttention, NoSelfAttention
from reprune.models.translation import KINDS, attention_kinds, encoder_parameters
from reprune.surgery.head_gates import HeadGates, remove_heads, retained_heads


def pattern(seed: int, kinds: tuple[str, ...] = KINDS) -> dict[str, torch.Tensor]:
    """About half of all heads, at random."""
    generator = torch.Generator().manual_seed(seed)
    return {kind: torch.rand(LAYERS, HEADS, generator=generator) < 0.5 for kind in kinds}


def emptied(kind: str, layer: int) -> dict[str, torch.Tensor]:
    kept = torch.ones(LAYERS, HEADS, dtype=torch.bool)
    kept[layer] = False
    return {kind: kept}


def everything() -> dict[str, torch.Tensor]:
    return {kind: torch.zeros(LAYERS, HEADS, dtype=torch.bool) for kind in KINDS}


PATTERNS = {
    **{f"random {seed}": pattern(seed) for seed in range(3)},
    **{f"random {kind}": pattern(9, (kind,)) for kind in KINDS},
    **{f"no {kind} {layer}": emptied(kind, layer) for kind in KINDS for layer in range(LAYERS)},
    "no decoder": {"decoder": everything()["decoder"], "cross": pattern(4)["cross"]},
    "no cross": {"cross": everything()["cross"]},
    "nothing": everything(),
}


def generated(model, beams: int = 3, cached: bool = True) -> torch.Tensor:
    """Tokens that a beam search finds, of which none may be the end too early."""
    batch = pairs()
    return model.generate(
        input_ids=batch.source,
        attention_mask=batch.source_mask,
        num_beams=beams,
        max_new_tokens=12,
        min_new_tokens=8,
        length_penalty=0.6,
        use_cache=cached,
    )


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@torch.no_grad()
def test_open_gates_leave_every_bit_as_it_is(implementation):
    model, batch = small_marian(), pairs()
    with attention_as(model, implementation):
        before = logits(model, batch)
        with HeadGates(model, KINDS).applied({kind: torch.ones(LAYERS, HEADS) for kind in KINDS}):
            assert torch.equal(logits(model, batch), before)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@torch.no_grad()
def test_a_gate_multiplies_the_output_of_its_head_alone(implementation):
    """The same as values of that head multiplied, since attention is linear in them."""
    model, batch = small_marian(), pairs()
    gates = {kind: torch.ones(LAYERS, HEADS) for kind in KINDS}
    for place, kind in enumerate(KINDS):
        gates[kind][1, place] = 0.25
    with attention_as(model, implementation), HeadGates(model, KINDS).applied(gates):
        gated = logits(model, batch)
    for place, kind in enumerate(KINDS):
        projection = attention_kinds(model)[kind][1].v_proj
        projection.weight[8 * place : 8 * place + 8] *= 0.25
        projection.bias[8 * place : 8 * place + 8] *= 0.25
    torch.testing.assert_close(gated, logits(model, batch), rtol=1e-5, atol=1e-5)


def test_gates_are_differentiable_and_go_off_again():
    model, batch = small_marian(), pairs()
    before = logits(model, batch)
    gates = {kind: torch.full((LAYERS, HEADS), 0.5, requires_grad=True) for kind in KINDS}
    placed = HeadGates(model, KINDS)
    placed.put(gates)
    logits(model, batch).square().mean().backward()
    logits(model, batch).square().mean().backward()  # a graph of its own
    assert all(gate.grad.ne(0).all() for gate in gates.values())
    placed.release()
    assert torch.equal(logits(model, batch), before)


@pytest.mark.parametrize("name", PATTERNS)
@torch.no_grad()
def test_a_model_without_heads_gives_what_it_gives_with_closed_gates(name):
    kept, model, batch = PATTERNS[name], small_marian(), pairs()
    gates = HeadGates(model, tuple(kept))
    gates.put({kind: rows.float() for kind, rows in kept.items()})
    expected, tokens = logits(model, batch), generated(model)
    greedy = generated(model, beams=1)
    gates.release()
    remove_heads(model, kept)
    torch.testing.assert_close(logits(model, batch), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(generated(model), tokens)
    assert torch.equal(generated(model, cached=False), tokens)
    assert torch.equal(generated(model, beams=1), greedy)
    counted = retained_heads(model)
    assert {kind: counted[kind] for kind in kept} == {k: rows.sum(1).tolist() for k, rows in kept.items()}
    assert all(counted[kind] == [HEADS] * LAYERS for kind in KINDS if kind not in kept)


@torch.no_grad()
def test_removal_goes_on_from_what_is_left():
    kept = {"encoder": torch.tensor([[1, 1, 0, 1], [0, 0, 1, 1]]).bool()}
    further = {"encoder": [torch.tensor([True, False, True]), torch.tensor([False, False])]}
    together = {"encoder": torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0]]).bool()}
    twice, once = small_marian(), small_marian()
    remove_heads(twice, kept)
    remove_heads(twice, further)
    remove_heads(once, together)
    assert torch.equal(logits(twice, pairs()), logits(once, pairs()))
    with HeadGates(twice).applied({"encoder": [torch.ones(2), torch.ones(0)]}):
        assert torch.equal(logits(twice, pairs()), logits(once, pairs()))


def test_parameters_go_with_the_heads():
    model, size = small_marian(), 32
    before = sum(p.numel() for p in model.parameters())
    remove_heads(model, {"encoder": torch.tensor([[1, 1, 0, 1], [0, 0, 0, 0]]).bool()})
    one = 8 * (4 * size + 3)  # rows of q, k and v with their biases, columns of the output
    whole = 4 * one  # what is left of the second layer is the bias of its output
    assert before - sum(p.numel() for p in model.parameters()) == one + whole
    assert isinstance(attention_kinds(model)["encoder"][1], NoAttention)


def test_a_decoder_without_own_attention_counts_the_tokens_of_its_cache():
    model, batch = small_marian(), pairs()
    remove_heads(model, {"decoder": torch.zeros(LAYERS, HEADS).bool()})
    assert isinstance(attention_kinds(model)["decoder"][0], NoSelfAttention)
    with torch.no_grad():
        cache = model(batch.source, decoder_input_ids=batch.target, use_cache=True).past_key_values
    assert cache.get_seq_length() == batch.target.shape[1]


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"encoder": torch.ones(LAYERS, 3)}, "3, 3.*4, 4"),
        ({"encoder": torch.ones(1, HEADS)}, "encoder"),
        ({"decoding": torch.ones(LAYERS, HEADS)}, "no heads 'decoding'"),
    ],
)
def test_a_pattern_of_another_model_is_refused(wrong, match):
    model = small_marian()
    with pytest.raises(ValueError, match=match):
        remove_heads(model, {kind: rows.bool() for kind, rows in wrong.items()})
    with pytest.raises(ValueError, match=match):
        HeadGates(model).put(wrong)
    with pytest.raises(ValueError, match="no heads 'cross'"):
        HeadGates(model).put({"cross": torch.ones(LAYERS, HEADS)})


@pytest.mark.parametrize("shared", [True, False])
def test_training_the_encoder_alone_changes_nothing_else(shared):
    model = small_marian(share_encoder_decoder_embeddings=shared)
    own = encoder_parameters(model)
    assert all(name.startswith("model.encoder.") for name in own)
    assert ("model.encoder.embed_tokens.weight" in own) == (not shared)
    assert len([name for name in own if ".layers." in name]) == 16 * LAYERS
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.requires_grad_(True).train()
    optimizer = torch.optim.SGD(own.values(), lr=0.1)
    logits(model, pairs()).square().mean().backward()
    optimizer.step()
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    still = {
        name for name in own if name.endswith("k_proj.bias")
    }  # the same for all keys, softmax ignores it
    assert changed - still == set(own) - still
