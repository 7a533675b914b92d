"""Evaluation in bfloat16 against float32: seconds, and the shift of the perplexity in standard errors.

python benchmarks/evaluation_dtype.py [--threads N] [--scale S]
"""

from __future__ import annotations

import time

from common import arguments, plan_with_inputs

from reprune.plan.hardware import evaluation_dtype
from reprune.plan.paths import CORPORA, MODELS


def main() -> None:
    options = arguments(__doc__.splitlines()[0])
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from reprune.data.corpora import read_corpus
    from reprune.evaluation.perplexity import summarise, window_losses
    from reprune.evaluation.text import evaluation_windows

    plan = plan_with_inputs(options.scale, "besa")
    run = next(run for run in plan.runs_of(["besa"]) if run.method.id == "dense")
    folder = MODELS / run.model.id
    tokenizer = AutoTokenizer.from_pretrained(folder)
    models = {
        dtype: AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
        for dtype in (torch.float32, torch.bfloat16)
    }
    print(f"{run.model.title}, {options.threads} thread(s); `auto` means {evaluation_dtype('auto')} here")
    suite = next(s for s in run.suites if s.suite == "perplexity")
    for task, spec in suite.content["tasks"].items():
        windows = evaluation_windows(
            read_corpus(CORPORA / f"{spec['corpus']}.parquet"),
            spec,
            suite.content,
            tokenizer,
            run.model.separator,
        )
        found, spent = {}, {}
        for dtype, model in models.items():
            start = time.perf_counter()
            found[dtype] = summarise(window_losses(model, windows, 1))
            spent[dtype] = time.perf_counter() - start
        full, half = found[torch.float32], found[torch.bfloat16]
        print(
            f"{task:10} float32 {full.value:.3f} ± {full.stderr:.3f}, bfloat16 {half.value:.3f}: shift "
            f"{abs(half.value - full.value) / full.stderr:.4f} standard errors (limit 0.1); bfloat16 takes "
            f"{spent[torch.bfloat16] / spent[torch.float32]:.2f} x the time of float32"
        )


if __name__ == "__main__":
    main()
