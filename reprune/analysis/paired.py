"""Two rows on the same items of a task: their difference, its interval, and how likely chance explains it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reprune.analysis.bleu import BLEU, bleu_of_means
from reprune.analysis.measurements import Quantity
from reprune.analysis.names import AVERAGE
from reprune.analysis.samples import Undecided, lined_up, samples
from reprune.analysis.significance import LEVEL, holm, mcnemar, swap_test, swap_test_of
from reprune.analysis.statistics import RESAMPLES, Interval, bootstrap, summarised
from reprune.analysis.unit import Row, Unit
from reprune.plan.identity import stream_seed

HIGHER, LOWER, ALIKE, NONE = "higher", "lower", "not distinguishable", "not compared"


@dataclass(frozen=True)
class Comparison:
    """``left`` minus ``right`` on the items of ``task`` that both have; ``reason`` if there is no answer.

    ``means`` are the two rows' own, in the metric's shown unit, of log-perplexity for perplexity;
    ``interval`` is that of the difference. Right and wrong answers have a p-value, as BLEU has, and
    ``adjusted`` by :func:`corrected`; ``alone`` counts the items that only the left, and only the right row
    answers right.
    """

    left: Row
    right: Row
    task: str
    reason: str | None = None
    means: tuple[float, float] | None = None
    interval: Interval | None = None
    alone: tuple[int, int] | None = None
    p: float | None = None
    adjusted: float | None = None
    metric: str = "accuracy"

    @property
    def word(self) -> str:
        """Whether the left row is higher or lower: its interval, and a p-value if it has one, must say so."""
        if self.interval is None:
            return NONE
        by_chance = self.adjusted is not None and self.adjusted >= LEVEL
        if by_chance or self.interval.low <= 0 <= self.interval.high:
            return ALIKE
        return HIGHER if self.interval.estimate > 0 else LOWER


def compare_rows(unit: Unit, quantity: Quantity, left: Row, right: Row) -> Comparison:
    """How two rows differ in a quantity of one task or of the average, whichever of them is named first."""
    first, second = sorted((left, right), key=_runs)
    blank = Comparison(left, right, str(quantity.task), metric=quantity.metric)
    try:
        columns = [samples(unit, row, quantity) for row in (first, second)]
        lost = [column.row.name for column in columns if column.diverged]
        if lost:
            raise Undecided(f"{' and '.join(dict.fromkeys(lost))} diverged")
        strata = lined_up(columns)
    except Undecided as reason:
        return replace(blank, reason=str(reason))
    seed = stream_seed(
        "difference", quantity.protocol, quantity.metric, quantity.task, _runs(first), _runs(second)
    )
    found = replace(blank, **_answer(strata, quantity, seed))
    return found if first is left else _reversed(found)


def _runs(row: Row) -> list[str]:
    return [str(run.run_id) for run in row.runs]


def _answer(strata: Sequence[np.ndarray], quantity: Quantity, seed: int) -> dict:
    """The comparison of the first row with the second, from their values (rows, seeds, items, parts)."""
    if quantity.metric == BLEU:
        return _answer_of_sums(strata, seed)
    differences = [values[:1] - values[1:] for values in strata]
    first, second = (float(np.mean([values[i].mean() for values in strata])) for i in (0, 1))
    answer = {"means": (first, second), "interval": bootstrap(differences, lambda m: m[:, 0, 0], seed)}
    if quantity.metric != "accuracy":
        return answer
    by_item = [of_task[0, :, :, 0].mean(axis=0) for of_task in differences]
    if quantity.task == AVERAGE or differences[0].shape[1] > 1:
        return {**answer, "p": swap_test(by_item, seed)}
    alone = int(np.sum(by_item[0] > 0)), int(np.sum(by_item[0] < 0))
    return {**answer, "alone": alone, "p": mcnemar(*alone)}


def _answer_of_sums(strata: Sequence[np.ndarray], seed: int) -> dict:
    """As :func:`_answer` for BLEU, which is no mean of sentences' values."""
    first, second = summarised(strata, bleu_of_means)[:, 0].tolist()
    found = bootstrap(strata, lambda m: m[:, 0, 0] - m[:, 1, 0], seed, summary=bleu_of_means)
    return {"means": (first, second), "interval": found, "p": swap_test_of(strata, bleu_of_means, seed)}


def _reversed(found: Comparison) -> Comparison:
    interval = found.interval
    return replace(
        found,
        means=found.means[::-1],
        interval=replace(interval, estimate=-interval.estimate, low=-interval.high, high=-interval.low),
        alone=found.alone and found.alone[::-1],
    )


def decimals(comparisons: Collection[Comparison]) -> int:
    """As many decimals of percentage points as a single question needs to be seen; of BLEU those in print."""
    if any(c.metric == BLEU for c in comparisons):
        return 2
    items = max((c.interval.items for c in comparisons if c.interval), default=0)
    return 1 if items <= 1000 else 2


def corrected(every: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with their p-values adjusted by Holm: averages are one family, tasks another."""
    adjusted: dict[int, float] = {}
    for average in (True, False):
        family = [c for c in every if c.p is not None and (c.task == AVERAGE) == average]
        adjusted |= zip(map(id, family), holm([c.p for c in family]), strict=True)
    return [replace(c, adjusted=adjusted.get(id(c))) for c in every]


def how_tested(comparisons: Sequence[Comparison]) -> str:
    """What the p-values of comparisons are, in a sentence."""
    seeds = any(c.interval and c.interval.seeds > 1 for c in comparisons)
    averages = any(c.task == AVERAGE for c in comparisons)
    answers = [c for c in comparisons if c.metric != BLEU]
    swapped = ["on the average"] * averages
    swapped += ["with several seeds"] * any(c.interval and c.interval.seeds > 1 for c in answers)
    told = []
    if len(answers) < len(comparisons):
        told.append(f"p of BLEU: the translations of each sentence swapped at random, {RESAMPLES:,} times")
    if any(c.alone for c in comparisons):
        told.append("p on a task: McNemar's exact test on the questions that one row alone answers right")
    if swapped:
        told.append(
            f"p {' and '.join(swapped)}: the answers to each question swapped at random, {RESAMPLES:,} times"
        )
    if seeds:
        told.append(
            "seeds are averaged first, so p speaks for these seeds; the interval speaks for others too"
        )
    return "; ".join(told) + "."
