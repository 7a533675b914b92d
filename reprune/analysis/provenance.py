"""Which text a task was measured on, and how close it is to the paper's."""

from __future__ import annotations

from typing import Any

from reprune.analysis.unit import Unit

FITS = {
    "equal": "the paper's data",
    "sample": "a sample of the paper's data",
    "other split": "another split of the paper's data",
    "stand-in": "stand-in: other data of the same kind",
}


def fit(source: dict[str, Any]) -> str:
    return FITS.get(source["fit"], source["fit"])


def protocols_called(unit: Unit, name: str) -> dict[str, dict[str, Any]]:
    """The unit's protocols of that name by full identity."""
    return {
        identity: content
        for identity, content in unit.info["protocols"].items()
        if identity.split("@")[0] == name
    }


def settings_of(content: dict[str, Any]) -> str:
    """The plain settings of a protocol in one line: ``unit token, window 512, windows 12``."""
    return ", ".join(
        f"{key.replace('_', ' ')} {value}"
        for key, value in content.items()
        if key not in ("name", "suite", "title", "version", "skip") and isinstance(value, (str, int, float))
    )


def averaged(unit: Unit, protocol: str) -> list[str]:
    """The tasks that a protocol's average is over; empty where it has none, or runs have different ones."""
    declared = [
        content["average"] for content in protocols_called(unit, protocol).values() if content.get("average")
    ]
    return declared[0] if declared and all(tasks == declared[0] for tasks in declared) else []


def scoring(unit: Unit, protocol: str, task: str) -> dict[str, Any]:
    """The protocol's entry for a task: its ``metric``, ``shots`` and more; empty if it has none."""
    entries = [content.get("tasks", {}) for content in protocols_called(unit, protocol).values()]
    return next((tasks[task] for tasks in entries if task in tasks), {})


def sources_of(unit: Unit, protocol: str, task: str) -> list[dict[str, Any]]:
    """The sources of a task: that of the corpus its protocol names, or those that bear the task's name.

    The first is that of what is scored; a second one is that of the examples in prompts.
    """
    names = {task}
    for content in protocols_called(unit, protocol).values():
        names.add(str(content.get("tasks", {}).get(task, {}).get("corpus")))
    return [
        source for source in unit.info["sources"] if any(is_corpus(name, source["name"]) for name in names)
    ]


def is_corpus(identity: str, name: str) -> bool:
    """Whether a corpus' identity, its name with or without a hash behind it, is that of ``name``."""
    return identity == name or identity.startswith(name + "-")
