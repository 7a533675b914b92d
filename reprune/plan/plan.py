"""The plan: everything a workflow run will do, computed from configuration alone, instantly."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reprune.discovery import MethodEntry, MethodFileError, load_method, method_files
from reprune.method import Target
from reprune.plan.calibration import Calibration, calibration_fault
from reprune.plan.counts import read_counts
from reprune.plan.grid import Grid, Row, Run
from reprune.plan.hardware import evaluation_dtype
from reprune.plan.inputs import Corpus, Inputs, Instructions, Model, Parallel
from reprune.plan.judging import Judgement, read_judged
from reprune.plan.mixture import MixtureSpec, check_mixtures
from reprune.plan.problems import Problems, display_path, nearest
from reprune.plan.protocols import DOWNSTREAM, SIZES, Protocols
from reprune.plan.source import Source, read_source, validate
from reprune.plan.tasks import TaskData, Tasks
from reprune.plan.units import Unit, check_views, units_of

ROOT = Path(__file__).parents[2]


@dataclass
class Plan:
    """What will run: runs and units by id, and the inputs they need."""

    scale: str
    scale_title: str
    out: str
    runs: dict[str, Run]
    units: dict[str, Unit]
    corpora: dict[str, Corpus]
    tasks: dict[str, TaskData]
    models: dict[str, Model]
    calibrations: dict[str, Calibration]
    mixtures: dict[str, MixtureSpec]
    instructions: dict[str, Instructions]
    parallel: dict[str, Parallel]
    parsers: dict[str, Corpus]
    judgements: dict[str, Judgement]
    packages: dict[str, dict[str, Any]]
    methods: dict[str, MethodEntry]
    compress: dict[str, Any]
    evaluate: dict[str, Any]
    inputs: Inputs
    mirror: Path | None
    threads: int
    partial: bool
    missing: list[str]
    protocol_titles: dict[str, str]

    def runs_of(self, units: list[str]) -> list[Run]:
        """The distinct runs of some units, in the order they were planned."""
        wanted = {
            row.run
            for unit in units
            for rows in self.units[unit].experiments.values()
            for row in rows
            if row.run
        }
        return [run for run_id, run in self.runs.items() if run_id in wanted]

    def group(self, unit: str) -> str:
        """The group of suites that a unit's runs measure together."""
        return unit if self.units[unit].on_request else ""

    @property
    def default_units(self) -> list[str]:
        """The units behind ``all``: every paper's, less those made on request."""
        return [name for name, unit in self.units.items() if not unit.on_request]


def build_plan(config: dict[str, Any], root: Path = ROOT) -> Plan:
    """Read all configuration below ``root`` and plan.

    ``config`` overrides ``config/config.yaml`` (Snakemake hands over its merged configuration).
    Raises :class:`reprune.plan.problems.ConfigError` with every problem found, one a line.
    """
    problems = Problems()
    settings = _settings(config, root, problems)
    sources = {
        name: read_source(root / "config" / f"{name}.yaml", problems, name)
        for name in ("models", "data", "tasks")
    }
    scale = _scale(settings["scale"], root, problems)
    protocol_files = sorted((root / "config" / "protocols").glob("*.yaml"))
    protocols = {file.stem: read_source(file, problems, "protocol") for file in protocol_files}
    folders = [Path(p) if Path(p).is_absolute() else root / p for p in settings["papers"]]
    methods = _methods(folders, problems)
    if not problems.lines:
        _check_names(scale, protocols, sources, problems)
    usable = not problems.lines  # a wrong paper does not keep the others from being checked
    papers = _papers(folders, problems)
    if not usable:
        problems.raise_if_any()
    inputs = Inputs(
        sources["data"],
        sources["models"],
        _mirror(settings, problems),
        _offline(settings),
        tuple(scale.data.get("sources", ("mirror", "package", "hub"))),
        scale.data.get("corpora", {}),
        problems,
    )
    grid = Grid(
        inputs,
        Protocols(
            protocols,
            scale.data.get("protocols", {}),
            inputs,
            Tasks(sources["tasks"], inputs, problems),
            problems,
        ),
        methods,
        scale.data["values"],
        scale.data["compress"],
        problems,
    )
    units: dict[str, Unit] = {}
    for paper in papers:
        check_views(paper, protocols, problems)
        rows = {name: grid.expand(paper, name) for name in paper.data.get("experiments", {})}
        judged = {name: read_judged(paper, name, found, grid) for name, found in rows.items()}
        counts = read_counts(paper, inputs, methods, problems)
        units.update(units_of(paper, rows, counts, {name: of for name, of in judged.items() if of}))
    _check_held_out(grid, problems)
    problems.raise_if_any()
    return _assemble(settings, scale, grid, units, methods, inputs)


