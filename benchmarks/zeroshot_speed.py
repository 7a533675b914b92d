"""The scoring engine against lm-eval's `hf` model: the same tasks, items, dtype and threads, in one process.

Both score the same requests, tokenisation included; lm-eval's model at several batch sizes, of which each
task's best counts. Then what each idea contributes, on fewer items, and the seconds of a whole evaluation:
python benchmarks/zeroshot_speed.py [--items 100] [--threads 2] [--dtype float32] [--batch-sizes 1,8,32]
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import arguments, seconds

from reprune.plan.paths import MODELS, TASKS
from reprune.plan.plan import build_plan

SEVEN = "boolq,piqa,hellaswag,winogrande,arc_easy,arc_challenge,openbookqa"
OPTIONS = {
    "--items": {"type": int, "default": 100, "help": "items of each task"},
    "--ablation-items": {"type": int, "default": 30, "help": "items of each task for the ideas one by one"},
    "--dtype": {"default": "float32", "choices": ["float32", "bfloat16"]},
    "--tasks": {"default": SEVEN},
    "--batch-sizes": {"default": "1,8,32", "help": "of lm-eval's model; '' measures ours alone"},
}
TARGET = 3.0  # times faster in total, float32
WHOLE_S = 90.0  # for 7 tasks of 200 items in the default dtype on two cores


@dataclass
class Scores:
    """What one model gave for the requests of one task, and what it took."""

    answers: list[tuple[float, bool]]
    seconds: float
    tokens: int


def main() -> None:
    options = arguments(__doc__.splitlines()[0], threads=2, more=OPTIONS)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    title, path, folders = inputs(options.scale, options.tasks.split(","))
    sizes = [int(size) for size in options.batch_sizes.split(",") if size]
    print(f"{title}, {options.dtype}, {options.threads} thread(s), {options.items} items of each task")
    with tempfile.TemporaryDirectory() as cache:
        models = models_of(path, options.dtype, sizes)
        tasks = {name: questions(folder, options.items, cache) for name, folder in folders.items()}
        totals = compare(models, tasks, sizes)
        if sizes:
            total(totals, options.dtype)
            few = {name: questions(folder, options.ablation_items, cache) for name, folder in folders.items()}
            best = min(sizes, key=lambda size: sum(found[f"hf {size}"].seconds for found in totals.values()))
            ablation(models, few, best)
        if options.dtype != "float32":
            shifts(path, tasks, {name: found["ours"] for name, found in totals.items()})
    whole(path, folders, options)


def inputs(scale: str, names: Sequence[str]) -> tuple[str, str, dict[str, Path]]:
    """The model's title and folder and each task's folder; exits with one line if one is not there yet."""
    plan = build_plan({"scale": scale})
    model = next(iter(plan.models.values()))
    found = {data.name: TASKS / data.id for data in plan.tasks.values() if not data.shots}
    unknown = [name for name in names if name not in found]
    if unknown:
        sys.exit(f"no zero-shot task {', '.join(unknown)} at scale {scale}; there are {', '.join(found)}")
    folders = {name: found[name] for name in names}
    missing = [str(path) for path in (MODELS / model.id, *folders.values()) if not path.exists()]
    if missing:
        command = f"snakemake --cores all --config scale={scale} --until fetch_model fetch_task"
        sys.exit(f"missing {', '.join(missing)}; run `{command}` first")
    return model.title, str(MODELS / model.id), folders


def models_of(path: str, dtype: str, sizes: Sequence[int]) -> dict[str, Any]:
    """lm-eval's model at every batch size and ours, around the same weights; each has run once."""
    import torch
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from reprune.evaluation.engine import RepruneLM

    class Counted(HFLM):
        computed_tokens = 0

        def _model_call(self, inps: torch.Tensor, **others: Any) -> torch.Tensor:
            self.computed_tokens += inps.numel()
            return super()._model_call(inps, **others)

    model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype)).eval()
    tokenizer = AutoTokenizer.from_pretrained(path)
    models = {f"hf {size}": Counted(model, tokenizer=tokenizer, batch_size=size) for size in sizes}
    models["ours"] = RepruneLM(model, tokenizer=tokenizer)
    for lm in models.values():
        lm._loglikelihood_tokens([(None, [5] * 20, [6])], disable_tqdm=True)
    return models


def questions(folder: Path, items: int, cache: str) -> Any:
    """lm-eval's task with the requests of its first items."""
    from reprune.evaluation.downstream import load_tasks

    (task,) = load_tasks(folder, 0, 0, Path(cache)).values()
    task.build_all_requests(limit=items)
    return task


