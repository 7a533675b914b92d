"""Checks and their outcomes in words."""

from __future__ import annotations

import math
from typing import Any

from reprune.analysis.evidence import Part
from reprune.analysis.formats import MINUS, fixed, places, signed
from reprune.analysis.names import (
    AVERAGE,
    FACT_TITLES,
    counted,
    listed,
    metric_noun,
    metric_of,
    runs_in_words,
    task_title,
)
from reprune.analysis.unit import Unit

SENTENCES = {
    "less": "{left} has lower {metric} than {right} on {tasks}",
    "greater": "{left} has higher {metric} than {right} on {tasks}",
    "not_less": "{metric} of {left} is at most {margin} below that of {right} on {tasks}",
    "closer": "{pair} lie closer together than {than} in {metric} on {tasks}",
    "increasing": "{metric} of {method} rises with the target sparsity on {tasks}",
    "spread": "sparsity of {method} varies over {over}s, standard deviation at least {at_least}",
    "near_target": "every {over} of {method} is within {tolerance} of the target sparsity",
    "depth_less": "{metric}: {left} is below {right} at more than {share} of the blocks and on their mean",
    "rises_with_depth": "{metric}: {method} is higher over the last quarter of the blocks than the first",
    "cost_order": "{fact} rises in the order {order}",
}
WINDOWED = {"perplexity", "relative_error"}


def sentence(unit: Unit, check: dict[str, Any]) -> str:
    """What a check asks, in one sentence without its full stop."""
    words = {key: _word(unit, check, key) for key in check}
    text = SENTENCES[check["kind"]].format(**words)
    return text[0].upper() + text[1:]


def _word(unit: Unit, check: dict[str, Any], key: str) -> str:
    value = check[key]
    if key in ("left", "right", "method"):
        return _label(unit, check, value)
    if key in ("pair", "than", "order"):
        labels = [_label(unit, check, name) for name in value]
        return ", ".join(labels) if key == "order" else listed(labels)
    if key == "tasks":
        return listed(["average" if task == AVERAGE else task_title(task) for task in value])
    if key == "margin":
        return f"{value:g} {metric_of(check['metric']).difference}".rstrip()
    if key == "metric":
        return metric_noun(value)
    if key == "share":
        return f"{value:.0%}"
    return FACT_TITLES[value].title if key == "fact" else str(value)


def _label(unit: Unit, check: dict[str, Any], name: str) -> str:
    """The label of the row a check calls by its method, if there is just one."""
    if check["experiment"] not in unit.info["experiments"]:
        return name
    labels = {row.label for row in unit.select(check["experiment"], name)}
    return labels.pop() if len(labels) == 1 else name


def figures(part: Part) -> str:
    """The estimate with its interval and what was asked; the reason where there is no estimate."""
    if part.estimate is None:
        return part.reason or ""
    text = _estimate(part)
    if part.what.startswith("log-perplexity of"):
        text += f", perplexity × {math.exp(part.estimate):.3f}"
    if part.threshold:
        bound = "at most" if part.at_most else "at least" if part.low is None else "more than"
        text += f", {bound} {part.threshold:g} asked".replace("-", MINUS)
    return text


def basis(check: dict[str, Any], part: Part) -> str:
    """What an estimate rests on: ``12 windows, single run``."""
    noun = "window" if check.get("metric") in WINDOWED else "item"
    words = [counted(part.items, noun)] if part.items else []
    words += [runs_in_words(part.seeds)] if part.seeds else []
    return ", ".join(words + ([part.reason] if part.reason and part.estimate is not None else []))


def _estimate(part: Part) -> str:
    """Three significant digits of the estimate, as many decimals for its interval; differences are signed."""
    decimals = places(part.estimate or part.high or 0.0, 3)
    values = [v for v in (part.estimate, part.low, part.high) if v is not None]
    texts = [(fixed if part.threshold > 0 else signed)(v, decimals) for v in values]
    interval = "" if len(texts) == 1 else f" [{texts[1]}, {texts[2]}]"
    return texts[0] + interval + (f" {part.unit}" if part.unit else "")
