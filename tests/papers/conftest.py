"""What the tests of the papers share: loading a method, a tiny decoder block, a toy layer."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaModel

from reprune.calibration.block import Block
from reprune.discovery import load_method
from reprune.method import ModelFacts

PAPERS = Path(__file__).parents[2] / "papers"
# A paper's second file is imported as papers.<id>.<file>, from the folder above; nothing installs it.
sys.path.insert(0, str(PAPERS.parent))


class _Captured(Exception):
    pass


@pytest.fixture(scope="session")
def paper() -> Callable[[str], ModuleType]:
    """The module of ``papers/<id>/method.py``."""

    def load(paper_id: str) -> ModuleType:
        return sys.modules[load_method(PAPERS / paper_id / "method.py").cls.__module__]

    return load


@pytest.fixture
def tiny_block() -> Callable[..., Block]:
    """Builds the first block of a tiny random LLaMA with grouped heads, and its inputs."""

    def build(windows: int = 6, length: int = 24, seed: int = 0) -> Block:
        torch.manual_seed(seed)
        config = LlamaConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=50,
            max_position_embeddings=64,
            initializer_range=0.3,
        )
        model = LlamaModel(config).eval()
        # Inputs with correlated features of unequal size, as real activations have.
        mixing = torch.randn(32, 32) * torch.logspace(-1, 1, 32)
        inputs = torch.randn(windows, length, 32) @ mixing
        module, arguments = model.layers[0], {}

        def capture(_: nn.Module, args: tuple, kwargs: dict) -> None:
            arguments.update({k: v for k, v in kwargs.items() if k != "hidden_states"})
            raise _Captured

        hook = module.register_forward_pre_hook(capture, with_kwargs=True)
        with pytest.raises(_Captured):
            model(inputs_embeds=inputs[:1], use_cache=False)
        hook.remove()
        linears = {name: layer for name, layer in module.named_modules() if isinstance(layer, nn.Linear)}
        return Block(0, module, linears, inputs, None, arguments, torch.Generator().manual_seed(seed))

    return build


@pytest.fixture
def toy() -> tuple[torch.Tensor, torch.Tensor]:
    """The worked examples' layer: weight (2, 4) and the six tokens (6, 4) of one window."""
    weight = torch.tensor([[0.5, -0.2, 0.3, -0.9], [0.2, 0.1, -0.4, 0.6]])
    inputs = torch.tensor(
        [[1, 4, 0, 1], [0, 2, 1, -1], [2, -4, 1, 0], [1, 0, -2, 0.5], [-1, 2, 0, 0], [0, 4, 1, 1]]
    )
    return weight, inputs


@pytest.fixture
def toy_block(toy: tuple[torch.Tensor, torch.Tensor]) -> Block:
    """The toy layer as a block of its own, with its six tokens as the only window."""
    weight, inputs = toy
    module = nn.Sequential(nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        module[0].weight.copy_(weight)
    return Block(0, module, {"0": module[0]}, inputs.unsqueeze(0), None, {}, torch.Generator())


@pytest.fixture(scope="session")
def facts() -> ModelFacts:
    return ModelFacts(
        architecture="LlamaForCausalLM",
        layers=2,
        hidden_size=32,
        intermediate_size=64,
        heads=4,
        kv_heads=2,
        head_dim=8,
        vocab_size=50,
        tied_embeddings=False,
        parameters=20_000,
    )


@pytest.fixture
def row_of_eight() -> tuple[torch.Tensor, torch.Tensor]:
    """One row of eight weights and its input norms (Wanda's worked n:m example)."""
    return (
        torch.tensor([[0.9, -0.4, 0.35, 0.1, -0.2, 0.15, 0.3, -0.05]]),
        torch.tensor([1.0, 2, 2, 1, 3, 1, 1, 1]),
    )
