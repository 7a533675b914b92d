"""Tiny models of several architectures, saved as folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

COMMON = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
CONFIGS = {
    "OPT": lambda: transformers.OPTConfig(ffn_dim=48, word_embed_proj_dim=32, **COMMON),
    "Qwen2": lambda: transformers.Qwen2Config(intermediate_size=48, num_key_value_heads=2, **COMMON),
    "Gemma3": lambda: transformers.Gemma3TextConfig(
        intermediate_size=48,
        num_key_value_heads=2,
        head_dim=8,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        **COMMON,
    ),
}


@pytest.fixture(scope="session")
def architecture(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Callable) -> Callable[[str], Path]:
    """The folder of a tiny random model: one of ``CONFIGS`` or of ``config/models.yaml``."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in CONFIGS:
            return tiny_folder(name)
        if name not in made:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                model = transformers.AutoModelForCausalLM.from_config(CONFIGS[name]())
                for parameter in model.parameters():
                    torch.nn.init.normal_(parameter, 0, 0.2)
            made[name] = tmp_path_factory.mktemp(name)
            model.save_pretrained(made[name])
        return made[name]

    return folder
