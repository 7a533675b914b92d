"""The stage that measures all suites of a run in one job; each finished task is kept at once."""

from __future__ import annotations

import importlib.metadata
import time
from pathlib import Path
from typing import Any

import torch

from reprune.evaluation.answers import SUITE as ANSWERS
from reprune.evaluation.downstream import SUITE as DOWNSTREAM
from reprune.evaluation.downstream import average, declared
from reprune.evaluation.efficiency import SUITE as EFFICIENCY
from reprune.evaluation.head_roles import SUITE as HEAD_ROLES
from reprune.evaluation.response import SUITE as RESPONSE
from reprune.evaluation.translation import SUITE as TRANSLATION
from reprune.plan.identity import canonical
from reprune.plan.paths import SPEED
from reprune.records.files import read_json, write_json, write_text
from reprune.records.progress import Progress
from reprune.records.provenance import provenance
from reprune.records.schema import ITEM_COLUMNS, record
from reprune.records.store import Store
from reprune.stages.bench import Bench
from reprune.stages.job import Job

RESULT = "result.json"
NOT_TOLD = ("variant", "unit", "higher_is_better", "evaluate_s")  # of what lm-eval reports beside
AGAINST_DENSE = ("block_error", EFFICIENCY)
BY_LM_EVAL = (DOWNSTREAM, ANSWERS)
PROGRESS = {  # a task's unit; else windows
    DOWNSTREAM: "tokens",
    EFFICIENCY: "repeats",
    RESPONSE: "rows",
    ANSWERS: "prompts",
    HEAD_ROLES: "sentences",
    TRANSLATION: "sentences",
}
MIN_TIMED_S = 5.0  # shorter work tells the speed of its overhead
FACTS = ("ratio_achieved", "ratio_basis", "ratio_nonembedding", "params", "nonzeros", "bytes") + (
    "compress_s",
    "recover_s",
    "peak_rss_mb",
)


def run(job: Job) -> None:
    """Measure what the store does not have yet, then write the run's records, items and what else is told.

    The lines of text that were scored, of a suite that has some, lie in a folder beside them.
    """
    torch.set_num_threads(job.threads)
    evaluation = Evaluation(job)
    rows, items, examples, told = [], [], [], {}
    for suite in job.params["suites"]:
        results = {task: evaluation.result(suite, task) for task in suite["content"]["tasks"]}
        beside = {task: result["told"] for task, result in results.items() if "told" in result}
        told |= {suite["protocol"]: beside} if beside else {}
        rows += [row for task, result in results.items() for row in evaluation.rows(suite, task, result)]
        if suite["content"]["suite"] == DOWNSTREAM:
            rows += evaluation.absent(suite) + evaluation.average(suite, results)
        here = {"run_id": job.params["run"], "protocol": suite["protocol"]}
        items += [
            {**dict.fromkeys(ITEM_COLUMNS), **here, "task": task, **item}
            for task, result in results.items()
            for item in result["items"]
        ]
        for task, result in results.items():
            examples += [{**here, "task": task, **example} for example in result.get("examples", [])]
            write_lines(job.output["evaluation"], suite, task, result.get("lines", {}))
    found = {"records": rows, "items": items, "examples": examples, "told": told}
    write_json(job.output["evaluation"], found)


def write_lines(evaluation: Path, suite: dict[str, Any], task: str, lines: dict[str, list[str]]) -> None:
    """A text file of each kind of lines; ``sacrebleu REFERENCE -i HYPOTHESIS`` tells the recorded BLEU."""
    for name, texts in lines.items():
        file = evaluation.with_suffix("") / f"{suite['content']['name']}-{task}.{name}.txt"
        write_text(file, "".join(f"{text}\n" for text in texts))


