"""Tiny models as they are loaded for evaluation, and a tokenizer with a beginning-of-text token."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


@pytest.fixture
def tiny_model(tiny_folder) -> Callable[[str], Any]:
    """Loads a tiny model in float32."""

    def load(name: str = "tiny-llama") -> Any:
        return AutoModelForCausalLM.from_pretrained(tiny_folder(name), dtype=torch.float32).eval()

    return load


@pytest.fixture
def windows() -> torch.Tensor:
    return torch.randint(2, 258, (5, 24), generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="session")
def byte_tokenizer(tiny_folder) -> Any:
    """One token per byte, and <s> before every text as LLaMA's tokenizer has it."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = AutoTokenizer.from_pretrained(tiny_folder())
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    return tokenizer


@pytest.fixture(scope="session")
def tokenizer(tiny_folder) -> Any:
    """One token per byte."""
    return AutoTokenizer.from_pretrained(tiny_folder())


@pytest.fixture
def engine_of(tokenizer) -> Callable[..., Any]:
    """The scoring engine around a model; a warning is an error."""
    from reprune.evaluation.engine import RepruneLM

    def made(model: Any, **arguments: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            return RepruneLM(model, tokenizer=tokenizer, **arguments)

    return made
