"""A model as a Hugging Face folder: configuration, and tensors read one by one from safetensors."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from reprune.records.files import link_or_copy, write_json
from reprune.records.store import sha256

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
REST = "rest.safetensors"


class ModelFolderError(Exception):
    """A model folder that cannot be used; the message names the file and what to do."""


class ModelFolder:
    """The tensors of a model folder by name, without holding them in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def config(self) -> Any:
        """The transformers configuration; never runs code from the folder."""
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(self.path, trust_remote_code=False)

    @cached_property
    def files(self) -> dict[str, Path]:
        """Tensor name to the file that holds it.

        Raises :class:`ModelFolderError` if there is no safetensors file or one is cut short.
        """
        index = self.path / INDEX
        if index.is_file():
            return {
                name: self.path / file
                for name, file in json.loads(index.read_text(encoding="utf-8"))["weight_map"].items()
            }
        single = self.path / SINGLE
        if not single.is_file():
            raise ModelFolderError(f"{self.path}: no {SINGLE} and no {INDEX}; only safetensors are read")
        with _opened(single) as tensors:
            return dict.fromkeys(tensors.keys(), single)

    def read(self, names: list[str], dtype: torch.dtype | None = None) -> dict[str, torch.Tensor]:
        """The named tensors, copied out of the files, in ``dtype`` (default: as stored)."""
        result: dict[str, torch.Tensor] = {}
        for file in dict.fromkeys(self.files[name] for name in names):
            with _opened(file) as tensors:
                for name in names:
                    if self.files[name] == file:
                        result[name] = tensors.get_tensor(name).to(dtype, copy=True)
        return result

    def names_below(self, prefix: str) -> list[str]:
        """The tensors whose name starts with ``prefix``, in order."""
        return sorted(name for name in self.files if name.startswith(prefix))

    def link_into(self, target: Path) -> None:
        """Give every file of the folder a second name in ``target`` (which must exist)."""
        for file in self._visible():
            link_or_copy(file.resolve(), target / file.name)

    def link_companions(self, target: Path, without: tuple[str, ...] = ()) -> None:
        """The same for everything but weights and the names in ``without``: configuration and tokenizer."""
        for file in self._visible():
            if file.suffix != ".safetensors" and file.name not in (INDEX, *without):
                link_or_copy(file.resolve(), target / file.name)

    def _visible(self) -> list[Path]:
        """The files less hidden ones: Snakemake touches a time stamp of its own in every output folder."""
        return sorted(file for file in self.path.glob("[!.]*") if file.is_file())

    def hash(self) -> str:
        """12 hex characters over all weight files."""
        import hashlib

        state = hashlib.sha256()
        for file in sorted(set(self.files.values())):
            state.update(f"{file.name} {sha256(file)}\n".encode())
        return state.hexdigest()[:12]

    def check(self, expected: str) -> None:
        """Raises :class:`ModelFolderError` if the hash is not the one noted when the folder was written."""
        if self.hash() != expected:
            raise ModelFolderError(
                f"{self.path}: damaged or cut short since it was written; "
                f"delete {self.path.parent} and run again"
            )


def load_tokenizer(folder: Path | str) -> Any:
    """The tokenizer of a model folder; never runs code from it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def _opened(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ModelFolderError(
            f"{file}: damaged or cut short ({error}); delete the folder and run again"
        ) from error


def write_index(folder: Path, weight_map: dict[str, str]) -> None:
    """Write the index of a sharded model: tensor name to file name."""
    size = sum((folder / file).stat().st_size for file in set(weight_map.values()))
    write_json(
        folder / INDEX, {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
    )