class Evaluation:
    """The measurements of one run: from the store, or made on the bench, and written down as records."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.store = Store(Path(job.params["store"]))
        self.bench = Bench(job)

    def result(self, suite: dict[str, Any], task: str) -> dict[str, Any]:
        """The measurement of one task, from the store or made now."""
        content = suite["content"]
        key = {
            "kind": "evaluation",
            "checkpoint": self.bench.facts["hash"],
            "suite": _content_of(content, task),
            "dtype": self.bench.dtype,
            "dense": self.job.params["model_id"] if content["suite"] in AGAINST_DENSE else None,
            "separator": self.job.params["separator"],
            "lm_eval": importlib.metadata.version("lm-eval") if content["suite"] in BY_LM_EVAL else None,
            "code": self.job.params["suite_code"][content["suite"]],
            **({"threads": self.job.threads} if content["suite"] == EFFICIENCY else {}),
            **_library(content),
        }
        folder = self.store.get(key)
        if folder is None:
            measured = self._measure(content, task)
            folder = self.store.put(key, lambda target: write_json(target / RESULT, measured))
        measured = read_json(folder / RESULT)
        if content["suite"] != DOWNSTREAM:
            return measured
        where = f"protocol {content['name']}, task {task},"
        told = {key: measured[key] for key in ("evaluate_s", "data_hash")}
        return {**declared(measured, content["tasks"][task]["metric"], where), **told}

    def _measure(self, content: dict[str, Any], task: str) -> dict[str, Any]:
        start = time.monotonic()
        label = f"{self.job.params['label']} {content['suite']} {task}"
        say = Progress(label, PROGRESS.get(content["suite"], "windows"), self.job.log)
        measured = self.bench.measure(content, task, say)
        seconds = time.monotonic() - start
        if content["suite"] == "perplexity" and seconds > MIN_TIMED_S:
            self._note_speed(content["window"] * measured["n"] / seconds)
        if measured.get("truncated"):
            print(f"{task}: {_cut(measured)}", file=self.job.log)
        return {**measured, "evaluate_s": seconds}

    def _note_speed(self, tokens_per_second: float) -> None:
        """Tell later plans how fast this machine is; an estimate's basis, never a result."""
        flops = 2.0 * self.bench.facts["params"] * tokens_per_second / self.job.threads
        write_json(SPEED, {"flops": flops})

    def rows(self, suite: dict[str, Any], task: str, result: dict[str, Any]) -> list[dict[str, Any]]:
        """The records of a measured task: its declared metric, then what else was measured beside it."""
        told = {key: result.get(key) for key in ("metric", "variant", "unit", "value", "stderr", "n")}
        told |= {"higher_is_better": result["higher_is_better"], "evaluate_s": result["evaluate_s"]}
        told |= {"data_source": self._source(suite, task), "data_hash": result["data_hash"]}
        status = {
            "status": "diverged" if result["reason"] else "ok",
            "reason": result["reason"] or _cut(result),
        }
        others = [
            {"metric": name, "value": value, "stderr": stderr} | dict.fromkeys(NOT_TOLD)
            for name, (value, stderr) in result.get("others", {}).items()
        ]
        others += [{**other, "evaluate_s": None} for other in result.get("beside", [])]
        return [self._record(suite, task, **{**told, **status, **other}) for other in ({}, *others)]

    def absent(self, suite: dict[str, Any]) -> list[dict[str, Any]]:
        """A visible row for every task whose data could not be had, or that the scale skips."""
        because = "" if "skip" in suite["content"] else "no data: "
        return [
            self._record(
                suite,
                task,
                metric="accuracy",
                higher_is_better=True,
                status="skipped",
                reason=because + reason,
            )
            for task, reason in suite["content"]["unavailable"].items()
        ]

    def average(self, suite: dict[str, Any], results: dict[str, dict]) -> list[dict[str, Any]]:
        """The mean over the tasks the protocol averages, if it does; skipped where one of them is absent."""
        names = suite["content"]["average"]
        if not names:
            return []
        told = {"metric": "accuracy", "unit": "share", "higher_is_better": True}
        absent = [name for name in names if name not in results]
        if absent:
            lacking = f"an average over {len(names)} tasks lacks {', '.join(absent)}"
            reason = suite["content"].get("skip", lacking)
            return [self._record(suite, "average", **told, status="skipped", reason=reason)]
        broken = [name for name in names if results[name]["value"] is None]
        if broken:
            reason = f"not finite: {', '.join(broken)}"
            return [self._record(suite, "average", **told, status="diverged", reason=reason)]
        value, stderr, n = average([results[name] for name in names])
        told |= {"value": value, "stderr": stderr, "n": n}
        return [self._record(suite, "average", **told, status="ok")]

    def _source(self, suite: dict[str, Any], task: str) -> str | None:
        spec = suite["content"]["tasks"][task]
        if suite["content"]["suite"] == EFFICIENCY:
            return None
        if suite["content"]["suite"] == DOWNSTREAM:
            return self.job.params["tasks"][spec["data"]]["source"]
        return self.job.params["corpora"][spec["corpus"]]["source"]

    def _record(self, suite: dict[str, Any], task: str, **told: Any) -> dict[str, Any]:
        spec, facts = self.job.params, self.bench.facts
        return record(
            **spec["columns"],
            **provenance(),
            suite=suite["content"]["suite"],
            protocol=suite["protocol"],
            task=task,
            **told,
            dtype=self.bench.dtype,
            threads=self.job.threads,
            batch_size=_batch_size(suite["content"], task, spec["batch_size"]),
            model_hash=facts["hash"],
            settings=canonical(spec["settings"]),
            code=spec["checkpoint_code"] + "+" + spec["code"],
            **{key: facts.get(key) for key in FACTS},  # only a recovery took recover_s
        )


def _content_of(content: dict[str, Any], task: str) -> dict[str, Any]:
    """What of a protocol determines the measurement of one task."""
    spec = content["tasks"][task]
    if content["suite"] != DOWNSTREAM:
        return {**content, "tasks": {task: spec}}
    kept = {key: content[key] for key in ("suite", "special_tokens", "chat_template", "seed", "limit")}
    return {**kept, "data": spec["data"], "shots": spec["shots"]}


def _library(content: dict[str, Any]) -> dict[str, str]:
    """The version of the library that scores translations, or parses their sources."""
    name = {TRANSLATION: "sacrebleu", HEAD_ROLES: "spacy"}.get(content["suite"])
    return {name: importlib.metadata.version(name)} if name else {}


def _batch_size(content: dict[str, Any], task: str, usual: int) -> int | None:
    """Of a timed task its own; of translation none, whose batches are of tokens."""
    return None if content["suite"] == TRANSLATION else content["tasks"].get(task, {}).get("batch", usual)


def _cut(result: dict[str, Any]) -> str | None:
    """What a reader should know of a measured value."""
    cut = result.get("truncated")
    told = f"{cut} prompts were longer than the model's window and lost their beginnings" if cut else None
    return result.get("note") or told
