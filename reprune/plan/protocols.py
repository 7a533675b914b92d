"""Protocols with a scale's sizes put in: what a suite measures, to the last setting."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reprune.plan.identity import digest
from reprune.plan.inputs import Corpus, Inputs, Instructions, Model, Parallel
from reprune.plan.problems import Problems, nearest
from reprune.plan.recovery import held_out
from reprune.plan.source import Source
from reprune.plan.tasks import TaskData, Tasks

DOWNSTREAM = "downstream"
EFFICIENCY = "efficiency"
RESPONSE = "response"
TRANSLATION = "translation"
HEAD_ROLES = "head_roles"
FOR_TRANSLATORS = (TRANSLATION, HEAD_ROLES)
"""Suites that measure translation models; all others measure language models."""
ANSWERS = "answers"
TEXT_SIZES = ("window", "windows")
SIZES = {  # what a scale may change of a suite's protocols
    "perplexity": TEXT_SIZES,
    "block_error": TEXT_SIZES,
    DOWNSTREAM: ("limit", "skip"),
    EFFICIENCY: ("repeats", "divide"),
    RESPONSE: ("length", "limit"),
    TRANSLATION: ("limit",),
    HEAD_ROLES: ("limit",),
    ANSWERS: ("new_tokens", "limit"),
}
ITEM_TOKENS = 90  # a question with its choices, or an example in a prompt: for estimates only
SENTENCE_TOKENS = 24  # of a sentence with its translation on each side: for estimates only
USUAL_PAIRS = 2000  # of a test set whose size the plan does not know
STEP_TOKENS = 32  # tokens that are read in the time of a step of generation, which reads all weights for few
ANSWERED_AT_ONCE = 8  # rows of such a step: for estimates only


@dataclass(frozen=True)
class Suite:
    """One protocol on one model: its resolved content and the inputs it reads, by task name.

    ``corpora`` are the ids of texts, ``data`` the task data of a downstream suite, ``instructions`` those of
    which a response suite scores the answers, or to which an answers suite has the model answer, ``parallel``
    the text of which a translation suite translates a part, or a suite of head roles reads the sources with
    one of the ``parsers``.
    """

    protocol: str
    name: str
    suite: str
    content: dict[str, Any]
    corpora: dict[str, str] = field(default_factory=dict)
    data: dict[str, TaskData] = field(default_factory=dict)
    instructions: dict[str, Instructions] = field(default_factory=dict)
    parallel: dict[str, Parallel] = field(default_factory=dict)
    parsers: dict[str, Corpus] = field(default_factory=dict)

    @property
    def tokens(self) -> int:
        """How many tokens it computes in all, roughly; for estimates only."""
        if self.suite == EFFICIENCY:
            return 2 * self.content["repeats"] * sum(map(_timed_tokens, self.content["tasks"].values()))
        if self.suite == RESPONSE:
            return sum(spec["rows"] for spec in self.content["tasks"].values()) * self.content["length"]
        if self.suite in FOR_TRANSLATORS:
            sentences = sum(self._pairs(task) for task in self.content["tasks"])
            return sentences * SENTENCE_TOKENS * (1 + self.content.get("beams", 0))
        if self.suite == ANSWERS:
            answer = self.content["new_tokens"] * STEP_TOKENS // ANSWERED_AT_ONCE
            return sum(spec["rows"] for spec in self.content["tasks"].values()) * (ITEM_TOKENS + answer)
        if self.suite != DOWNSTREAM:
            return (self.content["windows"] or 256) * self.content["window"] * len(self.content["tasks"])
        return sum(
            _items(self.data[task], self.content["limit"]) * ITEM_TOKENS * (1 + spec["shots"])
            for task, spec in self.content["tasks"].items()
        )

    def _pairs(self, task: str) -> int:
        spec, pairs = self.content["tasks"][task], self.parallel[task].pairs or {}
        parts = spec["parts"] if "parts" in spec else [spec["part"]]
        known = sum(pairs.get(part, USUAL_PAIRS) for part in parts)
        return min(known, self.content["limit"] or known)

    @property
    def longest(self) -> int:
        """Tokens whose logits are held at once; for estimates only."""
        return self.content.get("window", 512)


def _timed_tokens(spec: dict[str, Any]) -> int:
    if spec["kind"] == "generate":
        return spec["new_tokens"] * max(STEP_TOKENS, spec["batch"])
    return spec.get("batch", 1) * spec["length"]


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

    def resolve(self, name: str, tasks: list[str] | None, model: Model, where: str) -> Suite | None:
        """The suite for protocol ``name``, restricted to ``tasks``, on a model."""
        if name not in self.sources:
            self.problems.add(where, f"unknown protocol '{name}'; {nearest(name, self.sources)}")
            return None
        source = self.sources[name].data
        known = source["tasks"] if "tasks" in source else source["corpora"]
        unknown = [t for t in tasks or [] if t not in known]
        for task in unknown:
            self.problems.add(where, f"protocol '{name}' has no task '{task}'; {nearest(task, known)}")
        if unknown:
            return None
        translates = source["suite"] in FOR_TRANSLATORS
        if translates != (model.parallel is not None):
            kind = "translation" if translates else "language"
            self.problems.add(where, f"protocol '{name}' measures {kind} models, '{model.name}' is none")
            return None
        context = model.context
        changed = {k: v for k, v in self.sizes.get(name, {}).items() if v != source.get(k)}
        if source["suite"] == DOWNSTREAM:
            return self._downstream(source, changed, tasks or list(known))
        if source["suite"] == EFFICIENCY:
            return self._efficiency(source, changed, tasks or list(known), context)
        if source["suite"] == RESPONSE:
            return self._response(source, changed, tasks or list(known), context)
        if source["suite"] == TRANSLATION:
            return self._translation(source, changed, tasks or list(known), model)
        if source["suite"] == HEAD_ROLES:
            return self._head_roles(source, changed, tasks or list(known), model)
        if source["suite"] == ANSWERS:
            return self._answers(source, changed, tasks or list(known), context)
        return self._text(source, changed, tasks or list(known), context)

    def _text(self, source: dict, changed: dict, tasks: list[str], context: int) -> Suite:
        sizes = {key: changed.get(key, source[key]) for key in TEXT_SIZES}
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
        kept |= {"taken": source["taken"]} if "taken" in source else {}
        return _suite(source, changed, {**kept, **sizes, "tasks": content}, corpora=corpora)

    def _downstream(self, source: dict, changed: dict, tasks: list[str]) -> Suite:
        skip = changed.pop("skip", None)
        data, content, unavailable = {}, {}, dict.fromkeys(tasks, skip) if skip else {}
        for task in tasks if not skip else ():
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
                **({"skip": skip} if skip else {}),
            },
            data=data,
        )

    def _efficiency(self, source: dict, changed: dict, tasks: list[str], context: int) -> Suite:
        content = {task: _divided(source["tasks"][task], changed.get("divide", {})) for task in tasks}
        for task, spec in content.items():
            needed = spec["prompt"] + spec["new_tokens"] if spec["kind"] == "generate" else spec["length"]
            if needed > context:
                self.problems.add(
                    self._where(source, "tasks", task),
                    f"task '{task}' takes {needed} tokens, the model's context is {context}",
                )
        kept = {key: source[key] for key in ("name", "version", "suite")}
        repeats = changed.get("repeats", source["repeats"])
        return _suite(source, changed, {**kept, "repeats": repeats, "tasks": content})

    def _response(self, source: dict, changed: dict, tasks: list[str], context: int) -> Suite:
        sizes = {key: changed.get(key, source[key]) for key in SIZES[RESPONSE]}
        if sizes["length"] > context:
            changed["length"] = sizes["length"] = context
        found, content = self._held_out(source, tasks, sizes["limit"])
        kept = {key: source[key] for key in ("name", "version", "suite", "unit")}
        return _suite(
            source, changed, {**kept, "length": sizes["length"], "tasks": content}, instructions=found
        )

    def _answers(self, source: dict, changed: dict, tasks: list[str], context: int) -> Suite:
        sizes = {key: changed.get(key, source[key]) for key in SIZES[ANSWERS]}
        if sizes["new_tokens"] >= context:
            self.problems.add(
                self._where(source, "new_tokens"),
                f"answers of {sizes['new_tokens']} tokens leave no room for a prompt, the model's context is "
                f"{context}",
            )
        found, content = self._held_out(source, tasks, sizes["limit"])
        kept = {key: source[key] for key in ("name", "version", "suite", "prompt")}
        return _suite(
            source,
            changed,
            {**kept, "new_tokens": sizes["new_tokens"], "tasks": content},
            instructions=found,
        )

    def _held_out(
        self, source: dict, tasks: list[str], limit: int
    ) -> tuple[dict[str, Instructions], dict[str, dict[str, Any]]]:
        """The instruction data of tasks, and which they are with how many rows are kept from training."""
        found, content = {}, {}
        for task in tasks:
            name = source["tasks"][task]["corpus"]
            rows = self.inputs.instructions(name, self._where(source, "tasks", task))
            if rows is not None:
                found[task] = rows
                content[task] = {"corpus": rows.id, "rows": held_out(limit, rows.rows)}
        return found, content

    def _translation(self, source: dict, changed: dict, tasks: list[str], model: Model) -> Suite:
        """What is translated is a part of the model's own text, or of another of its languages."""
        limit, longest = changed.get("limit", source["limit"]), source["longest"]
        if longest > model.context:
            changed["longest"] = longest = model.context
        found, content = {}, {}
        for task in tasks:
            spec, where = source["tasks"][task], self._where(source, "tasks", task)
            text = self.inputs.parallel(spec["parallel"], where) if "parallel" in spec else model.parallel
            if text is None:
                continue
            if text.languages != model.parallel.languages:
                self.problems.add(
                    where,
                    f"'{text.name}' is {' to '.join(text.languages)}, model '{model.name}' translates "
                    + " to ".join(model.parallel.languages),
                )
            found[task] = text
            content[task] = {"corpus": text.id, "part": spec["part"]}
        settings = ("name", "version", "suite", "beams", "length_penalty", "tokenize")
        kept = {key: source[key] for key in settings}
        changed["texts"] = {task: text.id for task, text in found.items()}  # a protocol of their own for each
        return _suite(
            source, changed, {**kept, "longest": longest, "limit": limit, "tasks": content}, parallel=found
        )

    def _head_roles(self, source: dict, changed: dict, tasks: list[str], model: Model) -> Suite:
        """What is read are sources of the model's own text, by a parser of their language."""
        parsers, content = {}, {}
        for task in tasks:
            spec = source["tasks"][task]
            language, where = model.parallel.languages[0], self._where(source, "tasks", task)
            parser = self.inputs.parser(spec["parser"], language, where)
            if parser is not None:
                parsers[task] = parser
                content[task] = {"corpus": model.parallel.id, "parts": spec["parts"], "parser": parser.id}
        kept = {key: source[key] for key in source if key not in ("title", "source", "limit", "tasks")}
        content = {**kept, "limit": changed.get("limit", source["limit"]), "tasks": content}
        changed["texts"] = model.parallel.id  # a protocol of their own for each
        parallel = dict.fromkeys(tasks, model.parallel)
        return _suite(source, changed, content, parallel=parallel, parsers=parsers)

    def _where(self, source: dict, *keys: str) -> str:
        return self.sources[source["name"]].where(*keys)


def _divided(spec: dict[str, Any], divide: dict[str, int]) -> dict[str, Any]:
    """A timed task with its sizes divided; what is counted is counted at full size."""
    if spec["kind"] == "size":
        return spec
    return {key: max(1, value // divide[key]) if key in divide else value for key, value in spec.items()}


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
        {**first.instructions, **second.instructions},
        {**first.parallel, **second.parallel},
        {**first.parsers, **second.parsers},
    )
