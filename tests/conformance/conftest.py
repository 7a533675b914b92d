"""The bench of the conformance suite, one for the whole session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .bench import Bench


@pytest.fixture(scope="session")
def bench(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_folder: Callable[[str], Path],
    model_entry: Callable[[str], dict],
) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"), tiny_folder, model_entry)
