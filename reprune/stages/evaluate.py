"""The stage that measures all suites of a run in one job; each finished task is kept at once."""

from __future__ import annotations

import math
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from reprune.data.corpora import documents_hash, read_corpus
from reprune.evaluation.block_error import block_errors
from reprune.evaluation.perplexity import summarise, window_losses
from reprune.evaluation.text import evaluation_windows
from reprune.models.folder import ModelFolder, ModelFolderError
from reprune.plan.identity import canonical
from reprune.plan.paths import SPEED
from reprune.records.files import read_json, write_json
from reprune.records.progress import Progress
from reprune.records.provenance import provenance
from reprune.records.schema import record
from reprune.records.store import Store
from reprune.stages.job import Job

RESULT = "result.json"
MIN_TIMED_S = 5.0  # shorter work tells the speed of its overhead


def run(job: Job) -> None:
    """Measure what the store does not have yet, then write the run's records and per-item values."""
    torch.set_num_threads(job.threads)
    bench = Bench(job)
    rows, items = [], []
    for suite in job.params["suites"]:
        for task in suite["content"]["tasks"]:
            result = bench.result(suite, task)
            rows.append(_record(job, bench, suite, task, result))
            items += [
                {"run_id": job.params["run"], "protocol": suite["protocol"], "task": task, **item}
                for item in result["items"]
            ]
    write_json(job.output["evaluation"], {"records": rows, "items": items})


class Bench:
    """The models, tokenizer and texts of one run, loaded when first needed."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.store = Store(Path(job.params["store"]))
        self.facts = read_json(Path(job.input["facts"]))
        self.dtype = job.params["dtype"]

    def result(self, suite: dict[str, Any], task: str) -> dict[str, Any]:
        """The measurement of one task, from the store or made now."""
        content = {**suite["content"], "tasks": {task: suite["content"]["tasks"][task]}}
        key = {
            "kind": "evaluation",
            "checkpoint": self.facts["hash"],
            "suite": content,
            "dtype": self.dtype,
            "dense": self.job.params["model_id"] if suite["content"]["suite"] == "block_error" else None,
            "separator": self.job.params["separator"],
            "code": self.job.params["code"],
        }
        folder = self.store.get(key)
        if folder is None:
            measured = self._measure(suite["content"], task)
            folder = self.store.put(key, lambda target: write_json(target / RESULT, measured))
        return read_json(folder / RESULT)

    def _measure(self, content: dict[str, Any], task: str) -> dict[str, Any]:
        start = time.monotonic()
        documents = read_corpus(Path(self.corpus(content, task)["file"]))
        windows = evaluation_windows(
            documents, content["tasks"][task], content, self.tokenizer, self.job.params["separator"]
        )
        say = Progress(f"{self.job.params['label']} {content['suite']} {task}", "windows", self.job.log)
        measured = _SUITES[content["suite"]](self, windows, say)
        seconds = time.monotonic() - start
        if content["suite"] == "perplexity" and seconds > MIN_TIMED_S:
            self._note_speed(windows.numel() / seconds)
        return {**measured, "n": len(windows), "data_hash": documents_hash(documents), "evaluate_s": seconds}

    def _note_speed(self, tokens_per_second: float) -> None:
        """Tell later plans how fast this machine is; an estimate's basis, never a result."""
        flops = 2.0 * self.facts["params"] * tokens_per_second / self.job.threads
        write_json(SPEED, {"flops": flops})

    def perplexity(self, windows: torch.Tensor, say: Progress) -> dict[str, Any]:
        """Perplexity and every window's loss."""
        losses = window_losses(self.model, windows, self.job.params["batch_size"], say)
        result = summarise(losses)
        finite = math.isfinite(result.value)
        return {
            "metric": "perplexity",
            "unit": "token",
            "value": result.value if finite else None,
            "stderr": result.stderr if math.isfinite(result.stderr) else None,
            "reason": None if finite else "perplexity is not finite",
            "items": [
                {"metric": "nll", "item": i, "part": None, "value": loss if math.isfinite(loss) else None}
                for i, loss in enumerate(losses)
            ],
        }

    def block_error(self, windows: torch.Tensor, say: Progress) -> dict[str, Any]:
        """Relative error after the last block, and after every block of every window."""
        errors = block_errors(self.dense, self.model, windows, say)
        last = errors[:, -1]
        finite = bool(torch.isfinite(errors).all())
        return {
            "metric": "relative_error",
            "unit": "share",
            "value": last.mean().item() if finite else None,
            "stderr": (last.std() / math.sqrt(len(last))).item() if finite and len(last) > 1 else None,
            "reason": None if finite else "hidden states are not finite",
            "items": [
                {
                    "metric": "relative_error",
                    "item": i,
                    "part": b,
                    "value": errors[i, b].item() if finite else None,
                }
                for i in range(errors.shape[0])
                for b in range(errors.shape[1])
            ],
        }

    @cached_property
    def model(self) -> Any:
        folder = ModelFolder(Path(self.job.input["checkpoint"]))
        if folder.hash() != self.facts["hash"]:
            raise ModelFolderError(
                f"{folder.path}: damaged or cut short since it was written; "
                f"delete {folder.path.parent} and run again"
            )
        return self._load(self.job.input["checkpoint"])

    @cached_property
    def dense(self) -> Any:
        return self._load(self.job.input["model"])

    @cached_property
    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.job.input["model"], trust_remote_code=False)

    def _load(self, folder: str) -> Any:
        from transformers import AutoModelForCausalLM

        return (
            AutoModelForCausalLM.from_pretrained(
                folder, dtype=getattr(torch, self.dtype), trust_remote_code=False
            )
            .eval()
            .requires_grad_(False)
        )

    def corpus(self, content: dict[str, Any], task: str) -> dict[str, str]:
        """File and source of the corpus that a task reads."""
        return self.job.params["corpora"][content["tasks"][task]["corpus"]]


_SUITES = {"perplexity": Bench.perplexity, "block_error": Bench.block_error}


def _record(
    job: Job, bench: Bench, suite: dict[str, Any], task: str, result: dict[str, Any]
) -> dict[str, Any]:
    spec, facts = job.params, bench.facts
    return record(
        **spec["columns"],
        **provenance(),
        suite=suite["content"]["suite"],
        protocol=suite["protocol"],
        task=task,
        metric=result["metric"],
        unit=result["unit"],
        value=result["value"],
        stderr=result["stderr"],
        n=result["n"],
        higher_is_better=False,
        status="diverged" if result["reason"] else "ok",
        reason=result["reason"],
        evaluate_s=result["evaluate_s"],
        dtype=bench.dtype,
        threads=job.threads,
        batch_size=spec["batch_size"],
        data_source=bench.corpus(suite["content"], task)["source"],
        data_hash=result["data_hash"],
        model_hash=facts["hash"],
        settings=canonical(spec["settings"]),
        code=spec["compress_code"] + "+" + spec["code"],
        **{
            key: facts[key]
            for key in (
                "ratio_achieved",
                "ratio_basis",
                "params",
                "nonzeros",
                "bytes",
                "compress_s",
                "peak_rss_mb",
            )
        },
    )
