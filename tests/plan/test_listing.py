"""What a user reads before the work starts, and what the scheduler is told."""

from __future__ import annotations

import json

import pytest

from reprune.plan import hardware
from reprune.plan.estimate import compress_flops, estimate, evaluate_flops
from reprune.plan.hardware import evaluation_dtype
from reprune.plan.listing import listing
from reprune.plan.resources import compress_resources, evaluate_resources


def test_the_listing_counts_what_is_left_and_names_inputs_and_skipped_rows(experiment, tmp_path):
    plan = experiment(targets="[{sparsity: 0.5}, {pattern: '3:7'}]", seeds="[0]")
    lines = listing(plan, ["mini"], 2, tmp_path)
    assert lines[0].startswith("Reprune · scale smoke ") and lines[0].endswith("· mini")
    assert lines[1].startswith("3 runs, 3 to compute")
    assert {"  model tiny-llama: made", "  text made-train: made (stand-in)"} < set(lines)
    assert [line.split(":")[0] for line in lines if line.startswith("  skipped")] == [
        "  skipped magnitude 3",
        "  skipped wanda 3",
    ]
    run = next(iter(plan.runs.values()))
    (tmp_path / "results" / "runs" / run.id).mkdir(parents=True)
    (tmp_path / "results" / "runs" / run.id / f"evaluation-{run.evaluation()}.json").touch()
    assert listing(plan, ["mini"], 2, tmp_path)[1].startswith("3 runs, 2 to compute")


def test_operations_are_two_for_each_weight_and_token(experiment):
    """Worked out by hand: 50,304 weights in each of 3 blocks, a final norm of 64, a head of 258 x 64."""
    dense, magnitude, wanda, _ = experiment().runs.values()
    scored = 6 * 64
    assert evaluate_flops(dense) == 2 * (3 * 50_304 + 64 + 258 * 64) * scored
    assert compress_flops(dense) == compress_flops(magnitude) == 0
    assert compress_flops(wanda) == 2 * (3 * 50_304 + 64) * 8 * 32 * 2.0


def test_a_measured_speed_replaces_the_assumed_one(project, tmp_path):
    plan = project.plan()
    runs = list(plan.runs.values())
    (tmp_path / "results" / ".store").mkdir(parents=True)
    guesses = [estimate(plan, runs, [""], tmp_path)]
    for flops in (1e6, 2e6):
        (tmp_path / "results" / ".store" / "speed.json").write_text(json.dumps({"flops": flops}))
        guesses.append(estimate(plan, runs, [""], tmp_path))
    assert [guess.measured for guess in guesses] == [False, True, True]
    starts = 2 * 5.0 * len(runs)
    assert guesses[1].core_seconds - starts == pytest.approx(2 * (guesses[2].core_seconds - starts))


def test_larger_models_ask_for_more_memory_and_time(experiment, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    asked = []
    for model in ("smollm2-135m-instruct", "llama-7b", "llama-13b"):
        run = list(experiment(models=f"[{model}]", scale="full").runs.values())[-1]
        asked.append((compress_resources(run), evaluate_resources(run)))
    for stage in (0, 1):
        memory = [resources[stage]["mem_mb"] for resources in asked]
        assert memory == sorted(set(memory)) and all(isinstance(size, int) for size in memory)
    # Block methods need a block and activations, an evaluation needs the models as a whole.
    assert asked[2][0]["mem_mb"] < 13_015 * 4 < asked[2][1]["mem_mb"]


@pytest.mark.parametrize(
    ("flags", "asked", "dtype"),
    [
        ({"amx_bf16"}, "auto", "bfloat16"),
        ({"avx512_bf16"}, "auto", "float32"),
        ({"amx_bf16"}, "float32", "float32"),
        (set(), "bfloat16", "bfloat16"),
    ],
)
def test_auto_means_bfloat16_only_where_tiles_are_multiplied(monkeypatch, flags, asked, dtype):
    monkeypatch.setattr(hardware, "processor", lambda: ("cpu", frozenset(flags)))
    assert evaluation_dtype(asked) == dtype
