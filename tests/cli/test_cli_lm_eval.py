"""lm-eval's own command line with our model, as a user of a checkpoint runs it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import datasets
import pytest
from lm_eval.tasks import TaskManager

from reprune.cli import main
from reprune.data.tasks import build_task

ENTRY = {"lm_eval": "piqa/piqa.yaml", "columns": ["goal", "sol1", "sol2", "label"], "scored": "validation"}


@pytest.fixture(autouse=True)
def place_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(autouse=True)
def no_other_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """lm-eval reads its own thousands of task files at each start, which takes seconds."""
    made = TaskManager.__init__
    monkeypatch.setattr(
        TaskManager, "__init__", lambda self, **given: made(self, **{**given, "include_defaults": False})
    )


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    """A folder of task folders, as results/inputs/tasks is."""
    made = {"maker": "piqa", "rows": 8, "seed": 1}
    build_task("piqa", ENTRY, {"validation": {"made": made}}, {}, tmp_path / "tasks" / "piqa-0123")
    return tmp_path / "tasks"


def run(tasks: Path, model: str, *arguments: str) -> int:
    return main(
        ["lm_eval", "run", "--model", model, *arguments, "--tasks", "reprune_piqa"]
        + ["--include_path", str(tasks), "--output_path", f"out-{model}", "--log_samples"]
    )


def results(model: str) -> dict:
    (file,) = Path(f"out-{model}").rglob("results_*.json")
    return json.loads(file.read_text())["results"]["reprune_piqa"]


def samples(model: str) -> list[dict]:
    (file,) = Path(f"out-{model}").rglob("samples_*.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_checkpoint_is_evaluated_as_lm_evals_own_model_does(tasks, tiny_folder, capsys):
    before = list(sys.argv)
    path = str(tiny_folder("tiny-llama-gqa"))
    assert run(tasks, "reprune", "--model_args", f"path={path}") == 0
    assert "reprune_piqa" in capsys.readouterr().out
    assert run(tasks, "hf", "--model_args", f"pretrained={path},dtype=float32") == 0
    assert {k: v for k, v in results("reprune").items() if "stderr" not in k} == {
        k: v for k, v in results("hf").items() if "stderr" not in k
    }
    for ours, theirs in zip(samples("reprune"), samples("hf"), strict=True):
        assert (ours["doc_hash"], ours["prompt_hash"]) == (theirs["doc_hash"], theirs["prompt_hash"])
        for (found,), (expected,) in zip(ours["resps"], theirs["resps"], strict=True):
            assert float(found[0]) == pytest.approx(float(expected[0]), abs=1e-4)
    assert sys.argv == before


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "model_args names no checkpoint; give path=FOLDER"),
        (
            ["--model_args", "path=./no/folder"],
            "model_args names the checkpoint ./no/folder, which is no folder",
        ),
    ],
)
def test_without_a_checkpoint_it_is_one_line(tasks, capsys, arguments, line):
    assert run(tasks, "reprune", *arguments) == 2
    assert capsys.readouterr().err.splitlines()[-1] == line


def test_its_help_is_lm_evals(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["lm_eval", "run", "--help"])
    assert stopped.value.code == 0
    assert "--include_path" in capsys.readouterr().out


def test_its_errors_are_lm_evals(tasks, tiny_folder):
    with pytest.raises(ValueError, match="no model for this name found"):
        run(tasks, "repruned", "--model_args", f"path={tiny_folder()}")
