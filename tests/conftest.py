"""What all tests share: no network, one thread, the repository's files, and tiny model folders."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_project import Project, make_project

# Before a test imports torch or the hub library.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """A test that opens a connection to another machine fails."""
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6):
            raise AssertionError(f"a test asked the network: {address}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        yield


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a mirror of the developer nor the import path of a method file reaches a test."""
    monkeypatch.delenv("REPRUNE_MIRROR", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture
def project(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A small project in a folder of its own, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    return make_project(root, tmp_path)


@pytest.fixture(scope="session")
def model_entry(root: Path) -> Callable[[str], dict[str, Any]]:
    """The entry of a model in ``config/models.yaml``."""
    models = yaml.safe_load((root / "config" / "models.yaml").read_text(encoding="utf-8"))
    return models.__getitem__


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, model_entry: Callable) -> Callable[[str], Path]:
    """A random tiny model of ``config/models.yaml`` as a folder; made once, not to be changed."""
    from reprune.models.sources import fetch_model

    made: dict[str, Path] = {}

    def folder(name: str = "tiny-llama") -> Path:
        if name not in made:
            entry = model_entry(name)
            made[name] = tmp_path_factory.mktemp(name)
            fetch_model(entry["source"], entry["dtype"], entry["facts"], made[name])
        return made[name]

    return folder


@pytest.fixture
def subject_of(tmp_path: Path, tiny_folder: Callable, model_entry: Callable) -> Callable:
    """A tiny model in memory with calibration windows of made text, as a structural method gets it."""
    import torch

    from reprune.calibration.subject import Subject
    from reprune.calibration.windows import draw_windows, tokenizer_function
    from reprune.data.readers import made_documents
    from reprune.method import ModelFacts
    from reprune.models.checkpoint import load_model
    from reprune.records.store import Store

    def build(model: str = "tiny-llama", windows: int = 8, length: int = 32) -> Subject:
        folder = tiny_folder(model)
        tokens, _ = draw_windows(made_documents(12, 24, 11), tokenizer_function(folder), windows, length, 0)
        return Subject(
            load_model(folder),
            ModelFacts(**model_entry(model)["facts"]),
            tokens,
            torch.Generator().manual_seed(0),
            Store(tmp_path / "store"),
            {"model": model},
            batch_size=4,
        )

    return build
