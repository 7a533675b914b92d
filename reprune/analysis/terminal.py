"""Tables and verdicts as plain text, for the end of a run."""

from __future__ import annotations

import textwrap
from typing import Any, NamedTuple, TextIO

from reprune.analysis.claims import check_claims
from reprune.analysis.differences import difference_notes, differences, has_differences
from reprune.analysis.differences_markup import text_lines
from reprune.analysis.examples import example_lines
from reprune.analysis.markup import OTHER, cell_text, groups
from reprune.analysis.table import Line, Table, build_table
from reprune.analysis.unit import Unit

WIDTH, GAP = 100, "   "
COLOURS = {"holds": "32", "fails": "31", "undecided": "33"}
SIGNS = {"holds": "+", "fails": "-", "undecided": "?"}


def print_tables(units: list[Unit], stream: TextIO) -> None:
    """Every table and every verdict of ``units`` within 100 columns; coloured only on a terminal."""
    colour = stream.isatty()
    for unit in units:
        stream.write(_bold(f"\n{unit.info['title']}", colour) + f"  ({unit.info['scale']})\n")
        for spec in unit.declared("tables"):
            lines = table_lines(build_table(unit, spec))
            if has_differences(spec):
                lines += difference_lines(unit, spec)
            stream.write("\n" + "\n".join(lines) + "\n")
        stream.write("".join(f"{line}\n" for line in example_lines(unit, WIDTH)))
        stream.write("\n")
        for claim in check_claims(unit):
            stream.write(_verdict_line(claim["verdict"], claim["statement"], colour))


def difference_lines(unit: Unit, spec: dict[str, Any]) -> list[str]:
    """Below a table of accuracies, which of its differences are real."""
    found = differences(unit, spec)
    if not found.pairs:
        return []
    more = f"Every task of a pair: reprune show {unit.name} LEFT RIGHT"
    return [*text_lines(unit, found), *_wrapped([*difference_notes(found), more])]


def table_lines(table: Table) -> list[str]:
    """The table in lines of at most 100 characters.

    Measured columns that do not fit go on below, and all of a table of counts; others are named there.
    """
    heads = [
        [head, *(textwrap.shorten(line.heads[i], 28, placeholder="…") for line in table.lines)]
        for i, head in enumerate(table.heads)
    ]
    columns = [
        [column.title + " ", *(_cell(line, i) for line in table.lines)]
        for i, column in enumerate(table.columns)
    ]
    left = [
        "  ".join(text.ljust(max(map(len, head))) for text, head in zip(row, heads, strict=True))
        for row in zip(*heads, strict=True)
    ]
    panels, hidden = _panels(WIDTH - len(left[0]), _blocks(table, columns, WIDTH - len(left[0])))
    bodies = [
        [
            GAP.join([text, *(block.lines[i] for block in panel)]).rstrip()
            for i, text in enumerate([" " * len(left[0]), *left])
        ]
        for panel in panels
    ]
    rule = "-" * max(len(line) for body in bodies for line in body)
    notes = [f"[{mark}] {text}" for mark, text in table.problems.items()]
    if any(cell.best for line in table.lines for cell in line.cells):
        notes.insert(0, "* best compressed value at the same target")
    if hidden:
        notes.append(
            "Not shown here: "
            + ", ".join(dict.fromkeys(block.lines[0].strip() or block.lines[1].strip() for block in hidden))
        )
    return [
        table.title,
        *(line for body in bodies for line in [rule, *body[:2], rule, *body[2:]]),
        *_wrapped(notes),
    ]


def _wrapped(notes: list[str]) -> list[str]:
    return [line for note in notes for line in textwrap.wrap(note, WIDTH)]


def _cell(line: Line, index: int) -> str:
    return cell_text(line, index) + ("*" if line.cells[index].best else " ")


class Block(NamedTuple):
    """Columns that stand together: their heading, their titles, their cells, a line each."""

    kind: str
    lines: list[str]


def _blocks(table: Table, columns: list[list[str]], room: int) -> list[Block]:
    """The columns of each group, its heading centred over them; a group wider than ``room`` in parts."""
    blocks, at = [], 0
    for group, kind, width in groups(table):
        title = group.replace(", published", f" ({OTHER})") if kind == "other" else group
        every = columns[at : at + width]
        for part in _parts(every, room) if group else [[column] for column in every]:
            widths = [max(map(len, column)) for column in part]
            lines = [
                "  ".join(text.rjust(w) for text, w in zip(row, widths, strict=True))
                for row in zip(*part, strict=True)
            ]
            across = max(len(title), len(lines[0]))
            blocks.append(Block(kind, [title.center(across), *(line.rjust(across) for line in lines)]))
        at += width
    return blocks


def _parts(columns: list[list[str]], room: int) -> list[list[list[str]]]:
    """Columns in as few parts as fit ``room`` characters each."""
    parts, left = [[]], room
    for column in columns:
        width = max(map(len, column)) + len(GAP)
        if width > left and parts[-1]:
            parts, left = [*parts, []], room
        parts[-1].append(column)
        left -= width
    return parts


def _panels(room: int, blocks: list[Block]) -> tuple[list[list[Block]], list[Block]]:
    """Blocks that stand beside each other, panel below panel, and from the first that finds no room all."""
    panels, left = [[]], room
    for i, block in enumerate(blocks):
        width = len(GAP) + len(block.lines[0])
        if width > left and panels[-1]:
            if block.kind != "measured" and blocks[0].kind != "counted":
                return panels, blocks[i:]
            panels, left = [*panels, []], room
        panels[-1].append(block)
        left -= width
    return panels, []


def _verdict_line(verdict: str, statement: str, colour: bool) -> str:
    word = f"{SIGNS[verdict]} {verdict}".ljust(12)
    text = textwrap.wrap(statement, WIDTH - 14)
    painted = f"\033[{COLOURS[verdict]}m{word}\033[0m" if colour else word
    return "\n".join([f"{painted} {text[0]}", *(" " * 13 + line for line in text[1:])]) + "\n"


def _bold(text: str, colour: bool) -> str:
    return f"\033[1m{text}\033[0m" if colour else text
