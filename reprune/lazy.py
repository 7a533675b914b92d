"""Modules that are imported when first used.

Planning imports every ``method.py`` to read its settings and to ask what it supports, and must stay
instant; so method files take torch from here: ``from reprune.lazy import torch``.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any


class LazyModule:
    """Stands for a module and imports it at the first attribute access."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._load(), attribute)

    def _load(self) -> ModuleType:
        return importlib.import_module(self._name)


torch: Any = LazyModule("torch")
