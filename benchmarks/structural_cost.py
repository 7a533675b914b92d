"""Cost of the structural methods against one forward-backward pass over the same calibration tokens.

Similarities, gradients, decompositions and all, without loading and saving; same process, same threads, the
methods in turn: python benchmarks/structural_cost.py [--threads N] [--scale S] [--methods NAME ...]
"""

from __future__ import annotations

from common import arguments, plan_with_inputs, scratch, seconds

from reprune.plan.grid import Run
from reprune.plan.paths import CALIBRATION, MODELS

LIMITS = {"grasp": 6.0, "llm_pruner": 4.0}
UNITS = ("grasp_ratios", "llm_pruner")
ROUNDS = 3


def subject_of(run: Run, batch_size: int) -> object:
    """The dense model with its calibration and an empty store, so that nothing was measured before."""
    import torch
    from safetensors.torch import load_file

    from reprune.calibration.subject import Subject
    from reprune.models.checkpoint import load_model
    from reprune.records.store import Store

    tokens = load_file(CALIBRATION / f"{run.calibration.id}.safetensors")["tokens"]
    return Subject(
        load_model(MODELS / run.model.id),
        run.model.facts,
        tokens,
        torch.Generator().manual_seed(0),
        Store(scratch()),
        {"run": run.id},
        batch_size,
    )


def pass_over(subject: object) -> None:
    """One forward-backward pass that gives the gradient of every linear layer and keeps none."""
    from reprune.calibration.gradients import weight_gradients

    weight_gradients(subject, subject.linears(), lambda name, gradient: None)


def main() -> None:
    options = arguments(
        __doc__.splitlines()[0],
        more={"--methods": {"nargs": "+", "default": ["grasp", "shortgpt", "llm_pruner"]}},
    )
    plan = plan_with_inputs(options.scale, *UNITS)
    runs = {
        run.method.id: run
        for run in plan.runs_of(list(UNITS))
        if run.target.sparsity == 0.2
        and run.recovery is None
        and run.settings == run.method.cls.Settings()
        and run.method.id in options.methods
    }
    batch = plan.compress["batch_size"]
    ratios: dict[str, list[float]] = {name: [] for name in runs}
    for name, run in [pair for _ in range(ROUNDS) for pair in runs.items()]:
        dense, subject = subject_of(run, batch), subject_of(run, batch)
        floor = seconds(lambda dense=dense: pass_over(dense))
        method = run.method.cls(run.settings, run.target)
        spent = seconds(lambda method=method, subject=subject: method.compress(subject))
        ratios[name].append(spent / floor)
        print(f"  pass {floor:6.1f} s   {name:14} {spent:6.1f} s   ratio {spent / floor:5.2f}", flush=True)
    for name, found in ratios.items():
        limit = f", limit {LIMITS[name]:g}" if name in LIMITS else ""
        middle = sorted(found)[len(found) // 2]
        print(
            f"{name:14} {middle:5.2f} x a forward-backward pass ({min(found):.2f} to {max(found):.2f}{limit})"
        )


if __name__ == "__main__":
    main()
