"""What models wrote, beside what they were given and what was expected: a few lines of every row."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from reprune.analysis.names import listed, task_title
from reprune.analysis.unit import Row, Unit

TITLE = "Examples"
SHOWN = 3  # texts of one source that stand open; the others are folded away
NOTHING = "–"


@dataclass(frozen=True)
class Example:
    """One source with its reference and what each row made of it, equal texts together."""

    model: str
    task: str
    item: int
    source: str
    reference: str
    written: dict[str, list[Row]]


def examples(unit: Unit) -> list[Example]:
    """The examples that runs of a unit noted, by model and task, in their order; of a row the first run's."""
    found: dict[tuple, Example] = {}
    for row in dict.fromkeys(row for name in unit.info["experiments"] for row in unit.rows(name)):
        for noted in unit.notes.get(row.runs[0].run_id, {}).get("examples", []):
            key = (row.model, noted["protocol"], noted["task"], noted["item"])
            fields = (row.model, noted["task"], noted["item"], noted["source"], noted["reference"], {})
            example = found.setdefault(key, Example(*fields))
            example.written.setdefault(noted["hypothesis"], []).append(row)
    return list(found.values())


def _named(rows: list[Row]) -> str:
    return listed(list(dict.fromkeys(row.name for row in rows)))


def _groups(unit: Unit) -> Iterator[tuple[str, list[Example]]]:
    """The examples of each model and task under their heading."""
    groups: dict[str, list[Example]] = {}
    for example in examples(unit):
        heading = f"{task_title(example.task)}, {unit.model_title(example.model)}"
        groups.setdefault(heading, []).append(example)
    yield from groups.items()


def examples_html(unit: Unit) -> str:
    """A section with a list of the examples; empty if there are none."""
    parts = []
    for heading, group in _groups(unit):
        items = "".join(f"<li>{_item(example)}</li>\n" for example in group)
        parts.append(f"<h4>{escape(heading)}</h4>\n<ol>\n{items}</ol>\n")
    return f'<section class="examples"><h3>{TITLE}</h3>\n{"".join(parts)}</section>' if parts else ""


def _item(example: Example) -> str:
    lines = [("source", example.source), ("reference", example.reference)]
    written = [(_named(rows), text) for text, rows in example.written.items()]
    folded = _pairs(written[SHOWN:])
    more = f"<details><summary>{len(written) - SHOWN} more</summary>{folded}</details>" if folded else ""
    return _pairs([*lines, *written[:SHOWN]]) + more


def _pairs(lines: list[tuple[str, str]]) -> str:
    told = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text) or NOTHING}</dd>" for name, text in lines)
    return f"<dl>{told}</dl>" if told else ""


def example_lines(unit: Unit, width: int) -> list[str]:
    """The same as text, each with its reference after = and what the first row wrote after >."""
    lines = []
    for heading, group in _groups(unit):
        first = next(iter(group[0].written.values()))[0]
        lines += ["", f"{TITLE}: {heading}, {first.name}"]
        for number, example in enumerate(group, 1):
            written = next(text for text, rows in example.written.items() if first in rows)
            for mark, text in ((f"{number:2d}", example.source), (" =", example.reference), (" >", written)):
                lines += textwrap.wrap(f"{mark} {text or NOTHING}", width, subsequent_indent="    ")
    return lines
