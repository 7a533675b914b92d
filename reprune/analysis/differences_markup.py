"""The differences of a table as HTML and as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from reprune.analysis.differences import Differences, Pair, difference_notes, name_of
from reprune.analysis.formats import aligned, chance, interval_text, signed
from reprune.analysis.names import counted, task_title
from reprune.analysis.paired import ALIKE, HIGHER, LOWER, NONE, Comparison
from reprune.analysis.unit import Row, Unit

TITLE = "Differences that are real"
NOTHING = "–"
LOUD = (HIGHER, LOWER)
LEFT = (0, 2, 4, 5)  # columns of words and intervals


def to_html(unit: Unit, found: Differences, identity: str) -> str:
    """A ``figure``: for each group of rows a triangle on the headline, and folded away every task."""
    if not found.pairs:
        return ""
    triangles = [_triangle(found, rows, _place(unit, found, rows)) for rows in found.groups if found.headline]
    notes = "".join(f"<li>{escape(note)}</li>" for note in difference_notes(found))
    return (
        f'<figure class="table wide differences" id="{identity}"><figcaption>{TITLE}</figcaption>\n'
        + "".join(triangles)
        + (_by_task(unit, found) if found.details else "")
        + f'<ul class="notes">{notes}</ul></figure>\n'
    )


def _place(unit: Unit, found: Differences, rows: Sequence[Row]) -> str:
    """Model and target of a group, where there are several."""
    models = {group[-1].model for group in found.groups}
    targets = {group[-1].target for group in found.groups}
    words = [unit.model_title(rows[-1].model)] * (len(models) > 1) + [rows[-1].target] * (len(targets) > 1)
    return ", ".join(words)


def _triangle(found: Differences, rows: Sequence[Row], place: str) -> str:
    """Row minus column on the headline task."""
    corner = ", ".join(filter(None, [place, f"{task_title(found.headline)}, row − column"]))
    heads = "".join(f'<th scope="col">{escape(row.label)}</th>' for row in rows[:-1])
    lines = [
        f'<th scope="row">{escape(row.label)}</th>'
        + "".join(_cell(found.found.get((row, other, found.headline)), found.decimals) for other in rows[:i])
        for i, row in enumerate(rows)
        if i and not row.dense
    ]
    return _table(f'<th scope="col">{escape(corner)}</th>{heads}', lines)


def _by_task(unit: Unit, found: Differences) -> str:
    """Every pair on every task; folded away where there is a headline."""
    heads = "".join(f'<th scope="col">{escape(task_title(task))}</th>' for task in found.details)
    lines = []
    for rows in found.groups:
        if place := _place(unit, found, rows):
            lines.append(f'<th scope="rowgroup" colspan="{1 + len(found.details)}">{escape(place)}</th>')
        for pair in found.pairs_of(rows):
            cells = (_cell(found.found[(*pair, task)], found.decimals, LOUD) for task in found.details)
            lines.append(f'<th scope="row">{escape(name_of(pair))}</th>{"".join(cells)}')
    title, table = f"On each task (no word: {ALIKE})", _table(f"<td></td>{heads}", lines)
    return f"<details{'' if found.headline else ' open'}><summary>{title}</summary>{table}</details>"


def _table(head: str, lines: Sequence[str]) -> str:
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return (
        f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>\n"
    )


def _cell(c: Comparison | None, shown: int, words: tuple[str, ...] = (*LOUD, ALIKE)) -> str:
    """The difference to ``shown`` decimals, its interval and p-value, and its word if it is in ``words``."""
    if c is None or c.word == NONE:
        return f"<td>{NOTHING}</td>"
    kind = "alike" if c.word == ALIKE else c.word
    word = f'<span class="word">{c.word},</span> ' if c.word in words else ""
    return (
        f'<td class="{kind}"><b>{signed(c.interval.estimate, shown)}</b> '
        f'<span class="error">{_interval(c, shown)}</span><br>{word}'
        f'<span class="error">p {chance(c.adjusted)}</span></td>'
    )


def text_lines(unit: Unit, found: Differences) -> list[str]:
    """A line for each pair: the headline, then on how many tasks it is higher and lower."""
    lines = []
    for rows in found.groups if found.compared else []:
        title = ", ".join(filter(None, [TITLE, _place(unit, found, rows)]))
        cells = [_head(found), *(_line(found, pair) for pair in found.pairs_of(rows))]
        lines += ["", title, *aligned(cells, LEFT if found.headline else (0, 1))]
    return lines


def _head(found: Differences) -> list[str]:
    headline = [task_title(found.headline), "95 % interval", "p", ""] if found.headline else []
    return ["  in points", *headline, *([f"on {counted(len(found.details), 'task')}"] * bool(found.details))]


def _line(found: Differences, pair: Pair) -> list[str]:
    cells = [f"  {name_of(pair)}"]
    if found.headline:
        cells += _headline_cells(found.found[(*pair, found.headline)], found.decimals)
    if found.details:
        real = found.real(pair)
        cells.append(f"{real[HIGHER]} higher, {real[LOWER]} lower")
    return cells


def _headline_cells(c: Comparison, shown: int) -> list[str]:
    if c.word == NONE:
        return [NOTHING, "", "", NONE]
    return [signed(c.interval.estimate, shown), _interval(c, shown), chance(c.adjusted), c.word]


def _interval(c: Comparison, shown: int) -> str:
    return interval_text(c.interval.low, c.interval.high, shown)
