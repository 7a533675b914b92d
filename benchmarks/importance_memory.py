"""Peak memory of LLM-Pruner's scores and surgery against the float32 weights, a process for each strategy.

What importing the libraries takes is measured before the model is loaded and taken off:
python benchmarks/importance_memory.py [--scale S]
"""

from __future__ import annotations

import subprocess
import sys

from common import arguments, plan_with_inputs
from structural_cost import subject_of

LIMIT = 3.5
STRATEGIES = ("block", "channel")


def measure(scale: str, strategy: str) -> None:
    """Prune the real model and print how many times its weights' bytes were held at the most."""
    from reprune.method import Target
    from reprune.records.provenance import peak_rss_mb

    plan = plan_with_inputs(scale, "llm_pruner")
    run = next(r for r in plan.runs_of(["llm_pruner"]) if r.method.id == "llm_pruner")
    import transformers.models.llama.modeling_llama  # noqa: F401

    import reprune.calibration.subject
    import reprune.models.checkpoint  # noqa: F401

    before = peak_rss_mb()
    subject = subject_of(run, plan.compress["batch_size"])
    weights = 4 * subject.parameters / 1e6
    run.method.cls(run.method.cls.Settings(strategy=strategy), Target.parameters(0.2, "width")).compress(
        subject
    )
    print((peak_rss_mb() - before) / weights)


def main() -> None:
    options = arguments(__doc__.splitlines()[0], more={"--strategy": {"choices": STRATEGIES}})
    if options.strategy:
        return measure(options.scale, options.strategy)
    for strategy in STRATEGIES:
        command = [sys.executable, __file__, "--scale", options.scale, "--strategy", strategy]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        print(f"{strategy:8} {float(done.stdout.split()[-1]):.2f} x the weights (limit {LIMIT})")


if __name__ == "__main__":
    main()
