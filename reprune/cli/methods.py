"""`reprune methods`: every method, or the settings of one."""

from __future__ import annotations

import dataclasses
import inspect
import textwrap
import typing

from reprune.cli.text import Refused, columns, plan_of
from reprune.discovery import MethodEntry
from reprune.method import BlockMethod, settings_of
from reprune.plan.problems import display_path, nearest


def overview_lines() -> list[str]:
    """One line for each method: targets, calibration, what it does."""
    rows = [
        (
            entry.id,
            ", ".join(entry.cls.kinds),
            "yes" if entry.cls.requires_calibration else "no",
            description(entry),
        )
        for _, entry in sorted(plan_of().methods.items())
    ]
    return columns([("method", "targets", "calibration", "what it does"), *rows])


def method_lines(name: str) -> list[str]:
    """What a method is, and each setting with type, default, legal values and help.

    Raises :class:`Refused` for an unknown name.
    """
    methods = plan_of().methods
    if name not in methods:
        raise Refused(f"unknown method '{name}'; {nearest(name, methods)}")
    entry = methods[name]
    shape = "one block at a time" if issubclass(entry.cls, BlockMethod) else "the whole model"
    reads = "reads calibration windows" if entry.cls.requires_calibration else "reads no data"
    return [
        f"{entry.id}: {description(entry)}",
        f"targets {', '.join(entry.cls.kinds)}; {reads}; handed {shape}; {display_path(entry.file)}",
        "",
        *_settings(entry),
    ]


def description(entry: MethodEntry) -> str:
    """The first line of the class's docstring."""
    return (inspect.getdoc(entry.cls) or "").partition("\n")[0]


def _settings(entry: MethodEntry) -> list[str]:
    types = typing.get_type_hints(entry.cls.Settings)
    heads = columns(
        [
            (name, f"{_type(types[name])} = {field.default}", _legal(field))
            for name, field in settings_of(entry.cls).items()
        ]
        or [("no settings",)]
    )
    helps = [field.metadata.get("help", "") for field in settings_of(entry.cls).values()]
    lines = []
    for head, text in zip(heads, helps or [""], strict=True):
        lines += [head, *textwrap.wrap(text, 96, initial_indent="    ", subsequent_indent="    ")]
    return lines


def _type(kind: object) -> str:
    return getattr(kind, "__name__", str(kind))


def _legal(field: dataclasses.Field) -> str:
    """The values a setting takes: its choices, or its bounds."""
    rules = field.metadata
    if rules.get("choices"):
        return " | ".join(map(str, rules["choices"]))
    low, high = rules.get("minimum"), rules.get("maximum")
    if low is not None and high is not None:
        return f"{low} to {high}"
    return f"at least {low}" if low is not None else f"at most {high}" if high is not None else ""
