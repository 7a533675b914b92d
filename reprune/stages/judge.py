"""The stage that has the answers of two runs compared by a judge, in both orders."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from reprune.evaluation.answers import SUITE as ANSWERS
from reprune.evaluation.judge import JUDGES, Judge, Question, preferences
from reprune.models.checkpoint import load_model
from reprune.models.folder import load_tokenizer
from reprune.plan.grammar import WIN_RATE
from reprune.records.files import read_json, write_json
from reprune.records.progress import Progress
from reprune.records.provenance import provenance
from reprune.records.schema import ITEM_COLUMNS, record
from reprune.stages.job import Job, JobError

SHOWN = ("first", "second")  # where the left answer stands, by the part of an item

Items = list[dict[str, Any]]


def run(job: Job) -> None:
    """Compare the answers and write the records of the left run's win rate, with every comparison."""
    torch.set_num_threads(job.threads)
    spec = job.params
    left, right = (_answers(Path(job.input[side]), spec["protocol"]) for side in ("left", "right"))
    if [item["prompt_hash"] for item in left] != [item["prompt_hash"] for item in right]:
        raise JobError(f"{spec['label']}: the two runs did not answer the same prompts")
    start = time.monotonic()
    found = _compared(_judge(job), left, right, Progress(spec["label"], "prompts", job.log))
    told = {
        "evaluate_s": time.monotonic() - start,
        "data_source": spec["data_source"],
        "dtype": spec["dtype"],
        "threads": job.threads,
        "code": spec["code"],
        "higher_is_better": True,
        "status": "ok",
    }
    records = [record(**spec["columns"], **provenance(), **told, **rate) for rate in _rates(found)]
    items = [
        _item(spec["columns"], item, part, value)
        for item, shown in zip(left, found, strict=True)
        for part, value in enumerate(shown)
    ]
    write_json(job.output["judgement"], {"records": records, "items": items})


def _answers(evaluation: Path, protocol: str) -> Items:
    """A run's answers by the number of their prompt."""
    found = [item for item in read_json(evaluation)["items"] if item["protocol"] == protocol]
    if not found:
        raise JobError(f"{evaluation} has no {ANSWERS} by {protocol}")
    return sorted(found, key=lambda item: item["item"])


def _judge(job: Job) -> Judge:
    model = load_model(Path(job.input["model"]), getattr(torch, job.params["dtype"]))
    return JUDGES[job.params["kind"]](model, load_tokenizer(job.input["model"]))


def _compared(judge: Judge, left: Items, right: Items, say: Progress) -> list[tuple[float, float]]:
    """How far each left answer is preferred, shown first and shown second."""
    found = []
    for own, other in zip(left, right, strict=True):
        told, against = (json.loads(item["responses"]) for item in (own, other))
        question = Question(told["request"], told["prompt"])
        found.append(preferences(judge, question, told["answer"], against["answer"]))
        say(len(found), len(left))
    return found


def _rates(found: list[tuple[float, float]]) -> list[dict[str, Any]]:
    """The win rate, the mean of both orders with its error over prompts, and that of each order."""
    means = [statistics.fmean(shown) for shown in found]
    columns = {WIN_RATE: means}
    columns |= {f"{WIN_RATE}_{name}": [shown[i] for shown in found] for i, name in enumerate(SHOWN)}
    return [
        {
            "metric": metric,
            "unit": "share",
            "value": statistics.fmean(values),
            "stderr": statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None,
            "n": len(values),
        }
        for metric, values in columns.items()
    ]


def _item(columns: dict[str, Any], answer: dict[str, Any], part: int, value: float) -> dict[str, Any]:
    told = {"metric": WIN_RATE, "item": answer["item"], "part": part, "value": value}
    told |= {key: columns[key] for key in ("run_id", "protocol", "task")}
    told |= {key: answer[key] for key in ("doc_hash", "prompt_hash")}
    return {**dict.fromkeys(ITEM_COLUMNS), **told}