def score(lm: Any, task: Any) -> Scores:
    """All requests of a task, from their texts."""
    before, answers = lm.computed_tokens, []
    spent = seconds(lambda: answers.extend(lm.loglikelihood(task.instances, disable_tqdm=True)))
    return Scores(answers, spent, lm.computed_tokens - before)


def compare(
    models: dict[str, Any], tasks: dict[str, Any], sizes: Sequence[int]
) -> dict[str, dict[str, Scores]]:
    """Every task by every model, a line each; the scores by task and model."""
    print(
        f"\n{'task':14}{'tokens hf':>10}{'ours':>8}"
        + "".join(f"{f'hf {size}, s':>10}" for size in sizes)
        + f"{'ours, s':>10}{'ratio':>7}   equality with hf at batch size {sizes[0] if sizes else '-'}"
    )
    found = {}
    for name, task in tasks.items():
        scores = found[name] = {label: score(lm, task) for label, lm in models.items()}
        ours, others = scores["ours"], [scores[f"hf {size}"] for size in sizes]
        best = min(others, key=lambda other: other.seconds, default=ours)
        print(
            f"{name:14}{best.tokens:10}{ours.tokens:8}"
            + "".join(f"{other.seconds:10.1f}" for other in others)
            + f"{ours.seconds:10.1f}{best.seconds / ours.seconds:7.2f}   "
            + (equality(task, ours.answers, others[0].answers) if others else ""),
            flush=True,
        )
    return found


def equality(task: Any, ours: Sequence[tuple], theirs: Sequence[tuple]) -> str:
    """How far log-likelihoods, greedy answers, chosen answers and metrics are from each other."""
    difference = max(abs(a[0] - b[0]) for a, b in zip(ours, theirs, strict=True))
    greedy = sum(a[1] != b[1] for a, b in zip(ours, theirs, strict=True))
    chosen = sum(a != b for a, b in zip(choices(task, ours), choices(task, theirs), strict=True))
    left, right = metrics(task, ours), metrics(task, theirs)
    values = ", ".join(f"{name} {sum(left[name]) / len(left[name]):.4f}" for name in left)
    same = "equal" if left == right else f"not equal: {means(right)}"
    return f"difference {difference:.1e}, greedy {greedy}, argmax {chosen} differ; {values}, {same}"


def items(task: Any, answers: Sequence[tuple]) -> list[tuple[Any, list[tuple]]]:
    """Every document with the answers to its requests, in their order."""
    found: dict[int, tuple[Any, list[tuple]]] = {}
    for instance, answer in zip(task.instances, answers, strict=True):
        found.setdefault(instance.doc_id, (instance.doc, []))[1].append(answer)
    return list(found.values())


def choices(task: Any, answers: Sequence[tuple]) -> list[int]:
    """The most likely choice of every item."""
    return [max(range(len(own)), key=lambda i: own[i][0]) for _, own in items(task, answers)]


def metrics(task: Any, answers: Sequence[tuple]) -> dict[str, list[float]]:
    """lm-eval's accuracies of every item."""
    each = [task.process_results(doc, own) for doc, own in items(task, answers)]
    return {name: [float(one[name]) for one in each] for name in ("acc", "acc_norm") if name in each[0]}


def means(values: dict[str, list[float]]) -> str:
    return ", ".join(f"{name} {sum(each) / len(each):.4f}" for name, each in values.items())


def total(found: dict[str, dict[str, Scores]], dtype: str) -> None:
    """lm-eval's model at the best batch size of each task against ours, over all tasks."""
    best = sum(min(s.seconds for label, s in one.items() if label != "ours") for one in found.values())
    ours = sum(one["ours"].seconds for one in found.values())
    wanted = f" (wanted: {TARGET:g})" if dtype == "float32" else ""
    print(f"{'total':14}hf {best:.1f} s, ours {ours:.1f} s: {best / ours:.2f} times as fast{wanted}")


