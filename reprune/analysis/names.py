"""How records' identifiers are written for people: tasks, metrics and facts of a run."""

from __future__ import annotations

from collections.abc import Iterable
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
    "alpaca": "Alpaca answers",
    "cc": "CommonCrawl",
    "github": "GitHub",
    "book": "Books",
    "stackexchange": "StackExchange",
    "wiki": "Wikipedia",
    "arxiv": "arXiv",
    "longbench_qasper": "Qasper",
    "longbench_2wikimqa": "2WikiMultihopQA",
    "longbench_multi_news": "MultiNews",
    "longbench_lcc": "LCC",
    "test": "Test set",
    "size": "Size",
    "prefill": "Reading prompts",
    "generate": "Generation",
    **{f"batch-{times}x": f"Generation at {times}× batch" for times in (2, 4, 8)},
    **{f"length-{times}x": f"Generation at {times}× length" for times in (2, 4, 8)},
    AVERAGE: "Average",
    "average6": "Average of 6 tasks",
    "average8": "Average of 8 tasks",
    "average21": "Average of 21 tasks",
    "average_opencompass12": "Average of 12 tasks (OpenCompass)",
}


class Metric(NamedTuple):
    """A metric for readers: its name, the unit it is shown in, the factor from a record's value to it.

    Everything in the analysis layer, published values included, is in the unit shown; ``difference`` is the
    unit of a difference, ``decimals`` are the fewest shown. ``higher_is_better`` holds where no record says.
    ``over`` is what a standard error is over.
    """

    title: str
    unit: str = ""
    factor: float = 1.0
    difference: str = ""
    decimals: int | None = None
    higher_is_better: bool = False
    over: str = "items"


METRICS = {
    "perplexity": Metric("Perplexity", over="windows"),
    "relative_error": Metric("Relative error"),
    "accuracy": Metric("Accuracy", "%", 100.0, "points", 1, higher_is_better=True),
    "bleu": Metric("BLEU", "", 1.0, "points", 1, higher_is_better=True, over="sentences"),
    "chrf": Metric("chrF", "", 1.0, "points", 1, higher_is_better=True, over="sentences"),
    "copy_bleu": Metric("BLEU of the source itself", "", 1.0, "points", 1, over="sentences"),
    "shuffled_bleu": Metric("BLEU of other sentences", "", 1.0, "points", 1, over="sentences"),
    "tokens_per_second": Metric("Speed of translation", "tokens/s", higher_is_better=True),
    "throughput": Metric("Throughput", "tokens/s", 1.0, "tokens/s", higher_is_better=True, over="repeats"),
    "speedup": Metric("Speed-up", "× dense", 1.0, "", 2, higher_is_better=True, over="repeats"),
    "win_rate": Metric("Win rate", "%", 100.0, "points", 1, higher_is_better=True, over="prompts"),
    "latency": Metric("Latency", "ms", 1000.0, "ms", over="repeats"),
    "shares": Metric("Share of the windows drawn", "%", 100.0, "points", 1),
    "parameters": Metric("Parameters", "M", 1e-6, "M", 1),
    "nonembedding_parameters": Metric("Parameters outside embeddings", "M", 1e-6, "M", 1),
    "ratio_total": Metric("Parameters removed", "%", 100.0, "points", 2, higher_is_better=True),
    "ratio_nonembedding": Metric(
        "Removed outside embeddings", "%", 100.0, "points", 2, higher_is_better=True
    ),
    "macs": Metric("Multiply-accumulates", "G", 1e-9, "G", 2),
    "bytes": Metric("Size", "MB", 1e-6, "MB", 0),
    "labelled_heads": Metric("Heads with a role", decimals=0),
    "positional_heads": Metric("Positional heads", decimals=0),
    "syntactic_heads": Metric("Syntactic heads", decimals=0),
    "rare_heads": Metric("Rare-word heads", decimals=0),
    "unknown_heads": Metric("Heads without a role", decimals=0),
    "labelled_share": Metric("Share of heads with a role", "%", 100.0, "points", 1),
    "functions": Metric("Roles per head", decimals=2),
    "functions_per_head": Metric("Roles per head", decimals=2),
    "confidence": Metric("Confidence", decimals=2),
    "positional_share": Metric("Queries at one offset", "%", 100.0, "points", 1, over="sentences"),
    "syntactic_margin": Metric("Lead over the best fixed offset on a relation", "%", 100.0, "points", 1),
    "relations": Metric("Accuracy", "%", 100.0, "points", 1, higher_is_better=True, over="sentences"),
    "rare_share": Metric("Rarest token pointed at", "%", 100.0, "points", 1, over="sentences"),
    "two_rarest_share": Metric("One of the two rarest pointed at", "%", 100.0, "points", 1, over="sentences"),
}


