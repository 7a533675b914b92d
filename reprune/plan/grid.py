"""From the experiments of a paper to runs: the points of its grid, each with its identity."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from reprune.discovery import MethodEntry
from reprune.method import Target
from reprune.plan.calibration import Calibration, overridden, read_calibration
from reprune.plan.identity import digest, identify, without_defaults
from reprune.plan.inputs import Inputs, Model, Parallel
from reprune.plan.mixture import MixtureSpec, find_mixture
from reprune.plan.problems import Problems, nearest
from reprune.plan.protocols import Protocols, Suite, joined
from reprune.plan.recoveries import Reader
from reprune.plan.settings import read_settings, read_target
from reprune.plan.source import Source
from reprune.plan.training import PlannedRecovery, Training, refused


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

    A run with ``recoveries`` goes on from the checkpoint of the run ``base``, which has all of them but the
    last; the compression at the end of that chain is shared with rows without recovery. ``mixture`` is what
    the compression trains on, or ``parallel``, of a translation model.
    """

    id: str
    model: Model
    method: MethodEntry
    settings: Any
    target: Target
    calibration: Calibration | None
    seed: int
    dtype: str
    recoveries: tuple[PlannedRecovery, ...] = ()
    base: str | None = None
    mixture: MixtureSpec | None = None
    parallel: Parallel | None = None
    groups: dict[str, dict[str, Suite]] = field(default_factory=dict)
    papers: set[str] = field(default_factory=set)

    @property
    def label(self) -> str:
        trained = f" {' + '.join(self._kinds)} recovery" if self.recoveries else ""
        return f"{self.method.id} {self.target.label}{trained}"

    @property
    def recovery(self) -> Training | None:
        """The recovery that makes this run's checkpoint, the last of its chain."""
        return self.recoveries[-1].how if self.recoveries else None

    @property
    def mixtures(self) -> list[MixtureSpec]:
        """The mixtures that its compression and its recoveries train on."""
        trained_on = [self.mixture, *(data for _, data in self.recoveries)]
        return [data for data in trained_on if isinstance(data, MixtureSpec)]

    @property
    def _kinds(self) -> list[str]:
        return [how.kind for how, _ in self.recoveries]

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
    recoveries: tuple[Training, ...] = ()


def _unfit(method: MethodEntry, model: Model) -> str | None:
    """Why a method is not for a model at all: language models and translation models differ."""
    if method.cls.requires_parallel and model.parallel is None:
        return "is for translation models"
    if model.parallel is not None and not method.cls.requires_parallel and "none" not in method.cls.kinds:
        return "is for language models, not for translation models"
    return None


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
        mixture = experiment.get("mixture", "$mixture")
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
                asked = self._value(paper, place, spec, "seeds", seeds)
                spec = {**spec, "settings": self._settings(paper, place, spec)}
                where = paper.where(*place)
                rows += self._entry_rows(spec, where, model, own, drawn, mixture, asked, suites, owner)
        return rows

    def _serving(self, targets: list[Target]) -> list[str]:
        """Dense, and every method whose kinds serve at least one of ``targets``, whatever the model.

        Methods that train on a mixture are not among them: what they give depends on a budget of tokens.
        Nor are those for translation models.
        """
        serving = [
            name
            for name, method in self.methods.items()
            if not (method.cls.requires_mixture or method.cls.requires_parallel)
            and (
                "none" in method.cls.kinds
                or any(method.cls.own_target(target).kind in method.cls.kinds for target in targets)
            )
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
        nothing: dict | list = {} if key in ("calibration", "settings") else []
        known = {
            name: found
            for name, found in self.values.items()
            if isinstance(found, type(nothing)) and name.endswith("settings") == (key == "settings")
        }
        if value[1:] not in known:
            self.problems.add(
                paper.where(*at, key),
                f"{key} is '{value}', which the scale does not define; " + nearest(value[1:], known),
            )
        return known.get(value[1:], nothing)

    def _settings(self, paper: Source, at: tuple, spec: dict) -> dict[str, Any]:
        """An entry's settings: its own, above those of the scale that it or its key ``sizes`` names."""
        own = self._value(paper, at, spec, "settings", {})
        if "sizes" not in own:
            return own
        below = self._value(paper, (*at, "settings"), {"settings": own["sizes"]}, "settings", {})
        return {**below, **{name: value for name, value in own.items() if name != "sizes"}}

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
                spec["protocol"], spec.get("tasks"), model, paper.where(*at, "suites", i)
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
        mixture: str | dict,
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
        given = spec["settings"]
        settings = read_settings(method, given, where, self.problems)
        if settings is None:
            return []
        if method.cls.kinds == ("none",):
            targets = [Target()]
        reader = Reader(self.values, self.inputs, model, method, mixture, where, self.problems)
        recoveries = reader.read(spec.get("recovery", []))
        if recoveries is None:
            return []
        cls = method.cls
        seeded = cls.requires_calibration or cls.requires_mixture or cls.requires_parallel
        if not seeded and not recoveries:
            seeds = seeds[:1]
        rows = []
        for target in map(method.cls.own_target, targets):
            refusal = model.skip or _unfit(method, model) or cls.supports(model.facts, target, settings)
            refusal = refusal or refused(recoveries, target)
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
                        mixture,
                        seed if seeded else seeds[0],
                        where,
                    )
                )
                if run:
                    run = self._recovered(run, recoveries, seed)
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
                        tuple(how for how, _ in recoveries),
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
        mixture: str | dict,
        seed: int,
        where: str,
    ) -> Run:
        drawn = (
            read_calibration(calibration, model, seed, self.inputs, where, self.problems)
            if method.cls.requires_calibration
            else None
        )
        domains = (
            find_mixture(mixture, self.values, model, self.inputs, where, self.problems)
            if method.cls.requires_mixture
            else None
        )
        pairs = model.parallel if method.cls.requires_parallel else None
        given = dataclasses.asdict(settings)
        defaults = dataclasses.asdict(method.cls.Settings())
        content = {
            "model": model.content,
            "method": method.id,
            "settings": without_defaults(given, defaults),
            "target": dataclasses.asdict(target),
            "calibration": drawn.id if drawn else None,
            **({"mixture": domains.id} if domains else {}),
            **({"parallel": pairs.id} if pairs else {}),
            **({"seed": seed} if drawn or domains or pairs else {}),
            **without_defaults({"dtype": self.compress["dtype"]}, {"dtype": "float32"}),
        }
        run_id = identify(f"{method.id}-{model.name}-{target.label}", content)
        dtype = self.compress["dtype"]
        run = Run(
            run_id, model, method, settings, target, drawn, seed, dtype, mixture=domains, parallel=pairs
        )
        return self.runs.setdefault(run_id, run)

    def _recovered(self, run: Run, recoveries: tuple[PlannedRecovery, ...], seed: int) -> Run:
        """The run that goes on from the compression ``run`` by these recoveries, one after the other."""
        for how, data in recoveries:
            chain = (*run.recoveries, PlannedRecovery(how, data))
            content = {"base": run.id, **how.identity(data), "seed": seed}
            slug = f"{run.method.id}-{run.model.name}-{run.target.label}-{'-'.join(h.kind for h, _ in chain)}"
            made = {"id": identify(slug, content), "seed": seed, "recoveries": chain, "base": run.id}
            after = dataclasses.replace(run, **made, groups={}, papers=set())
            run = self.runs.setdefault(after.id, after)
        return run
