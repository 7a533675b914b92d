"""The parameters of the jobs that bring inputs: fetched, drawn, or models trained here."""

from __future__ import annotations

import dataclasses

from reprune.plan import paths
from reprune.plan.code import fetch_code, stage_code
from reprune.plan.identity import canonical
from reprune.plan.inputs import Corpus
from reprune.plan.plan import Plan


class InputJobs:
    """Parameters of the rules that bring one plan's inputs."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def package(self, name: str) -> str:
        return canonical(
            {
                "what": "package",
                "name": name,
                "spec": self.plan.packages[name],
                "label": f"fetch package {name}",
            }
        )

    def corpus(self, corpus_id: str) -> str:
        return _fetch("corpus", self.plan.corpora[corpus_id])

    def instructions(self, data_id: str) -> str:
        return _fetch("instructions", self.plan.instructions[data_id])

    def parallel(self, data_id: str) -> str:
        return _fetch("parallel", self.plan.parallel[data_id])

    def parser(self, parser_id: str) -> str:
        return _fetch("parser", self.plan.parsers[parser_id])

    def task(self, task_id: str) -> str:
        data = self.plan.tasks[task_id]
        return canonical(
            {
                "what": "task",
                "name": data.name,
                "entry": data.entry,
                "sources": data.sources,
                "files": {split: str(file) for split, file in data.files.items()},
                "archives": {
                    split: self.plan.packages[spec["package"]["package"]]["file"]
                    for split, spec in data.sources.items()
                    if "package" in spec
                },
                "source": data.label,
                "fit": data.fit,
                "code": fetch_code("task"),
                "label": f"fetch task {data.name}",
            }
        )

    def model(self, model_id: str) -> str:
        model = self.plan.models[model_id]
        folder = self.plan.inputs.model_folder(model)
        return canonical(
            {
                "what": "model",
                "content": model.content,
                "facts": dataclasses.asdict(model.facts),
                "source": model.label,
                "folder": str(folder) if folder else None,
                "code": fetch_code("model"),
                "label": f"fetch model {model.name}",
            }
        )

    def train_model(self, model_id: str) -> str:
        """The training of a translation model; it does not depend on who uses the model."""
        model = self.plan.models[model_id]
        recipe = model.content["source"]["trained"]
        return canonical(
            {
                "recipe": {key: value for key, value in recipe.items() if key != "facts"},
                "facts": dataclasses.asdict(model.facts),
                "context": model.context,
                "dtype": model.dtype,
                "source": model.parallel.label,
                "command": self.command(str(paths.MODELS / model_id)),
                "store": str(paths.STORE),
                "code": stage_code("train_model"),
                "label": f"train {model.name}",
            }
        )

    def calibration(self, calibration_id: str) -> str:
        drawn = self.plan.calibrations[calibration_id]
        return canonical(
            {
                "sampler": drawn.sampler,
                "amount": drawn.amount,
                "length": drawn.length,
                "seed": drawn.seed,
                "source": drawn.corpus.label,
                "code": stage_code("calibrate"),
                "label": f"draw calibration {drawn.id}",
            }
        )

    def mixture(self, mixture_id: str) -> str:
        """The drawing of a mixture; domains stand in their order, with the file and source of each part."""
        drawn = self.plan.mixtures[mixture_id]
        return canonical(
            {
                "domains": [
                    {
                        "name": domain.name,
                        "weight": domain.weight,
                        "train": _documents(domain.train),
                        "held_out": _documents(domain.held_out),
                    }
                    for domain in drawn.domains
                ],
                "windows": drawn.windows,
                "held_out": drawn.held_out,
                "length": drawn.length,
                "separator": drawn.model.separator,
                "code": stage_code("mix"),
                "label": f"draw mixture {drawn.id}",
            }
        )

    def command(self, unit: str) -> str:
        options = "" if self.plan.scale == "local" else f" --config scale={self.plan.scale}"
        return f"snakemake --cores all {unit}".rstrip() + options


def _documents(corpus: Corpus) -> dict[str, str]:
    return {"file": str(paths.CORPORA / f"{corpus.id}.parquet"), "source": corpus.label}


def _fetch(what: str, text: Corpus) -> str:
    """The parameters of fetching a corpus or instruction data."""
    return canonical(
        {
            "what": what,
            "content": text.content,
            "source": text.label,
            "fit": text.fit,
            "file": str(text.file) if text.file else None,
            "code": fetch_code(what),
            "label": f"fetch {what} {text.name}",
        }
    )
