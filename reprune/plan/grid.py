"""From the experiments of a paper to runs: the points of its grid, each with its identity."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from reprune.discovery import MethodEntry
from reprune.method import Target
from reprune.plan.calibration import Calibration, overridden, read_calibration
from reprune.plan.identity import digest, identify, without_defaults
from reprune.plan.inputs import Inputs, Instructions, Model
from reprune.plan.problems import Problems, nearest
from reprune.plan.protocols import Protocols, Suite, joined
from reprune.plan.recovery import Recovery
from reprune.plan.settings import read_recovery, read_settings, read_target
from reprune.plan.source import Source


class Owner(NamedTuple):
    """Who asks for a run: a paper, and the group of units whose suites are measured in one job.

    The group is empty for all that is made by default; what is made on request is its own group, so that
    nobody waits for suites he did not ask for.
    """

    paper: str
    group: str


@dataclass
class Run:
    """One point of a grid; ``groups`` has the suites to measure, by group, ``papers`` those that use it.

    A run with ``recovery`` goes on from the checkpoint of the run ``base``, which rows without recovery
    share, and is trained on ``instructions``.
    """

    id: str
    model: Model
    method: MethodEntry
    settings: Any
    target: Target
    calibration: Calibration | None
    seed: int
    dtype: str
    recovery: Recovery | None = None
    base: str | None = None
    instructions: Instructions | None = None
    groups: dict[str, dict[str, Suite]] = field(default_factory=dict)
    papers: set[str] = field(default_factory=set)

    @property
    def label(self) -> str:
        trained = f" {self.recovery.kind} recovery" if self.recovery else ""
        return f"{self.method.id} {self.target.label}{trained}"

    @property
    def suites(self) -> list[Suite]:
        """The suites of all groups."""
        return [suite for suites in self.groups.values() for suite in suites.values()]

    def evaluation(self, group: str = "") -> str:
        """The name of a group's evaluation: it changes with the suites asked for, the run does not."""
        return digest({key: suite.content for key, suite in self.groups[group].items()})

    def add(self, owner: Owner, suites: dict[str, Suite]) -> None:
        """Note who uses the run, and for which suites."""
        self.papers.add(owner.paper)
        known = self.groups.setdefault(owner.group, {})
        for key, suite in suites.items():
            known[key] = joined(known[key], suite) if key in known else suite


@dataclass(frozen=True)
class Row:
    """One row of an experiment: a run, or a combination that is skipped with its reason."""

    label: str
    method: str
    run: str | None
    seed: int
    model: str
    target: Target
    settings: dict[str, Any]
    published_as: tuple[str, ...]
    suites: tuple[str, ...]
    reason: str | None = None
    recovery: Recovery | None = None


def unit_name(paper: dict[str, Any], experiment: str) -> str:
    """The unit of an experiment: the paper, or one of its own if it is made on request."""
    requested = paper["experiments"][experiment].get("on_request")
    return f"{paper['id']}_{experiment}" if requested else paper["id"]


