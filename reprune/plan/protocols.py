"""Protocols with a scale's sizes put in: what a suite measures, to the last setting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reprune.plan.identity import digest
from reprune.plan.inputs import Inputs
from reprune.plan.problems import Problems, nearest
from reprune.plan.source import Source

SIZES = ("window", "windows")


@dataclass(frozen=True)
class Suite:
    """One protocol on one model: its resolved content and the corpora it reads by task name."""

    protocol: str
    name: str
    suite: str
    content: dict[str, Any]
    corpora: dict[str, str]

    @property
    def tokens(self) -> int:
        """How many tokens it scores per task at most; for estimates only."""
        return (self.content["windows"] or 256) * self.content["window"]


@dataclass
class Protocols:
    """The protocols of ``config/protocols`` as one scale uses them."""

    sources: dict[str, Source]
    sizes: dict[str, dict[str, Any]]
    inputs: Inputs
    problems: Problems

    def resolve(self, name: str, tasks: list[str] | None, context: int, where: str) -> Suite | None:
        """The suite for protocol ``name``, restricted to ``tasks``, on a model of ``context`` tokens."""
        if name not in self.sources:
            self.problems.add(where, f"unknown protocol '{name}'; {nearest(name, self.sources)}")
            return None
        source = self.sources[name].data
        unknown = [t for t in tasks or [] if t not in source["corpora"]]
        for task in unknown:
            self.problems.add(
                where, f"protocol '{name}' has no task '{task}'; {nearest(task, source['corpora'])}"
            )
        if unknown:
            return None
        changed = {k: v for k, v in self.sizes.get(name, {}).items() if v != source[k]}
        sizes = {key: changed.get(key, source[key]) for key in SIZES}
        if sizes["window"] == "context" or sizes["window"] > context:
            changed["window"] = sizes["window"] = context
        suffix = "+" + digest(changed, 6) if changed else ""
        return Suite(
            f"{name}@{source['version']}{suffix}", name, source["suite"], *self._content(source, sizes, tasks)
        )

    def _content(self, source: dict, sizes: dict, tasks: list[str] | None) -> tuple[dict, dict[str, str]]:
        corpora, content = {}, {}
        for task in tasks or source["corpora"]:
            spec = source["corpora"][task]
            corpus = self.inputs.corpus(spec["corpus"], self.sources[source["name"]].where("corpora", task))
            if corpus is not None:
                corpora[task] = corpus.id
                content[task] = {**spec, "corpus": corpus.id}
        kept = {key: source[key] for key in ("name", "version", "suite", "unit", "special_tokens")}
        return {**kept, **sizes, "tasks": content}, corpora
