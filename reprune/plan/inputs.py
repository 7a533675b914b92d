"""Which source each input comes from: mirror, then package, then hub, the first that has it."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from reprune.method import ModelFacts
from reprune.plan.fingerprint import ROOT
from reprune.plan.identity import identify
from reprune.plan.problems import Problems, nearest
from reprune.plan.source import Source

ORDER = ("mirror", "package", "hub", "made")


@dataclass(frozen=True)
class Corpus:
    """A text input with its chosen source. ``content`` is its identity, ``label`` the record's source."""

    id: str
    name: str
    role: str
    kind: str
    label: str
    fit: str
    note: str
    content: dict[str, Any]
    file: Path | None = None
    missing: str | None = None


@dataclass(frozen=True)
class Instructions(Corpus):
    """Instructions with answers; ``rows`` are those of the source."""

    rows: int = 0


@dataclass(frozen=True)
class Parallel(Corpus):
    """Sentences with their translations; ``languages`` are the source's and the target's.

    ``pairs`` are those of each part, None where only the hub knows.
    """

    languages: tuple[str, str] = ("", "")
    pairs: dict[str, int] | None = None


@dataclass(frozen=True)
class Model:
    """A model with its source; ``content`` is its identity, ``skip`` why nothing is ever run on it.

    ``parallel`` is the text that a translation model is for.
    """

    id: str
    name: str
    title: str
    note: str
    published_as: str | None
    kind: str
    label: str
    dtype: str
    context: int
    separator: str | None
    facts: ModelFacts
    content: dict[str, Any]
    missing: str | None = None
    skip: str | None = None
    parallel: Parallel | None = None


