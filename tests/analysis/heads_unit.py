"""A made unit of head pruning: a dense encoder of 6 layers of 8 heads with roles, and ever fewer left."""

from __future__ import annotations

import numpy as np

ROLES_AT, TASK = "head-roles-voita@1+ab12cd", "bible"
BLEU_AT = "translation-voita@1+ab12cd"
LEVELS = {48: 0.0, 30: 0.01, 17: 0.02, 11: 0.05, 6: 0.1, 2: 0.3, 0: 1.0}
LAYERS, HEADS = 6, 8
DENSE = {  # (layer, head): metrics that are not those of an unknown head
    (0, 1): {"rare": 1.0, "rare_share": 0.62, "confidence": 0.31},
    (1, 3): {"positional": 1.0, "positional_share": 0.97, "confidence": 0.93},
    (1, 6): {"positional": 1.0, "positional_share": 0.95, "confidence": 0.88},
    (2, 2): {"syntactic": 1.0, "dobj_dependent": 1.0, "dobj_dependent_share": 0.78},
    (3, 0): {"syntactic": 2.0, "nsubj_head": 1.0, "nsubj_head_share": 0.7, "dobj_head_share": 0.6},
    (3, 5): {"syntactic": 1.0, "positional": 1.0, "amod_dependent": 1.0, "positional_share": 0.91}
    | {"amod_dependent_share": 0.86, "confidence": 0.84},
    (4, 4): {"syntactic": 1.0, "advmod_head": 1.0, "advmod_head_share": 0.58},
}
BASELINES = {"nsubj": 0.45, "dobj": 0.46, "amod": 0.74, "advmod": 0.4}
WORDS = "And God made two great lights .".split()


def head_values(place, rng):
    """The metrics of one head of the dense encoder."""
    told = {"positional": 0.0, "syntactic": 0.0, "rare": 0.0, "positional_share": 0.4 * rng.random()}
    told |= {"rare_share": 0.1 + 0.1 * rng.random(), "rare_share_stderr": 0.02}
    told |= {"confidence": 0.2 + 0.3 * rng.random()}
    for relation, baseline in BASELINES.items():
        for end in ("dependent", "head"):
            told[f"{relation}_{end}"] = 0.0
            told[f"{relation}_{end}_share"] = baseline * (0.3 + 0.5 * rng.random())
            told[f"{relation}_{end}_share_stderr"] = 0.02
    told |= DENSE.get(place, {})
    return {**told, "functions": told["positional"] + told["syntactic"] + told["rare"]}


def keep(count, seed):
    """The pattern of a level: heads with a role go last."""
    rng = np.random.default_rng(100 + seed)
    places = [(layer, head) for layer in range(LAYERS) for head in range(HEADS)]
    order = sorted(places, key=lambda place: (place not in DENSE, rng.random()))
    return [[(layer, head) in order[:count] for head in range(HEADS)] for layer in range(LAYERS)]


def heads_unit(results, seeds=(0,), measured=True, **more):
    """Fill ``results`` with a dense row and one row for each level of lambda."""
    for seed in seeds:
        add_level(results, 48, seed, np.random.default_rng(5), measured=True)
        for count in list(LEVELS)[1:]:
            rng = np.random.default_rng([seed, count])
            add_level(results, count, seed, rng, measured)
            if count:
                add_scratch(results, count, seed, rng)
    return results.unit(unit="voita_heads", title="Voita et al.", **more)


