"""YAML files that remember on which line each value stands, and their schemas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from reprune.plan.problems import Problems, display_path, nearest

SCHEMAS = Path(__file__).parents[2] / "workflow" / "schemas"


@dataclass(frozen=True)
class Source:
    """The content of a YAML file with the line of every value."""

    path: Path
    data: Any
    lines: dict[tuple, int]

    def where(self, *keys: Any) -> str:
        """``file:line`` of the value at ``keys``, or of its nearest ancestor that is in the file."""
        for end in range(len(keys), -1, -1):
            if keys[:end] in self.lines:
                return f"{display_path(self.path)}:{self.lines[keys[:end]]}"
        return display_path(self.path)


def read_source(path: Path, problems: Problems, schema: str | None = None) -> Source | None:
    """Read and validate a YAML file; None (with a problem noted) if it cannot be used at all."""
    lines: dict[tuple, int] = {}
    try:
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=_loader())
        data = _construct(node, (), lines, problems, path) if node is not None else {}
    except FileNotFoundError:
        problems.add(display_path(path), "file not found")
        return None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f":{mark.line + 1}" if mark else ""
        problems.add(display_path(path) + place, f"not YAML: {getattr(error, 'problem', error)}")
        return None
    source = Source(path, data, lines)
    return source if schema is None or validate(source, schema, problems) else None


def _loader() -> type:
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _construct(node: yaml.Node, keys: tuple, lines: dict, problems: Problems, path: Path) -> Any:
    lines.setdefault(keys, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        result = {}
        for key_node, value in node.value:
            key = _scalar(key_node)
            if key in result:
                problems.add(
                    f"{display_path(path)}:{key_node.start_mark.line + 1}", f"key '{key}' is written twice"
                )
            lines[(*keys, key)] = key_node.start_mark.line + 1
            result[key] = _construct(value, (*keys, key), lines, problems, path)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_construct(value, (*keys, i), lines, problems, path) for i, value in enumerate(node.value)]
    return _scalar(node)


_CONSTRUCTOR = yaml.SafeLoader("")


def _scalar(node: yaml.Node) -> Any:
    if not isinstance(node, yaml.ScalarNode):
        raise yaml.MarkedYAMLError(problem="a key must be a single word", problem_mark=node.start_mark)
    try:
        return _CONSTRUCTOR.construct_object(node)
    except ValueError as error:  # what looks like a date and is none
        raise yaml.MarkedYAMLError(
            problem=f"'{node.value}': {error}", problem_mark=node.start_mark
        ) from error


@cache
def _validator(schema: str) -> Any:
    import jsonschema

    content = yaml.load((SCHEMAS / f"{schema}.schema.yaml").read_text(encoding="utf-8"), Loader=_loader())
    return jsonschema.Draft202012Validator(content)


def validate(source: Source, schema: str, problems: Problems) -> bool:
    """Check a source against ``workflow/schemas/<schema>.schema.yaml``; every error with its line."""
    errors = list(_validator(schema).iter_errors(source.data))
    for error in (leaf for found in errors for leaf in _leaves(found)):
        keys = tuple(error.absolute_path)
        for where, message in _explain(source, keys, error):
            problems.add(where, message)
    return not errors


def _leaves(error: Any) -> Iterator[Any]:
    """What is wrong inside the alternative that a value was meant for; the error itself if it fits none."""
    inside = [e for e in error.context if e.validator not in ("type", "const") or e.path]
    for nested in inside:
        yield from _leaves(nested)
    if not inside:
        yield error


def _explain(source: Source, keys: tuple, error: Any) -> list[tuple[str, str]]:
    place = ".".join(map(str, keys)) or "top level"
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        unknown = [key for key in error.instance if key not in known]
        return [
            (source.where(*keys, key), f"unknown key '{key}' in {place}; {nearest(key, known)}")
            for key in unknown
        ]
    if error.validator == "enum":
        return [
            (
                source.where(*keys),
                f"{place} is {error.instance!r}; " + nearest(error.instance, error.validator_value),
            )
        ]
    expected = error.schema.get("description")
    hint = f" (expected: {expected})" if expected else ""
    return [(source.where(*keys), f"{place}: {error.message}{hint}")]
