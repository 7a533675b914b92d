"""Exchanging how a model computes its attention, for as long as something is measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def attention_as(model: Any, implementation: str) -> Iterator[None]:
    """Let ``model`` attend by the implementation of that name, and as before afterwards."""
    before = model.config._attn_implementation
    model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