@dataclass
class Grid:
    """Expands experiments; equal points asked for twice become one run."""

    inputs: Inputs
    protocols: Protocols
    methods: dict[str, MethodEntry]
    values: dict[str, Any]
    compress: dict[str, Any]
    problems: Problems
    runs: dict[str, Run] = field(default_factory=dict)

    def expand(self, paper: Source, name: str) -> list[Row]:
        """The rows of experiment ``name`` of a paper; its runs are added to :attr:`runs`."""
        experiment = paper.data["experiments"][name]
        at = ("experiments", name)
        models = [
            m
            for m in (
                self.inputs.model(model, paper.where(*at, "models"))
                for model in self._value(paper, at, experiment, "models", "$models")
            )
            if m
        ]
        targets = self._targets(paper, at, experiment)
        seeds = self._value(paper, at, experiment, "seeds", "$seeds")
        calibration = self._value(paper, at, experiment, "calibration", "$calibration")
        entries = experiment["methods"] if experiment["methods"] != "all" else self._serving(targets)
        self._check_labels(paper, at, entries)
        owner = Owner(paper.data["id"], unit_name(paper.data, name) if experiment.get("on_request") else "")
        rows = []
        for model in models:
            suites = self._suites(paper, at, experiment, model)
            for i, entry in enumerate(entries):
                spec = {"method": entry} if isinstance(entry, str) else entry
                place = (*at, "methods", i)
                own = self._targets(paper, place, spec) if "targets" in spec else targets
                drawn = overridden(calibration, self._value(paper, place, spec, "calibration", {}))
                where = paper.where(*place)
                rows += self._entry_rows(spec, where, model, own, drawn, seeds, suites, owner)
        return rows

    def _serving(self, targets: list[Target]) -> list[str]:
        """Dense, and every method whose kinds serve at least one of ``targets``, whatever the model."""
        serving = [
            name
            for name, method in self.methods.items()
            if "none" in method.cls.kinds
            or any(method.cls.own_target(target).kind in method.cls.kinds for target in targets)
        ]
        return sorted(serving, key=lambda name: (name != "dense", name))

    def _check_labels(self, paper: Source, at: tuple, entries: list) -> None:
        """Rows of one label are one method's seeds to every table, so two methods must not share one."""
        labels: set[str] = set()
        for i, spec in enumerate(entries):
            label = spec if isinstance(spec, str) else spec.get("label", spec["method"])
            if label in labels:
                self.problems.add(
                    paper.where(*at, "methods", i), f"label '{label}' is used twice; give one a `label`"
                )
            labels.add(label)

    def _value(self, paper: Source, at: tuple, experiment: dict, key: str, default: Any) -> Any:
        value = experiment.get(key, default)
        if not isinstance(value, str):
            return value
        nothing: dict | list = {} if key == "calibration" else []
        known = {name: found for name, found in self.values.items() if isinstance(found, type(nothing))}
        if value[1:] not in known:
            self.problems.add(
                paper.where(*at, key),
                f"{key} is '{value}', which the scale does not define; " + nearest(value[1:], known),
            )
        return known.get(value[1:], nothing)

    def _targets(self, paper: Source, at: tuple, experiment: dict) -> list[Target]:
        specs = self._value(paper, at, experiment, "targets", "$targets")
        read = [
            read_target(spec, paper.where(*at, "targets", i), self.problems) for i, spec in enumerate(specs)
        ]
        return [target for target in read if target]

    def _suites(self, paper: Source, at: tuple, experiment: dict, model: Model) -> dict[str, Suite]:
        suites = {}
        for i, entry in enumerate(experiment["suites"]):
            spec = {"protocol": entry} if isinstance(entry, str) else entry
            suite = self.protocols.resolve(
                spec["protocol"], spec.get("tasks"), model.context, paper.where(*at, "suites", i)
            )
            if suite:
                suites[suite.protocol] = suite
        return suites

    def _entry_rows(
        self,
        spec: dict,
        where: str,
        model: Model,
        targets: list[Target],
        calibration: dict,
        seeds: list[int],
        suites: dict[str, Suite],
        owner: Owner,
    ) -> list[Row]:
        method = self.methods.get(spec["method"])
        if method is None:
            self.problems.add(
                where, f"unknown method '{spec['method']}'; {nearest(spec['method'], self.methods)}"
            )
            return []
        given = spec.get("settings", {})
        settings = read_settings(method, given, where, self.problems)
        if settings is None:
            return []
        if method.cls.kinds == ("none",):
            targets = [Target()]
        recovery = self._recovery(spec, where)
        instructions = recovery and self.inputs.instructions(recovery.data, where)
        if recovery and instructions is None:
            return []
        if not method.cls.requires_calibration and recovery is None:
            seeds = seeds[:1]
        rows = []
        for target in map(method.cls.own_target, targets):
            refusal = model.skip or method.cls.supports(model.facts, target, settings)
            refusal = refusal or (recovery.supports(target, instructions.rows) if recovery else None)
            for seed in seeds[:1] if refusal else seeds:
                run = (
                    None
                    if refusal
                    else self._run(
                        model,
                        method,
                        settings,
                        target,
                        calibration,
                        seed if method.cls.requires_calibration else seeds[0],
                        where,
                    )
                )
                if run and recovery:
                    run = self._recovered(run, recovery, instructions, seed, where)
                if run:
                    run.add(owner, suites)
                rows.append(
                    Row(
                        spec.get("label", method.id),
                        method.id,
                        run and run.id,
                        seed,
                        model.name,
                        target,
                        given,
                        tuple(spec.get("published_as", [spec.get("label", method.id)])),
                        tuple(suites),
                        str(refusal) if refusal else None,
                        recovery,
                    )
                )
        return rows

    def _run(
        self,
        model: Model,
        method: MethodEntry,
        settings: Any,
        target: Target,
        calibration: dict,
        seed: int,
        where: str,
    ) -> Run:
        drawn = (
            read_calibration(calibration, model, seed, self.inputs, where, self.problems)
            if method.cls.requires_calibration
            else None
        )
        given = dataclasses.asdict(settings)
        defaults = dataclasses.asdict(method.cls.Settings())
        content = {
            "model": model.content,
            "method": method.id,
            "settings": without_defaults(given, defaults),
            "target": dataclasses.asdict(target),
            "calibration": drawn.id if drawn else None,
            **({"seed": seed} if drawn else {}),
            **without_defaults({"dtype": self.compress["dtype"]}, {"dtype": "float32"}),
        }
        run_id = identify(f"{method.id}-{model.name}-{target.label}", content)
        return self.runs.setdefault(
            run_id, Run(run_id, model, method, settings, target, drawn, seed, self.compress["dtype"])
        )

    def _recovery(self, spec: dict, where: str) -> Recovery | None:
        """How a method entry wants to be recovered, with the scale's sizes below its own.

        ``sizes`` names the scale's value they are, ``$recovery`` where it is left out.
        """
        if "recovery" not in spec:
            return None
        given = dict(spec["recovery"])
        sizes = {name: found for name, found in self.values.items() if name.endswith("recovery")}
        named = str(given.pop("sizes", "$recovery"))
        if named[1:] not in sizes and named != "$recovery":
            self.problems.add(
                where, f"sizes is '{named}', which the scale does not define; {nearest(named[1:], sizes)}"
            )
        return read_recovery(given, sizes.get(named[1:], {}), where, self.problems)

    def _recovered(
        self, base: Run, recovery: Recovery, instructions: Instructions, seed: int, where: str
    ) -> Run:
        """The run that goes on from the compression ``base``."""
        if recovery.length > base.model.context:
            self.problems.add(
                where,
                f"recovery on examples of {recovery.length} tokens goes beyond the context of "
                f"{base.model.name}, {base.model.context}",
            )
        content = {
            "base": base.id,
            "recovery": without_defaults(recovery.settings, Recovery().settings),
            "data": instructions.content,
            "seed": seed,
        }
        slug = f"{base.method.id}-{base.model.name}-{base.target.label}-{recovery.kind}"
        made = {"id": identify(slug, content), "seed": seed, "recovery": recovery, "base": base.id}
        run = dataclasses.replace(base, **made, instructions=instructions, groups={}, papers=set())
        return self.runs.setdefault(run.id, run)