def ablation(models: dict[str, Any], tasks: dict[str, Any], size: int) -> None:
    """The ideas one after another, each with those before it."""
    from reprune.evaluation import engine

    lm, together = models["ours"], engine.lay_out
    steps: list[tuple[str, Callable[[Any], Scores]]] = [
        (f"lm-eval's hf, batch size {size}", lambda task: score(models[f"hf {size}"], task)),
        ("logits only where a continuation is scored", lambda task: padded(lm, task, size)),
        ("no padding: packed, nothing shared", lambda task: score(lm, task)),
        ("what questions share is computed once", lambda task: score(lm, task)),
    ]
    print("\nwhat each idea contributes")
    before = None
    for label, step in steps:
        engine.lay_out = apart if "nothing shared" in label else together
        scores = [step(task) for task in tasks.values()]
        spent, tokens = sum(s.seconds for s in scores), sum(s.tokens for s in scores)
        gain = f"{before / spent:6.2f} times the speed before" if before else ""
        print(f"{label:46}{tokens:9} tokens{spent:8.1f} s{gain}", flush=True)
        before = spent


def apart(sequences: Sequence[Sequence[int]]) -> list[Any]:
    """A layout that shares nothing but whole sequences, which lm-eval's model computes once too."""
    from reprune.evaluation.packing import Block, Group

    blocks: dict[Sequence[int], Block] = {}
    for number, tokens in enumerate(sequences):
        block = blocks.setdefault(tokens, Block(0))
        block.add(number, tokens, len(block.tokens), list(range(len(block.tokens))))
    return [Group((), [block]) for block in blocks.values()]


def padded(lm: Any, task: Any, size: int) -> Scores:
    """lm-eval's batches, longest first and padded on the right, the head applied to scored places alone."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    requests, counted, answers = [], [0], []

    @torch.inference_mode()
    def work() -> None:
        for context, continuation in (instance.args for instance in task.instances):
            requests.append(lm._encode_pair(context, continuation))
        sequences = [tuple((context + continuation)[:-1]) for context, continuation in requests]
        order = sorted(set(sequences), key=len, reverse=True)
        targets: dict[tuple, list[tuple[int, list[int]]]] = {}
        for number, (sequence, (_, continuation)) in enumerate(zip(sequences, requests, strict=True)):
            targets.setdefault(sequence, []).append((number, continuation))
        values = {}
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            inputs = pad_sequence([torch.tensor(tokens) for tokens in batch], batch_first=True)
            counted[0] += inputs.numel()
            hidden = lm.model.base_model(inputs, use_cache=False).last_hidden_state
            for row, tokens in enumerate(batch):
                longest = max(len(target) for _, target in targets[tokens])
                logits = lm.model.get_output_embeddings()(hidden[row, len(tokens) - longest : len(tokens)])
                chances = logits.float().log_softmax(dim=-1)
                for number, target in targets[tokens]:
                    own = chances[-len(target) :]
                    value = own[range(len(target)), target].sum().item()
                    values[number] = (value, own.argmax(dim=-1).tolist() == target)
        answers.extend(values[number] for number in range(len(requests)))

    return Scores(answers, seconds(work), counted[0])


def shifts(path: str, tasks: dict[str, Any], half: dict[str, Scores]) -> None:
    """Accuracies in half precision against float32, in standard errors of the latter."""
    lm = models_of(path, "float32", [])["ours"]
    print("\naccuracy in half precision against float32, ours")
    for name, task in tasks.items():
        full, other = metrics(task, score(lm, task).answers), metrics(task, half[name].answers)
        for metric, values in full.items():
            mean, n = sum(values) / len(values), len(values)
            stderr = (mean * (1 - mean) / (n - 1)) ** 0.5
            shift = sum(other[metric]) / n - mean
            changed = sum(a != b for a, b in zip(values, other[metric], strict=True))
            print(
                f"{name:14}{metric:9}{mean:.4f} ± {stderr:.4f}, shift {shift:+.4f}"
                f" = {abs(shift) / (stderr or 1):.2f} standard errors; {changed} of {n} items change"
            )


def whole(path: str, folders: dict[str, Path], options: Any) -> None:
    """One evaluation as a job does it: load, make prompts, score, compute metrics."""
    from reprune.evaluation.downstream import score as evaluate
    from reprune.evaluation.engine import RepruneLM

    content = {"name": "speed", "seed": 0, "limit": options.items, "chat_template": False}

    def work() -> None:
        lm = RepruneLM(path, dtype=options.dtype)
        for folder in folders.values():
            evaluate(lm, folder, 0, content, lambda *_: None)

    spent = seconds(work)
    print(
        f"\nwhole evaluation of {len(folders)} tasks of {options.items} items, loading included: "
        f"{spent:.1f} s (wanted of 7 tasks of 200 on two cores: {WHOLE_S:g})"
    )


if __name__ == "__main__":
    main()
