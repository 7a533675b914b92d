"""Numbers that sum up a training on a mixture of domains, or one of gates: what checks ask of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from reprune.analysis.histories import CONTINUED, GATES, PRUNING, History
from reprune.analysis.samples import Undecided

EARLY, LATE = 0.3, 0.8  # shares of the steps after which weights, and masks, should have settled


def sparsity_gap(run: History) -> float:
    """The distance of the share of masks expected to be closed from the wanted one, mean over kinds."""
    last = run.stage(PRUNING).measured[-1]
    return float(np.mean([abs(last["sparsity"][kind] - wanted) for kind, wanted in last["wanted"].items()]))


def overlap(run: History) -> float:
    """The Jaccard index of what is kept and what was kept at the measurement before, mean over kinds."""
    pruning = run.stage(PRUNING)
    late = [m["overlap"] for m in pruning.measured if m["step"] > LATE * pruning.told["steps"]]
    values = [value for kinds in late for value in kinds.values() if value is not None]
    if not values:
        raise Undecided(f"{run.row.name}: masks were measured once only")
    return float(np.mean(values))


def mean_loss(run: History) -> float:
    """Every domain counts alike, whatever its share of the data."""
    return float(np.mean([*_final(run).values()]))


def excess_spread(run: History) -> float:
    return float(np.std(run.excess(_final(run))))


def rank_correlation(run: History) -> float:
    """Spearman's, equal values sharing their mean rank."""
    losses = _final(run)
    excess = run.excess(losses)
    if not np.ptp(excess):
        raise Undecided(f"{run.row.name}: the excess loss is the same on every domain")
    known = pd.DataFrame({"reference": [run.references[domain] for domain in losses], "excess": excess})
    return float(known.rank().corr().loc["reference", "excess"])


def followed(run: History) -> float:
    """A domain follows if it was drawn more than at first, and its excess loss was above the mean of all.

    Or less and below. The excess is that at the start of the continuation, for at the start of pruning the
    model is what the others refer to; the shares at first are those of the run's first training.
    """
    first, last = run.stage(CONTINUED).measured[0], run.stage(CONTINUED).measured[-1]
    began, drawn = run.stages[0].measured[0]["weights"], sum(last["seen"].values())
    excess = run.excess(first["losses"])
    moved = np.array([last["seen"].get(d, 0) / drawn - began[d] for d in first["losses"]])
    return float(np.mean(np.sign(moved) == np.sign(excess - excess.mean())))


def settling(run: History) -> float:
    """Mean L1 change of the weights from one update to the next, late over early ones."""
    continued = run.stage(CONTINUED)
    every, end = continued.measured[1]["step"], EARLY * continued.told["steps"]
    updates = [m for m in continued.measured if m["step"] % every == 0]  # the last measurement may be none
    weights = np.array([[*m["weights"].values()] for m in updates])
    changes = np.abs(np.diff(weights, axis=0)).sum(axis=1)
    early = np.array([m["step"] <= end for m in updates[1:]])
    if early.all() or not changes[early].any():
        raise Undecided(f"{run.row.name}: weights changed too seldom, or not at all")
    return float(changes[~early].mean() / changes[early].mean())


def slowdown(run: History) -> float:
    return run.stage(CONTINUED).told["tokens_per_second"] / run.stage(PRUNING).told["tokens_per_second"]


def heads_left(run: History) -> float:
    """Of all kinds of attention that had gates."""
    return float(sum(run.stage(GATES).measured[-1]["open"].values()))


def cross_lead(run: History) -> float:
    return _left(run, "cross") - _left(run, "encoder")


def decoder_lead(run: History) -> float:
    return _left(run, "decoder") - _left(run, "encoder")


def cross_over_decoder(run: History) -> float:
    return _left(run, "cross") - _left(run, "decoder")


def _left(run: History, kind: str) -> float:
    """The share of one kind's heads whose gates are open in the end."""
    last = run.stage(GATES).measured[-1]
    if kind not in last["open"]:
        raise Undecided(f"{run.row.name}: no gates on '{kind}' attention")
    return last["open"][kind] / sum(map(len, last["gates"][kind]))


def _final(run: History) -> dict[str, float]:
    """The losses by domain at the end of the last training."""
    return run.stages[-1].measured[-1]["losses"]


class Reading(NamedTuple):
    """How to get a number from a history, what it is called inside a sentence, and its unit."""

    of: Callable[[History], float]
    noun: str
    unit: str = ""


QUANTITIES = {
    reading.of.__name__: reading
    for reading in (
        Reading(sparsity_gap, "distance of the masks' expected sparsity from the target at the end"),
        Reading(overlap, "overlap of what masks keep from one measurement to the next in the last fifth"),
        Reading(mean_loss, "mean held-out loss over domains at the end", "nats"),
        Reading(excess_spread, "standard deviation of the excess loss over domains at the end", "nats"),
        Reading(rank_correlation, "rank correlation of the loss to reach and the excess at the end"),
        Reading(followed, "share of domains whose part in the data went the way of their excess loss"),
        Reading(settling, "change of the domains' weights after 30% of the steps over that before"),
        Reading(slowdown, "tokens per second of continued pre-training over those of pruning", "×"),
        Reading(heads_left, "number of heads whose gates are open in the end", "heads"),
        Reading(cross_lead, "share of heads left in decoder-encoder attention minus that in the encoder"),
        Reading(decoder_lead, "share of heads left in the decoder minus that in the encoder"),
        Reading(
            cross_over_decoder,
            "share of heads left in decoder-encoder attention minus that in the decoder",
        ),
    )
}
