"""Reprune: a reproducible benchmark harness for language-model pruning papers."""

__version__ = "0.1.0"
