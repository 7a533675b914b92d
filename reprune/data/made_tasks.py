"""Made tasks: rows in the columns of the hub's sets, for tests, from nothing but a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

NOUNS = "ant bell coat door egg fan goat hat ink jar king lamp milk nest oven pot ring sun tree well".split()
VERBS = "finds holds keeps lifts moves needs opens pulls sees takes".split()


def made_boolq(source: random.Random) -> dict[str, Any]:
    """A passage, a question with yes or no, and its label."""
    a, b = source.sample(NOUNS, 2)
    verb, label = source.choice(VERBS), source.randrange(2)
    never = "" if label else "never "
    passage = f"{a.capitalize()} -- {_sentence(source)} The {a} {never}{verb} the {b}."
    return {"question": f"is it so that the {a} {verb} the {b}", "passage": passage, "label": label}


def made_piqa(source: random.Random) -> dict[str, Any]:
    """A goal, two solutions, and the index of the right one."""
    a, b, c = source.sample(NOUNS, 3)
    return {
        "goal": f"To move the {a} to the {b},",
        "sol1": f"take the {a} with the {c}.",
        "sol2": f"take the {c} to the {a}.",
        "label": source.randrange(2),
    }


def made_hellaswag(source: random.Random) -> dict[str, Any]:
    """A context in two parts and four endings, with tags in brackets as in the raw set."""
    a, b = source.sample(NOUNS, 2)
    return {
        "activity_label": f"Moving a {a}",
        "ctx_a": f"[header] How to move a {a} [title] {_sentence(source)}",
        "ctx_b": f"the {a}",
        "endings": [f"{source.choice(VERBS)} the {b}. [substeps] {_sentence(source)}" for _ in range(4)],
        "label": str(source.randrange(4)),
    }


def made_winogrande(source: random.Random) -> dict[str, Any]:
    """A sentence with one gap and the two names that may fill it."""
    a, b, c = source.sample(NOUNS, 3)
    verb = source.choice(VERBS)
    return {
        "sentence": f"The {a} {verb} the {b} because the _ {source.choice(VERBS)} the {c}.",
        "option1": a,
        "option2": b,
        "answer": source.choice("12"),
    }


def made_arc(source: random.Random) -> dict[str, Any]:
    """A question with three to five choices, since ARC has all three kinds."""
    texts = source.sample(NOUNS, source.choice([3, 4, 4, 4, 5]))
    labels = list("ABCDE"[: len(texts)])
    return {
        "id": f"made_{source.randrange(10**6)}",
        "question": f"{_sentence(source)} Which of these {source.choice(VERBS)} the {source.choice(NOUNS)}?",
        "choices": {"text": texts, "label": labels},
        "answerKey": source.choice(labels),
    }


def made_nq_open(source: random.Random) -> dict[str, Any]:
    """A question without its mark and one or two answers."""
    return {
        "question": f"who {source.choice(VERBS)} the {source.choice(NOUNS)}",
        "answer": [f"the {noun}" for noun in source.sample(NOUNS, source.randint(1, 2))],
    }


MAKERS: dict[str, Callable[[random.Random], dict[str, Any]]] = {
    "boolq": made_boolq,
    "piqa": made_piqa,
    "hellaswag": made_hellaswag,
    "winogrande": made_winogrande,
    "arc": made_arc,
    "nq_open": made_nq_open,
}


def made_rows(maker: str, rows: int, seed: int) -> list[dict[str, Any]]:
    """``rows`` rows of ``MAKERS[maker]``; the first ones do not depend on how many are made."""
    source = random.Random(seed)
    return [MAKERS[maker](source) for _ in range(rows)]


def _sentence(source: random.Random) -> str:
    a, b = source.sample(NOUNS, 2)
    return f"The {a} {source.choice(VERBS)} the {b}."
