"""Targets and method settings as users write them, checked against what the method declares."""

from __future__ import annotations

import math
import types
import typing
from typing import Any

from reprune.discovery import MethodEntry
from reprune.method import Target, settings_of
from reprune.plan.problems import Problems, nearest


def read_target(spec: dict[str, Any], where: str, problems: Problems) -> Target | None:
    """A target from ``{sparsity: 0.5}`` or ``{pattern: "2:4"}``; None with a problem noted."""
    if "sparsity" in spec:
        value = spec["sparsity"]
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
            problems.add(
                where,
                f"sparsity is {value!r}; expected a number between 0 and 1, both excluded, "
                "such as 0.5 (for the unpruned model use the method 'dense')",
            )
            return None
        return Target.unstructured(float(value))
    n, _, m = str(spec["pattern"]).partition(":")
    if not (n.isdigit() and m.isdigit() and 0 < int(n) < int(m)):
        problems.add(where, f'pattern is {spec["pattern"]!r}; expected n:m with 0 < n < m, such as "2:4"')
        return None
    return Target.n_of_m(int(n), int(m))


def read_settings(entry: MethodEntry, given: dict[str, Any], where: str, problems: Problems) -> Any | None:
    """An instance of the method's settings, or None with every wrong value noted."""
    declared = settings_of(entry.cls)
    types_of = typing.get_type_hints(entry.cls.Settings)
    good = True
    for name, value in given.items():
        if name not in declared:
            problems.add(
                where,
                f"method '{entry.id}' has no setting '{name}'; {nearest(name, declared)}"
                if declared
                else f"method '{entry.id}' has no settings, found '{name}'",
            )
            good = False
            continue
        complaint = _complaint(value, types_of[name], declared[name].metadata)
        if complaint:
            problems.add(where, f"setting '{name}' of '{entry.id}' is {value!r}; expected {complaint}")
            good = False
    if not good:
        return None
    return entry.cls.Settings(**{k: _convert(v, types_of[k]) for k, v in given.items()})


def _convert(value: Any, kind: Any) -> Any:
    return float(value) if kind is float and isinstance(value, int) and not isinstance(value, bool) else value


def _complaint(value: Any, kind: Any, rules: Any) -> str | None:
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
