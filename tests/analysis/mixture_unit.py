"""A made unit of trainings on a mixture of domains: masks that close, dynamic and constant loading."""

from __future__ import annotations

import numpy as np

from reprune.training.loading import updated

PROPORTIONS = {"cc": 0.67, "github": 0.045, "book": 0.045, "stackexchange": 0.02}
PROPORTIONS |= {"wiki": 0.045, "arxiv": 0.025, "c4": 0.15}
REFERENCES = {"cc": 3.1, "github": 1.4, "book": 3.3, "stackexchange": 2.3}
REFERENCES |= {"wiki": 2.5, "arxiv": 2.2, "c4": 3.4}
WANTED = {"layer": 0.6, "hidden": 1 / 3, "head": 1 / 3, "intermediate": 1 / 3}
BATCH, LENGTH = 8, 128
PRUNING_STEPS, STEPS, EVERY = 320, 960, 40
TARGET = {"target": "72% of parameters", "requested": 0.72}
PRETRAIN = {"kind": "pretrain"}


def mixture_unit(results, seeds=(0,), **more):
    """Fill ``results`` with a dense row, a pruned one alone and continued two ways, and one from scratch."""
    for seed in seeds:
        rng = np.random.default_rng(seed)
        pruning = masked(rng)
        rows = {
            "Pruned": (None, None),
            "Pruned + dynamic": (training(rng, STEPS, 1.1, dynamic=True), PRETRAIN),
            "Pruned + constant": (training(rng, STEPS, 1.1), PRETRAIN),
            "From scratch": (training(rng, STEPS + PRUNING_STEPS, 7.5), PRETRAIN),
        }
        results.add("Dense", {"c4": [1.0, 2.0]}, method="dense", seed=seed)
        for label, (continued, recovery) in rows.items():
            own = label.startswith("Pruned")
            notes = {"pruning": pruning} if own else {}
            notes |= {"recovery": continued} if continued else {}
            results.add(
                label,
                {"c4": [1.0, 2.0]},
                method="sheared_llama" if own else "from_scratch",
                kind="mixed" if own else "width",
                notes=notes,
                seed=seed,
                recovery=recovery,
                published_as={"Pruned + dynamic": ["dynamic batch loading"]}.get(label, []),
                **TARGET,
            )
    return results.unit(unit="sheared_llama", title="Sheared-LLaMA", **more)


def training(rng, steps, start, dynamic=False):
    """A history: a domain's loss falls from ``start`` above its reference, the faster the more it is drawn.

    Those of hard domains fall more slowly, so that constant weights leave the excess uneven.
    """
    weights, seen = dict(PROPORTIONS), dict.fromkeys(PROPORTIONS, 0)
    ease = {d: 0.48 - 0.12 * REFERENCES[d] for d in PROPORTIONS}
    heard, evaluations = dict.fromkeys(PROPORTIONS, 20.0), []
    for step in range(0, steps + 1, EVERY):
        excess = {d: 0.05 + start * (20.0 / heard[d]) ** ease[d] for d in PROPORTIONS}
        losses = {d: REFERENCES[d] + own + 0.01 * rng.standard_normal() for d, own in excess.items()}
        if dynamic and step:
            weights = updated(weights, losses, REFERENCES)
        evaluations.append(measured(step, losses, weights, seen))
        drawn = rng.multinomial(EVERY * BATCH, list(weights.values()))
        for d, count in zip(PROPORTIONS, drawn.tolist(), strict=True):
            seen[d] += count
            heard[d] += count + 0.3 * EVERY  # what is learned of one domain helps the others
    references = {"references": REFERENCES} if dynamic else {}
    return {"kind": "pretrain", **told(steps, evaluations, 900.0), **references}


def masked(rng):
    """The history of a pruning: losses rise as the masks close, overshoot the target and lock in."""
    evaluations, seen = [], dict.fromkeys(PROPORTIONS, 0)
    for step in range(0, PRUNING_STEPS + 1, EVERY // 2):
        share = step / PRUNING_STEPS
        wanted = {kind: final * min(1.0, share / 0.2) for kind, final in WANTED.items()}
        swing = 0.35 * np.exp(-6 * share) * np.sin(9 * share)
        sparsity = {kind: float(np.clip(goal + swing + 0.004, 0, 1)) for kind, goal in wanted.items()}
        sparsity["head"] = float(np.clip(sparsity["head"] + 0.02 * rng.standard_normal() * (1 - share), 0, 1))
        excess = 2.6 * np.sin(np.pi * min(1.0, share * 1.5) / 2) * (1 - 0.55 * share)
        losses = {d: loss + excess * (0.6 + loss / 6) for d, loss in REFERENCES.items()}
        overlap = {kind: min(1.0, 1 - 0.35 * np.exp(-7 * share)) if step else None for kind in WANTED}
        masks = {"sparsity": sparsity, "wanted": wanted, "overlap": overlap}
        evaluations.append({**measured(step, losses, PROPORTIONS, seen), **masks})
        seen = {d: seen[d] + round(EVERY * BATCH * own) for d, own in PROPORTIONS.items()}
    return {**told(PRUNING_STEPS, evaluations, 180.0), "references": REFERENCES}


def measured(step, losses, weights, seen):
    """One measurement of a history."""
    return {
        "step": step,
        "tokens": step * BATCH * LENGTH,
        "losses": dict(losses),
        "weights": dict(weights),
        "seen": dict(seen),
    }


def told(steps, evaluations, speed):
    """A history with ``evaluations``."""
    return {
        "steps": steps,
        "tokens": steps * BATCH * LENGTH,
        "losses": [3.0] * steps,
        "evaluations": evaluations,
        "weights": evaluations[-1]["weights"],
        "seconds": steps * BATCH * LENGTH / speed,
        "tokens_per_second": speed,
    }


def history(*losses, tokens=100, weights=None, **more):
    """A small history that measured these losses by domain, a step and ``tokens`` apart."""
    shares = weights or dict.fromkeys(losses[0], 1 / len(losses[0]))
    evaluations = [
        {"step": i, "tokens": i * tokens, "losses": of, "weights": shares, "seen": dict.fromkeys(of, i)}
        for i, of in enumerate(losses)
    ]
    steps = len(losses) - 1
    return {"steps": steps, "tokens": steps * tokens, "evaluations": evaluations, **more}
