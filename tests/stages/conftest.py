"""The stages run in this process, one after another, as the workflow's rules run them."""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reprune.plan import paths
from reprune.plan.grid import Run
from reprune.plan.jobs import Jobs
from reprune.plan.plan import Plan
from reprune.stages.job import Job


class Workbench:
    """Runs stages of a plan below the working directory. Each returns the path it wrote."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.jobs, self.log, self.threads = plan, Jobs(plan), io.StringIO(), 1

    def stage(self, name: str, params: str, inputs: dict[str, Any], outputs: dict[str, Path]) -> None:
        job = Job(
            json.loads(params),
            {k: str(v) if isinstance(v, Path) else v for k, v in inputs.items()},
            outputs,
            self.threads,
            self.log,
        )
        importlib.import_module(f"reprune.stages.{name}").run(job)

    def run(self, method: str, **wanted: Any) -> Run:
        return next(
            run
            for run in self.plan.runs.values()
            if run.method.id == method and all(getattr(run, key) == value for key, value in wanted.items())
        )

    def corpus(self, corpus_id: str) -> Path:
        file = paths.CORPORA / f"{corpus_id}.parquet"
        if not file.exists():
            self.stage(
                "fetch",
                self.jobs.corpus(corpus_id),
                {},
                {"documents": file, "facts": file.with_suffix(".json")},
            )
        return file

    def task(self, task_id: str) -> Path:
        folder = paths.TASKS / task_id
        if not folder.exists():
            self.stage(
                "fetch",
                self.jobs.task(task_id),
                {},
                {"folder": folder, "facts": folder.with_suffix(".json")},
            )
        return folder

    def model(self, model_id: str) -> Path:
        folder, model = paths.MODELS / model_id, self.plan.models[model_id]
        outputs = {"folder": folder, "facts": paths.MODELS / f"{model_id}.json"}
        if not folder.exists() and model.kind == "trained":
            inputs = {"parallel": self.parallel(model.parallel.id)}
            self.stage("train_model", self.jobs.train_model(model_id), inputs, outputs)
        elif not folder.exists():
            self.stage("fetch", self.jobs.model(model_id), {}, outputs)
        return folder

    def calibration(self, run: Run) -> Path:
        drawn = run.calibration
        file = paths.CALIBRATION / f"{drawn.id}.safetensors"
        if not file.exists():
            self.stage(
                "calibrate",
                self.jobs.calibration(drawn.id),
                {"documents": self.corpus(drawn.corpus.id), "model": self.model(run.model.id)},
                {"windows": file, "facts": file.with_suffix(".json")},
            )
        return file

    def compress(self, run: Run) -> Path:
        folder = paths.RUNS / run.id / "checkpoint"
        inputs = {"model": self.model(run.model.id), "model_facts": paths.MODELS / f"{run.model.id}.json"}
        if run.calibration:
            inputs["calibration"] = self.calibration(run)
        if run.mixture:
            inputs["mixture"] = self.mixture(run.mixture.id)
        if run.parallel:
            inputs["parallel"] = self.parallel(run.parallel.id)
        self.stage(
            "compress",
            self.jobs.compress(run.id),
            inputs,
            {"checkpoint": folder, "facts": folder.with_suffix(".json")},
        )
        return folder

    def instructions(self, data_id: str) -> Path:
        file = paths.INSTRUCTIONS / f"{data_id}.parquet"
        if not file.exists():
            params = self.jobs.instructions(data_id)
            self.stage("fetch", params, {}, {"rows": file, "facts": file.with_suffix(".json")})
        return file

    def parallel(self, data_id: str) -> Path:
        file = paths.PARALLEL / f"{data_id}.parquet"
        if not file.exists():
            params = self.jobs.parallel(data_id)
            self.stage("fetch", params, {}, {"pairs": file, "facts": file.with_suffix(".json")})
        return file

    def mixture(self, mixture_id: str) -> Path:
        drawn = self.plan.mixtures[mixture_id]
        file = paths.MIXTURES / f"{mixture_id}.safetensors"
        if not file.exists():
            inputs = {"model": self.model(drawn.model.id)}
            inputs["documents"] = [str(self.corpus(corpus.id)) for corpus in drawn.corpora]
            outputs = {"windows": file, "facts": file.with_suffix(".json")}
            self.stage("mix", self.jobs.mixture(mixture_id), inputs, outputs)
        return file

    def recover(self, run: Run) -> Path:
        """Makes first what it goes on from, if there is no checkpoint of that."""
        base, folder = (paths.RUNS / run_id / "checkpoint" for run_id in (run.base, run.id))
        if not base.exists():
            before = self.plan.runs[run.base]
            (self.recover if before.base else self.compress)(before)
        how, data = run.recoveries[-1]
        inputs = {
            "base": base,
            "base_facts": paths.checkpoint_facts(run.base),
            how.file: getattr(self, how.file)(data.id),
            "model": self.model(run.model.id),
        }
        outputs = {"checkpoint": folder, "facts": folder.with_suffix(".json")}
        self.stage("recover", self.jobs.recover(run.id), inputs, outputs)
        return folder

    def evaluate(self, run: Run, **changed: Any) -> Path:
        """Compresses first if there is no checkpoint; ``changed`` are parameters other than the plan's."""
        checkpoint = paths.RUNS / run.id / "checkpoint"
        if not checkpoint.exists():
            self.compress(run)
        for suite in run.suites:
            for corpus in suite.corpora.values():
                self.corpus(corpus)
            for data in suite.data.values():
                self.task(data.id)
            for data in suite.instructions.values():
                self.instructions(data.id)
            for data in suite.parallel.values():
                self.parallel(data.id)
        output = paths.RUNS / run.id / f"evaluation-{run.evaluation()}.json"
        params = json.dumps({**json.loads(self.jobs.evaluate(run.id)), **changed})
        self.stage(
            "evaluate",
            params,
            {
                "checkpoint": checkpoint,
                "facts": checkpoint.with_suffix(".json"),
                "model": self.model(run.model.id),
            },
            {"evaluation": output},
        )
        return output

    def judge(self, judgement_id: str) -> Path:
        """Compares the answers of two runs that were evaluated."""
        judgement = self.plan.judgements[judgement_id]
        sides = {"left": judgement.left, "right": judgement.right}
        inputs = {
            side: paths.evaluation_file(run.id, run.evaluation(judgement.group))
            for side, run in sides.items()
        }
        output = paths.judgement_file(judgement_id)
        inputs["model"] = self.model(judgement.model.id)
        self.stage("judge", self.jobs.judge(judgement_id), inputs, {"judgement": output})
        return output

    def collect(self, unit: str, runs: list[Run]) -> Path:
        folder = paths.unit_folder(self.plan.out, unit)
        facts = [str(paths.RUNS / run.id / "checkpoint.json") for run in runs]
        evaluations = [str(paths.RUNS / run.id / f"evaluation-{run.evaluation()}.json") for run in runs]
        self.stage(
            "collect",
            self.jobs.collect(unit),
            {"evaluations": evaluations, "facts": facts, "judgements": self._judged(unit)},
            {
                "records": folder / "records.parquet",
                "csv": folder / "records.csv",
                "per_item": folder / "items.parquet",
                "layers": folder / "layers.parquet",
                "notes": folder / "notes.json",
                "unit": folder / "unit.json",
            },
        )
        return folder

    def _judged(self, unit: str) -> list[str]:
        files = [
            paths.judgement_file(j.id) for of in self.plan.units[unit].judged.values() for j in of.judgements
        ]
        return [str(file) for file in files if file.exists()]


@pytest.fixture
def bench(project) -> Callable[..., Workbench]:
    """A workbench for the small paper; configuration as for a plan."""
    return lambda **config: Workbench(project.plan(**config))
