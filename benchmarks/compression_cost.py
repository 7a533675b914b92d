"""Cost of each method against one dense forward pass over the same calibration tokens.

Same dtype, same threads, same process, block by block from the same files, the methods in turn:
python benchmarks/compression_cost.py [--threads N] [--scale S]
"""

from __future__ import annotations

import shutil
from pathlib import Path

from common import arguments, plan_with_inputs, scratch, seconds

from reprune.plan.grid import Run
from reprune.plan.paths import CALIBRATION, MODELS

LIMITS = {"wanda": 2.5, "sparsegpt": 5.0, "besa": 15.0}
ROUNDS = 3


def dense_pass(run: Run, tokens: object, batch_size: int) -> None:
    """Every block's outputs once: the floor of any method that looks at activations."""
    import torch

    from reprune.calibration.block import Block
    from reprune.models.folder import ModelFolder
    from reprune.models.skeleton import Skeleton, linear_layers

    skeleton = Skeleton(ModelFolder(MODELS / run.model.id))
    hidden, kwargs = skeleton.first_inputs(tokens, batch_size)
    for index in range(len(skeleton)):
        module = skeleton.block(index)
        hidden = Block(
            index, module, linear_layers(module), hidden, None, kwargs[index], torch.Generator(), batch_size
        ).outputs(hidden)


def compress(run: Run, tokens: object, batch_size: int) -> None:
    """One whole compression without the checkpoint's files."""
    import torch

    from reprune.calibration.walk import Walk
    from reprune.models.folder import ModelFolder
    from reprune.records.store import Store

    folder = scratch()
    walk = Walk(
        ModelFolder(MODELS / run.model.id),
        Store(folder),
        {"run": run.id},
        getattr(torch, run.model.dtype),
        batch_size,
    )
    walk.prune_blocks(run.method.cls(run.settings, run.target), tokens)
    shutil.rmtree(folder)


def main() -> None:
    options = arguments(__doc__.splitlines()[0])
    from safetensors.torch import load_file

    plan = plan_with_inputs(options.scale, "besa")
    runs = {
        run.method.id: run
        for run in plan.runs_of(["besa"])
        if run.method.id in LIMITS and run.target.sparsity == 0.5
    }
    some = next(iter(runs.values()))
    tokens = load_file(Path(CALIBRATION / f"{some.calibration.id}.safetensors"))["tokens"]
    batch = plan.compress["batch_size"]
    dense_pass(some, tokens, batch)
    print(
        f"{some.model.title}, {tuple(tokens.shape)} calibration tokens, {options.threads} thread(s), float32"
    )
    ratios: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        floor = seconds(lambda: dense_pass(some, tokens, batch))
        for name, run in runs.items():
            spent = seconds(lambda run=run: compress(run, tokens, batch))
            ratios[name].append(spent / floor)
            print(
                f"  dense pass {floor:6.1f} s   {name:10} {spent:6.1f} s   ratio {spent / floor:5.2f}",
                flush=True,
            )
    for name, found in ratios.items():
        middle = sorted(found)[len(found) // 2]
        print(
            f"{name:10} {middle:5.2f} x one dense forward pass (limit {LIMITS[name]:g}; "
            f"{min(found):.2f} to {max(found):.2f})"
        )


if __name__ == "__main__":
    main()
