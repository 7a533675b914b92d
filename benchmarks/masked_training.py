"""A training step with masks against a plain one of the same model, text and optimiser.

Forward, backward and AdamW over all weights of the real model; with masks their draw, their gates in every
block and their penalty as well. Same process, same threads, in turns:
python benchmarks/masked_training.py [--threads N] [--scale S] [--windows N] [--rounds N]
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from common import arguments, plan_with_inputs, seconds

from reprune.plan.paths import MODELS

UNIT, LIMIT, LENGTH = "sheared_llama", 1.25, 128


def steps(model: Any, run: Any, windows: int) -> dict[str, Callable[[], None]]:
    """One plain step and one with masks, which share the model."""
    import torch

    from papers.sheared_llama.method import kept, shapes
    from reprune.models import sizes
    from reprune.training.masks import TargetedMasks
    from reprune.training.window_loss import scored, summed_loss

    facts, generator = run.model.facts, torch.Generator().manual_seed(0)
    wanted = sizes.wanted(facts, run.target, run.settings)
    masks = TargetedMasks(model, shapes(facts), kept(facts, wanted), run.settings, seed=0)
    model.requires_grad_(True).train()
    weights = [{"params": list(model.parameters()), "lr": 1e-5}]
    plain = torch.optim.AdamW(weights, fused=True)
    masked = torch.optim.AdamW([*weights, *masks.groups()], fused=True)

    def step(optimizer: Any, penalty: Callable[[], Any]) -> None:
        tokens = torch.randint(facts.vocab_size, (windows, LENGTH), generator=generator)
        added = penalty()
        (summed_loss(model, tokens, "float32") / scored(tokens) + added).backward()
        optimizer.step()
        optimizer.zero_grad()

    def without_masks() -> None:
        masks.release()
        step(plain, lambda: 0.0)

    return {"plain": without_masks, "masked": lambda: step(masked, lambda: masks.prepare(0))}


def main() -> None:
    more = {"--windows": {"type": int, "default": 4}, "--rounds": {"type": int, "default": 9}}
    options = arguments(__doc__.splitlines()[0], more=more)
    plan = plan_with_inputs(options.scale, UNIT)
    from reprune.models.checkpoint import load_model

    run = next(r for r in plan.runs_of([UNIT]) if r.method.id == UNIT and not r.recoveries)
    ways = steps(load_model(MODELS / run.model.id), run, options.windows)
    for way in ways.values():
        way()  # the first of each makes the optimiser's moments
    ratios = []
    for _ in range(options.rounds):
        spent = {name: seconds(way) for name, way in ways.items()}
        ratios.append(spent["masked"] / spent["plain"])
        print(
            f"  plain {spent['plain']:6.2f} s   masked {spent['masked']:6.2f} s   ratio {ratios[-1]:5.2f}",
            flush=True,
        )
    middle = sorted(ratios)[len(ratios) // 2]
    print(f"masked step {middle:.2f} x a plain one ({min(ratios):.2f} to {max(ratios):.2f}, limit {LIMIT:g})")


if __name__ == "__main__":
    main()
