"""Two rows of a unit on every task that both were measured on, as text."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from reprune.analysis.formats import aligned, chance, fixed, interval_text, plain, rounded, signed
from reprune.analysis.measurements import Quantity, item_metric
from reprune.analysis.names import (
    TASKS,
    metric_heading,
    perplexity_item,
    questions_of,
    runs_in_words,
    task_title,
)
from reprune.analysis.paired import NONE, Comparison, compare_rows, corrected, decimals, how_tested
from reprune.analysis.samples import Undecided
from reprune.analysis.significance import LEVEL
from reprune.analysis.unit import Row, Run, Unit
from reprune.plan.problems import nearest

METRICS = ("perplexity", "accuracy", "bleu")  # those with values per item
NOTHING = "–"
WIDTH = 100
SHORT = 16  # characters of a label over a column


def head_to_head(unit: Unit, left: str, right: str, task: str | None = None) -> list[str]:
    """How the rows called ``left`` and ``right`` differ, a table for each protocol; only ``task`` if given.

    A name is a run id, a label with its target, a label or a method; of two labels every target they share
    is compared. Raises :class:`Undecided` for an unknown name, and where nothing is measured or shared.
    """
    pairs = _pairs(unit, left, right)
    found = {pair: _compared(unit, *pair, task) for pair in pairs}
    every = [c for tables in found.values() for comparisons in tables.values() for c in comparisons]
    if not every:
        raise Undecided(_why_nothing(unit, pairs, task))
    if all(c.word == NONE for c in every):
        raise Undecided(" and ".join(dict.fromkeys(str(c.reason) for c in every)))
    lines = [line for pair, tables in found.items() if tables for line in _pair_lines(unit, pair, tables)]
    return [*lines, "", *_wrapped(_notes(every))]


def _pairs(unit: Unit, left: str, right: str) -> list[tuple[Row, Row]]:
    """The rows to compare, each pair once: of one model, at one target or against dense.

    Rows of one experiment are preferred, and two single rows are compared whatever their targets.
    """
    rows = [
        (here == there, a, b)
        for here, a in _rows(unit, left)
        for there, b in _rows(unit, right)
        if a.model == b.model
    ]
    near = [(a, b) for _, a, b in rows if a.dense or b.dense or a.target == b.target]
    together = [(a, b) for same, a, b in rows if same and (a, b) in near]
    found = {(*_key(a), *_key(b)): (a, b) for a, b in together or near or [(a, b) for _, a, b in rows]}
    names = " and ".join(f"'{name}'" for name in (left, right))
    if not found:
        raise Undecided(f"{names} were measured on different models")
    if not near and len(found) > 1:
        raise Undecided(f"{names} share no target; name one row each, such as '{rows[0][1].name}'")
    return list(found.values())


def _key(row: Row) -> tuple[str, ...]:
    return (row.name, *(str(run.run_id) for run in row.runs))


def _rows(unit: Unit, name: str) -> list[tuple[str, Row]]:
    """The rows that ``name`` means, with their experiments; a run id means that run of its row alone."""
    rows = [(experiment, row) for experiment in unit.info["experiments"] for row in unit.rows(experiment)]
    of_run = [(e, replace(row, runs=(run,))) for e, row in rows for run in row.runs if run.run_id == name]
    ways = [
        of_run,
        *([(e, r) for e, r in rows if getattr(r, way) == name] for way in ("name", "label", "method")),
    ]
    found = next((way for way in ways if way), [])
    if not found:
        raise Undecided(f"{unit.name} has no row '{name}'; {nearest(name, {row.label for _, row in rows})}")
    return found


def _compared(unit: Unit, left: Row, right: Row, task: str | None) -> dict[Quantity, list[Comparison]]:
    """The comparisons by protocol and metric, in the order they were measured in."""
    found = {}
    for quantity, tasks in _measured(unit, left, right).items():
        chosen = [name for name in tasks if task in (None, name)]
        comparisons = [compare_rows(unit, replace(quantity, task=name), left, right) for name in chosen]
        if comparisons:
            found[quantity] = corrected(comparisons)
    return found


def _measured(unit: Unit, left: Row, right: Row) -> dict[Quantity, list[str]]:
    """The tasks both rows have records of, by protocol and metric, where the metric has values per item."""
    known = set(zip(unit.items.protocol_name, unit.items.metric, strict=True))
    ours, theirs = ([_recorded(unit, run) for run in row.runs] for row in (left, right))
    shared = set.union(*ours) & set.union(*theirs)
    tasks: dict[Quantity, list[str]] = {}
    for protocol, metric, task in sorted(shared, key=_place):
        if (protocol, item_metric(metric)) in known:
            tasks.setdefault(Quantity(protocol, metric), []).append(task)
    return tasks


def _recorded(unit: Unit, run: Run) -> set[tuple[str, str, str]]:
    """(protocol, metric, task) of a run's records."""
    records = unit.records_of(run.run_id)
    records = records[records.metric.isin(METRICS) & records.task.notna()]
    return set(zip(records.protocol_name, records.metric, records.task, strict=True))


def _place(recorded: tuple[str, str, str]) -> tuple:
    """Perplexity first, and tasks in their usual order, which ends with the average."""
    protocol, metric, task = recorded
    order = list(TASKS)
    return METRICS.index(metric), protocol, order.index(task) if task in order else -1, task


