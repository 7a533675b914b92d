"""Tables and verdicts as plain text, for the end of a run."""

from __future__ import annotations

import textwrap
from typing import TextIO

from reprune.analysis.claims import check_claims
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
            stream.write("\n" + "\n".join(table_lines(build_table(unit, spec))) + "\n")
        stream.write("\n")
        for claim in check_claims(unit):
            stream.write(_verdict_line(claim["verdict"], claim["statement"], colour))


def table_lines(table: Table) -> list[str]:
    """The table in lines of at most 100 characters; columns that do not fit are named below it."""
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
    blocks = _blocks(table, columns)
    shown = _fitting(len(left[0]), blocks)
    body = [
        GAP.join([text, *(block[i] for block in blocks[:shown])])
        for i, text in enumerate([" " * len(left[0]), *left])
    ]
    rule = "-" * max(map(len, body))
    notes = [f"[{mark}] {text}" for mark, text in table.problems.items()]
    if any(cell.best for line in table.lines for cell in line.cells):
        notes.insert(0, "* best compressed value at the same target")
    if shown < len(blocks):
        notes.append(
            "Not shown here: " + ", ".join(block[0].strip() or block[1].strip() for block in blocks[shown:])
        )
    return [
        table.title,
        rule,
        *(line.rstrip() for line in body[:2]),
        rule,
        *(line.rstrip() for line in body[2:]),
        *(line for note in notes for line in textwrap.wrap(note, WIDTH)),
    ]


def _cell(line: Line, index: int) -> str:
    return cell_text(line, index) + ("*" if line.cells[index].best else " ")


def _blocks(table: Table, columns: list[list[str]]) -> list[list[str]]:
    """The lines of each group of columns: its heading centred over them, their titles, their cells."""
    blocks, at = [], 0
    for group, kind, width in groups(table):
        for start, count in [(at, width)] if group else [(at + i, 1) for i in range(width)]:
            widths = [max(map(len, column)) for column in columns[start : start + count]]
            lines = [
                "  ".join(text.rjust(w) for text, w in zip(row, widths, strict=True))
                for row in zip(*columns[start : start + count], strict=True)
            ]
            title = group.replace(", published", f" ({OTHER})") if kind == "other" else group
            across = max(len(title), len(lines[0]))
            blocks.append([title.center(across), *(line.rjust(across) for line in lines)])
        at += width
    return blocks


def _fitting(width: int, blocks: list[list[str]]) -> int:
    """How many blocks fit beside headings of ``width``."""
    for count, block in enumerate(blocks):
        width += len(GAP) + len(block[0])
        if width > WIDTH:
            return count
    return len(blocks)


def _verdict_line(verdict: str, statement: str, colour: bool) -> str:
    word = f"{SIGNS[verdict]} {verdict}".ljust(12)
    text = textwrap.wrap(statement, WIDTH - 14)
    painted = f"\033[{COLOURS[verdict]}m{word}\033[0m" if colour else word
    return "\n".join([f"{painted} {text[0]}", *(" " * 13 + line for line in text[1:])]) + "\n"


def _bold(text: str, colour: bool) -> str:
    return f"\033[1m{text}\033[0m" if colour else text
