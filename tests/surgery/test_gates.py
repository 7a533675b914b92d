"""Gates while a model runs: open ones change nothing, gradients reach all, norms see open channels only."""

from __future__ import annotations

import pytest
import torch
from torch import tensor

from reprune.surgery.coupling import NotTraceable
from reprune.surgery.gates import Gates
from tests.surgery.conftest import ARCHITECTURES, HEADS, HIDDEN, INTERMEDIATE, LAYERS

RMS = tuple(name for name in ARCHITECTURES if name not in ("opt", "gpt-neox"))
LAYER_NORM = ("opt", "gpt-neox")
TOKENS = torch.arange(24).view(2, 12)
every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)


def values_of(gates: Gates, value: float = 1.0) -> dict:
    """All gates that the model takes, as leaves."""

    def of(size: int) -> torch.Tensor:
        return torch.full((size,), value, requires_grad=True)

    values = {name: of(gates.layers) for name in ("layer", "attention", "mlp")}
    values |= {"head": [of(n) for n in gates.heads], "intermediate": [of(n) for n in gates.intermediate]}
    norms = {type(module).__name__ for module in gates.model.modules()}
    return values if "LayerNorm" in norms else values | {"hidden": of(gates.hidden)}


def leaves(values: dict) -> list[torch.Tensor]:
    return [leaf for own in values.values() for leaf in (own if isinstance(own, list) else [own])]


