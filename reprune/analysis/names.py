"""How records' identifiers are written for people: tasks, metrics and facts of a run."""

from __future__ import annotations

from typing import NamedTuple

AVERAGE = "average"  # the task of an unweighted mean over tasks, which has no items of its own
TASKS = {
    "wikitext2": "WikiText-2",
    "c4": "C4",
    "ptb": "PTB",
    "piqa": "PIQA",
    "boolq": "BoolQ",
    "hellaswag": "HellaSwag",
    "winogrande": "WinoGrande",
    "arc_easy": "ARC-easy",
    "arc_challenge": "ARC-challenge",
    "openbookqa": "OpenBookQA",
    "sciq": "SciQ",
    "mathqa": "MathQA",
    "logiqa": "LogiQA",
    "lambada_openai": "LAMBADA",
    "mmlu": "MMLU",
    "nq_open": "NQ-open",
    "triviaqa": "TriviaQA",
    "gsm8k": "GSM8K",
    "rte": "RTE",
    AVERAGE: "Average",
}


class Metric(NamedTuple):
    """A metric for readers: its name, the unit it is shown in, the factor from a record's value to it.

    Everything in the analysis layer, published values included, is in the unit shown; ``difference`` is the
    unit of a difference, ``decimals`` are the fewest shown. ``higher_is_better`` holds where no record says.
    """

    title: str
    unit: str = ""
    factor: float = 1.0
    difference: str = ""
    decimals: int | None = None
    higher_is_better: bool = False


METRICS = {
    "perplexity": Metric("Perplexity"),
    "relative_error": Metric("Relative error"),
    "accuracy": Metric("Accuracy", "%", 100.0, "points", 1, higher_is_better=True),
    "bleu": Metric("BLEU", higher_is_better=True),
}


class Fact(NamedTuple):
    """A record column for readers: its name, the unit it is shown in, the factor to that unit, decimals."""

    title: str
    unit: str
    factor: float
    decimals: int


FACT_TITLES = {
    "ratio_achieved": Fact("Sparsity", "%", 100.0, 2),
    "params": Fact("Parameters", "M", 1e-6, 1),
    "nonzeros": Fact("Non-zeros", "M", 1e-6, 1),
    "bytes": Fact("Size", "MB", 1e-6, 0),
    "compress_s": Fact("Compression time", "s", 1.0, 1),
    "evaluate_s": Fact("Evaluation time", "s", 1.0, 1),
    "peak_rss_mb": Fact("Peak memory", "MB", 1.0, 0),
}


def task_title(task: str | None) -> str:
    return TASKS.get(task or "", task or "")


def metric_of(name: str) -> Metric:
    """The metric a record or ``paper.yaml`` calls ``name``; an unknown one is shown as it is recorded."""
    return METRICS.get(name) or Metric(name.replace("_", " ").capitalize())


def metric_title(metric: str) -> str:
    return metric_of(metric).title


def metric_heading(metric: str) -> str:
    """The title with its unit: ``Accuracy (%)``."""
    known = metric_of(metric)
    return f"{known.title} ({known.unit})" if known.unit else known.title


def metric_noun(metric: str) -> str:
    """The title inside a sentence: ``perplexity``, ``BLEU``."""
    title = metric_title(metric)
    return title if title.isupper() else title.lower()


def listed(words: list[str]) -> str:
    """``a, b and c``."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def counted(number: int, noun: str) -> str:
    """``1 window`` or ``12 windows``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def runs_in_words(seeds: int) -> str:
    return "single run" if seeds == 1 else counted(seeds, "seed")