@dataclass
class Inputs:
    """Resolves corpora and models by name for one configuration."""

    data: Source
    models: Source
    mirror: Path | None
    offline: bool
    order: tuple[str, ...]
    stand_ins: dict[str, str]
    problems: Problems

    def corpus(self, name: str, where: str) -> Corpus | None:
        """The corpus ``name`` (or what the scale puts in its place) from the first source that has it."""
        found = self._text("corpora", "corpus", self.stand_ins.get(name, name), (*self.order, "made"), where)
        return found and Corpus(**found)

    def instructions(self, name: str, where: str) -> Instructions | None:
        """The instruction data ``name`` from the first source that has it."""
        found = self._text("instructions", "instruction data", name, self.order, where)
        return found and Instructions(**found, rows=found["content"][found["kind"]]["rows"])

    def parallel(self, name: str, where: str) -> Parallel | None:
        """The parallel text ``name`` from the first source that has it."""
        found = self._text("parallel", "parallel text", name, (*self.order, "made"), where)
        if found is None:
            return None
        told = found["content"][found["kind"]]
        languages = tuple(self.data.data["parallel"][name]["languages"])
        return Parallel(**found, languages=languages, pairs=told.get("pairs"))

    def parser(self, name: str, language: str, where: str) -> Corpus | None:
        """The dependency parser ``name`` from the first source that has it; it must be of ``language``.

        A parser is a tool and no data of a paper: where the scale makes none, a package's will do.
        """
        order = self.order if "made" in self.order else (*self.order, "package")
        found = self._text("parsers", "parser", name, order, where)
        own = found and self.data.data["parsers"][name]["language"]
        if own and own != language:
            self.problems.add(where, f"parser '{name}' is of language {own}, the sentences are of {language}")
        return found and Corpus(**found)

    def _text(
        self, section: str, what: str, name: str, order: tuple[str, ...], where: str
    ) -> dict[str, Any] | None:
        """The fields of a :class:`Corpus` from ``config/data.yaml``; None with a problem noted."""
        known = self.data.data[section]
        if name not in known:
            self.problems.add(where, f"unknown {what} '{name}'; {nearest(name, known)}")
            return None
        entry = known[name]
        kinds = [kind for kind in ORDER if kind in entry and kind in order]
        if not kinds:
            self.problems.add(
                where,
                f"{what} '{name}' has none of the scale's sources, "
                f"{', '.join(self.order)}; add one to config/data.yaml",
            )
            return None
        kind, missing = self.first_of(kinds, entry, f"{section}.{name}")
        fields = self._fields(name, entry, kind or kinds[-1])
        return {**fields, "missing": None if kind else f"{name}: " + "; ".join(missing)}

    def first_of(self, kinds: list[str], entry: dict, place: str) -> tuple[str | None, list[str]]:
        """The first of ``kinds`` that has the input, and why those before it have not; None if none has."""
        missing: list[str] = []
        for kind in kinds:
            reason = self._lacks(kind, entry[kind], place)
            if reason is None:
                return kind, missing
            missing.append(reason)
        return None, missing

    def _lacks(self, kind: str, spec: dict, place: str) -> str | None:
        if kind == "mirror":
            if self.mirror is None:
                return "no mirror folder is named"
            lacking = [file for file in _files(spec) if not (self.mirror / file).is_file()]
            return f"mirror has no {', '.join(lacking)}" if lacking else None
        if kind == "package" and spec["package"] not in self.data.data["packages"]:
            self.problems.add(
                self.data.where("corpora"),
                f"{place} names unknown package '{spec['package']}'; "
                + nearest(spec["package"], self.data.data["packages"]),
            )
        if kind == "hub" and self.offline and not hub_cached("datasets", spec["path"]):
            return f"hub data set {spec['path']} is not in the hub cache and the hub is offline"
        return None

    def located(self, entry: dict, kind: str) -> tuple[dict[str, Any], str, Path | None]:
        """A source as (what identifies it, the record's name for it, its file if it is a mirror's)."""
        spec = {k: v for k, v in entry[kind].items() if k not in ("fit", "note")}
        if kind == "mirror":
            folder = self.mirror or Path()
            hashes = [file_hash(folder / f) if (folder / f).is_file() else None for f in _files(spec)]
            if "files" in spec:
                return {**spec, "sha256": hashes}, f"mirror:{_together(_files(spec))}", folder
            return {**spec, "sha256": hashes[0]}, f"mirror:{spec['file']}", folder / spec["file"]
        if kind == "package":
            package = self.data.data["packages"].get(spec["package"], {})
            spec["sha256"] = package.get("sha256")
            return spec, f"package:{spec['package']}=={package.get('version')}", None
        return spec, f"hub:{spec['path']}" if kind == "hub" else kind, None

    def _fields(self, name: str, entry: dict, kind: str) -> dict[str, Any]:
        spec, label, file = self.located(entry, kind)
        content = {kind: spec}
        return {
            "id": identify(f"{name}-{kind}", content),
            "name": name,
            "role": entry["role"],
            "kind": kind,
            "label": label,
            "fit": entry[kind]["fit"],
            "note": entry[kind].get("note", ""),
            "content": content,
            "file": file,
        }

    def model(self, name: str, where: str) -> Model | None:
        """The model ``name`` of ``config/models.yaml``."""
        if name not in self.models.data:
            self.problems.add(where, f"unknown model '{name}'; {nearest(name, self.models.data)}")
            return None
        entry = self.models.data[name]
        ((kind, spec),) = entry["source"].items()
        content, label, missing = self._model_source(name, kind, spec)
        parallel = self.parallel(entry["parallel"], where) if "parallel" in entry else None
        if kind == "trained":
            if "parallel" not in entry:
                self.problems.add(
                    self.models.where(name, "source"), "trained on no parallel text; name it: parallel"
                )
            content = {**content, "context": entry["context"], "parallel": parallel and parallel.content}
        return Model(
            identify(name, {"source": content, "dtype": entry["dtype"]}),
            name,
            entry["title"],
            entry.get("note", ""),
            entry.get("published_as"),
            kind,
            label,
            entry["dtype"],
            entry["context"],
            entry.get("separator"),
            ModelFacts(**entry["facts"]),
            {"source": content, "dtype": entry["dtype"]},
            missing,
            entry.get("skip"),
            parallel,
        )

    def _model_source(self, name: str, kind: str, spec: Any) -> tuple[dict, str, str | None]:
        if kind == "gguf":
            package = self.data.data["packages"].get(spec["package"])
            if package is None:
                self.problems.add(
                    self.models.where(name, "source"),
                    f"unknown package '{spec['package']}'; "
                    + nearest(spec["package"], self.data.data["packages"]),
                )
                return {}, "", None
            return (
                {"gguf": {**spec, "sha256": package["sha256"]}},
                f"package:{spec['package']}=={package['version']}",
                None,
            )
        if kind == "folder":
            folder = ROOT / spec
            if not (folder / "config.json").is_file():
                return {"folder": {}}, f"folder:{folder.name}", f"{name}: {folder} has no config.json"
            return {"folder": folder_identity(folder)}, f"folder:{folder.name}", None
        if kind == "hub":
            return self._hub_model(name, spec)
        label = "trained here" if kind == "trained" else "made"
        return {kind: {**spec, "facts": self.models.data[name]["facts"]}}, label, None

    def _hub_model(self, name: str, spec: dict) -> tuple[dict, str, str | None]:
        folder = self.mirror / "models" / spec["id"].replace("/", "--") if self.mirror else None
        if folder is not None and (folder / "config.json").is_file():
            return {"folder": folder_identity(folder)}, f"mirror:models/{folder.name}", None
        missing = None
        if self.offline and not hub_cached("models", spec["id"]):
            tried = f"mirror folder models/{spec['id'].replace('/', '--')}" if self.mirror else "no mirror"
            missing = (
                f"{name}: hub model {spec['id']} is not in the hub cache and the hub is offline ({tried})"
            )
        return {"hub": spec}, f"hub:{spec['id']}", missing

    def model_folder(self, model: Model) -> Path | None:
        """Where a model that is already a folder lies: a `folder` source or a mirror's copy."""
        ((kind, spec),) = self.models.data[model.name]["source"].items()
        if kind == "folder":
            return ROOT / spec
        if model.label.startswith("mirror:") and self.mirror:
            return self.mirror / model.label.removeprefix("mirror:")
        return None


def _files(spec: dict[str, Any]) -> list[str]:
    """The files of a mirror's source."""
    return list(spec["files"].values()) if "files" in spec else [spec["file"]]


def _together(files: list[str]) -> str:
    """One name for files: how all of them begin, or each in turn."""
    start = os.path.commonprefix(files)
    return f"{start}*" if start and len(files) > 1 else ", ".join(files)


def hub_cached(kind: str, identifier: str) -> bool:
    """Whether the Hugging Face cache holds a snapshot; asks neither the network nor the hub library."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    root = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    return any((root / f"{kind}--{identifier.replace('/', '--')}" / "snapshots").glob("*/*"))


def folder_identity(folder: Path) -> dict[str, Any]:
    """Names, sizes and header hashes of a model folder: changes whenever its tensors' layout does."""
    files = sorted(folder.glob("*.safetensors"))
    return {file.name: [file.stat().st_size, _head_hash(file)] for file in files} | {
        "config": file_hash(folder / "config.json")
    }


def _head_hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.sha256(stream.read(1 << 20)).hexdigest()[:16]


def file_hash(file: Path) -> str:
    """The SHA-256 of a file, remembered while its size and time stay the same."""
    stat = file.stat()
    return _file_hash(file, stat.st_size, stat.st_mtime_ns)


@cache
def _file_hash(file: Path, size: int, modified: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