def add_level(results, count, seed, rng, measured):
    """One run: BLEU falls as heads go; heads that are left take on one more role the fewer there are."""
    dense, pattern = count == LAYERS * HEADS, keep(count, seed)
    label = "Dense" if dense else f"λ = {LEVELS[count]:g}"
    values = {
        (layer, head): head_values((layer, head), np.random.default_rng([layer, head]))
        for layer, row in enumerate(pattern)
        for head, kept in enumerate(row)
        if kept
    }
    for told in values.values() if count < 12 else ():
        told["syntactic"] += 1.0
        told["functions"] += 1.0
    retained = {"kept": {"encoder": pattern}, "retained": {"encoder": count}}
    notes = {} if dense else {"heads": retained}
    if measured:
        notes["measured"] = {ROLES_AT: {TASK: told_beside()}}
    results.add(
        label,
        method="dense" if dense else "voita_heads",
        kind="heads",
        target="as lambda gives",
        seed=seed,
        settings={} if dense else {"penalty": LEVELS[count]},
        notes=notes,
    )
    run_id = results.experiments["e"]["rows"][-1]["run_id"]
    bleu = 32.4 - 3.5 * np.exp(-count / 4) + 0.1 * rng.standard_normal()
    record(results, run_id, BLEU_AT, "bleu", bleu, 0.35, suite="translation")
    if measured:
        record(results, run_id, ROLES_AT, "rare_chance", 0.1, 0.004)
        for relation, baseline in BASELINES.items():
            for end in ("dependent", "head"):
                record(results, run_id, ROLES_AT, f"{relation}_{end}_baseline", baseline)
        results.items += [
            {"run_id": run_id, "protocol": ROLES_AT, "task": TASK, "metric": metric}
            | {"item": layer, "part": head, "value": value}
            for (layer, head), told in values.items()
            for metric, value in told.items()
        ]


def add_scratch(results, count, seed, rng):
    """The control: the same pattern trained from scratch."""
    results.add(
        f"scratch {count}",
        method="from_scratch",
        kind="heads",
        target="as lambda gives",
        seed=seed,
        notes={"heads": {"retained": {"encoder": count}, "kept": {"encoder": keep(count, seed)}}},
    )
    bleu = 32.1 - 4.2 * np.exp(-count / 4) + 0.1 * rng.standard_normal()
    run_id = results.experiments["e"]["rows"][-1]["run_id"]
    record(results, run_id, BLEU_AT, "bleu", bleu, 0.35, suite="translation")


def record(results, run_id, protocol, metric, value, stderr=None, suite="head_roles"):
    """One record of the run added last."""
    results.records.append(
        {
            "run_id": run_id,
            "model": "small",
            "suite": suite,
            "protocol": protocol,
            "task": TASK,
            "metric": metric,
            "value": value,
            "stderr": stderr,
            "status": "ok",
            "higher_is_better": True if metric == "bleu" else None,
        }
    )


def told_beside():
    """What the suite tells beside its numbers: instances, and an example of four heads."""
    tokens, rng = len(WORDS), np.random.default_rng(2)
    keys = {
        "positional": [0, 0, 1, 2, 3, 4, 5],
        "syntactic": [2, 2, 5, 5, 5, 2, 2],
        "rare": [5] * tokens,
        "unknown": rng.integers(0, tokens, tokens).tolist(),
    }
    places = {"positional": (1, 3), "syntactic": (2, 2), "rare": (0, 1), "unknown": (5, 7)}
    values = {"positional": 0.93, "syntactic": 0.31, "rare": 0.28, "unknown": 0.42}  # rare: too little
    maps = []
    for role, pointed in keys.items():
        weights = rng.dirichlet([0.5] * tokens, tokens) * (0.25 if role != "unknown" else 0.7)
        weights[range(tokens), pointed] += 0.7 if role != "unknown" else 0.2
        layer, head = places[role]
        maps.append({"role": role, "layer": layer, "head": head, "weights": weights.round(4).tolist()})
        maps[-1] |= {"reached": role != "rare", "value": values[role]}
    functions = {
        f"{relation}_{end}": {"instances": 400 + 37 * i, "baseline": BASELINES[relation], "offset": 1}
        for i, relation in enumerate(BASELINES)
        for end in ("dependent", "head")
    }
    return {"sentences": 880, "frequent": 120, "functions": functions} | {
        "example": {"words": WORDS, "maps": maps}
    }