@every_architecture
def test_sizes_are_the_models(small_model, name):
    gates = Gates(small_model(name))
    assert (gates.layers, gates.hidden) == (LAYERS, HIDDEN)
    assert gates.heads == [HEADS if name in ("llama", *LAYER_NORM) else HEADS // 2] * LAYERS
    assert gates.intermediate == [INTERMEDIATE] * LAYERS


@pytest.mark.parametrize(
    ("name", "head", "channel"), [("llama", 4 * 8, 3), ("llama-gqa-tied", 6 * 8, 3), ("gpt-neox", 4 * 8, 2)]
)
def test_weights_per_unit(small_model, name, head, channel):
    gates = Gates(small_model(name))
    assert (gates.weights_per_unit("head"), gates.weights_per_unit("intermediate")) == (head, channel)


@every_architecture
@torch.no_grad()
def test_open_gates_give_the_dense_logits_exactly(small_model, name):
    model = small_model(name)
    dense, gates = model(TOKENS).logits, Gates(model)
    with gates.applied(values_of(gates)):
        assert torch.equal(model(TOKENS).logits, dense)


@pytest.mark.parametrize(
    "name", [name for name in ARCHITECTURES if name != "opt"]
)  # its channels may be dead
def test_gradients_reach_every_gate(small_model, name):
    model = small_model(name)
    gates = Gates(model)
    values = values_of(gates, 0.9)
    with gates.applied(values):
        model(TOKENS, labels=TOKENS).loss.backward()
    assert all(leaf.grad is not None and leaf.grad.ne(0).all() for leaf in leaves(values))


def test_the_gradient_is_the_slope_of_the_loss(small_model):
    """Along a random direction through all gates; one hidden channel is closed and stays so."""
    model = small_model("llama-biased")
    gates, generator, step = Gates(model), torch.Generator().manual_seed(0), 0.01
    values = values_of(gates, 0.9)
    values["hidden"].data[3] = 0
    directions = [torch.randn(own.shape, generator=generator) * (own != 0) for own in leaves(values)]

    def loss(along: float) -> torch.Tensor:
        for own, direction in zip(leaves(values), directions, strict=True):
            own.data += along * direction
        with gates.applied(values):
            return model(TOKENS, labels=TOKENS).loss

    loss(0).backward()
    slope = sum((own.grad * d).sum() for own, d in zip(leaves(values), directions, strict=True))
    measured = (loss(step) - loss(-2 * step)) / (2 * step)
    torch.testing.assert_close(slope, measured.detach(), rtol=0.01, atol=1e-3)


def test_several_passes_can_be_differentiated_one_after_the_other(small_model):
    model = small_model("llama")
    gates = Gates(model)
    values = values_of(gates, 0.9)
    with gates.applied(values):
        for row in TOKENS:
            model(row[None], labels=row[None]).loss.backward()
    parts = [leaf.grad.clone() for leaf in leaves(values)]
    for leaf in leaves(values):
        leaf.grad = None
    with gates.applied(values):
        (2 * model(TOKENS, labels=TOKENS).loss).backward()
    for leaf, part in zip(leaves(values), parts, strict=True):
        torch.testing.assert_close(part, leaf.grad, rtol=1e-4, atol=1e-7)


@torch.no_grad()
def test_gates_are_gone_afterwards_also_after_an_error(small_model):
    model = small_model("llama")
    dense, gates = model(TOKENS).logits, Gates(model)
    with pytest.raises(KeyError), gates.applied(values_of(gates, 0.5)):
        assert not torch.allclose(model(TOKENS).logits, dense)
        raise KeyError
    assert torch.equal(model(TOKENS).logits, dense)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@torch.no_grad()
def test_gates_keep_the_dtype_of_activations(small_model):
    model = small_model("llama").bfloat16()
    gates = Gates(model)
    with gates.applied(values_of(gates, 0.9)):
        assert model(TOKENS).logits.dtype == torch.bfloat16


@torch.no_grad()
def test_a_norm_takes_its_mean_square_over_open_channels():
    """The worked example of the algorithm sheet; a mean over all four channels would be 5.25, not 7."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=4,
                         vocab_size=8, rms_norm_eps=1e-5)  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        model = AutoModelForCausalLM.from_config(config)
    model.model.norm.weight.copy_(tensor([1, 0.5, 2, 1]))
    with Gates(model).applied({"hidden": tensor([1, 0, 0.5, 1])}):
        found = model.model.norm(tensor([1.0, 2, -2, 4]))
    torch.testing.assert_close(found, tensor([0.377964, 0, -0.755928, 1.511857]), rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_closed_block_hands_on_the_hidden_state(small_model):
    model = small_model("llama-biased")
    gates = Gates(model)
    for closed in ({"layer": tensor([0.0, 1])}, {"attention": tensor([0.0, 1]), "mlp": tensor([0.0, 1])}):
        with gates.applied(closed):
            states = model(TOKENS, output_hidden_states=True).hidden_states
        assert torch.equal(states[0], states[1]) and not torch.equal(states[1], states[2])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"layer": torch.ones(3)}, "gates 'layer': 3 given, the model has 2"),
        ({"head": [torch.ones(4), torch.ones(3)]}, r"gates 'head': \[4, 3\] given, the model has \[4, 4\]"),
        ({"heads": torch.ones(2)}, "no gates 'heads', only layer, "),
        ({"hidden": torch.zeros(HIDDEN)}, "all hidden channels"),
    ],
)
def test_gates_that_are_not_the_models_are_refused(small_model, values, message):
    gates = Gates(small_model("llama"))
    with pytest.raises(ValueError, match=message), gates.applied(values):
        pass


@pytest.mark.parametrize("name", LAYER_NORM)
def test_hidden_gates_need_a_norm_that_narrows_exactly(small_model, name):
    gates = Gates(small_model(name))
    with pytest.raises(NotTraceable, match="LayerNorm"), gates.applied({"hidden": torch.ones(HIDDEN)}):
        pass


@pytest.mark.parametrize(
    ("architecture", "message"), [("gemma", "GemmaRMSNorm"), ("gemma2", "block 0 does not add")]
)
def test_models_that_gates_would_change_otherwise_than_folding_are_refused(architecture, message):
    """Gemma's gain is 1 + weight; Gemma 2 has a norm behind what each half writes."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(
        architecture, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, intermediate_size=20, vocab_size=50, max_position_embeddings=64, pad_token_id=0,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        model = AutoModelForCausalLM.from_config(config).eval()
    for norm in (m for m in model.modules() if type(m).__name__.endswith("RMSNorm")):
        torch.nn.init.normal_(norm.weight, 0.5)
    with pytest.raises(NotTraceable, match=message), Gates(model).applied({"hidden": torch.ones(32)}):
        pass
