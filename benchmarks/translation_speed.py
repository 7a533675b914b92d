"""Translating in sorted batches against sentence by sentence, and with few encoder heads against with all.

Beam search of the real model on held-out text, keys and values kept, as the protocol asks; batches and single
sentences must give the same words. Same process, same threads, in turns:
python benchmarks/translation_speed.py [--threads N] [--scale S] [--sentences N] [--rounds N] [--heads N]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from common import arguments, plan_with_inputs, seconds

from reprune.plan.paths import MODELS, PARALLEL

UNIT = "voita_heads"


def pruned(folder: Path, heads: int) -> Any:
    """The model with so many encoder heads, spread over its layers from the first."""
    import torch

    from reprune.models.checkpoint import load_model
    from reprune.surgery.head_gates import remove_heads, retained_heads

    model = load_model(folder)
    counts = retained_heads(model)["encoder"]
    kept = torch.zeros(max(counts), len(counts), dtype=torch.bool)
    kept.view(-1)[:heads] = True
    remove_heads(model, {"encoder": kept.T})
    return model


def main() -> None:
    numbers = {"--sentences": 96, "--rounds": 5, "--heads": 4}
    more = {name: {"type": int, "default": number} for name, number in numbers.items()}
    options = arguments(__doc__.splitlines()[0], more=more)
    plan = plan_with_inputs(options.scale, UNIT)
    from reprune.data.parallel import read_pairs
    from reprune.evaluation.translation import BATCH_TOKENS, SUITE, Search, evenly, translate
    from reprune.models.checkpoint import load_model
    from reprune.models.folder import load_tokenizer

    run = next(run for run in plan.runs_of([UNIT]) if run.method.id == "dense")
    folder = MODELS / run.model.id
    pairs = read_pairs(PARALLEL / f"{run.model.parallel.id}.parquet", "test")
    sources = [pair.source for pair in evenly(pairs, options.sentences)]
    protocol = next(suite.content for suite in run.suites if suite.suite == SUITE)
    tokenizer, search = load_tokenizer(folder), Search(*(protocol[name] for name in Search._fields))
    dense, few = load_model(folder), pruned(folder, options.heads)
    ways = {
        "batches": (dense, BATCH_TOKENS),
        "single sentences": (dense, 1),
        f"batches, {options.heads} heads": (few, BATCH_TOKENS),
    }

    def translated(name: str) -> list[str]:
        model, tokens = ways[name]
        return translate(model, tokenizer, sources, search, tokens).lines

    if translated("batches") != translated("single sentences"):
        sys.exit("batches and single sentences give other words")
    ratios: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        spent = {name: seconds(lambda name=name: translated(name)) for name in ways}
        print("  " + "   ".join(f"{name} {took:.2f} s" for name, took in spent.items()), flush=True)
        for name in ways:
            ratios[name].append(spent[name] / spent["batches"])
    for name, found in list(ratios.items())[1:]:
        middle = sorted(found)[len(found) // 2]
        print(f"{name}: {middle:.2f} x the time of batches ({min(found):.2f} to {max(found):.2f})")


if __name__ == "__main__":
    main()
