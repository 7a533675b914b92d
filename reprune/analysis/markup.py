"""A table as Markdown, LaTeX and HTML."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from html import escape
from itertools import groupby, pairwise

from reprune.analysis.formats import Number, plain, rounded
from reprune.analysis.table import Cell, Column, Line, Table

OTHER = "other model"
NOTHING, NO_BREAK = "–", "\u2011"
LINE_END = r"\\"
WIDE = 8  # columns that stand beside each other at the usual size
FIT_WIDTH = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": "$-$",
    "–": "--",
    "↓": r"$\downarrow$",
    "↑": r"$\uparrow$",
    "→": r"$\rightarrow$",
    "·": r"$\cdot$",
    "‖": r"$\|$",
    "≠": r"$\neq$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "≈": r"$\approx$",
    "λ": r"$\lambda$",
    "<": "$<$",
    ">": "$>$",
}
LATIN, PUNCTUATION = 0x180, "–—‘’“”…"  # what LaTeX sets from UTF-8 without packages


def number(cell: Cell) -> Number | None:
    """The rounded number of a cell; None where there is none to show."""
    m = cell.measurement
    return rounded(m.value, m.stderr, m.decimals) if m is not None and m.ok else None


def cell_text(line: Line, index: int) -> str:
    """A cell in plain text: the number, the status with its mark, or a dash for a row's told problem."""
    cell = line.cells[index]
    shown = number(cell)
    mark = f" [{cell.mark}]" if cell.mark else ""
    if shown:
        return plain(shown) + mark
    told = cell.mark == line.problem and any(c.mark == cell.mark for c in line.cells[:index])
    if cell.measurement is None or told:
        return NOTHING
    return cell.measurement.status + mark


def groups(table: Table) -> list[tuple[str, str, int]]:
    """(heading, kind, width) of each run of columns with the same group heading."""
    return [
        (group, kind, len(list(columns)))
        for (group, kind), columns in groupby(table.columns, key=lambda c: (c.group, c.kind))
    ]


def group_title(group: str, kind: str) -> str:
    return f"{group} ({OTHER})" if kind == "other" else group


def to_markdown(table: Table, notes: list[str]) -> str:
    """A pipe table with one heading line, then its notes."""
    heads = [*table.heads, *(f"{group_title(c.group, c.kind)} {c.title}".strip() for c in table.columns)]
    lines = [
        [*line.heads, *(_markdown_cell(line, i) for i in range(len(line.cells)))] for line in table.lines
    ]
    aligned = [":--"] * len(table.heads) + ["--:"] * len(table.columns)
    body = "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, aligned, *lines))
    marked = [*(f"[{mark}] {text}" for mark, text in table.problems.items()), *notes]
    return f"### {table.title}\n\n{body}\n\n" + "\n".join(f"- {note}" for note in marked) + "\n"


def _markdown_cell(line: Line, index: int) -> str:
    text = cell_text(line, index).replace("|", r"\|")
    return f"**{text}**" if line.cells[index].best else text


def to_latex(table: Table, notes: list[str], label: str) -> str:
    """A ``table`` environment, scaled down where it is wider than the line."""
    spec = "l" * len(table.heads) + "r" * len(table.columns)
    heads = " & ".join([*map(latex, table.heads), *(_stacked(c.title, "r", 12) for c in table.columns)])
    body = [
        " & ".join([*map(latex, line.heads), *(_latex_cell(line, i) for i in range(len(line.cells)))])
        + r" \\"
        for line in table.lines
    ]
    marked = [*(f"[{mark}] {text}" for mark, text in table.problems.items()), *notes]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs,graphicx}",
            r"\begin{table}[t]",
            r"\centering\small",
            rf"\caption{{{latex(table.title)}}}",
            rf"\label{{{label}}}",
            FIT_WIDTH,
            rf"\begin{{tabular}}{{{spec}}}",
            r"\toprule",
            *_latex_groups(table),
            heads + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\par\medskip\raggedright\footnotesize",
            *(latex(note) + r"\par" for note in marked),
            r"\end{table}",
            "",
        ]
    )


def _latex_groups(table: Table) -> list[str]:
    """The line of group headings with its rules, empty where no column has a group."""
    if not any(column.group for column in table.columns):
        return []
    cells, rules, at = [""] * len(table.heads), [], len(table.heads) + 1
    for group, kind, width in groups(table):
        title = _stacked(group_title(group, kind), "c", 20)
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{title}}}" if group else " & " * (width - 1))
        rules += [rf"\cmidrule(lr){{{at}-{at + width - 1}}}"] if group else []
        at += width
    return [" & ".join(cells) + r" \\", " ".join(rules)]


