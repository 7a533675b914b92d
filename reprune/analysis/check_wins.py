"""The check on comparisons of answers: that one row wins more of them than so many percent."""

from __future__ import annotations

from reprune.analysis.check_metrics import Check
from reprune.analysis.evidence import Part, matched_rows, place, undecided, verdict
from reprune.analysis.samples import Undecided
from reprune.analysis.statistics import bootstrap
from reprune.analysis.unit import Row, Unit
from reprune.analysis.wins import METRIC, judged_by, won
from reprune.plan.identity import stream_seed


def win_rate(unit: Unit, check: Check) -> list[Part]:
    """``left`` wins more than ``at_least`` percent of its comparisons with ``right``, both orders counted.

    Prompts are resampled, and seeds where there are several; the two orders of a prompt stay together.
    """
    return [_asked(unit, check, *rows) for rows in matched_rows(unit, check, [check["left"], check["right"]])]


def _asked(unit: Unit, check: Check, left: Row, right: Row) -> Part:
    where = place(unit, check, (left, right))
    try:
        found = won(unit, left, [right])
        if found.shape[1] < 2:
            raise Undecided("the rows share 1 prompt, an interval needs two")
    except Undecided as reason:
        return undecided(where, reason)
    seed = stream_seed("bootstrap", check, [[row.model, row.target] for row in (left, right)])
    interval = bootstrap([found[None]], lambda m: m[:, 0].mean(axis=1), seed)
    asked = float(check["at_least"])
    return Part(
        where,
        verdict(interval.low, interval.high, asked),
        f"win rate of {left.label} against {right.label}, {judged_by(unit, check['experiment'])}",
        interval.estimate,
        interval.low,
        interval.high,
        asked,
        items=interval.items,
        seeds=interval.seeds,
        unit=METRIC.unit,
    )