def _settings(config: dict, root: Path, problems: Problems) -> dict[str, Any]:
    source = read_source(root / "config" / "config.yaml", problems, "config")
    problems.raise_if_any()
    merged = Source(source.path, {**source.data, **{k: _plain(v) for k, v in config.items()}}, source.lines)
    validate(merged, "config", problems)
    problems.raise_if_any()
    return merged.data


def _plain(value: Any) -> Any:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def _scale(name: str, root: Path, problems: Problems) -> Source:
    folder = root / "config" / "scales"
    known = [file.stem for file in folder.glob("*.yaml")]
    if name not in known:
        problems.add("scale", f"unknown scale '{name}'; {nearest(name, known)}")
        problems.raise_if_any()
    scale = read_source(folder / f"{name}.yaml", problems, "scale")
    problems.raise_if_any()
    return scale


def _check_names(
    scale: Source, protocols: dict[str, Source], sources: dict[str, Source], problems: Problems
) -> None:
    """A scale refers to much by name; a misspelt name would silently change nothing."""
    models, corpora = sources["models"].data, sources["data"].data["corpora"]
    values = scale.data["values"]
    named = [(("protocols", name), "protocol", name, protocols) for name in scale.data.get("protocols", {})]
    for name, stand_in in scale.data.get("corpora", {}).items():
        named += [(("corpora", name), "corpus", wanted, corpora) for wanted in (name, stand_in)]
    for name, spec in values.items():
        if isinstance(spec, list) and all(isinstance(item, str) for item in spec):
            named += [(("values", name, i), "model", model, models) for i, model in enumerate(spec)]
        if isinstance(spec, dict) and "corpus" in spec:
            named += [(("values", name, "corpus"), "corpus", spec["corpus"], corpora)]
            if wrong := calibration_fault(spec):
                problems.add(scale.where("values", name), wrong)
        if name.endswith("mixture"):
            named += [(("values", name, "data"), "mixture", spec["data"], sources["data"].data["mixtures"])]
        if name.endswith("judge") and "model" in spec:
            named += [(("values", name, "model"), "model", spec["model"], models)]
    for keys, what, wanted, known in named:
        if wanted not in known:
            problems.add(scale.where(*keys), f"unknown {what} '{wanted}'; {nearest(wanted, known)}")
    check_mixtures(sources["data"], problems)
    for name, sizes in scale.data.get("protocols", {}).items():
        known = SIZES[protocols[name].data["suite"]] if name in protocols else sizes
        for size in set(sizes) - set(known):
            problems.add(
                scale.where("protocols", name, size),
                f"protocol '{name}' has no size '{size}'; it has {', '.join(known)}",
            )
    for file, protocol in protocols.items():
        if protocol.data["name"] != file:
            problems.add(protocol.where("name"), f"name is '{protocol.data['name']}', the file is '{file}'")
        for task in protocol.data["tasks"] if protocol.data["suite"] == DOWNSTREAM else ():
            if task not in sources["tasks"].data:
                hint = nearest(task, sources["tasks"].data)
                problems.add(protocol.where("tasks", task), f"unknown task '{task}'; {hint}")
        for i, task in enumerate(protocol.data.get("average", [])):
            if task not in protocol.data["tasks"]:
                hint = nearest(task, protocol.data["tasks"])
                problems.add(
                    protocol.where("average", i), f"'{task}' is none of the protocol's tasks; {hint}"
                )


def _methods(folders: list[Path], problems: Problems) -> dict[str, MethodEntry]:
    methods: dict[str, MethodEntry] = {}
    for name, file in (found for folder in folders for found in method_files([folder]).items()):
        if name in methods:
            problems.add(display_path(file), f"{display_path(methods[name].file)} is method '{name}' already")
            continue
        try:
            methods[name] = load_method(file)
        except MethodFileError as error:
            problems.add(display_path(file), str(error).removeprefix(f"{file}: "))
    return methods


def _papers(folders: list[Path], problems: Problems) -> list[Source]:
    papers = []
    for folder in folders:
        if not folder.is_dir():
            problems.add("papers", f"no folder {display_path(folder)}")
        for file in sorted(folder.glob("*/paper.yaml")):
            source = read_source(file, problems, "paper")
            if source is not None and source.data["id"] != file.parent.name:
                problems.add(
                    source.where("id"), f"id is '{source.data['id']}', the folder is '{file.parent.name}'"
                )
            if source is not None and any(source.data["id"] == other.data["id"] for other in papers):
                problems.add(source.where("id"), f"another folder has a paper '{source.data['id']}' already")
            elif source is not None:
                papers.append(source)
    return sorted(papers, key=_takes_every_method)  # stable: the others keep their order


