"""Reprune: a reproducible benchmark harness for language-model pruning papers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__version__ = "0.1.0"


def load(folder: str | Path, merge: bool = False) -> Any:
    """The language or translation model of a checkpoint folder, also of one that transformers cannot build.

    Float32, frozen, in evaluation mode. With ``merge`` low-rank factors become dense layers again.
    Raises :class:`reprune.models.folder.ModelFolderError` if the folder cannot be used.
    """
    from reprune.models.checkpoint import load_model
    from reprune.surgery.low_rank import merge_low_rank

    model = load_model(Path(folder))
    if merge:
        merge_low_rank(model)
    return model
