"""Calibration as users write it in a scale or a paper: which text is drawn, and how much of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reprune.plan.identity import identify
from reprune.plan.inputs import Corpus, Inputs, Model
from reprune.plan.problems import Problems, nearest

SAMPLERS = {"document_crop": "windows", "rows": "rows"}
"""How text is drawn, each with the key that says how much: see :mod:`reprune.calibration.windows`."""

ROW_TOKENS = 60  # of WikiText-2 about 70, of Wikipedia articles about 50; for estimates only


@dataclass(frozen=True)
class Calibration:
    """Token windows of ``length`` tokens to draw from ``corpus`` with ``seed``.

    ``amount`` is how many windows, or of how many rows of text they are cut; ``sampler`` says which.
    """

    id: str
    corpus: Corpus
    model: Model
    amount: int
    length: int
    seed: int
    sampler: str

    @property
    def size(self) -> dict[str, int]:
        """How much is drawn, in the words of a paper: ``{"windows": 128}`` or ``{"rows": 512}``."""
        return {SAMPLERS[self.sampler]: self.amount}

    @property
    def tokens(self) -> int:
        """How many tokens are drawn, by rows roughly; for estimates only."""
        return self.amount * (ROW_TOKENS if self.sampler == "rows" else self.length)

    @property
    def text(self) -> str:
        """What is drawn, in a few words."""
        shape = f"{self.amount} rows in windows of" if self.sampler == "rows" else f"{self.amount} x"
        return f"{self.corpus.name} {shape} {self.length}, seed {self.seed}"


def overridden(calibration: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """A calibration with some keys of an entry's own; another sampler does not inherit an amount."""
    if _sampler({**calibration, **own}) != _sampler(calibration):
        calibration = {key: value for key, value in calibration.items() if key not in SAMPLERS.values()}
    return {**calibration, **own}


def calibration_fault(spec: dict[str, Any]) -> str | None:
    """What is wrong with a calibration that no schema sees; None if nothing is."""
    sampler = _sampler(spec)
    if sampler not in SAMPLERS:
        return f"unknown sampler '{sampler}'; {nearest(sampler, SAMPLERS)}"
    amount = SAMPLERS[sampler]
    foreign = {*SAMPLERS.values()} & {*spec} - {amount}
    if foreign:
        return f"the sampler '{sampler}' takes {amount}, not {foreign.pop()}"
    if not {"corpus", amount, "length"} <= {*spec}:
        return f"a calibration by '{sampler}' needs corpus, {amount} and length"
    return None


def _sampler(spec: dict[str, Any]) -> str:
    return spec.get("sampler", "document_crop")


def read_calibration(
    spec: dict[str, Any], model: Model, seed: int, inputs: Inputs, where: str, problems: Problems
) -> Calibration | None:
    """The calibration that ``spec`` asks for on ``model``, or None with every problem noted."""
    if wrong := calibration_fault(spec):
        problems.add(where, wrong)
        return None
    corpus = inputs.corpus(spec["corpus"], where)
    if corpus is None:
        return None
    if spec["length"] > model.context:
        problems.add(
            where,
            f"calibration windows of {spec['length']} tokens are longer than the context "
            f"of {model.name}, {model.context}",
        )
    sampler = _sampler(spec)
    key = SAMPLERS[sampler]
    amount, length = spec[key], spec["length"]
    content = {
        "corpus": corpus.content,
        "tokenizer": model.content["source"],
        key: amount,
        "length": length,
        "seed": seed,
        "sampler": sampler,
    }
    shape = f"{amount}rows-{length}" if sampler == "rows" else f"{amount}x{length}"
    return Calibration(
        identify(f"{corpus.name}-{shape}-s{seed}", content), corpus, model, amount, length, seed, sampler
    )