def _why_nothing(unit: Unit, pairs: Sequence[tuple[Row, Row]], task: str | None) -> str:
    measured = {name for pair in pairs for tasks in _measured(unit, *pair).values() for name in tasks}
    if measured:
        return f"no task '{task}' was measured; {nearest(task, measured)}"
    skipped = [f"{row.name}: {row.runs[0].reason}" for row in pairs[0] if row.runs[0].reason]
    names = " and ".join(row.name for row in pairs[0])
    return "; ".join(skipped) or f"{names} were not measured on a common task"


def _pair_lines(unit: Unit, pair: tuple[Row, Row], tables: dict[Quantity, list[Comparison]]) -> list[str]:
    left, right = pair
    runs = [[f"  {row.label}:", ", ".join(str(run.run_id) for run in row.runs)] for row in pair]
    lines = [
        "",
        f"{left.name} against {right.name}, {unit.model_title(left.model)}",
        *aligned(runs, (0, 1)),
    ]
    for quantity, comparisons in tables.items():
        seeds = max((c.interval.seeds for c in comparisons if c.interval), default=1)
        title = f"{metric_heading(quantity.metric)}, {', '.join(_protocols(unit, pair, quantity))}"
        table = _perplexities if quantity.metric == "perplexity" else _scores
        cells = table(comparisons)
        rows = aligned(cells, (0, len(cells[0]) - 1))
        lines += ["", f"{title}, {runs_in_words(seeds)}", *(f"  {row}" for row in rows)]
        lines += _wrapped([f"{task_title(c.task)}: {c.reason}" for c in comparisons if c.reason])
    return lines


def _protocols(unit: Unit, pair: tuple[Row, Row], quantity: Quantity) -> list[str]:
    """The full identities of the protocol behind either row."""
    records = pd.concat([unit.records_of(run.run_id) for row in pair for run in row.runs])
    return list(records.protocol[(records.protocol_name == quantity.protocol).fillna(False)].unique())


def _scores(comparisons: Sequence[Comparison]) -> list[list[str]]:
    """A line per task: both accuracies or BLEU, their difference, and whether chance explains it."""
    head = ["task", "items", *_labels(comparisons[0])]
    head += ["points", "95 % interval", "alone right", "p", "Holm's p", ""]
    shown = decimals(comparisons)
    return [head, *(_score(c, shown) for c in comparisons)]


def _score(c: Comparison, shown: int) -> list[str]:
    if c.word == NONE:
        return _without_answer(c, 10)
    return [
        task_title(c.task),
        str(c.interval.items),
        *(fixed(mean, shown) for mean in c.means),
        signed(c.interval.estimate, shown),
        interval_text(c.interval.low, c.interval.high, shown),
        f"{c.alone[0]} / {c.alone[1]}" if c.alone else "",
        chance(c.p),
        chance(c.adjusted),
        c.word,
    ]


def _perplexities(comparisons: Sequence[Comparison]) -> list[list[str]]:
    """A line per text: both perplexities and their ratio."""
    items = perplexity_item(comparisons[0].task) + "s"
    head = ["task", items, *_labels(comparisons[0]), "ratio", "95 % interval", ""]
    return [head, *map(_perplexity, comparisons)]


def _perplexity(c: Comparison) -> list[str]:
    if c.word == NONE:
        return _without_answer(c, 7)
    interval = c.interval
    return [
        task_title(c.task),
        str(interval.items),
        *(plain(rounded(math.exp(mean))) for mean in c.means),
        f"× {math.exp(interval.estimate):.3f}",
        interval_text(math.exp(interval.low), math.exp(interval.high), 3),
        c.word,
    ]


def _without_answer(c: Comparison, columns: int) -> list[str]:
    return [task_title(c.task), *[NOTHING] * (columns - 2), c.word]


def _labels(c: Comparison) -> list[str]:
    """The rows' labels over their columns; left and right where they are too long or the same."""
    labels = [c.left.label, c.right.label]
    return labels if max(map(len, labels)) <= SHORT and len(set(labels)) == 2 else ["left", "right"]


def _notes(every: Sequence[Comparison]) -> list[str]:
    """How to read the tables, once for all of them."""
    compared = [c for c in every if c.interval]
    tested = [c for c in compared if c.p is not None]
    also = " and of seeds" if any(c.interval.seeds > 1 for c in compared) else ""
    of_perplexities = [
        "ratio: left over right, from the paired difference of log-perplexity; interval: bootstrap of the "
        f"same windows or rows{also}, not corrected for the number of tasks; higher or lower where it is "
        "without 1."
    ]
    return of_perplexities * (len(tested) < len(compared)) + _score_notes(tested, also)


def _score_notes(tested: Sequence[Comparison], also: str) -> list[str]:
    if not tested:
        return []
    asked = questions_of(c.metric for c in tested)
    return [
        f"points: left minus right on the same {asked}; interval: paired bootstrap within each task{also}.",
        how_tested(tested),
        f"Holm's p: corrected over the tasks of a table; higher or lower where it is below {LEVEL} and the "
        "interval is without zero.",
    ]


def _wrapped(notes: Sequence[str]) -> list[str]:
    return [f"  {line}" for note in notes for line in textwrap.wrap(note, WIDTH - 2)]