def _stacked(title: str, align: str, width: int) -> str:
    """A heading in lines of at most ``width`` characters."""
    lines = textwrap.wrap(title, width, break_on_hyphens=False)
    return latex(title) if len(lines) < 2 else rf"\shortstack[{align}]{{{LINE_END.join(map(latex, lines))}}}"


def _latex_cell(line: Line, index: int) -> str:
    text = latex(cell_text(line, index))
    shown = number(line.cells[index])
    if shown and shown.exponent is not None:
        text = rf"({latex(plain(shown._replace(exponent=None)))})$\times10^{{{shown.exponent}}}$"
    return rf"\textbf{{{text}}}" if line.cells[index].best else text


def latex(text: str) -> str:
    """``text`` with every character that LaTeX would read otherwise, or cannot set, replaced."""
    return "".join(
        LATEX.get(c, c if ord(c) < LATIN or c in PUNCTUATION else f"[U+{ord(c):04X}]") for c in text
    )


def to_html(table: Table, notes: list[str], origins: list[str], identity: str) -> str:
    """A ``figure`` with the table, its notes, and folded away where it all comes from; without style."""
    first = [f'<th rowspan="2" scope="col">{escape(head)}</th>' for head in table.heads]
    for group, kind, width in groups(table):
        tag = f'<span class="tag">{OTHER}</span>' if kind == "other" else ""
        first.append(f'<th class="{kind} group" colspan="{width}" scope="colgroup">{escape(group)}{tag}</th>')
    second = [
        f'<th class="{c.kind}" scope="col">{escape(c.title).replace("-", NO_BREAK)}</th>'
        for c in table.columns
    ]
    body = "\n".join(
        f"<tr{_row_class(table, i)}>{_html_line(line, table)}</tr>" for i, line in enumerate(table.lines)
    )
    marks = {cell.mark for line in table.lines if line.problem is None for cell in line.cells}
    marked = [
        *(f"<b>{mark}</b> {escape(text)}" for mark, text in table.problems.items() if mark in marks),
        *map(escape, notes),
    ]
    kind = "table wide" if len(table.columns) > WIDE else "table"
    return (
        f'<figure class="{kind}" id="{identity}"><figcaption>{escape(table.title)}</figcaption>\n'
        f'<div class="scroll"><table>\n<thead><tr>{"".join(first)}</tr>\n'
        f"<tr>{''.join(second)}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>\n"
        f'<ul class="notes">{_items(marked)}</ul>\n<details class="notes"><summary>Where these numbers '
        f"come from</summary><ul>{_items(map(escape, origins))}</ul></details></figure>\n"
    )


def _items(texts: Iterable[str]) -> str:
    return "".join(f"<li>{text}</li>" for text in texts)


def _row_class(table: Table, index: int) -> str:
    """Dense rows can be told apart, and where a label's rows begin or, if each has one, a model's."""
    line = table.lines[index]
    classes = (["dense"] if line.row.dense else []) + (["first"] if index and _begins(table, index) else [])
    return f' class="{" ".join(classes)}"' if classes else ""


def _begins(table: Table, index: int) -> bool:
    """Whether a group of rows begins here."""
    repeated = any(a.row.label == b.row.label for a, b in pairwise(table.lines))
    line, before = table.lines[index].row, table.lines[index - 1].row
    return line.label != before.label if repeated else line.model != before.model


def _html_line(line: Line, table: Table) -> str:
    """The cells of a row; a problem that all its own cells share is told once, across them."""
    heads = "".join(f'<th scope="row">{escape(head)}</th>' for head in line.heads)
    if line.problem is None:
        return heads + "".join(map(_html_cell, line.cells, table.columns))
    width = sum(column.own for column in table.columns)
    told = f'<td class="problem" colspan="{width}">{escape(table.problems[line.problem])}</td>'
    return heads + told + "".join(map(_html_cell, line.cells[width:], table.columns[width:]))


def _html_cell(cell: Cell, column: Column) -> str:
    shown = number(cell)
    mark = f"<sup>{cell.mark}</sup>" if cell.mark else ""
    if shown is None:
        text = escape(cell.measurement.status) + mark if cell.measurement else NOTHING
    elif shown.exponent is None and shown.error:
        text = f'{shown.value}<span class="error"> ± {shown.error}</span>{mark}'
    else:
        text = escape(plain(shown)) + mark
    return f'<td class="{column.kind}">{f"<strong>{text}</strong>" if cell.best else text}</td>'
