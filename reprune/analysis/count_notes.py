"""How to read a table of counts, and how many of the published numbers beside it are the same."""

from __future__ import annotations

from typing import Any

from reprune.analysis.formats import fixed
from reprune.analysis.names import COUNT_TITLES, counted
from reprune.analysis.table import Table

ROWS = (
    "Counted from configurations, for pruned rows after the method's own rule of how much goes where; no "
    "weights are read and nothing is run, so the numbers are the same at every scale."
)
QUANTITIES = {
    "params": "Parameters: norms and embeddings included, tied ones once.",
    "macs": "MACs: multiply-accumulates of one sequence of {tokens} by LLM-Pruner's counter, which adds "
    "rotary embedding, softmax, norms and activations to the matrix products; keys and values count with "
    "their own heads.",
    "memory": "Memory: the weights in float16, and in every block the sines and cosines of 2,048 positions.",
}


def count_notes(spec: dict[str, Any], table: Table) -> list[str]:
    """What the numbers are, and what of the published ones they meet to the printed decimals."""
    told = {"tokens": counted(spec["tokens"], "token")}
    notes = [QUANTITIES[task].format(**told) for task in spec["tasks"] if task in QUANTITIES]
    met = [f"{COUNT_TITLES[task].title} {told}" for task in spec["tasks"] if (told := _met(table, task))]
    same = [f"Equal to the published value at its printed decimals: {', '.join(met)}."] if met else []
    return [ROWS, *notes, *same]


def _met(table: Table, task: str) -> str | None:
    """``2 of 5``: how many published numbers of a task are those counted; None where none is printed."""
    at = {column.kind: i for i, column in enumerate(table.columns) if column.name == task}
    if "published" not in at:
        return None
    pairs = [(line.cells[at["counted"]], line.cells[at["published"]]) for line in table.lines]
    known = [(own.measurement, told.measurement) for own, told in pairs if told.measurement]
    same = [fixed(own.value, told.decimals) == fixed(told.value, told.decimals) for own, told in known]
    return f"{sum(same)} of {len(same)}"
