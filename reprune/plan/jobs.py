"""The parameters of every job as canonical JSON text: equal content, equal text, no rerun."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from reprune.plan import paths
from reprune.plan.code import (
    checkpoint_code,
    method_code,
    recovery_code,
    stage_code,
    suite_code,
)
from reprune.plan.columns import columns, judged_columns, row_facts, skipped_columns
from reprune.plan.fingerprint import ROOT
from reprune.plan.grid import Run
from reprune.plan.identity import canonical
from reprune.plan.input_jobs import InputJobs
from reprune.plan.inputs import Model, file_hash
from reprune.plan.problems import display_path
from reprune.plan.protocols import Suite, joined
from reprune.plan.units import Unit


class Jobs(InputJobs):
    """Parameters of the workflow's rules for one plan."""

    def compress(self, run_id: str) -> str:
        run, compress = self.plan.runs[run_id], self.plan.compress
        return canonical(
            {
                "run": run.id,
                "label": f"compress {run.label}",
                "method_file": _relative(run.method.file),
                "settings": dataclasses.asdict(run.settings),
                "target": dataclasses.asdict(run.target),
                "dense": dataclasses.asdict(run.model.facts),
                "dtype": run.model.dtype,
                "batch_size": compress["batch_size"],
                "store": str(paths.STORE),
                "failure": str(paths.failure_file(run.id)),
                "code": method_code(run.method.file),
            }
        )

    def recover(self, run_id: str) -> str:
        run = self.plan.runs[run_id]
        how, data = run.recoveries[-1]
        return canonical(
            {
                "run": run.id,
                "label": f"recover {run.label}",
                "stage": how.stage,
                "file": how.file,
                "recovery": dataclasses.asdict(how),
                "earlier": len(run.recoveries) - 1,
                "target": dataclasses.asdict(run.target),
                "dense": dataclasses.asdict(run.model.facts),
                "data": data.id,
                "seed": run.seed,
                "dtype": run.model.dtype,
                "store": str(paths.STORE),
                "failure": str(paths.failure_file(run.id)),
                "code": recovery_code(how),
            }
        )

    def evaluate(self, run_id: str, group: str = "") -> str:
        """The evaluation of one group of a run's suites."""
        run = self.plan.runs[run_id]
        suites = list(run.groups[group].values())
        return canonical(
            {
                "run": run.id,
                "label": f"evaluate {run.label}",
                "model_id": run.model.id,
                "separator": run.model.separator,
                "suites": [{"protocol": s.protocol, "content": s.content} for s in suites],
                "corpora": self._texts(suites),
                "tasks": {
                    data.id: {"folder": str(paths.TASKS / data.id), "source": data.label}
                    for suite in suites
                    for data in suite.data.values()
                },
                "parsers": {p.id: str(paths.PARSERS / p.id) for s in suites for p in s.parsers.values()},
                "settings": dataclasses.asdict(run.settings),
                "columns": columns(run),
                "dtype": self.plan.evaluate["dtype"],
                "batch_size": self.plan.evaluate["batch_size"],
                "store": str(paths.STORE),
                "failure": str(paths.failure_file(run.id)),
                "checkpoint_code": checkpoint_code(run),
                "suite_code": {s.suite: suite_code(s.suite) for s in suites},
                "code": stage_code("evaluate"),
            }
        )

    def _texts(self, suites: list[Suite]) -> dict[str, dict[str, str]]:
        """The file and the source of the documents, instructions and parallel texts that suites read."""
        documents = {c: self.plan.corpora[c] for s in suites for c in s.corpora.values()}
        instructions = {i.id: i for s in suites for i in s.instructions.values()}
        parallel = {p.id: p for s in suites for p in s.parallel.values()}
        return {
            text: {"file": str(folder / f"{text}.parquet"), "source": found[text].label}
            for folder, found in (
                (paths.CORPORA, documents),
                (paths.INSTRUCTIONS, instructions),
                (paths.PARALLEL, parallel),
            )
            for text in found
        }

    def judge(self, judgement_id: str) -> str:
        """The comparison of two runs' answers."""
        judgement = self.plan.judgements[judgement_id]
        (data,) = judgement.suite.instructions.values()
        return canonical(
            {
                "label": f"judge {judgement.label}",
                "kind": judgement.judge.kind,
                "protocol": judgement.suite.protocol,
                "columns": judged_columns(judgement),
                "data_source": data.label,
                "dtype": self.plan.evaluate["dtype"],
                "failure": str(paths.judgement_failure(judgement.id)),
                "code": stage_code("judge"),
            }
        )

    def collect(self, unit_name: str) -> str:
        """The unit's info file and its skipped rows."""
        plan, unit = self.plan, self.plan.units[unit_name]
        runs, models = plan.runs_of([unit_name]), self._models(unit)
        data = unit.paper.data
        suites = [suite for run in runs for suite in run.groups[plan.group(unit_name)].values()]
        return canonical(
            {
                "info": {
                    "unit": unit.name,
                    "paper": data["id"],
                    "title": data["title"],
                    "arxiv": data.get("arxiv"),
                    "scale": plan.scale,
                    "scale_title": plan.scale_title,
                    "output": str(paths.RESULTS / plan.out),
                    "summary": data["summary"],
                    "substitutions": data.get("substitutions", []),
                    "model_titles": {m.name: m.title for m in models},
                    "model_notes": {m.name: m.note for m in models if m.note},
                    "published_names": {m.name: m.published_as for m in models},
                    "experiments": {
                        name: {
                            "title": data["experiments"][name]["title"],
                            "rows": [row_facts(row) for row in rows],
                            **_judged(unit, name),
                        }
                        for name, rows in unit.experiments.items()
                    },
                    "counts": {table: [row.written() for row in rows] for table, rows in unit.counts.items()},
                    "sources": self._sources(suites, runs),
                    "protocols": self._protocols(suites),
                    "calibrations": {
                        r.calibration.id: {
                            "corpus": r.calibration.corpus.name,
                            **r.calibration.size,
                            "length": r.calibration.length,
                            "seed": r.calibration.seed,
                        }
                        for r in runs
                        if r.calibration
                    },
                    "command": self.command(unit.name),
                },
                "skipped": [
                    skipped_columns(unit.paper.data["id"], row)
                    for rows in unit.experiments.values()
                    for row in rows
                    if row.reason
                ],
                "runs": {r.id: columns(r) for r in runs},
                "bases": self._bases(runs),
                "judgements": {j.id: judged_columns(j) for of in unit.judged.values() for j in of.judgements},
                "partial": plan.partial,
                "code": stage_code("collect"),
                "label": f"collect {unit.name}",
            }
        )

    def _bases(self, runs: list[Run]) -> dict[str, str]:
        """What each of ``runs`` that is recovered goes on from, and what that goes on from."""
        bases = {run.id: run.base for run in runs if run.base}
        earlier = [self.plan.runs[base] for base in bases.values() if self.plan.runs[base].base]
        return {**bases, **(self._bases(earlier) if earlier else {})}

    def _models(self, unit: Unit) -> list[Model]:
        """The models of a unit's rows, those included on which nothing is run."""
        names = dict.fromkeys(row.model for rows in unit.experiments.values() for row in rows)
        names |= dict.fromkeys(row.model.name for rows in unit.counts.values() for row in rows)
        return [self.plan.inputs.model(name, unit.name) for name in names]

    def _protocols(self, suites: list[Suite]) -> dict[str, dict[str, Any]]:
        """Every protocol of some runs with all the tasks that any of them measures."""
        found: dict[str, Suite] = {}
        for suite in suites:
            known = found.get(suite.protocol)
            found[suite.protocol] = joined(known, suite) if known else suite
        return {
            protocol: {**suite.content, "title": self.plan.protocol_titles[suite.name]}
            for protocol, suite in found.items()
        }

    def _sources(self, suites: list[Suite], runs: list[Run]) -> list[dict[str, str]]:
        used = {c for s in suites for c in s.corpora.values()}
        used |= {r.calibration.corpus.id for r in runs if r.calibration}
        used |= {c.id for r in runs for mixture in r.mixtures for c in mixture.corpora}
        used |= {data.id for r in runs for _, data in r.recoveries}
        used |= {i.id for s in suites for i in s.instructions.values()}
        used |= {r.model.parallel.id for r in runs if r.model.parallel}
        used |= {p.id for s in suites for p in (*s.parallel.values(), *s.parsers.values())}
        plan = self.plan
        return [
            {"name": c.name, "role": c.role, "source": c.label, "fit": c.fit, "note": c.note}
            for texts in (plan.corpora, plan.instructions, plan.parallel, plan.parsers)
            for c in texts.values()
            if c.id in used
        ] + _task_sources(suites)

    def view(self, unit_name: str, view: str, stage: str) -> str:
        """Tables, plots or claims of a unit, as ``paper.yaml`` declares them."""
        unit = self.plan.units[unit_name]
        published = unit.paper.path.parent / "published.yaml"
        return canonical(
            {
                "items": unit.views[view],
                "papers": self._papers(unit_name),
                "published": file_hash(published) if published.is_file() else None,
                "code": stage_code(stage),
                "label": f"{stage} {unit_name}",
            }
        )

    def report(self, units: list[str]) -> str:
        """The report of some units."""
        command = self.command(units[0] if len(units) == 1 else "")
        return canonical(
            {
                "units": [
                    {"folder": str(paths.unit_folder(self.plan.out, u)), "papers": self._papers(u)}
                    for u in units
                ],
                "title": "Reprune",
                "scale": self.plan.scale,
                "command": command,
                "code": stage_code("report"),
                "label": "report",
            }
        )

    def _papers(self, unit: str) -> str:
        return _relative(self.plan.units[unit].paper.path.parents[1])


def _judged(unit: Unit, experiment: str) -> dict[str, Any]:
    """Who judged which answers of an experiment; empty for one without a judge."""
    found = unit.judged.get(experiment)
    if found is None:
        return {}
    told = {"name": found.judge.name, "title": found.judge.title, "protocol": found.protocol}
    return {"judged": {**told, "pairs": [list(pair) for pair in found.pairs]}}


def _task_sources(suites: list[Suite]) -> list[dict[str, str]]:
    """The sources of task data, and of the examples in prompts where there are any."""
    found = []
    for data in {d.id: d for s in suites for d in s.data.values()}.values():
        told = {"source": data.label, "fit": data.fit, "note": data.note}
        found.append({"name": data.name, "role": data.role, **told})
        if data.shots:
            told = {key: data.shots[key] for key in ("source", "fit", "note")}
            found.append({"name": data.name, "role": f"{data.title}, examples in the prompt", **told})
    return found


def _relative(file: Path) -> str:
    file = file.resolve()
    return str(file.relative_to(ROOT)) if file.is_relative_to(ROOT) else display_path(file)
