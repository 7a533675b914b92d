"""Mixtures as users write them in a scale or a paper: which domains of text, and how much of each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from reprune.plan.identity import identify
from reprune.plan.inputs import Corpus, Inputs, Model
from reprune.plan.problems import Problems, nearest
from reprune.plan.source import Source

PARTS = ("train", "held_out")


@dataclass(frozen=True)
class Domain:
    """One domain: the text to train on, the text to measure its loss on, its share of the paper's data."""

    name: str
    train: Corpus
    held_out: Corpus
    weight: float


@dataclass(frozen=True)
class MixtureSpec:
    """Windows of ``length`` tokens to draw from every domain, with the tokenizer of ``model``.

    A domain has at most ``windows`` to train on, None for all its text gives, and ``held_out`` others.
    ``content`` is its identity.
    """

    id: str
    name: str
    domains: tuple[Domain, ...]
    model: Model
    length: int
    windows: int | None
    held_out: int
    content: dict[str, Any]

    @property
    def corpora(self) -> list[Corpus]:
        """The texts of all domains, the training part of each before its held-out part."""
        return [corpus for domain in self.domains for corpus in (domain.train, domain.held_out)]

    @property
    def held_out_tokens(self) -> int:
        """How many tokens one measurement of all domains' losses reads at most; for estimates only."""
        return len(self.domains) * self.held_out * self.length

    @property
    def text(self) -> str:
        """What is drawn, in a few words."""
        amount = "all windows" if self.windows is None else f"{self.windows:,} windows"
        return f"{self.name} {len(self.domains)} domains, {amount} of {self.length} each"


def check_mixtures(data: Source, problems: Problems) -> None:
    """Note what is wrong with the mixtures of ``config/data.yaml`` that no schema sees."""
    corpora = data.data["corpora"]
    for name, mixture in data.data["mixtures"].items():
        at = ("mixtures", name, "domains")
        for domain, spec in mixture["domains"].items():
            for part in PARTS:
                if spec[part] not in corpora:
                    problems.add(
                        data.where(*at, domain, part),
                        f"unknown corpus '{spec[part]}'; {nearest(spec[part], corpora)}",
                    )
        shares = math.fsum(spec["weight"] for spec in mixture["domains"].values())
        if not math.isclose(shares, 1, abs_tol=1e-6):
            problems.add(data.where(*at), f"the weights of mixture '{name}' have the sum {shares:g}, not 1")


def find_mixture(
    named: str | dict[str, Any],
    values: dict[str, Any],
    model: Model,
    inputs: Inputs,
    where: str,
    problems: Problems,
) -> MixtureSpec | None:
    """The mixture that a paper names as ``$name`` of the scale's ``values`` or spells out, on ``model``.

    None with every problem noted.
    """
    if not isinstance(named, str):
        return read_mixture_spec(named, model, inputs, where, problems)
    known = {name: found for name, found in values.items() if name.endswith("mixture")}
    if named[1:] not in known:
        problems.add(
            where, f"mixture is '{named}', which the scale does not define; {nearest(named[1:], known)}"
        )
        return None
    return read_mixture_spec(known[named[1:]], model, inputs, where, problems)


def read_mixture_spec(
    spec: dict[str, Any], model: Model, inputs: Inputs, where: str, problems: Problems
) -> MixtureSpec | None:
    """The mixture that ``spec`` asks for with the tokenizer of ``model``; None with every problem noted."""
    known = inputs.data.data["mixtures"]
    name, length = spec["data"], spec["length"]
    if name not in known:
        problems.add(where, f"unknown mixture '{name}'; {nearest(name, known)}")
        return None
    domains = [_domain(domain, name, inputs, problems) for domain in known[name]["domains"]]
    if length > model.context:
        problems.add(
            where,
            f"windows of mixture '{name}' of {length} tokens are longer than the context "
            f"of {model.name}, {model.context}",
        )
    found = tuple(domain for domain in domains if domain)
    if len(found) < len(domains):
        return None
    content = {
        "domains": [[d.name, d.train.content, d.held_out.content, d.weight] for d in found],
        "tokenizer": model.content["source"],
        "separator": model.separator,
        **{key: spec[key] for key in ("windows", "length", "held_out")},
    }
    amount = "all" if spec["windows"] is None else spec["windows"]
    identity = identify(f"{name}-{amount}x{length}", content)
    return MixtureSpec(identity, name, found, model, length, spec["windows"], spec["held_out"], content)


def _domain(domain: str, mixture: str, inputs: Inputs, problems: Problems) -> Domain | None:
    entry = inputs.data.data["mixtures"][mixture]["domains"][domain]
    where = inputs.data.where("mixtures", mixture, "domains", domain)
    train, held_out = (inputs.corpus(entry[part], where) for part in PARTS)
    if train is None or held_out is None:
        return None
    if train.content == held_out.content:
        problems.add(
            where,
            f"domain '{domain}' is measured on the text it is trained on, {train.label}; "
            "give one of its corpora another `cut` or other rows",
        )
    return Domain(domain, train, held_out, entry["weight"])
