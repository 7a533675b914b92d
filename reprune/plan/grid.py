"""From the experiments of a paper to runs: the points of its grid, each with its identity."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from reprune.discovery import MethodEntry
from reprune.method import Target
from reprune.plan.identity import digest, identify, without_defaults
from reprune.plan.inputs import Corpus, Inputs, Model
from reprune.plan.problems import Problems, nearest
from reprune.plan.protocols import Protocols, Suite, joined
from reprune.plan.settings import read_settings, read_target
from reprune.plan.source import Source

SAMPLERS = {"document_crop"}


@dataclass(frozen=True)
class Calibration:
    """Token windows to draw: ``windows`` of ``length`` tokens of ``corpus`` with ``seed``."""

    id: str
    corpus: Corpus
    model: Model
    windows: int
    length: int
    seed: int
    sampler: str

    @property
    def tokens(self) -> int:
        return self.windows * self.length


class Owner(NamedTuple):
    """Who asks for a run: a paper, and the group of units whose suites are measured in one job.

    The group is empty for all that is made by default; what is made on request is its own group, so that
    nobody waits for suites he did not ask for.
    """

    paper: str
    group: str


@dataclass
class Run:
    """One point of a grid; ``groups`` has the suites to measure, by group, ``papers`` those that use it."""

    id: str
    model: Model
    method: MethodEntry
    settings: Any
    target: Target
    calibration: Calibration | None
    seed: int
    dtype: str
    groups: dict[str, dict[str, Suite]] = field(default_factory=dict)
    papers: set[str] = field(default_factory=set)

    @property
    def label(self) -> str:
        return f"{self.method.id} {self.target.label}"

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
        entries = (
            experiment["methods"]
            if experiment["methods"] != "all"
            else sorted(self.methods, key=lambda m: (m != "dense", m))
        )
        self._check_labels(paper, at, entries)
        owner = Owner(paper.data["id"], unit_name(paper.data, name) if experiment.get("on_request") else "")
        rows = []
        for model in models:
            suites = self._suites(paper, at, experiment, model)
            for i, entry in enumerate(entries):
                spec = {"method": entry} if isinstance(entry, str) else entry
                where = paper.where(*at, "methods", i)
                rows += self._entry_rows(spec, where, model, targets, calibration, seeds, suites, owner)
        return rows

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

    def _value(self, paper: Source, at: tuple, experiment: dict, key: str, default: str) -> Any:
        value = experiment.get(key, default)
        if not isinstance(value, str):
            return value
        if value[1:] not in self.values:
            self.problems.add(
                paper.where(*at, key),
                f"{key} is '{value}', which the scale does not define; " + nearest(value[1:], self.values),
            )
            return {} if key == "calibration" else []
        return self.values[value[1:]]

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
        if not method.cls.requires_calibration:
            seeds = seeds[:1]
        rows = []
        for target in targets:
            refusal = method.cls.supports(model.facts, target, settings)
            for seed in seeds[:1] if refusal else seeds:
                run = (
                    None
                    if refusal
                    else self._run(
                        model,
                        method,
                        settings,
                        target,
                        {**calibration, **spec.get("calibration", {})},
                        seed,
                        suites,
                        owner,
                        where,
                    )
                )
                rows.append(
                    Row(
                        spec.get("label", method.id),
                        method.id,
                        run,
                        seed,
                        model.name,
                        target,
                        given,
                        tuple(spec.get("published_as", [spec.get("label", method.id)])),
                        tuple(suites),
                        str(refusal) if refusal else None,
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
        suites: dict[str, Suite],
        owner: Owner,
        where: str,
    ) -> str:
        drawn = (
            self._calibration(model, calibration, seed, where) if method.cls.requires_calibration else None
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
        run = self.runs.setdefault(
            run_id, Run(run_id, model, method, settings, target, drawn, seed, self.compress["dtype"])
        )
        run.add(owner, suites)
        return run_id

    def _calibration(self, model: Model, spec: dict, seed: int, where: str) -> Calibration | None:
        if not {"corpus", "windows", "length"} <= set(spec):
            self.problems.add(where, "the method needs a calibration with corpus, windows and length")
            return None
        corpus = self.inputs.corpus(spec["corpus"], where)
        if corpus is None:
            return None
        if spec["length"] > model.context:
            self.problems.add(
                where,
                f"calibration windows of {spec['length']} tokens are longer than the context "
                f"of {model.name}, {model.context}",
            )
        sampler = spec.get("sampler", "document_crop")
        if sampler not in SAMPLERS:
            self.problems.add(where, f"unknown sampler '{sampler}'; {nearest(sampler, SAMPLERS)}")
        content = {
            "corpus": corpus.content,
            "tokenizer": model.content["source"],
            "windows": spec["windows"],
            "length": spec["length"],
            "seed": seed,
            "sampler": sampler,
        }
        return Calibration(
            identify(f"{corpus.name}-{spec['windows']}x{spec['length']}-s{seed}", content),
            corpus,
            model,
            spec["windows"],
            spec["length"],
            seed,
            sampler,
        )