def _takes_every_method(paper: Source) -> bool:
    return any(e["methods"] == "all" for e in paper.data.get("experiments", {}).values())


def _check_held_out(grid: Grid, problems: Problems) -> None:
    """What a suite scores, or asks for answers to, must be kept from every recovery that it measures."""
    told = set()
    measured = [(run, suite) for run in grid.runs.values() for suite in run.suites]
    for run, suite in measured:
        for task, scored in suite.instructions.items():
            rows = suite.content["tasks"][task]["rows"]
            for how in (how for how, data in run.recoveries if data.id == scored.id):
                kept = how.split(scored.rows)[1]
                if kept < rows and (suite.name, kept) not in told:
                    told.add((suite.name, kept))
                    problems.add(
                        grid.protocols.sources[suite.name].where("limit"),
                        f"{suite.name} scores {rows} rows of {scored.name}, but {run.method.id} is recovered "
                        f"with {kept} of them kept from training; set its `validation` to {rows}",
                    )


def _mirror(settings: dict, problems: Problems) -> Path | None:
    named = settings["mirror"] or os.environ.get("REPRUNE_MIRROR")
    if not named:
        return None
    if not Path(named).is_dir():
        problems.add("mirror", f"{named} is not a folder; leave it empty to use packages and the hub")
    return Path(named)


def _offline(settings: dict) -> bool:
    return bool(settings["offline"]) or os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0")


def _assemble(
    settings: dict,
    scale: Source,
    grid: Grid,
    units: dict[str, Unit],
    methods: dict[str, MethodEntry],
    inputs: Inputs,
) -> Plan:
    runs = grid.runs
    corpora = _corpora(grid)
    tasks = {d.id: d for run in runs.values() for s in run.suites for d in s.data.values()}
    judgements = {j.id: j for unit in units.values() for of in unit.judged.values() for j in of.judgements}
    models = {run.model.id: run.model for run in runs.values()}
    models |= {judgement.model.id: judgement.model for judgement in judgements.values()}
    calibrations = {run.calibration.id: run.calibration for run in runs.values() if run.calibration}
    trained_on = [data for run in runs.values() for _, data in run.recoveries]
    mixtures = {mixture.id: mixture for run in runs.values() for mixture in run.mixtures}
    corpora |= {corpus.id: corpus for mixture in mixtures.values() for corpus in mixture.corpora}
    instructions = {data.id: data for data in trained_on if isinstance(data, Instructions)}
    instructions |= {i.id: i for run in runs.values() for s in run.suites for i in s.instructions.values()}
    parallel = {model.parallel.id: model.parallel for model in models.values() if model.parallel}
    parallel |= {p.id: p for run in runs.values() for s in run.suites for p in s.parallel.values()}
    parsers = {p.id: p for run in runs.values() for s in run.suites for p in s.parsers.values()}
    evaluate = {**scale.data["evaluate"], "dtype": evaluation_dtype(scale.data["evaluate"]["dtype"])}
    texts = (*corpora.values(), *instructions.values(), *parallel.values(), *parsers.values())
    inputs_read = (*texts, *models.values())
    needed = {part["package"] for c in inputs_read for part in _package_parts(c.content)} | {
        package for data in tasks.values() for package in data.packages
    }
    missing = sorted({x.missing for x in inputs_read if x.missing})
    return Plan(
        settings["scale"],
        scale.data["title"],
        settings["scale"] + ("-mirror" if inputs.mirror else ""),
        runs,
        units,
        corpora,
        tasks,
        models,
        calibrations,
        mixtures,
        instructions,
        parallel,
        parsers,
        judgements,
        {name: inputs.data.data["packages"][name] for name in sorted(needed)},
        methods,
        scale.data["compress"],
        evaluate,
        inputs,
        inputs.mirror,
        settings["threads"],
        settings["partial"],
        missing,
        {name: source.data["title"] for name, source in grid.protocols.sources.items()},
    )


def _package_parts(content: dict) -> list[dict]:
    found = [content["package"]] if "package" in content else []
    return found + ([content["source"]["gguf"]] if "gguf" in content.get("source", {}) else [])


def _corpora(grid: Grid) -> dict[str, Corpus]:
    used = {
        run.calibration.corpus.id: run.calibration.corpus for run in grid.runs.values() if run.calibration
    }
    for run in grid.runs.values():
        for suite in run.suites:
            for task in suite.corpora:
                name = grid.protocols.sources[suite.name].data["corpora"][task]["corpus"]
                corpus = grid.inputs.corpus(name, task)
                used[corpus.id] = corpus
    return used


__all__ = ["Plan", "Row", "Target", "build_plan"]
