"""Checks and their outcomes in words."""

from __future__ import annotations

import math
from typing import Any

from reprune.analysis.bleu import BLEU
from reprune.analysis.evidence import ABOVE, BELOW, WITHIN, Part
from reprune.analysis.formats import MINUS, fixed, places, signed
from reprune.analysis.heads import ROLES
from reprune.analysis.names import (
    AVERAGE,
    FACT_TITLES,
    counted,
    layer_fact_noun,
    listed,
    metric_noun,
    metric_of,
    perplexity_item,
    runs_in_words,
    task_title,
)
from reprune.analysis.trained import QUANTITIES
from reprune.analysis.unit import Unit
from reprune.analysis.wins import judged_by

SENTENCES = {
    "less": "{left} has lower {metric} than {right} on {tasks}",
    "greater": "{left} has higher {metric} than {right} on {tasks}",
    "times": "{metric} of {left} is more than {at_least} times that of {right} on {tasks}",
    "not_less": "{metric} of {left} is at most {margin} below that of {right} on {tasks}",
    "within": "{metric} of {left} and {right} differs by less than {margin} on {tasks}",
    "closer": "{pair} lie closer together than {than} in {metric} on {tasks}",
    "gain_ratio": "{metric} gains from {low} to {middle}, and {at_least} times what it gains on to {high}, "
    "on {tasks}",
    "mean_greater": "{metric} of {left} is on the mean higher than that of {right} on {tasks}",
    "not_best": "{method} does not have the best {metric} beside {others} on {tasks}",
    "not_worst": "{method} does not have the worst {metric} beside {others} on {tasks}",
    "increasing": "{metric} of {method} rises with the target on {tasks}",
    "step_ratio": "from one target of {method} to the next {metric} rises by a factor of {bound} on {tasks}",
    "faster": "{left} is at least {at_least} times as fast as {right} on {tasks}",
    "spread": "sparsity of {method} varies over {over}s, standard deviation at least {at_least}",
    "near_target": "every {over} of {method} is within {tolerance} of the target sparsity",
    "depth_less": "{metric}: {left} is below {right} at more than {share} of the blocks and on their mean",
    "rises_with_depth": "{metric}: {method} is higher over the last quarter of the blocks than the first",
    "layer_fact": "{fact}, mean over the layers of {method}, is {bound}",
    "chosen_in": "the blocks that {methods} chose lie behind {after} of the depth and before the last block",
    "cost_order": "{fact} rises in the order {order}",
    "history_value": "{method}: {quantity} is {bound}",
    "history_ratio": "{quantity}: {left} has {bound} times that of {right}",
    "history_falls": "{quantity} falls in the order {order}",
    "history_below": "held-out loss of {left} is below that of {right} at equal tokens, wherever both were "
    "measured after {after} of them",
    "enriched": "heads with a role in {than} are a larger share of those that {method} keeps than of all",
    "kept_are_higher": "{metric} in {than}, mean over heads, is higher for those that {method} keeps than "
    "for those that it removes",
    "heads_greater": "{metric}, mean over heads, is higher for {left} than for {right}",
    "role_above_median": "{metric} of every head of {method} whose role is {role} is above the median head's",
    "gates_polarise": "a share of {at_least} of the gates of {method} is nearly always open or closed in the "
    "end, and more than before",
    "above_chance": "{metric} of the best head in layer {layer} of {method} is more than {at_least} times "
    "that of chance",
    "scores_agree": "{left} and {right} put the heads of a layer in like orders behind layer {after}",
    "win_rate": "{left} wins more than {at_least} % of the comparisons with {right}, {judged}",
}
NOUNS = {
    "faster": "repeat",
    "layer_fact": "layer",
    "history_below": "measurement",
    "heads_greater": "head",
    "kept_are_higher": "head",
    "role_above_median": "head",
    "scores_agree": "layer",
    "win_rate": "prompt",
}  # what a check's items are
WINDOWED = {"perplexity", "relative_error"}


def sentence(unit: Unit, check: dict[str, Any]) -> str:
    """What a check asks, in one sentence without its full stop."""
    words = {key: _word(unit, check, key) for key in check} | {"bound": _limit(check)}
    words["judged"] = judged_by(unit, check["experiment"])
    text = SENTENCES[check["kind"]].format(**words)
    return (text[0].upper() if text[0].isascii() else text[0]) + text[1:]  # λ stays small


def _word(unit: Unit, check: dict[str, Any], key: str) -> str:
    value = check[key]
    if key == "tasks":
        return listed(["average" if task == AVERAGE else task_title(task) for task in value])
    if isinstance(value, list):
        labels = [_label(unit, check, name) for name in value]
        return ", ".join(labels) if key == "order" else listed(labels)
    if key == "role":
        return ROLES[value]
    if key == "layer":
        return str(value + 1)
    if key in ("left", "right", "method", "than", "low", "middle", "high"):
        return _label(unit, check, value)
    if key == "margin" and check["metric"] == "perplexity":
        return f"a factor of {math.exp(value):.3g}"
    if key == "margin":
        return f"{value:g} {metric_of(check['metric']).difference}".rstrip()
    if key == "metric":
        return metric_noun(value)
    if key == "quantity":
        return QUANTITIES[value].noun
    if key == "at_least":
        return f"{value:g}"
    if key == "after" and check["kind"] == "scores_agree":
        return str(value)
    if key in ("share", "after"):
        return f"{value:.0%}"
    if key == "fact":
        return FACT_TITLES[value].title if value in FACT_TITLES else layer_fact_noun(value)
    return str(value)


def _limit(check: dict[str, Any]) -> str:
    """``at most 3`` or ``at least 3``; empty for a check with neither."""
    return next(
        (f"{key.replace('_', ' ')} {check[key]:g}" for key in ("at_most", "at_least") if key in check), ""
    )


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
        exact = part.low is None
        bound = {
            ABOVE: "at least" if exact else "more than",
            BELOW: "at most" if exact else "less than",
            WITHIN: "within ±",
        }[part.bound]
        text += f", {bound} {part.threshold:g} asked".replace("-", MINUS).replace("± ", "±")
    return text


def basis(check: dict[str, Any], part: Part) -> str:
    """What an estimate rests on: ``12 windows, single run``."""
    noun = NOUNS.get(check["kind"], "item")
    if check.get("metric") in WINDOWED:
        noun = perplexity_item(next(iter(check.get("tasks", ())), None))
    if check.get("metric") == BLEU:
        noun = "sentence"
    words = [counted(part.items, noun)] if part.items else []
    words += [runs_in_words(part.seeds)] if part.seeds else []
    return ", ".join(words + ([part.reason] if part.reason and part.estimate is not None else []))


def _estimate(part: Part) -> str:
    """Three significant digits of the estimate, as many decimals for its interval; differences are signed."""
    decimals = places(part.estimate or part.high or 0.0, 3)
    values = [v for v in (part.estimate, part.low, part.high) if v is not None]
    texts = [(signed if part.threshold <= 0 or part.bound == WITHIN else fixed)(v, decimals) for v in values]
    interval = "" if len(texts) == 1 else f" [{texts[1]}, {texts[2]}]"
    return texts[0] + interval + (f" {part.unit}" if part.unit else "")
