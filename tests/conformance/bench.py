"""Compressing tiny models for the suite, each once, with an eye on how the method behaves."""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from translation_subject import FACTS, PAIRS, write_translator

from reprune.calibration.block import Block
from reprune.calibration.mixture import Mixture, draw_mixture, marked_tokenizer
from reprune.calibration.subject import Subject
from reprune.calibration.walk import Walk
from reprune.calibration.windows import draw_windows, tokenizer_function
from reprune.data.readers import made_documents
from reprune.method import BlockMethod, Method, ModelFacts, StructuralMethod, Unsupported
from reprune.models.checkpoint import load_model, save_model
from reprune.models.folder import ModelFolder, load_tokenizer
from reprune.plan.identity import stream_seed
from reprune.records.store import Store, sha256

from .cases import TRANSLATOR, Case

BATCH = 4
WINDOWS, LENGTH = 8, 32
SEED = 20_011  # one that no method sets


@dataclass
class Manners:
    """What a method did besides pruning."""

    kept_random_state: bool = True
    kept_inputs: bool = True
    printed: str = ""


@dataclass(frozen=True)
class Compressed:
    """A checkpoint and how the method behaved while it was made."""

    folder: ModelFolder
    manners: Manners = field(compare=False)
    model: Any = field(default=None, compare=False)  # what a structural method left, before it was saved
    notes: dict[str, Any] = field(default_factory=dict, compare=False)

    def tensors(self) -> dict[str, torch.Tensor]:
        return self.folder.read(sorted(self.folder.files))

    def hashes(self) -> dict[str, str]:
        """Every file's name and SHA-256."""
        return {file.name: sha256(file) for file in sorted(self.folder.path.iterdir())}


class Bench:
    """Tiny models, their calibration windows, and every compression, made when first asked for."""

    def __init__(self, root: Path, folder: Callable[[str], Path], entry: Callable[[str], dict]) -> None:
        self._root, self._folder, self._entry = root, folder, entry
        self._made: dict[tuple[Case, int], Compressed] = {}

    def dense(self, model: str) -> ModelFolder:
        """The model before any compression."""
        if model != TRANSLATOR:
            return ModelFolder(self._folder(model))
        place = self._root / TRANSLATOR
        if not place.exists():
            place.mkdir()
            write_translator(place)
        return ModelFolder(place)

    def facts(self, model: str) -> ModelFacts:
        if model == TRANSLATOR:
            return FACTS
        return ModelFacts(**self._entry(model)["facts"])

    def windows(self, model: str) -> torch.Tensor:
        """Calibration tokens of made text, (windows, length)."""
        tokenize = tokenizer_function(self.dense(model).path)
        return draw_windows(made_documents(12, 24, 11), tokenize, WINDOWS, LENGTH, 0)[0]

    def mixture(self, model: str) -> Mixture:
        """Windows of two made languages, one easy and one hard to predict."""
        words, parts = {"plain": 8, "rich": 2000}, {"train": 0, "held_out": 20}
        return draw_mixture(
            lambda domain, part: made_documents(12, 24, 15, words[domain], after=parts[part]),
            marked_tokenizer(self.dense(model).path, None),
            {"plain": 0.5, "rich": 0.5},
            {"train": WINDOWS, "held_out": 2},
            LENGTH,
        )[0]

    def refusal(self, case: Case) -> Unsupported | None:
        cls = case.method.cls
        return cls.supports(self.facts(case.model), case.target, case.settings)

    def compressed(self, case: Case, repeat: int = 0) -> Compressed:
        """The checkpoint of a case; ``repeat`` asks for another one, made from scratch.

        Skips the test with the method's reason if it refuses the case.
        """
        refusal = self.refusal(case)
        if refusal:
            pytest.skip(str(refusal))
        if (case, repeat) not in self._made:
            self._made[case, repeat] = self._compress(case, repeat)
        return self._made[case, repeat]

    def method(self, case: Case) -> Method:
        return case.method.cls(case.settings, case.target)

    def walk(self, case: Case, place: Path) -> Walk:
        return Walk(
            self.dense(case.model),
            Store(place),
            {"run": str(case), "code": "", "model": case.model},
            torch.float16,
            BATCH,
        )

    def first_block(self, case: Case) -> Block:
        """The dense first block with the inputs and the generator that the method gets."""
        walk = self.walk(case, self._root / "unused")
        block = next(walk.blocks())
        block.inputs, arguments = walk.skeleton.first_inputs(self.windows(case.model), BATCH)
        block.dense_inputs, block.arguments = block.inputs.clone(), arguments[0]
        return block

    def _compress(self, case: Case, repeat: int) -> Compressed:
        place = self._root / str(len(self._made))
        if issubclass(case.method.cls, StructuralMethod):
            return self._reshape(case, repeat, place)
        method, manners = self.method(case), Manners()
        walk = self.walk(case, place / "store")
        _disturb(SEED + repeat)
        if isinstance(method, BlockMethod):
            method.prune_block = watched(method.prune_block, manners)
            walk.prune_blocks(method, self.windows(case.model) if method.requires_calibration else None)
        else:
            watched(method.compress, manners)(walk)
        (place / "checkpoint").mkdir(parents=True)
        walk.write_checkpoint(place / "checkpoint")
        return Compressed(ModelFolder(place / "checkpoint"), manners)

    def _reshape(self, case: Case, repeat: int, place: Path) -> Compressed:
        """A structural method's checkpoint, in float32 so that nothing is rounded."""
        method, manners, dense = self.method(case), Manners(), self.dense(case.model)
        subject = Subject(
            load_model(dense.path),
            self.facts(case.model),
            None if case.model == TRANSLATOR else self.windows(case.model),
            torch.Generator().manual_seed(stream_seed(str(case))),
            Store(place / "store"),
            {"model": case.model},
            BATCH,
            mixture=self.mixture(case.model) if method.requires_mixture else None,
            **({"tokenizer": load_tokenizer(dense.path), "pairs": PAIRS} if case.model == TRANSLATOR else {}),
        )
        _disturb(SEED + repeat)
        watched(method.compress, manners)(subject)
        (place / "checkpoint").mkdir(parents=True)
        save_model(subject.model, dense, place / "checkpoint", torch.float32, subject.replaced)
        return Compressed(ModelFolder(place / "checkpoint"), manners, subject.model, subject.notes)


def watched(work: Callable[[Any], None], manners: Manners) -> Callable[[Any], None]:
    """``work`` on a block or a walk, with its behaviour noted in ``manners``."""

    def run(subject: Any) -> None:
        state = _random_state()
        inputs = [
            x
            for x in (getattr(subject, name, None) for name in ("inputs", "dense_inputs", "windows"))
            if x is not None
        ]
        before = [x.clone() for x in inputs]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            work(subject)
        manners.printed += printed.getvalue()
        manners.kept_random_state &= _random_state() == state
        manners.kept_inputs &= all(map(torch.equal, inputs, before))

    return run


def _random_state() -> tuple:
    """The global random state of torch, Python and numpy, comparable."""
    name, keys, *rest = np.random.get_state()
    return torch.get_rng_state().tolist(), random.getstate(), name, keys.tolist(), rest


def _disturb(seed: int) -> None:
    """Another global random state for each repetition: a method that depends on it gives itself away."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
