"""Speed and size of a compressed model beside the dense one, timed in turns in one process.

On a machine that others use too a time says little. The ratio of two times says much if they were taken
together, for what slows one of them down then slows down the other: so the models take turns step by step.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from reprune.models.attention import attention_as
from reprune.models.skeleton import embedding_parameters

SUITE = "efficiency"
WARM_UP_STEPS = 2
SEED = 0  # of the tokens that are read; no time depends on which they are
PLAIN = "eager"  # attention as two matrix products; inside a fused one a counter sees none

Say = Callable[[int, int], None]


def speed(
    dense: Any,
    compressed: Any,
    spec: dict[str, Any],
    repeats: int,
    say: Say = lambda done, total: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Tokens per second of ``compressed``, and how much faster it is than ``dense``.

    ``spec`` is of kind ``generate`` (``batch`` sequences, ``prompt`` tokens each, ``new_tokens`` more) or
    ``forward`` (``batch`` sequences of ``length`` tokens, the logits of the last one). Tokens are the new
    ones, or the ones read; a prompt's pass counts in the time of its generation (GRASP, infer_analysis.py).

    The models take turns at every step, which is one new token of all sequences, or the pass. Values are
    means over repeats: ``throughput`` and ``throughput_dense`` in tokens/s, ``speedup`` the ratio of the two
    in a repeat, ``latency`` in seconds per step.
    """
    steps = spec.get("new_tokens", 1)
    inputs = _random_tokens(dense, spec["batch"], spec.get("prompt") or spec["length"])
    go_on = next_tokens if spec["kind"] == "generate" else last_logits
    works = [partial(go_on, model, inputs) for model in (dense, compressed)]
    for work in works:
        list(islice(work(), WARM_UP_STEPS))
    seconds = in_turns(works, steps, repeats, say, clock)
    tokens = spec["batch"] * (spec.get("length") or steps)
    found = {
        "throughput": [tokens / own for _, own in seconds],
        "throughput_dense": [tokens / other for other, _ in seconds],
        "speedup": [other / own for other, own in seconds],
        "latency": [own / steps for _, own in seconds],
    }
    value, stderr = _mean(found["throughput"])
    return {
        "metric": "throughput",
        "unit": "tokens/s",
        "value": value,
        "stderr": stderr,
        "n": repeats,
        "higher_is_better": True,
        "reason": None,
        "others": {name: _mean(values) for name, values in found.items() if name != "throughput"},
        "items": [
            {"metric": metric, "item": i, "part": None, "value": each}
            for metric in ("throughput", "speedup")
            for i, each in enumerate(found[metric])
        ],
    }


def in_turns(
    works: Sequence[Callable[[], Iterator[object]]],
    steps: int,
    repeats: int,
    say: Say,
    clock: Callable[[], float],
) -> list[list[float]]:
    """(repeats, works) seconds that ``steps`` steps of each work take; who goes first changes every step."""
    rows = []
    for repeat in range(repeats):
        running, row = [work() for work in works], [0.0] * len(works)
        for step in range(steps):
            for index in range(len(works))[:: -1 if (repeat + step) % 2 else 1]:
                start = clock()
                next(running[index])
                row[index] += clock() - start
        rows.append(row)
        say(repeat + 1, repeats)
    return rows


def _mean(values: list[float]) -> tuple[float, float | None]:
    """The mean with its standard error, which a single value does not have."""
    stderr = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else None
    return statistics.fmean(values), stderr


def _random_tokens(model: Any, batch: int, length: int) -> Tensor:
    words = model.config.get_text_config().vocab_size
    tokens = torch.randint(words, (batch, length), generator=torch.Generator().manual_seed(SEED))
    return tokens.to(model.get_input_embeddings().weight.device)


@torch.inference_mode()
def last_logits(model: Any, inputs: Tensor) -> Iterator[Tensor]:
    """Logits (batch, vocabulary) after ``inputs`` (batch, length) by one pass, again and again."""
    while True:
        yield model(input_ids=inputs, use_cache=False, logits_to_keep=1).logits[:, -1]


@torch.inference_mode()
def next_tokens(model: Any, inputs: Tensor) -> Iterator[Tensor]:
    """The most likely tokens (batch, 1) after ``inputs`` (batch, length), then after those, without an end.

    With a key-value cache. Nothing ends a sequence, so that every model does the same number of steps.
    """
    cache = None
    while True:
        step = model(input_ids=inputs, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache, inputs = step.past_key_values, step.logits[:, -1:].argmax(dim=-1)
        yield inputs


def sizes(dense: Any, compressed: Any, length: int) -> dict[str, Any]:
    """Counts on the loaded models; tied embeddings once, ``bytes`` those of the parameters as loaded.

    ``macs`` are those of ``length`` tokens, see :func:`multiply_accumulates`. ``ratio_total`` is the share of
    dense's parameters that is gone, ``ratio_nonembedding`` the same without token embedding and output head.
    """
    (dense_total, dense_body), (total, body) = _parameters(dense), _parameters(compressed)
    others = {
        "nonembedding_parameters": body,
        "ratio_total": 1 - total / dense_total,
        "ratio_nonembedding": 1 - body / dense_body,
        "macs": multiply_accumulates(compressed, length),
        "bytes": sum(p.numel() * p.element_size() for p in compressed.parameters()),
    }
    return {
        "metric": "parameters",
        "unit": "count",
        "value": total,
        "stderr": None,
        "n": None,
        "higher_is_better": False,
        "reason": None,
        "others": {name: (value, None) for name, value in others.items()},
        "items": [],
    }


def _parameters(model: Any) -> tuple[int, int]:
    """All of a model's parameters, and those outside the token embedding and the output head."""
    total = sum(parameter.numel() for parameter in model.parameters())
    return total, total - embedding_parameters(model)


@torch.inference_mode()
def multiply_accumulates(model: Any, length: int) -> int:
    """Multiply-accumulates of one pass over a sequence of ``length`` tokens, all matrix products.

    Counted are the linear layers, the output head at every token, and attention's QKᵀ and AV over all
    length² pairs, masked ones too. Norms, rotary embedding, softmax and activations are not: LLM-Pruner's
    counter (test_speedup.py) has them, 424.02 G for LLaMA-7B and 64 tokens where this has 423.93 G.
    """
    from torch.utils.flop_counter import FlopCounterMode

    tokens = _random_tokens(model, 1, length)
    with attention_as(model, PLAIN), FlopCounterMode(display=False) as counter:
        model(input_ids=tokens, use_cache=True)
    return counter.get_total_flops() // 2
