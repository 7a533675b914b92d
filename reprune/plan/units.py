"""Units: one paper's results, or those of an experiment made on request; each becomes a folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reprune.plan.counts import CountRow
from reprune.plan.grammar import AGAINST, CHECKS, COUNTS, FACTS, PLOTS, QUANTITIES, TABLES, WIN_RATE
from reprune.plan.grid import Row, unit_name
from reprune.plan.judging import Judged
from reprune.plan.problems import Problems, nearest
from reprune.plan.source import Source

VIEWS = ("tables", "plots", "claims")
WORDS = {"quantity": ("quantity", QUANTITIES), "facts": ("fact", FACTS), "no_more": ("fact", FACTS)}
"""Keys of views that name what can be told, how that is called, and the names there are."""


@dataclass(frozen=True)
class Unit:
    """What is tabulated, plotted and judged together. ``views`` are the parts of ``paper.yaml`` it draws.

    ``counts`` are the rows of its tables of counts, by table, ``judged`` the comparisons of its experiments.
    """

    name: str
    paper: Source
    on_request: bool
    experiments: dict[str, list[Row]]
    views: dict[str, list[dict[str, Any]]]
    counts: dict[str, list[CountRow]]
    judged: dict[str, Judged]


def units_of(
    paper: Source,
    rows: dict[str, list[Row]],
    counts: dict[str, list[CountRow]],
    judged: dict[str, Judged],
) -> dict[str, Unit]:
    """The unit of a paper's usual experiments and tables of counts, and one for each that is on request."""
    data = paper.data
    groups: dict[str, set[str]] = {data["id"]: set()}
    for experiment in rows:
        groups.setdefault(unit_name(data, experiment), set()).add(experiment)
    return {
        name: Unit(
            name,
            paper,
            name != data["id"],
            {e: rows[e] for e in rows if e in members},
            _views(data, members, name == data["id"]),
            counts if name == data["id"] else {},
            {e: judged[e] for e in judged if e in members},
        )
        for name, members in groups.items()
        if members
    }


def _views(data: dict, members: set[str], usual: bool) -> dict[str, list[dict]]:
    return {view: [item for item in data.get(view, []) if _belongs(item, members, usual)] for view in VIEWS}


def _belongs(item: dict, members: set[str], usual: bool) -> bool:
    """Whether all experiments of a view are ``members``; what has none belongs to the ``usual`` ones."""
    if item.get("kind") == COUNTS:
        return usual
    checks = item.get("checks", [item])
    return {check["experiment"] for check in checks} <= members


def check_views(paper: Source, protocols: dict[str, Source], problems: Problems) -> None:
    """Check tables, plots and claims against the grammar of the analysis layer."""
    for i, item in enumerate(paper.data.get("tables", [])):
        if item.get("kind") == COUNTS:
            continue
        _check(paper, ("tables", i), item, TABLES[item.get("kind")], problems)
        _check_words(paper, ("tables", i), item, problems)
        _check_tasks(paper, ("tables", i), item, protocols, problems)
        _check_pairs(paper, ("tables", i), item, problems)
    for i, item in enumerate(paper.data.get("plots", [])):
        _check_kind(paper, ("plots", i), item, PLOTS, problems)
        _check_tasks(paper, ("plots", i), item, protocols, problems)
    for i, claim in enumerate(paper.data.get("claims", [])):
        for j, check in enumerate(claim["checks"]):
            _check_kind(paper, ("claims", i, "checks", j), check, CHECKS, problems)
            _check_tasks(paper, ("claims", i, "checks", j), check, protocols, problems)
            _check_words(paper, ("claims", i, "checks", j), check, problems)
            _check_pairs(paper, ("claims", i, "checks", j), check, problems)


def _check_tasks(
    paper: Source, at: tuple, item: dict, protocols: dict[str, Source], problems: Problems
) -> None:
    """A table, plot or check must name a protocol, and tasks that it has."""
    name = item.get("protocol")
    if name is None:
        return
    if name not in protocols:
        problems.add(paper.where(*at, "protocol"), f"unknown protocol '{name}'; {nearest(name, protocols)}")
        return
    protocol = protocols[name].data
    known = [
        *protocol.get("tasks", protocol.get("corpora", {})),
        *(["average"] if "average" in protocol else []),
    ]
    for key in ("task", "tasks"):
        for task in [item[key]] if isinstance(item.get(key), str) else item.get(key, []):
            if task not in known:
                problems.add(
                    paper.where(*at, key), f"protocol '{name}' has no task '{task}'; {nearest(task, known)}"
                )


def _check_words(paper: Source, at: tuple, item: dict, problems: Problems) -> None:
    """Only what can be told of a training may be asked of it, and of a run its facts."""
    for key, (noun, known) in WORDS.items():
        for name in [item[key]] if isinstance(item.get(key), str) else item.get(key, []):
            if name not in known:
                problems.add(
                    paper.where(*at, key), f"unknown {noun} '{name}'; {nearest(name, sorted(known))}"
                )


def _check_pairs(paper: Source, at: tuple, item: dict, problems: Problems) -> None:
    """A win rate is shown, or asked for, of two rows that the experiment has judged."""
    if item.get("kind") != WIN_RATE:
        return
    experiment = paper.data.get("experiments", {}).get(item.get("experiment"), {})
    pairs = experiment.get("judged", {}).get("pairs", [])
    opponents = [AGAINST + right for _, right in pairs]
    for task in (task for task in item.get("tasks", []) if task not in opponents):
        problems.add(paper.where(*at, "tasks"), f"nothing is judged '{task}'; {nearest(task, opponents)}")
    if {"left", "right"} <= set(item) and [item["left"], item["right"]] not in pairs:
        known = [f"{left} {AGAINST}{right}" for left, right in pairs]
        wanted = f"{item['left']} {AGAINST}{item['right']}"
        problems.add(paper.where(*at, "left"), f"'{wanted}' is not judged; {nearest(wanted, known)}")


def _check_kind(paper: Source, at: tuple, item: dict, grammar: dict, problems: Problems) -> None:
    if item["kind"] not in grammar:
        problems.add(
            paper.where(*at, "kind"), f"unknown kind '{item['kind']}'; {nearest(item['kind'], grammar)}"
        )
        return
    _check(paper, at, item, grammar[item["kind"]], problems)


def _check(paper: Source, at: tuple, item: dict, grammar: Any, problems: Problems) -> None:
    known = {"kind", *grammar.required, *grammar.optional, *grammar.either}
    for key in set(item) - known:
        problems.add(paper.where(*at, key), f"unknown key '{key}'; {nearest(key, known)}")
    for key in sorted(set(grammar.required) - set(item)):
        problems.add(paper.where(*at), f"missing key '{key}'")
    if grammar.either and len(grammar.either & set(item)) != 1:
        problems.add(paper.where(*at), f"needs exactly one key of {', '.join(sorted(grammar.either))}")
    experiments = paper.data.get("experiments", {})
    if item.get("experiment") not in experiments:
        problems.add(
            paper.where(*at, "experiment"),
            f"unknown experiment '{item.get('experiment')}'; {nearest(item.get('experiment'), experiments)}",
        )
