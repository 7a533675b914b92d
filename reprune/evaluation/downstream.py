"""Downstream tasks through lm-eval: its definitions, prompts, metrics and few-shot samplers, unchanged."""

from __future__ import annotations

import json
import logging
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reprune.data.tasks import task_configs
from reprune.evaluation.text import ProtocolError

SUITE = "downstream"

Examples = list[dict[str, Any]]


def load_tasks(folder: Path, shots: int, seed: int, cache: Path) -> dict[str, Any]:
    """lm-eval's tasks over the data in ``folder``, by name; several where a task has parts.

    ``cache`` takes what the data library writes. Raises :class:`ProtocolError` if there are fewer examples
    to draw than ``shots``, or if they would be drawn from the scored items.
    """
    from lm_eval.api.task import ConfigurableTask

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    tasks = {}
    for name, config in task_configs(folder, cache).items():
        task = ConfigurableTask(config={**config, "num_fewshot": shots})
        task.set_fewshot_seed(seed)
        if shots:
            _check_pool(name, task, shots)
        tasks[name] = task
    return tasks


def _check_pool(name: str, task: Any, shots: int) -> None:
    pool = task.fewshot_docs()
    if pool is None or len(pool) < shots:
        raise ProtocolError(
            f"task {name} is asked for {shots} examples in the prompt, its data has {len(pool or [])}; "
            "ask for fewer, or name a mirror that has its train split"
        )
    if not (task.config.fewshot_split or task.has_training_docs()):
        raise ProtocolError(
            f"task {name} would take its examples from the items it scores; "
            "name a mirror that has its train split"
        )


def examples(lm: Any, tasks: dict[str, Any], limit: int | None, chat_template: bool) -> Examples:
    """Every scored item of ``tasks`` by lm-eval's own evaluation loop.

    An example has ``subtask``, ``item``, hashes of document, prompt and target, ``responses`` (a
    log-likelihood per choice, or the generated text) and ``metrics`` by lm-eval's names; of several
    filters, ``metric,filter`` for those after the first. Raises :class:`ProtocolError` if a chat template is
    asked for and the tokenizer has none.
    """
    from lm_eval.evaluator import evaluate

    if chat_template and not lm.tokenizer.chat_template:
        raise ProtocolError(
            "the protocol asks for a chat template and the model's tokenizer has none; "
            "set `chat_template: false`, or add the template to the tokenizer's folder"
        )
    found = evaluate(
        lm,
        {"tasks": tasks, "groups": {}},
        limit=limit,
        bootstrap_iters=0,
        apply_chat_template=chat_template,
        fewshot_as_multiturn=chat_template,
    )
    return [example for name in tasks for example in _merged(name, found["samples"][name])]


def _merged(subtask: str, samples: list[dict[str, Any]]) -> Examples:
    """One example per document: lm-eval gives one per document and filter."""
    merged: dict[int, dict[str, Any]] = {}
    first = samples[0]["filter"]
    for sample in samples:
        example = merged.setdefault(
            sample["doc_id"],
            {
                "subtask": subtask,
                "item": sample["doc_id"],
                **{key: sample[key] for key in ("doc_hash", "prompt_hash", "target_hash")},
                "responses": _responses(sample["resps"]),
                "metrics": {},
            },
        )
        suffix = "" if sample["filter"] == first else f",{sample['filter']}"
        example["metrics"] |= {
            m + suffix: float(sample[m]) for m in sample["metrics"] if _is_number(sample[m])
        }
    return [merged[item] for item in sorted(merged)]


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float, np.number))


def _responses(responses: list[list[Any]]) -> list[Any]:
    """The first answer to every request: a log-likelihood, or generated text."""
    return [answers[0][0] if isinstance(answers[0], tuple) else answers[0] for answers in responses]


def summary(found: Examples, metric: str) -> tuple[float, float | None]:
    """Mean and its standard error over items of one of lm-eval's metrics (its own formula)."""
    values = np.array([example["metrics"][metric] for example in found])
    stderr = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return float(values.mean()), stderr


def _over_all(tasks: dict[str, Any], found: Examples, metric: str) -> tuple[float, float | None]:
    """A metric by lm-eval's own aggregation; an error only where that is the mean."""
    from lm_eval.api.metrics import mean

    aggregate = next(iter(tasks.values())).aggregation()[metric.partition(",")[0]]
    if aggregate is mean:
        return summary(found, metric)
    return float(aggregate([example["metrics"][metric] for example in found])), None


def score(
    lm: Any, folder: Path, shots: int, content: dict[str, Any], say: Callable[[int, int], None]
) -> dict[str, Any]:
    """What lm-eval finds on a task: its examples, its metrics over all, and how many prompts were cut.

    ``content`` is the resolved protocol, of which ``seed``, ``limit`` and ``chat_template`` count; protocols
    that differ in nothing else share the result. Raises :class:`ProtocolError` as :func:`load_tasks` and
    :func:`examples` do.
    """
    lm.truncated, lm.on_progress = 0, say
    with tempfile.TemporaryDirectory() as cache:
        tasks = load_tasks(folder, shots, content["seed"], Path(cache))
        found = examples(lm, tasks, content["limit"], content["chat_template"])
    broken = sum(not _finite(example) for example in found)
    return {
        "n": len(found),
        "truncated": lm.truncated,
        "reason": f"{broken} of {len(found)} items have log-likelihoods that are not finite"
        if broken
        else None,
        "measured": {m: (None, None) if broken else _over_all(tasks, found, m) for m in found[0]["metrics"]},
        "examples": found,
    }


def declared(scored: dict[str, Any], metric: str, where: str) -> dict[str, Any]:
    """The result by the variant that a protocol declares, with its items; a share of right answers.

    ``where`` names protocol and task. Raises :class:`ProtocolError` if lm-eval has no such metric.
    """
    if metric not in scored["measured"]:
        raise ProtocolError(f"{where} asks for {metric}; lm-eval measures {', '.join(scored['measured'])}")
    value, stderr = scored["measured"][metric]
    return {
        **{key: scored[key] for key in ("n", "truncated", "reason")},
        "metric": "accuracy",
        "variant": metric,
        "unit": "share",
        "value": value,
        "stderr": stderr,
        "higher_is_better": True,
        "others": {name: told for name, told in scored["measured"].items() if name != metric},
        "items": [_item(i, example, metric) for i, example in enumerate(scored["examples"])],
    }


def _finite(example: dict[str, Any]) -> bool:
    return all(isinstance(answer, str) or math.isfinite(answer) for answer in example["responses"])


def _item(number: int, example: dict[str, Any], metric: str) -> dict[str, Any]:
    return {
        "metric": "accuracy",
        "item": number,
        "part": None,
        "value": example["metrics"][metric] if _finite(example) else None,
        **{key: example[key] for key in ("doc_hash", "prompt_hash", "target_hash")},
        "responses": json.dumps(example["responses"]),
    }


def average(results: list[dict[str, Any]]) -> tuple[float, float | None, int]:
    """Unweighted mean over tasks, its standard error (tasks are independent), and the items in all."""
    values = [result["value"] for result in results]
    errors = [result["stderr"] for result in results]
    stderr = float(np.sqrt(np.sum(np.square(errors))) / len(errors)) if None not in errors else None
    return float(np.mean(values)), stderr, sum(result["n"] for result in results)
