"""A made unit of structural methods: blocks chosen, singular values kept, recovery, speed, targets."""

from __future__ import annotations

import numpy as np

BLOCKS = 30
TARGETS = (0.2, 0.3, 0.4, 0.5)
TITLES = {
    "shortgpt": "ShortGPT",
    "laco": "LaCo",
    "llm_streamline": "LLM-Streamline-Layer",
    "slicegpt": "SliceGPT",
    "grasp": "GRASP",
}
KINDS = {"slicegpt": "width", "grasp": "low_rank"}
SHIFTS = {"shortgpt": 1.5, "laco": 1.9, "llm_streamline": 1.4, "slicegpt": 1.1, "grasp": 1.0}
SPEEDS = {"shortgpt": 1.27, "llm_streamline": 1.25, "slicegpt": 1.05, "grasp": 1.22}
MATRICES = {
    "self_attn.q_proj": (576, 28),
    "self_attn.k_proj": (192, 14),
    "self_attn.v_proj": (192, 14),
    "self_attn.o_proj": (576, 28),
    "mlp.gate_proj": (576, 41),
    "mlp.up_proj": (576, 41),
    "mlp.down_proj": (576, 41),
}
SCALE = {"generate": (4, 8), "batch-2x": (8, 8), "batch-4x": (16, 8), "batch-8x": (32, 8)}
SCALE |= {"length-2x": (4, 16), "length-4x": (4, 32), "length-8x": (4, 64)}
ZEROS, REMOVED = "zeros in the linear layers of the decoder blocks", "parameters, tied embeddings once"
LORA, REPLACED = {"kind": "lora", "rank": 128}, {"kind": "replaced"}


def structural_unit(results):
    """Fill ``results`` with an experiment of all methods by target, one with recovery, and timings."""
    rng = np.random.default_rng(5)
    depth = np.arange(BLOCKS) / (BLOCKS - 1)
    alike = 0.93 + 0.065 * np.sin(np.pi * np.clip(depth * 1.18 - 0.05, 0, 1)) ** 0.6
    alike = (alike + 0.003 * rng.standard_normal(BLOCKS)).clip(0, 0.999)
    alike[[0, -1]] = 0.62, 0.81
    dense = 2.95 + 0.28 * rng.standard_normal(12)
    results.add("Dense", {"c4": dense}, method="dense", experiment="ratios", speedups=_speeds(rng, 1.0))
    for method, label in TITLES.items():
        for target in TARGETS:
            _compressed(results, rng, method, label, target, dense, alike)
    for target in TARGETS:
        notes = _recovered(rng, 3.1 + target, 2.2)
        _row(results, "grasp", "GRASP*", target, dense + 2.2 * target, notes=notes, recovery=REPLACED)
    for label, method, start in (("LoRA", "shortgpt", 4.6), ("FFN", "llm_streamline", 4.9)):
        notes = _recovered(rng, start, 2.35)
        _row(results, method, f"{label} after removal", 0.2, dense + 0.8, notes=notes, recovery=LORA)
    return results.unit(
        unit="grasp",
        title="GRASP",
        protocols={"efficiency-grasp@1+ab12cd": _protocol()},
        published_names={"small": None},
    )


def _compressed(results, rng, method, label, target, dense, alike):
    order = np.argsort(-alike)[: round(target * 36)]
    chosen = sorted(order.tolist(), reverse=True)
    if method == "laco":
        chosen = list(range(26, 26 - len(chosen), -1))
    notes = {"similarity": alike.tolist(), "chosen": chosen} if method != "slicegpt" else {}
    told = None
    if method == "grasp":
        notes["spectrum"] = [_kept(rng, b, name) for b in chosen for name in MATRICES]
        told = [(m["block"], m["layer"], _facts(m)) for m in notes["spectrum"]]
    losses = dense + SHIFTS[method] * 7 * target**1.6 * (1 + 0.04 * rng.standard_normal(12))
    speeds = _speeds(rng, SPEEDS[method]) if target == 0.2 and method in SPEEDS else None
    _row(results, method, label, target, losses, notes=notes, told=told, speedups=speeds)


def _row(results, method, label, target, losses, **more):
    achieved = target + {"shortgpt": 0.012, "laco": -0.009}.get(method, 0.001)
    facts = {"ratio_basis": REMOVED, "ratio_achieved": achieved, "ratio_nonembedding": achieved / 0.79}
    facts |= {"compress_s": 30.0, "recover_s": 60.0 if more.get("recovery") else None}
    results.add(
        label,
        {"c4": losses},
        method=method,
        experiment="ratios",
        target=f"{target:.0%} of parameters",
        requested=target,
        kind=KINDS.get(method, "layer"),
        facts=facts,
        **more,
    )


def _kept(rng, block, layer):
    """Mostly large singular values, some of any size; the last one kept is nearly the smallest."""
    size, count = MATRICES[layer]
    weights = np.exp(-np.arange(size) / (0.09 * size)) + 0.03
    kept = rng.choice(size, count - 1, replace=False, p=weights / weights.sum())
    return {
        "block": block,
        "layer": layer,
        "size": size,
        "kept": sorted({*kept.tolist(), size - 1 - block % 5}),
    }


def _facts(matrix):
    kept, count = set(matrix["kept"]), len(matrix["kept"])
    common = len(kept & set(range(count)))
    return {"overlap": common / (2 * count - common), "rank": count}


def _recovered(rng, start, end):
    steps = 240
    losses = end + (start - end) * np.exp(-np.arange(steps) / 25) + 0.12 * rng.standard_normal(steps)
    return {
        "recovery": {
            "kind": "lora",
            "trainable": 2_100_000,
            "steps": steps,
            "losses": losses.tolist(),
            "validation_before": start + 0.05,
            "validation_after": end + 0.03,
        }
    }


def _speeds(rng, speed):
    return {task: speed * (1 + 0.02 * rng.standard_normal(5)) for task in SCALE}


def _protocol():
    tasks = {
        task: {"kind": "generate", "batch": batch, "prompt": 4, "new_tokens": new}
        for task, (batch, new) in SCALE.items()
    }
    tasks["size"] = {"kind": "size", "length": 64}
    return {"name": "efficiency-grasp", "suite": "efficiency", "title": "Speed", "repeats": 5, "tasks": tasks}
