"""Targets and method settings as users write them, checked against what the method declares."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from typing import Any

from reprune.discovery import MethodEntry
from reprune.method import HEADS, Target
from reprune.plan.problems import Problems, nearest


def read_target(spec: dict[str, Any], where: str, problems: Problems) -> Target | None:
    """A target from ``{sparsity: 0.5}``, ``{pattern: "2:4"}``, ``{parameters: 0.2}`` or ``{heads: 10}``.

    ``{heads: learned}`` leaves it to the method how many stay.

    None with a problem noted if it is none of them.
    """
    for share, make in (("sparsity", Target.unstructured), ("parameters", Target.parameters)):
        if share not in spec:
            continue
        value = spec[share]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
            problems.add(
                where,
                f"{share} is {value!r}; expected a number between 0 and 1, both excluded, "
                "such as 0.5 (for the unpruned model use the method 'dense')",
            )
            return None
        return make(float(value))
    if HEADS in spec:
        return _heads(spec[HEADS], where, problems)
    n, _, m = str(spec["pattern"]).partition(":")
    if not (n.isdigit() and m.isdigit() and 0 < int(n) < int(m)):
        problems.add(where, f'pattern is {spec["pattern"]!r}; expected n:m with 0 < n < m, such as "2:4"')
        return None
    return Target.n_of_m(int(n), int(m))


def _heads(value: Any, where: str, problems: Problems) -> Target | None:
    if value == "learned":
        return Target.of_heads(0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        problems.add(where, f"heads is {value!r}; expected how many are to stay, such as 10, or 'learned'")
        return None
    return Target.of_heads(value)


def read_settings(entry: MethodEntry, given: dict[str, Any], where: str, problems: Problems) -> Any | None:
    """An instance of the method's settings, or None with every wrong value noted."""
    return read_fields(entry.cls.Settings, given, f"method '{entry.id}'", where, problems)


def read_fields(cls: type, given: dict[str, Any], whose: str, where: str, problems: Problems) -> Any | None:
    """An instance of ``cls``, a dataclass whose fields are made by :func:`reprune.method.setting`.

    None with every wrong value noted; ``whose`` names in messages what has these settings.
    """
    declared = {field.name: field for field in dataclasses.fields(cls)}
    types_of = typing.get_type_hints(cls)
    good = True
    for name, value in given.items():
        if name not in declared:
            what = f"setting '{name}'; {nearest(name, declared)}" if declared else f"settings, found '{name}'"
            problems.add(where, f"{whose} has no {what}")
            good = False
            continue
        complaint = _complaint(value, types_of[name], declared[name].metadata)
        if complaint:
            owner = whose.removeprefix("method ")
            problems.add(where, f"setting '{name}' of {owner} is {value!r}; expected {complaint}")
            good = False
    return cls(**{k: _convert(v, types_of[k]) for k, v in given.items()}) if good else None


def _convert(value: Any, kind: Any) -> Any:
    if typing.get_origin(kind) is tuple:
        return tuple(value)
    return float(value) if kind is float and isinstance(value, int) and not isinstance(value, bool) else value


def _complaint(value: Any, kind: Any, rules: Any) -> str | None:
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        if not isinstance(value, (list, tuple)) or not value:
            return f"a list of values of type {inner.__name__}"
        return next(filter(None, (_complaint(item, inner, rules) for item in value)), None)
    allowed = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    if float in allowed:
        allowed += (int,)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        return f"a value of type {getattr(kind, '__name__', kind)}"
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    if rules.get("choices") and value not in rules["choices"]:
        return nearest(value, map(str, rules["choices"]))
    low, high = rules.get("minimum"), rules.get("maximum")
    if value is not None and ((low is not None and value < low) or (high is not None and value > high)):
        return f"a number from {low if low is not None else '…'} to {high if high is not None else '…'}"
    return None
