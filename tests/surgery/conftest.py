"""Small random models of several architectures, whose coupled structures are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

HIDDEN, LAYERS, HEADS, INTERMEDIATE, VOCABULARY = 32, 2, 4, 20, 50


def configurations() -> dict[str, Any]:
    """Full heads, grouped ones with tied embeddings, biases, norms within heads, no gate, fused layers."""
    from transformers import GPTNeoXConfig, LlamaConfig, OPTConfig, Qwen2Config, Qwen3Config

    common = {
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 64,
    }
    grouped = {**common, "num_key_value_heads": 2, "intermediate_size": INTERMEDIATE}
    return {
        "llama": LlamaConfig(**{**grouped, "num_key_value_heads": HEADS}, tie_word_embeddings=False),
        "llama-gqa-tied": LlamaConfig(**grouped, tie_word_embeddings=True),
        "llama-biased": LlamaConfig(**grouped, attention_bias=True, mlp_bias=True),
        "qwen2": Qwen2Config(**grouped),
        "qwen3": Qwen3Config(**grouped, head_dim=8),
        "opt": OPTConfig(**common, ffn_dim=INTERMEDIATE, word_embed_proj_dim=HIDDEN),
        "gpt-neox": GPTNeoXConfig(**common, intermediate_size=INTERMEDIATE),
    }


ARCHITECTURES = tuple(configurations())


@pytest.fixture
def small_model() -> Callable[[str], Any]:
    """A frozen random model of one of :data:`ARCHITECTURES`, its biases and gains random too."""
    import torch
    from transformers import AutoModelForCausalLM

    def build(name: str) -> Any:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(configurations()[name])
            for parameter in model.parameters():
                parameter.data += 0.1 * torch.randn_like(parameter)
        return model.eval().requires_grad_(False)

    return build
