"""Tiny random models of many architectures: those whose attention can be packed, and others."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import nn

WORDS = 258
COMMON = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}
GROUPED = {**COMMON, "intermediate_size": 48, "num_key_value_heads": 2}
LONG_ROPE = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "rope_theta": 1e4}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 1e4}
GPT2 = {"vocab_size": WORDS, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256}
PACKED = {
    "llama, grouped heads, tied": lambda: transformers.LlamaConfig(tie_word_embeddings=True, **GROUPED),
    "llama, full heads": lambda: transformers.LlamaConfig(**{**GROUPED, "num_key_value_heads": 4}),
    "llama, yarn": lambda: transformers.LlamaConfig(rope_parameters=YARN, **GROUPED),
    "qwen2": lambda: transformers.Qwen2Config(**GROUPED),
    "qwen2, some windows": lambda: transformers.Qwen2Config(
        use_sliding_window=True, sliding_window=30, max_window_layers=1, **GROUPED
    ),
    "qwen3": lambda: transformers.Qwen3Config(head_dim=8, **GROUPED),
    "mistral, a window longer than the trial": lambda: transformers.MistralConfig(
        sliding_window=40, **GROUPED
    ),
    "opt": lambda: transformers.OPTConfig(ffn_dim=48, word_embed_proj_dim=32, **COMMON),
    "gemma3": lambda: transformers.Gemma3TextConfig(
        head_dim=8,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        **GROUPED,
    ),
    "gemma2, scores not capped": lambda: transformers.Gemma2Config(
        head_dim=8, sliding_window=8, attn_logit_softcapping=None, **GROUPED
    ),
    "gpt2": lambda: transformers.GPT2Config(**GPT2),
    "gpt-neox": lambda: transformers.GPTNeoXConfig(intermediate_size=48, **COMMON),
    "phi": lambda: transformers.PhiConfig(**GROUPED),
    "mixtral": lambda: transformers.MixtralConfig(num_local_experts=4, **GROUPED),
}
PLAIN = {
    "gemma2": lambda: transformers.Gemma2Config(head_dim=8, sliding_window=8, **GROUPED),
    "gpt-oss": lambda: transformers.GptOssConfig(
        head_dim=8, sliding_window=8, num_local_experts=4, num_experts_per_tok=2, **GROUPED
    ),
    "phi3, long rope": lambda: transformers.Phi3Config(
        original_max_position_embeddings=32, rope_parameters=LONG_ROPE, **GROUPED
    ),
    "lfm2": lambda: transformers.Lfm2Config(layer_types=["conv", "full_attention", "conv"], **GROUPED),
    "gpt-neo": lambda: transformers.GPTNeoConfig(
        vocab_size=WORDS,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        window_size=8,
        max_position_embeddings=256,
    ),
    "bloom": lambda: transformers.BloomConfig(vocab_size=WORDS, hidden_size=32, n_layer=3, n_head=4),
    "mamba": lambda: transformers.MambaConfig(
        vocab_size=WORDS, hidden_size=32, num_hidden_layers=2, state_size=8, pad_token_id=1
    ),
}
LLAMA = PACKED["llama, grouped heads, tied"]


def build(config: Any, spread: float = 0.2) -> Any:
    """A random model whose weights are large enough that every token matters."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
        for parameter in model.parameters():
            nn.init.normal_(parameter, 0, spread)
    return model
