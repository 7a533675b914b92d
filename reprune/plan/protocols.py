"""Protocols with a scale's sizes put in: what a suite measures, to the last setting."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reprune.plan.identity import digest
from reprune.plan.inputs import Inputs
from reprune.plan.problems import Problems, nearest
from reprune.plan.source import Source
from reprune.plan.tasks import TaskData, Tasks

DOWNSTREAM = "downstream"
SIZES = {False: ("window", "windows"), True: ("limit",)}  # what a scale may change, by whether downstream
ITEM_TOKENS = 90  # a question with its choices, or an example in a prompt: for estimates only


@dataclass(frozen=True)
class Suite:
    """One protocol on one model: its resolved content and the inputs it reads, by task name.

    ``corpora`` are the ids of texts, ``data`` the task data of a downstream suite.
    """

    protocol: str
    name: str
    suite: str
    content: dict[str, Any]
    corpora: dict[str, str] = field(default_factory=dict)
    data: dict[str, TaskData] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """How many tokens it computes in all, roughly; for estimates only."""
        if self.suite != DOWNSTREAM:
            return (self.content["windows"] or 256) * self.content["window"] * len(self.content["tasks"])
        return sum(
            _items(self.data[task], self.content["limit"]) * ITEM_TOKENS * (1 + spec["shots"])
            for task, spec in self.content["tasks"].items()
        )

    @property
    def longest(self) -> int:
        """Tokens whose logits are held at once; for estimates only."""
        return self.content.get("window", 512)


def _items(data: TaskData, limit: int | None) -> int:
    parts = len(data.entry.get("parts", [None]))
    return data.rows if limit is None else min(data.rows, limit * parts)


@dataclass
class Protocols:
    """The protocols of ``config/protocols`` as one scale uses them."""

    sources: dict[str, Source]
    sizes: dict[str, dict[str, Any]]
    inputs: Inputs
    tasks: Tasks
    problems: Problems

    def resolve(self, name: str, tasks: list[str] | None, context: int, where: str) -> Suite | None:
        """The suite for protocol ``name``, restricted to ``tasks``, on a model of ``context`` tokens."""
        if name not in self.sources:
            self.problems.add(where, f"unknown protocol '{name}'; {nearest(name, self.sources)}")
            return None
        source = self.sources[name].data
        known = source["tasks"] if source["suite"] == DOWNSTREAM else source["corpora"]
        unknown = [t for t in tasks or [] if t not in known]
        for task in unknown:
            self.problems.add(where, f"protocol '{name}' has no task '{task}'; {nearest(task, known)}")
        if unknown:
            return None
        changed = {k: v for k, v in self.sizes.get(name, {}).items() if v != source.get(k)}
        if source["suite"] == DOWNSTREAM:
            return self._downstream(source, changed, tasks or list(known))
        return self._text(source, changed, tasks or list(known), context)

    def _text(self, source: dict, changed: dict, tasks: list[str], context: int) -> Suite:
        sizes = {key: changed.get(key, source[key]) for key in SIZES[False]}
        if sizes["window"] == "context" or sizes["window"] > context:
            changed["window"] = sizes["window"] = context
        corpora, content = {}, {}
        for task in tasks:
            spec = source["corpora"][task]
            corpus = self.inputs.corpus(spec["corpus"], self._where(source, "corpora", task))
            if corpus is not None:
                corpora[task] = corpus.id
                content[task] = {**spec, "corpus": corpus.id}
        kept = {key: source[key] for key in ("name", "version", "suite", "unit", "special_tokens")}
        return _suite(source, changed, {**kept, **sizes, "tasks": content}, corpora=corpora)

    def _downstream(self, source: dict, changed: dict, tasks: list[str]) -> Suite:
        data, content, unavailable = {}, {}, {}
        for task in tasks:
            spec = source["tasks"][task]
            found = self.tasks.resolve(task, spec["shots"], self._where(source, "tasks", task))
            if found is None:
                continue
            if found.missing:
                unavailable[task] = found.missing
            else:
                data[task] = found
                content[task] = {**spec, "data": found.id}
        averaged = source.get("average")
        kept = ("name", "version", "suite", "special_tokens", "chat_template", "seed")
        return _suite(
            source,
            changed,
            {
                **{key: source[key] for key in kept},
                "limit": changed.get("limit", source["limit"]),
                "tasks": content,
                "unavailable": unavailable,
                "average": averaged if averaged and set(averaged) <= set(tasks) else None,
            },
            data=data,
        )

    def _where(self, source: dict, *keys: str) -> str:
        return self.sources[source["name"]].where(*keys)


def _suite(source: dict, changed: dict, content: dict, **inputs: Any) -> Suite:
    suffix = "+" + digest(changed, 6) if changed else ""
    return Suite(
        f"{source['name']}@{source['version']}{suffix}", source["name"], source["suite"], content, **inputs
    )


def joined(first: Suite, second: Suite) -> Suite:
    """One suite with the tasks of both."""
    content = dict(first.content)
    for key in ("tasks", "unavailable"):
        if key in content:
            content[key] = {**first.content[key], **second.content[key]}
    if "average" in content:
        content["average"] = first.content["average"] or second.content["average"]
    return Suite(
        first.protocol,
        first.name,
        first.suite,
        content,
        {**first.corpora, **second.corpora},
        {**first.data, **second.data},
    )