class Fact(NamedTuple):
    """A record column for readers: its name, the unit it is shown in, the factor to that unit, decimals."""

    title: str
    unit: str
    factor: float
    decimals: int

    @property
    def heading(self) -> str:
        """The title with its unit: ``Size (MB)``."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


FACT_TITLES = {
    "ratio_achieved": Fact("Sparsity", "%", 100.0, 2),
    "ratio_nonembedding": Fact("Removed outside embeddings", "%", 100.0, 2),
    "params": Fact("Parameters", "M", 1e-6, 1),
    "nonzeros": Fact("Non-zeros", "M", 1e-6, 1),
    "bytes": Fact("Size", "MB", 1e-6, 0),
    "compress_s": Fact("Compression time", "s", 1.0, 1),
    "recover_s": Fact("Recovery time", "s", 1.0, 1),
    "evaluate_s": Fact("Evaluation time", "s", 1.0, 1),
    "peak_rss_mb": Fact("Peak memory", "MB", 1.0, 0),
    "encoder_heads": Fact("Encoder heads", "", 1.0, 0),
    "decoder_heads": Fact("Decoder heads", "", 1.0, 0),
    "cross_heads": Fact("Decoder-encoder heads", "", 1.0, 0),
    "copy_bleu": Fact("BLEU of copies", "", 1.0, 1),
    "shuffled_bleu": Fact("BLEU of other sentences", "", 1.0, 1),
    "tokens_per_second": Fact("Translation", "tokens/s", 1.0, 0),
}

HEADS_LEFT = {"encoder_heads": "encoder", "decoder_heads": "decoder", "cross_heads": "cross"}
"""Facts that a run's notes have, by the kind of attention that they count."""
MEASURED_BESIDE = ("copy_bleu", "shuffled_bleu", "tokens_per_second")
"""Facts that are metrics of their own in a suite's records."""

COUNT_TITLES = {  # what a table of counts holds of a model
    "params": Fact("Parameters", "B", 1e-9, 2),
    "kept": Fact("Parameters kept", "%", 100.0, 2),
    "macs": Fact("MACs", "G", 1e-9, 2),
    "memory": Fact("Memory", "MiB", 1.0, 1),
}


RECOVERIES = {  # what the training of each kind trained
    "lora": "adapters",
    "replaced": "replaced blocks",
    "full": "all parameters",
    "pretrain": "all parameters, on text",
    "translate": "on translations",
}
LAYER_FACTS = {
    "overlap": "overlap with the largest singular values",
    "spearman": "rank correlation of importance and size of singular values",
}


def layer_fact_noun(fact: str) -> str:
    """A fact that a method reported of layers, inside a sentence."""
    return LAYER_FACTS.get(fact, fact.replace("_", " "))


INSTRUCTIONS = {"alpaca"}  # tasks that score answers to instructions


def perplexity_item(task: str | None) -> str:
    """What has one value of its own in a perplexity: a window of text, or a row of instruction data."""
    return "row" if task in INSTRUCTIONS else "window"


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
    return title if title[:2].isupper() else title[0].lower() + title[1:]


def listed(words: list[str]) -> str:
    """``a, b and c``."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def counted(number: int, noun: str) -> str:
    """``1 window`` or ``12 windows``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def questions_of(metrics: Iterable[str]) -> str:
    """What the items of metrics of right answers and of translations are: ``questions and sentences``."""
    asked = {"bleu": "sentences"}
    return listed(list(dict.fromkeys(asked.get(metric, "questions") for metric in metrics)))


def runs_in_words(seeds: int) -> str:
    return "single run" if seeds == 1 else counted(seeds, "seed")
