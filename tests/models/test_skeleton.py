"""A model taken apart and run block by block is the model, whatever its architecture."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, ResNetConfig

from reprune.models.folder import ModelFolder
from reprune.models.skeleton import NoDecoderBlocks, Skeleton, linear_layers

LINEARS = {
    "OPT": {"self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj", "self_attn.out_proj", "fc1", "fc2"},
    **dict.fromkeys(
        ["tiny-llama", "tiny-llama-gqa", "Qwen2", "Gemma3"],
        {
            "self_attn.q_proj",
            "self_attn.k_proj",
            "self_attn.v_proj",
            "self_attn.o_proj",
            "mlp.gate_proj",
            "mlp.up_proj",
            "mlp.down_proj",
        },
    ),
}


@pytest.fixture(params=LINEARS)
def taken_apart(request, architecture):
    """The name, the skeleton and the whole model in float32."""
    folder = architecture(request.param)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return request.param, Skeleton(ModelFolder(folder)), model


def test_blocks_hold_the_models_own_weights(taken_apart):
    name, skeleton, model = taken_apart
    own = model.get_submodule(skeleton.prefix)
    assert len(skeleton) == len(own) == 3
    for index in range(3):
        block, state = skeleton.block(index), own[index].state_dict()
        assert block.state_dict().keys() == state.keys()
        assert all(torch.equal(tensor, state[key]) for key, tensor in block.state_dict().items())
        assert set(linear_layers(block)) == LINEARS[name]
        assert not any(p.requires_grad for p in block.parameters()) and not block.training


def test_blocks_and_the_rest_are_all_tensors_of_the_folder(taken_apart):
    _, skeleton, _ = taken_apart
    names = skeleton.rest_names() + [n for i in range(len(skeleton)) for n in skeleton.block_names(i)]
    assert sorted(names) == sorted(skeleton.folder.files)


@torch.no_grad()
def test_running_block_by_block_is_running_the_model(taken_apart):
    """Also where blocks differ in their attention, and beyond the sliding window."""
    _, skeleton, model = taken_apart
    tokens = torch.randint(3, 50, (5, 24), generator=torch.Generator().manual_seed(1))
    states = []
    for block in model.get_submodule(skeleton.prefix):
        block.register_forward_hook(
            lambda _, args, output: states.append(
                (args[0], output[0] if isinstance(output, tuple) else output)
            )
        )
    full = model(input_ids=tokens, use_cache=False, output_hidden_states=True)
    hidden, arguments = skeleton.first_inputs(tokens, batch=2)
    assert hidden.shape == (5, 24, skeleton.config.hidden_size) and len(arguments) == len(skeleton)
    assert hidden.dtype == torch.float32 and torch.equal(hidden, full.hidden_states[0])
    for index in range(len(skeleton)):
        output = skeleton.block(index)(hidden, **arguments[index])
        hidden = output[0] if isinstance(output, tuple) else output
        assert torch.equal(hidden, states[index][1])


@torch.no_grad()
def test_captured_arguments_hold_for_any_batch(taken_apart):
    _, skeleton, _ = taken_apart
    tokens = torch.randint(3, 50, (4, 12), generator=torch.Generator().manual_seed(2))
    hidden, arguments = skeleton.first_inputs(tokens, batch=3)
    block = skeleton.block(1)
    together = block(hidden, **arguments[1])
    one_by_one = [block(hidden[i : i + 1], **arguments[1]) for i in range(4)]
    whole, parts = (
        (together[0], [o[0] for o in one_by_one]) if isinstance(together, tuple) else (together, one_by_one)
    )
    torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-5, atol=1e-5)


def test_another_set_of_weights_can_be_put_into_a_block(architecture):
    skeleton = Skeleton(ModelFolder(architecture("tiny-llama")))
    tensors = {name: torch.zeros_like(t) for name, t in skeleton.folder.read(skeleton.block_names(2)).items()}
    block = skeleton.block(2, tensors)
    assert {t.dtype for t in block.state_dict().values()} == {torch.float32}
    assert not any(t.any() for t in block.state_dict().values())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ResNetConfig(), "ResNetConfig is not a causal language model"),
        (
            GPT2Config(
                vocab_size=50, n_embd=8, n_layer=2, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=1
            ),
            "GPT2LMHeadModel has no list of decoder blocks with linear layers",
        ),
    ],
)
def test_a_model_without_decoder_blocks_is_one_line(tmp_path, config, message):
    config.save_pretrained(tmp_path)
    with pytest.raises(NoDecoderBlocks) as caught:
        Skeleton(ModelFolder(tmp_path))
    assert str(caught.value) == message
